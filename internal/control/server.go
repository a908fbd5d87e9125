package control

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
)

// Limits of the endpoint.
const (
	maxMessage       = 512 << 10        // bytes of one message, either way
	greeting         = 10 * time.Second // from connection to Hello, and for the whole of authentication
	messagesPerSec   = 20               // of one router, sustained; more is read more slowly
	messageBurst     = 100
	keepaliveTime    = 10 * time.Second // a peer that is gone is noticed after this and keepaliveTimeout
	keepaliveTimeout = 5 * time.Second
)

// Server is the endpoint that routers connect to. Its fields are set once, before Serve.
type Server struct {
	controlpb.UnimplementedAgentServer

	Fleet     *Fleet
	Reviewer  Reviewer
	Directory Directory
	Clock     func() time.Time
	Log       logr.Logger
	// Handshakes bounds how many routers are authenticated at the same time, so that a storm of reconnects doesn't
	// become a storm of reviews; the others wait, and give up after 10 s. Default 32.
	Handshakes int

	admission chan struct{}
}

// Serve accepts routers until ctx ends; then all streams end and routers look for the next leader.
func (s *Server) Serve(ctx context.Context, listener net.Listener, config *tls.Config) error {
	if s.Handshakes == 0 {
		s.Handshakes = 32
	}
	s.admission = make(chan struct{}, s.Handshakes)
	server := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(config)),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(4), grpc.ConnectionTimeout(greeting), grpc.MaxHeaderListSize(32<<10),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveTimeout, MaxConnectionIdle: time.Minute}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveTimeout, PermitWithoutStream: true}),
	)
	controlpb.RegisterAgentServer(server, s)
	defer context.AfterFunc(ctx, server.Stop)()
	return server.Serve(listener)
}

// Stream is one router's.
func (s *Server) Stream(stream grpc.BidiStreamingServer[controlpb.AgentMessage, controlpb.ControlMessage]) error {
	messages := receive(stream)
	member, hello, err := s.admit(stream.Context(), messages)
	if err != nil {
		s.rejected(err)
		return err
	}
	link, err := s.Fleet.connect(member, hello)
	if err != nil {
		s.rejected(err)
		return err
	}
	defer s.Fleet.disconnect(member, link)
	s.Log.V(1).Info("Router connected", "router", member.String(), "poold", bounded(hello.GetVersion(), 64))
	err = s.converse(stream, member, link, messages)
	s.Log.V(1).Info("Router disconnected", "router", member.String(), "reason", status.Convert(err).Message())
	return err
}

// received is a message or the end of the stream.
type received struct {
	message *controlpb.AgentMessage
	err     error
}

// receive turns a stream into a channel. Its goroutine ends with the stream's context, which ends with the handler.
func receive(stream grpc.BidiStreamingServer[controlpb.AgentMessage, controlpb.ControlMessage]) <-chan received {
	messages := make(chan received)
	limit := rate.NewLimiter(messagesPerSec, messageBurst)
	go func() {
		for ctx := stream.Context(); ; {
			m, err := stream.Recv()
			if err == nil {
				err = limit.Wait(ctx)
			}
			select {
			case messages <- received{m, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return messages
}

// admit hears the router's Hello and finds out who it is.
func (s *Server) admit(ctx context.Context, messages <-chan received) (Member, *controlpb.Hello, error) {
	ctx, cancel := context.WithTimeout(ctx, greeting)
	defer cancel()
	hello, err := awaitHello(ctx, messages)
	if err != nil {
		return Member{}, nil, err
	}
	select {
	case s.admission <- struct{}{}:
		defer func() { <-s.admission }()
	case <-ctx.Done():
		return Member{}, nil, reject("busy", codes.ResourceExhausted, "too many routers are connecting at once; retry with back-off")
	}
	member, err := s.authenticate(ctx, bearer(ctx), hello)
	return member, hello, err
}

func awaitHello(ctx context.Context, messages <-chan received) (*controlpb.Hello, error) {
	select {
	case r := <-messages:
		if r.err != nil {
			return nil, reject("closed", codes.Aborted, "the stream ended before its Hello")
		}
		if hello := r.message.GetHello(); hello != nil {
			return hello, nil
		}
		return nil, reject("no_hello", codes.InvalidArgument, "the first message of a stream must be Hello")
	case <-ctx.Done():
		return nil, reject("no_hello", codes.DeadlineExceeded, "no Hello within %v", greeting)
	}
}

// bearer returns the token of the call's metadata, or nothing.
func bearer(ctx context.Context) string {
	md, _ := metadata.FromIncomingContext(ctx)
	for _, v := range md.Get("authorization") {
		if token, ok := strings.CutPrefix(v, "Bearer "); ok {
			return strings.TrimSpace(token)
		}
	}
	return ""
}

// converse sends what there is to send and takes what comes, until either ends or the token does.
func (s *Server) converse(stream grpc.ServerStreamingServer[controlpb.ControlMessage], m Member, l *link, messages <-chan received) error {
	expired := time.NewTimer(m.Until.Sub(s.Clock()))
	defer expired.Stop()
	var sent order
	for {
		select {
		case r := <-messages:
			if r.err != nil {
				return ending(r.err)
			}
			s.take(m, l, r.message)
		case <-stream.Context().Done(): // receive may have seen it first, and says nothing then
			return status.FromContextError(stream.Context().Err()).Err()
		case <-l.wakeup:
			if err := s.send(stream, m, l, &sent); err != nil {
				return err
			}
		case <-l.ended:
			return status.Error(codes.Aborted, "another stream of this pod took over, or its pool was deleted; connect again")
		case <-expired.C:
			return status.Error(codes.Unauthenticated, "the token expired; connect again with a new one")
		}
	}
}

// send sends the current snapshot unless it was the last that this stream sent.
func (s *Server) send(stream grpc.ServerStreamingServer[controlpb.ControlMessage], m Member, l *link, sent *order) error {
	snapshot := s.Fleet.current(m, l)
	if snapshot == nil || orderOf(snapshot) == *sent {
		return nil
	}
	if err := stream.Send(&controlpb.ControlMessage{Snapshot: snapshot}); err != nil {
		return err
	}
	*sent = orderOf(snapshot)
	s.Fleet.metrics.Sent.Inc()
	return nil
}

// take records a message. A second Hello says nothing new.
func (s *Server) take(m Member, l *link, message *controlpb.AgentMessage) {
	switch body := message.GetBody().(type) {
	case *controlpb.AgentMessage_Ack:
		s.Fleet.acknowledge(m, l, orderOf(body.Ack))
	case *controlpb.AgentMessage_Nack:
		s.Log.Info("Router refused its configuration", "router", m.String(), "reason", bounded(body.Nack.GetReason(), maxReason))
		s.Fleet.refuse(m, l, body.Nack)
	case *controlpb.AgentMessage_Report:
		s.Fleet.report(m, l, body.Report)
	}
}

// ending is how a stream ends that its router ended.
func ending(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (s *Server) rejected(err error) {
	var r *rejection
	if !errors.As(err, &r) {
		return
	}
	s.Fleet.metrics.Rejected.WithLabelValues(r.reason).Inc()
	s.Log.Info("Router rejected", "reason", r.reason, "message", r.Error())
}
