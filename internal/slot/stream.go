package slot

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
)

// stream runs a request whose result goes out item by item, and returns the answer that ends it. The error ends the
// connection: it is over, or out of step.
func (s *Server) stream(ctx context.Context, cancel func(), p *peer, req pool.Request) (*frame.Frame, error) {
	r := &relay{peer: p, id: req.ID, cancel: cancel, credit: frame.StreamWindow, more: make(chan struct{}, 1)}
	req.Stream = r.send
	listened := make(chan error, 1)
	go func() { listened <- r.listen() }()
	reply, failure := s.slot.Do(ctx, req)
	_ = p.conn.SetReadDeadline(time.Unix(1, 0))
	err := <-listened
	_ = p.conn.SetReadDeadline(time.Time{})
	switch {
	case s.closed(): // which it tells connections by their deadline
		return nil, net.ErrClosed
	case err != nil || r.torn != nil:
		return nil, errors.Join(err, r.torn)
	}
	return answer(req.ID, reply, failure)
}

// relay sends the items of one request to the router, by the credit that comes from there on the same connection. So it
// holds one item, and the worker's own credit holds back what is to come.
type relay struct {
	peer   *peer
	id     uint64
	cancel func()        // ends the request
	more   chan struct{} // there is more credit; room for one
	torn   error         // of send: an item went out in part

	mu     sync.Mutex
	credit int // guarded by mu
}

// send implements pool.Stream.
func (r *relay) send(ctx context.Context, chunk []byte) error {
	for !r.spend(chunk) {
		select {
		case <-r.more:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return r.write(ctx, &frame.Frame{Kind: frame.Chunk, ID: r.id, Payload: chunk})
}

// spend takes the credit that an item costs; false: there is none.
func (r *relay) spend(chunk []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.credit <= 0 {
		return false
	}
	r.credit -= frame.ChunkCost(chunk)
	return true
}

// write takes as long as its router does, until ctx ends: an item may be larger than what the socket holds.
func (r *relay) write(ctx context.Context, f *frame.Frame) error {
	deadline, _ := ctx.Deadline()
	if err := r.peer.conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	cut := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = r.peer.conn.SetWriteDeadline(time.Unix(1, 0))
		close(cut)
	})
	if r.torn = r.peer.writer.Write(f); !stop() {
		<-cut // so that it doesn't hit the answer
	}
	return r.torn
}

// listen takes credit until the request has ended, which shows as a read deadline. Anything else on the connection, and
// its end, ends the request.
func (r *relay) listen() error {
	for {
		var f frame.Frame
		err := r.peer.reader.Read(&f)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		credit := 0
		if err == nil {
			credit, err = r.creditIn(&f)
		}
		if err != nil {
			r.cancel()
			return err
		}
		r.mu.Lock()
		r.credit += credit
		r.mu.Unlock()
		select {
		case r.more <- struct{}{}:
		default:
		}
	}
}

func (r *relay) creditIn(f *frame.Frame) (int, error) {
	if f.Kind != frame.Credit || f.ID != r.id || f.Flags != 0 {
		return 0, fmt.Errorf("a frame of kind %d with flags %#x for request %d during stream %d", f.Kind, f.Flags, f.ID, r.id)
	}
	return f.Credit()
}
