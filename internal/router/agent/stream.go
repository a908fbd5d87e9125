package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
)

// keepaliveParams notice an operator whose node has gone: the server allows a ping every 5 s.
var keepaliveParams = keepalive.ClientParameters{Time: 15 * time.Second, Timeout: 10 * time.Second}

const (
	// connectTimeout bounds one connection attempt with its handshake.
	connectTimeout = 5 * time.Second
	// farewellTimeout bounds the last report of a router that ends.
	farewellTimeout = time.Second
)

// runStream opens a connection and a stream, and serves it until it ends. Accepted: the operator sent a snapshot.
// The connection isn't kept for the next stream, because the leader may be another pod by then.
func (a *Agent) runStream(ctx context.Context) (accepted bool, _ error) {
	conn, err := a.connect()
	if err != nil {
		return false, err
	}
	defer conn.Close()
	streaming, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	giveUp := context.AfterFunc(ctx, cancel)
	stream, err := controlpb.NewAgentClient(conn).Stream(streaming)
	if err != nil {
		return false, describe(err)
	}
	if err := stream.Send(a.hello()); err != nil {
		return false, ended(stream, err)
	}
	giveUp()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(farewellTimeout, cancel) })()
	received, failed := make(chan *controlpb.Snapshot), make(chan error, 1)
	go func() { failed <- receive(streaming, stream, received) }()
	accepted, err = a.converse(ctx, stream, received, failed)
	if err == nil { // the stream still stands
		err = a.farewell(stream, received, failed)
	}
	return accepted, err
}

// farewell sends the last figures, and waits for the operator to end the stream, as far as it does so in time.
func (a *Agent) farewell(
	stream controlpb.Agent_StreamClient, received <-chan *controlpb.Snapshot, failed <-chan error,
) error {
	err := errors.Join(stream.Send(a.report()), stream.CloseSend())
	return errors.Join(err, a.lastWord(received, failed))
}

// lastWord waits until the stream has ended, and returns why. It goes on hearing snapshots meanwhile, because
// receive, which tells the end, may be holding one.
func (a *Agent) lastWord(received <-chan *controlpb.Snapshot, failed <-chan error) error {
	for {
		select {
		case s := <-received:
			a.offer(s)
		case err := <-failed:
			return err
		}
	}
}

func (a *Agent) connect() (*grpc.ClientConn, error) {
	if _, _, err := net.SplitHostPort(a.opts.Address); err != nil {
		return nil, fmt.Errorf("the operator's address: %w", err)
	}
	return grpc.NewClient(a.opts.Address,
		grpc.WithTransportCredentials(&liveTLS{caFile: a.opts.CAFile}),
		grpc.WithPerRPCCredentials(bearerFile(a.opts.TokenFile)),
		grpc.WithKeepaliveParams(keepaliveParams),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: connectTimeout}),
		grpc.WithNoProxy(), grpc.WithDisableServiceConfig(),
	)
}

func (a *Agent) hello() *controlpb.AgentMessage {
	kept := a.opts.Pod.Kept()
	return &controlpb.AgentMessage{Body: &controlpb.AgentMessage_Hello{Hello: &controlpb.Hello{
		Pool: a.opts.Pool, PoolUid: a.opts.PoolUID, Instance: a.opts.Instance, Version: a.opts.Version,
		Epoch: kept.GetEpoch(), Sequence: kept.GetSequence(), RolledBack: kept.GetRolledBack(), TripToken: kept.GetTrip().GetToken(),
	}}}
}

// receive passes on what the operator sends until the stream ends, and returns why it did.
func receive(ctx context.Context, stream controlpb.Agent_StreamClient, to chan<- *controlpb.Snapshot) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return describe(err)
		}
		if m.GetSnapshot() == nil {
			continue
		}
		select {
		case to <- m.GetSnapshot():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// converse is the only one that sends, until the stream ends, with an error, or ctx does, without one.
func (a *Agent) converse(
	ctx context.Context, stream controlpb.Agent_StreamClient, received <-chan *controlpb.Snapshot, failed <-chan error,
) (accepted bool, _ error) {
	tick := time.NewTicker(reportInterval)
	defer tick.Stop()
	changed, tripped := a.opts.Pod.Changed(), a.opts.Pod.Tripped()
	var quiet <-chan time.Time // runs between a change and its report
	for {
		var message *controlpb.AgentMessage
		select {
		case s := <-received:
			if !accepted {
				accepted = true
				a.opts.Pod.SetConnected(true)
				a.log.Info("stream to the operator stands")
			}
			a.offer(s)
			continue
		case message = <-a.verdicts:
		case <-changed[0]:
			changed, quiet = [2]<-chan struct{}{}, time.After(newsInterval)
			continue
		case <-changed[1]:
			changed, quiet = [2]<-chan struct{}{}, time.After(newsInterval)
			continue
		case <-tripped:
			tripped = a.opts.Pod.Tripped()
			message = a.report()
		case <-quiet:
			changed, quiet = a.opts.Pod.Changed(), nil
			message = a.report()
		case <-tick.C:
			message = a.report()
		case err := <-failed:
			return accepted, err
		case <-ctx.Done():
			return accepted, nil
		}
		if err := stream.Send(message); err != nil {
			return accepted, a.lastWord(received, failed)
		}
	}
}

func (a *Agent) report() *controlpb.AgentMessage {
	return &controlpb.AgentMessage{Body: &controlpb.AgentMessage_Report{Report: a.opts.Pod.Report()}}
}

// ended finds the reason of a stream whose Send failed: that says io.EOF, and Recv says why.
func ended(stream controlpb.Agent_StreamClient, err error) error {
	if errors.Is(err, io.EOF) {
		if _, cause := stream.Recv(); cause != nil {
			return describe(cause)
		}
	}
	return describe(err)
}

// describe renders a gRPC error without its wrapping.
func describe(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("the operator closed the stream")
	}
	if s, ok := status.FromError(err); ok {
		return fmt.Errorf("%s: %s", s.Code(), s.Message())
	}
	return err
}
