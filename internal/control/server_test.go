package control

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
)

// registry plays the API server: a token is the name of the pod that it is bound to.
type registry struct {
	pods    map[string]PodIdentity
	pools   map[string]types.UID
	down    error
	reviews atomic.Int32
	hold    chan struct{} // reviews wait for it; nil: they don't
}

func (r *registry) Review(ctx context.Context, token string) (Caller, error) {
	r.reviews.Add(1)
	if r.hold != nil {
		select {
		case <-r.hold:
		case <-ctx.Done():
			return Caller{}, ctx.Err()
		}
	}
	name, _, _ := strings.Cut(token, ".")
	pod, ok := r.pods[name]
	switch {
	case r.down != nil:
		return Caller{}, r.down
	case !ok:
		return Caller{}, fmt.Errorf("%w: unknown", ErrTokenRefused)
	}
	return Caller{Namespace: "shop", Pod: name, PodUID: pod.UID}, nil
}

func (r *registry) Pod(_ context.Context, name types.NamespacedName, _ types.UID) (PodIdentity, error) {
	if pod, ok := r.pods[name.Name]; ok {
		return pod, nil
	}
	return PodIdentity{}, ErrNotFound
}

func (r *registry) PoolUID(_ context.Context, name types.NamespacedName) (types.UID, error) {
	if uid, ok := r.pools[name.Name]; ok {
		return uid, nil
	}
	return "", ErrNotFound
}

func newRegistry() *registry {
	return &registry{
		pods: map[string]PodIdentity{
			"p":     {UID: "uid-p", Pool: "main", PoolUID: "pool-1"},
			"other": {UID: "uid-o", Pool: "other", PoolUID: "pool-2"},
			"bare":  {UID: "uid-b"},
			"old":   {UID: "uid-x", Pool: "main", PoolUID: "pool-0"},
			"lost":  {UID: "uid-l", Pool: "gone", PoolUID: "pool-3"},
		},
		pools: map[string]types.UID{"main": "pool-1", "other": "pool-2"},
	}
}

// endpoint is a server that runs, and a client of it.
type endpoint struct {
	*bench
	server   *Server
	registry *registry
	client   controlpb.AgentClient
	address  string
	roots    *x509.CertPool
}

// another is a connection of its own.
func (e *endpoint) another(t *testing.T) controlpb.AgentClient {
	t.Helper()
	conn, err := grpc.NewClient(e.address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: e.roots})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return controlpb.NewAgentClient(conn)
}

func serve(t *testing.T, adjust func(*Server)) *endpoint {
	t.Helper()
	e := &endpoint{bench: newBench(), registry: newRegistry()}
	e.server = &Server{Fleet: e.Fleet, Reviewer: e.registry, Directory: e.registry, Clock: e.watch.Now, Log: logr.Discard()}
	if adjust != nil {
		adjust(e.server)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	certificate, roots := selfSigned(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- e.server.Serve(ctx, listener, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13})
	}()
	e.address, e.roots = listener.Addr().String(), roots
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	e.client = e.another(t)
	return e
}

