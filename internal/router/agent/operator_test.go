package agent

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
)

// authority is a CA with one server certificate for 127.0.0.1.
type authority struct {
	pem    []byte
	server tls.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key := newKey(t)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leafKey := newKey(t)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, &leafKey.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{
		pem:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}),
		server: tls.Certificate{Certificate: [][]byte{leafDER}, PrivateKey: leafKey},
	}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// operator is the other end of the channel: it hands each stream to the test.
type operator struct {
	controlpb.UnimplementedAgentServer
	t       *testing.T
	address string
	server  *grpc.Server
	streams chan *stream
	// accepted counts TCP connections, also those whose handshake fails.
	accepted atomic.Int64
}

// countingListener counts what it accepts.
type countingListener struct {
	net.Listener
	n *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.n.Add(1)
	}
	return conn, err
}

// stream is one router's, in the test's hands until end is called or the router ends it.
type stream struct {
	t     *testing.T
	token string
	hello *controlpb.Hello
	grpc.BidiStreamingServer[controlpb.AgentMessage, controlpb.ControlMessage]
	ended chan error
	once  sync.Once
	in    chan *controlpb.AgentMessage
	gone  chan struct{} // closed when the router has ended the stream
}

// serve runs an operator at address ("": any) until the test ends, or stop is called.
func serve(t *testing.T, ca *authority, address string) *operator {
	t.Helper()
	if address == "" {
		address = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{ca.server}, MinVersion: tls.VersionTLS13}
	o := &operator{
		t: t, address: l.Addr().String(), streams: make(chan *stream, 16),
		server: grpc.NewServer(grpc.Creds(credentials.NewTLS(config))),
	}
	controlpb.RegisterAgentServer(o.server, o)
	done := make(chan struct{})
	go func() { defer close(done); _ = o.server.Serve(countingListener{l, &o.accepted}) }()
	t.Cleanup(func() { o.stop(); <-done })
	return o
}

func (o *operator) stop() { o.server.Stop() }

// Stream implements controlpb.AgentServer.
func (o *operator) Stream(s grpc.BidiStreamingServer[controlpb.AgentMessage, controlpb.ControlMessage]) error {
	first, err := s.Recv()
	if err != nil {
		return err
	}
	md, _ := metadata.FromIncomingContext(s.Context())
	st := &stream{
		t: o.t, BidiStreamingServer: s, hello: first.GetHello(), ended: make(chan error, 1),
		in: make(chan *controlpb.AgentMessage, 1000), gone: make(chan struct{}),
	}
	if values := md.Get("authorization"); len(values) == 1 {
		st.token = values[0]
	}
	received := make(chan struct{})
	go func() {
		defer close(received)
		for {
			m, err := s.Recv()
			if err != nil {
				close(st.gone)
				return
			}
			st.in <- m
		}
	}()
	o.streams <- st
	select {
	case err := <-st.ended:
		return err
	case <-st.gone:
		return nil
	case <-s.Context().Done():
		return s.Context().Err()
	}
}

// next returns the next stream that a router opens.
func (o *operator) next() *stream {
	o.t.Helper()
	select {
	case s := <-o.streams:
		return s
	case <-time.After(20 * time.Second):
		o.t.Fatal("no router has connected")
		return nil
	}
}

func (s *stream) send(snapshot *controlpb.Snapshot) {
	s.t.Helper()
	if err := s.Send(&controlpb.ControlMessage{Snapshot: snapshot}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stream) end(err error) { s.once.Do(func() { s.ended <- err }) }

// await returns the first message that matches, and drops those before.
func (s *stream) await(what string, matches func(*controlpb.AgentMessage) bool) *controlpb.AgentMessage {
	s.t.Helper()
	limit := time.After(20 * time.Second)
	for {
		select {
		case m := <-s.in:
			if matches(m) {
				return m
			}
		case <-limit:
			s.t.Fatalf("no %s came", what)
			return nil
		}
	}
}

func (s *stream) awaitAck(epoch, sequence uint64) {
	s.t.Helper()
	s.await("Ack", func(m *controlpb.AgentMessage) bool {
		return m.GetAck().GetEpoch() == epoch && m.GetAck().GetSequence() == sequence
	})
}

func (s *stream) awaitNack(epoch, sequence uint64) string {
	s.t.Helper()
	return s.await("Nack", func(m *controlpb.AgentMessage) bool {
		return m.GetNack().GetEpoch() == epoch && m.GetNack().GetSequence() == sequence
	}).GetNack().GetReason()
}

func (s *stream) awaitReport() *controlpb.Report {
	s.t.Helper()
	return s.await("Report", func(m *controlpb.AgentMessage) bool { return m.GetReport() != nil }).GetReport()
}

// identity is a folder with the files that an agent reads.
type identity struct {
	t         *testing.T
	ca, token string
}

func newIdentity(t *testing.T) identity {
	dir := t.TempDir()
	return identity{t: t, ca: filepath.Join(dir, "ca.crt"), token: filepath.Join(dir, "token")}
}

// put replaces a file as the kubelet does: at once.
func (i identity) put(path string, content []byte) {
	i.t.Helper()
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		i.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		i.t.Fatal(err)
	}
}

// run keeps an agent going until the test ends, or the returned function is called.
func run(t *testing.T, a *Agent) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); a.Run(ctx) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}