func selfSigned(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

var mainHello = &controlpb.Hello{Pool: "main", PoolUid: "pool-1", Instance: "i", Version: "test"}

// open starts a stream with a token, and says what is given.
func (e *endpoint) open(t *testing.T, token string, first ...*controlpb.AgentMessage) controlpb.Agent_StreamClient {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	stream, err := e.client.Stream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range first {
		_ = stream.Send(m) // Recv tells its error
	}
	return stream
}

func say(h *controlpb.Hello) *controlpb.AgentMessage {
	return &controlpb.AgentMessage{Body: &controlpb.AgentMessage_Hello{Hello: h}}
}

// snapshot takes the next one from a stream.
func snapshot(t *testing.T, stream controlpb.Agent_StreamClient) *controlpb.Snapshot {
	t.Helper()
	m, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return m.GetSnapshot()
}

func TestO46_WhoIsLetIn(t *testing.T) {
	e := serve(t, nil)
	e.Publish(pool, snapshotOf("a", 0))
	e.Publish(types.NamespacedName{Namespace: "shop", Name: "other"}, snapshotOf("b", 0))
	for name, tc := range map[string]struct {
		token string
		first *controlpb.AgentMessage
		want  codes.Code
		says  string
	}{
		"its own pool":                {"p", say(mainHello), codes.OK, ""},
		"another pool":                {"other", say(mainHello), codes.PermissionDenied, "belongs to pool other and can't speak for pool main"},
		"another UID":                 {"p", say(&controlpb.Hello{Pool: "main", PoolUid: "pool-9"}), codes.PermissionDenied, "belongs to pool main"},
		"a pod without a pool":        {"bare", say(mainHello), codes.PermissionDenied, "isn't in a pool"},
		"a pool that was made anew":   {"old", say(&controlpb.Hello{Pool: "main", PoolUid: "pool-0"}), codes.PermissionDenied, "restart the pod"},
		"a pool that is gone":         {"lost", say(&controlpb.Hello{Pool: "gone", PoolUid: "pool-3"}), codes.PermissionDenied, "shop/gone doesn't exist"},
		"an unknown token":            {"nobody", say(mainHello), codes.Unauthenticated, "token refused"},
		"no token":                    {"", say(mainHello), codes.Unauthenticated, "no bearer token"},
		"something else than a Hello": {"p", &controlpb.AgentMessage{Body: &controlpb.AgentMessage_Ack{Ack: &controlpb.Ack{}}}, codes.InvalidArgument, "must be Hello"},
	} {
		t.Run(name, func(t *testing.T) {
			stream := e.open(t, tc.token, tc.first)
			m, err := stream.Recv()
			if status.Code(err) != tc.want || !strings.Contains(status.Convert(err).Message(), tc.says) {
				t.Errorf("%v, %v; want %s with %q", m, err, tc.want, tc.says)
			}
			if err == nil && m.GetSnapshot().GetStable() != "a" {
				t.Errorf("got another pool's snapshot: %v", m)
			}
		})
	}
}

// The cache that authentication asks may still have the pool that the fleet knows to be gone.
func TestO46_APodOfAnEarlierPoolIsRefusedThoughTheCacheIsBehind(t *testing.T) {
	e := serve(t, nil)
	e.Track(pool, "pool-9")
	e.Publish(pool, snapshotOf("a", 0))
	m, err := e.open(t, "p", say(mainHello)).Recv()
	if status.Code(err) != codes.PermissionDenied || !strings.Contains(status.Convert(err).Message(), "restart the pod") {
		t.Errorf("%v, %v", m, err)
	}
}

func TestAnAPIServerThatDoesNotAnswerIsNoRefusal(t *testing.T) {
	e := serve(t, nil)
	e.registry.down = errors.New("connection refused")
	_, err := e.open(t, "p", say(mainHello)).Recv()
	if status.Code(err) != codes.Unavailable {
		t.Errorf("%v, want Unavailable: the router is to try again", err)
	}
}

func TestO19_O43_ALateJoinerGetsTheWholeAtOnce(t *testing.T) {
	e := serve(t, nil)
	e.Publish(pool, snapshotOf("a", 0))
	e.Publish(pool, snapshotOf("a", 10))
	stream := e.open(t, "p", say(mainHello))
	if got := snapshot(t, stream); got.GetCanaryWeight() != 10 || got.GetSequence() != 2 || got.GetEpoch() != 7 {
		t.Errorf("first snapshot %v", got)
	}
	e.Publish(pool, snapshotOf("b", 0))
	if got := snapshot(t, stream); got.GetStable() != "b" || got.GetSequence() != 3 {
		t.Errorf("second snapshot %v", got)
	}
}

func TestWhatARouterSaysIsKept(t *testing.T) {
	e := serve(t, nil)
	e.Publish(pool, snapshotOf("a", 0))
	stream := e.open(t, "p", say(mainHello),
		&controlpb.AgentMessage{Body: &controlpb.AgentMessage_Report{Report: slotReport(4, 0)}},
		&controlpb.AgentMessage{Body: &controlpb.AgentMessage_Ack{Ack: &controlpb.Ack{Epoch: 7, Sequence: 1}}})
	snapshot(t, stream)
	uid := types.UID("uid-p")
	await(t, "acknowledgement", func() bool {
		p := e.View(pool).Pods[uid]
		return p.Acknowledged && p.Slots["a"].Up
	})
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	await(t, "disconnection", func() bool { return !e.View(pool).Pods[uid].Connected })
}

// await polls for what another goroutine does soon.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("no %s", what)
}

func TestStreamsEnd(t *testing.T) {
	claims := base64.RawURLEncoding.EncodeToString([]byte(`{"exp":1800000001}`)) // a second after the bench's time
	for name, tc := range map[string]struct {
		token string
		end   func(*testing.T, *endpoint)
		want  codes.Code
	}{
		"when the token expires":      {"p." + claims + ".x", func(*testing.T, *endpoint) {}, codes.Unauthenticated},
		"when another takes over":     {"p", func(t *testing.T, e *endpoint) { snapshot(t, e.open(t, "p", say(mainHello))) }, codes.Aborted},
		"when the pool is deleted":    {"p", func(_ *testing.T, e *endpoint) { e.Forget(pool) }, codes.Aborted},
		"when the pool is made anew":  {"p", func(_ *testing.T, e *endpoint) { e.Track(pool, "pool-9") }, codes.Aborted},
		"when a message is too large": {"p", nil, codes.ResourceExhausted},
	} {
		t.Run(name, func(t *testing.T) {
			e := serve(t, nil)
			e.Publish(pool, snapshotOf("a", 0))
			stream := e.open(t, tc.token, say(mainHello))
			snapshot(t, stream)
			if tc.end == nil {
				huge := &controlpb.Nack{Reason: strings.Repeat("x", maxMessage+1)}
				_ = stream.Send(&controlpb.AgentMessage{Body: &controlpb.AgentMessage_Nack{Nack: huge}})
			} else {
				tc.end(t, e)
			}
			if _, err := stream.Recv(); status.Code(err) != tc.want {
				t.Errorf("%v, want %s", err, tc.want)
			}
		})
	}
}

// A storm of routers is reviewed a few at a time; those that wait get in later.
func TestO43_AStormIsAdmittedAFewAtATime(t *testing.T) {
	const routers, atOnce = 40, 3
	e := serve(t, func(s *Server) { s.Handshakes = atOnce })
	e.registry.hold = make(chan struct{})
	e.Publish(pool, snapshotOf("a", 0))
	streams := make([]controlpb.Agent_StreamClient, 0, routers)
	for i := range routers {
		name := fmt.Sprintf("r%d", i)
		e.registry.pods[name] = PodIdentity{UID: types.UID(name), Pool: "main", PoolUID: "pool-1"}
	}
	for i := range routers {
		conn := e.another(t)
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		t.Cleanup(cancel)
		stream, err := conn.Stream(metadata.AppendToOutgoingContext(ctx, "authorization", fmt.Sprintf("Bearer r%d", i)))
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.Send(say(mainHello))
		streams = append(streams, stream)
	}
	await(t, "first reviews", func() bool { return e.registry.reviews.Load() == atOnce })
	time.Sleep(50 * time.Millisecond) // in which more could come that mustn't
	if n := e.registry.reviews.Load(); n != atOnce {
		t.Errorf("%d reviews at once, want %d", n, atOnce)
	}
	close(e.registry.hold)
	for _, stream := range streams {
		snapshot(t, stream)
	}
}
