package pooltest

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// streams holds for results that come item by item.
var streams = map[string]story{
	"TestP109_ItemsInOrder": func(b *bench) {
		s := b.ready()
		for _, command := range []string{"items", "items_async"} {
			r := s.stream(command, args{"n": 1000}, nil)
			for i, item := range r.items {
				if item != float64(i) {
					b.Fatalf("item %d of %s is %v", i, command, item)
				}
			}
			if r.err != nil || len(r.items) != 1000 || string(r.reply.Payload) != "1000" || r.reply.Service <= 0 {
				b.Errorf("%d items of %s, then %s, %v, after %s; want 1000", len(r.items), command, r.reply.Payload, r.err, r.reply.Service)
			}
		}
		if st := s.Stats(); st.Requests != 2 || st.Spawned != 1 {
			b.Errorf("%d requests by %d workers; want 2 by 1", st.Requests, st.Spawned)
		}
	},

	"TestP109_WithAndWithoutYield": func(b *bench) {
		s := b.ready()
		if got, _ := json.Marshal(s.must("items", args{"n": 3})); string(got) != "[0,1,2]" {
			b.Errorf("a plain call of a generator returned %s; want its items in a list", got)
		}
		r := s.stream("echo", args{"value": "whole"}, nil)
		if r.err != nil || len(r.items) != 1 || r.items[0] != "whole" || string(r.reply.Payload) != "1" {
			b.Errorf("a stream of a handler that returns: %v, %s, %v; want its result as the one item", r.items, r.reply.Payload, r.err)
		}
		if r := s.stream("items", args{"n": 0}, nil); r.err != nil || len(r.items) != 0 {
			b.Errorf("a stream without items: %v, %v", r.items, r.err)
		}
	},

	"TestP109_SlowReaderHoldsTheHandlerBack": func(b *bench) {
		s := b.ready()
		path := filepath.Join(b.TempDir(), "items")
		produced := 0
		r := s.stream("items", args{"n": 1000, "path": path}, &reading{read: func(_ context.Context, i int) error {
			if i == 2 {
				time.Sleep(300 * time.Millisecond)
				produced = lines(path)
			}
			return nil
		}})
		if r.err != nil || len(r.items) != 1000 {
			b.Fatalf("%d items, %v", len(r.items), r.err)
		}
		if produced > 40 { // the credit, what it got for the first items, and the one that waits for credit
			b.Errorf("%d items were made for a reader that had taken two", produced)
		}
	},

	"TestP109_TotalDeadline": func(b *bench) {
		s := b.ready()
		for name, read := range map[string]func(context.Context, int) error{
			"of a handler without end": nil,
			"of a reader that is slow": func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() },
		} {
			start := time.Now()
			r := s.stream("items", args{"n": 1_000_000_000}, &reading{read: read, within: 300 * time.Millisecond})
			s.wants(r.err, pool.TimeoutError, pool.CommandTimeout)
			if took := time.Since(start); took < 290*time.Millisecond || took > 5*time.Second || !r.err.Sent {
				b.Errorf("the deadline %s ended it after %s, sent %v; want 300 ms, true", name, took, r.err.Sent)
			}
			s.awaitServing()
		}
		if st := s.Stats(); st.Timeouts != 2 {
			b.Errorf("%d timeouts; want 2", st.Timeouts)
		}
	},

	"TestP109_IdleDeadline": func(b *bench) {
		const idle = time.Second // more than a busy machine keeps a worker waiting
		s := b.ready()
		slow := func(_ context.Context, i int) error {
			if i == 15 {
				time.Sleep(idle + 100*time.Millisecond)
			}
			return nil
		}
		if r := s.stream("items", args{"n": 40}, &reading{read: slow, idle: idle}); r.err != nil || len(r.items) != 40 {
			b.Errorf("a slow reader's stream ended with %v after %d items", r.err, len(r.items))
		}
		r := s.stream("items_async", args{"n": 20, "then": "sleep"}, &reading{idle: idle})
		s.wants(r.err, pool.TimeoutError, pool.CommandTimeout)
		if !strings.Contains(r.err.Message, "sent nothing of command items_async for 1000ms") || len(r.items) != 20 || !r.err.Sent {
			b.Errorf("an idle stream ended with %q, sent %v, after %d items", r.err.Message, r.err.Sent, len(r.items))
		}
		s.awaitServing()
	},

	"TestP109_CancelClosesTheGenerator": func(b *bench) {
		s := b.ready()
		for _, how := range []string{"the caller leaves", "the reader has an error"} {
			for command, size := range map[string]int{"items": 1 << 20, "items_async": 0} { // every other item fills the pipe
				path := filepath.Join(b.TempDir(), "cancel")
				ctx, cancel := context.WithCancel(b.Context())
				a := args{"n": 1_000_000_000, "path": path}
				if size > 0 {
					a["size"] = size
				}
				r := s.stream(command, a, &reading{ctx: ctx, read: func(_ context.Context, i int) error {
					switch {
					case i < 20:
						return nil
					case how == "the caller leaves":
						cancel()
						return nil
					}
					return errors.New("the reader can't take it")
				}})
				cancel()
				s.wants(r.err, pool.RequestError, pool.Cancelled)
				if !r.err.Sent || len(r.items) != 21 {
					b.Errorf("%s: sent %v, %d items; want true, 21", how, r.err.Sent, len(r.items))
				}
				b.until("finally block of "+command, func() bool { return lines(path+".closed") == 1 })
				s.awaitServing()
			}
		}
		st := s.Stats()
		if replaced := st.Exits["cancelled"]; st.Cancelled != 4 || (replaced == 4) == b.shared {
			b.Errorf("%d cancelled, %d workers replaced; want 4, and each unless its worker is shared", st.Cancelled, replaced)
		}
	},

	"TestP109_ErrorAfterItems": func(b *bench) {
		s := b.ready()
		pid := s.pid()
		r := s.stream("items", args{"n": 20, "then": "raise"}, nil)
		s.wants(r.err, pool.CommunicationError, pool.PythonError)
		if len(r.items) != 20 || !r.err.Sent || r.err.Message != "ValueError: after the items" {
			b.Errorf("%d items, then %q, sent %v; want 20", len(r.items), r.err.Message, r.err.Sent)
		}
		if st := s.Stats(); st.Errors != 1 {
			b.Errorf("%d errors are counted; want 1", st.Errors)
		}
		if again := s.pid(); again != pid {
			b.Errorf("worker %d was replaced by %d", pid, again)
		}
	},

	"TestP109_NoSecondTryAfterItems": func(b *bench) {
		s := b.ready()
		path := filepath.Join(b.TempDir(), "items")
		r := s.stream("items", args{"n": 20, "path": path, "then": "sleep"}, &reading{read: func(_ context.Context, i int) error {
			if i < 19 {
				return nil
			}
			return syscall.Kill(b.workers()[0], syscall.SIGKILL)
		}})
		s.wants(r.err, pool.CommunicationError, pool.PortExited)
		if n := lines(path); !r.err.Sent || len(r.items) != 20 || n != 20 {
			b.Errorf("sent %v, %d items taken, %d made; want true, and each of 20 once", r.err.Sent, len(r.items), n)
		}
		if st := s.Stats(); st.Infrastructure != 1 {
			b.Errorf("%d failures of the infrastructure are counted; want 1", st.Infrastructure)
		}
		s.awaitServing()
	},

	"TestP109_PlaceIsHeldUntilTheEnd": func(b *bench) {
		s := b.ready()
		path := filepath.Join(b.TempDir(), "go")
		last := make(chan struct{})
		ended := s.goStream("items", args{"n": 20, "then": path}, func(_ context.Context, i int) error {
			if i == 19 {
				close(last)
			}
			return nil
		})
		s.wait(last)
		waiting := s.async("pid", nil)
		s.await("a request that waits beside a stream", func(st pool.Stats) bool { return st.Busy == 1 && st.Queued == 1 })
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			b.Fatal(err)
		}
		if r := <-ended; r.err != nil {
			b.Errorf("the stream: %v", r.err)
		}
		if r := <-waiting; r.err != nil {
			b.Errorf("who waited for its place: %v", r.err)
		}
	},

	"TestP109_PlaceIsHeldForASlowReader": func(b *bench) {
		s := b.ready()
		ended, goOn := s.stopped("items", args{"n": 100})
		waiting := s.async("pid", nil)
		s.await("a request that waits for a slow reader", func(st pool.Stats) bool { return st.Busy == 1 && st.Queued == 1 })
		goOn()
		if r := <-ended; r.err != nil || len(r.items) != 100 {
			b.Errorf("the stream: %d items, %v", len(r.items), r.err)
		}
		if r := <-waiting; r.err != nil {
			b.Errorf("who waited for its place: %v", r.err)
		}
	},
}

// streamsInParallel holds for pools whose workers run at the same time.
var streamsInParallel = map[string]story{
	"TestP109_SlowReaderBlocksNoOtherWorker": func(b *bench) {
		b.limits.Size = 2
		b.ready().besideASlowReader()
	},
}

// besideASlowReader serves other requests and streams while the reader of one stream takes nothing.
func (s *subject) besideASlowReader() {
	s.Helper()
	ended, goOn := s.stopped("items", args{"n": 200})
	for range 3 {
		s.must("echo", args{"value": "beside a slow reader"})
		if r := s.stream("items", args{"n": 200}, nil); r.err != nil || len(r.items) != 200 {
			s.Errorf("a stream beside a slow reader: %d items, %v", len(r.items), r.err)
		}
	}
	goOn()
	if r := <-ended; r.err != nil || len(r.items) != 200 {
		s.Errorf("the slow reader's stream: %d items, %v", len(r.items), r.err)
	}
}

// stopped begins a stream whose reader stops at the first item until goOn is called.
func (s *subject) stopped(command string, a args) (ended <-chan streamed, goOn func()) {
	s.Helper()
	first, going := make(chan struct{}), make(chan struct{})
	goOn = sync.OnceFunc(func() { close(going) })
	s.Cleanup(goOn) // also of a test that has failed
	ended = s.goStream(command, a, func(_ context.Context, i int) error {
		if i == 0 {
			close(first)
			<-going
		}
		return nil
	})
	s.wait(first)
	return ended, goOn
}

// goStream runs a stream in the background.
func (s *subject) goStream(command string, a args, read func(context.Context, int) error) <-chan streamed {
	ended := make(chan streamed, 1)
	go func() { ended <- s.stream(command, a, &reading{read: read}) }()
	return ended
}

// wait returns when the reader has come to where it tells of.
func (s *subject) wait(there <-chan struct{}) {
	s.Helper()
	select {
	case <-there:
	case <-s.Context().Done():
		s.Fatal("the reader never came so far")
	}
}

// reading is how a stream is read; what is zero is as in any call.
type reading struct {
	ctx    context.Context                        //nolint:containedctx // of the call
	read   func(ctx context.Context, i int) error // the item with that number, after it has been noted
	within time.Duration
	idle   time.Duration
}

type streamed struct {
	items []any
	reply pool.Reply
	err   *pool.Error
}

// stream runs a command whose items are taken one by one.
func (s *subject) stream(command string, a args, how *reading) (r streamed) {
	payload, err := json.Marshal(a)
	if err != nil {
		s.Error(err)
	}
	if how == nil {
		how = &reading{}
	}
	ctx := s.Context()
	if how.ctx != nil {
		ctx = how.ctx
	}
	var over atomic.Bool
	req := pool.Request{Command: command, Payload: payload, Idle: how.idle, Stream: func(ctx context.Context, chunk []byte) error {
		if over.Load() {
			s.Errorf("%s: an item came after the end", command)
		}
		var item any
		if err := json.Unmarshal(chunk, &item); err != nil {
			s.Errorf("%s: item %q: %v", command, chunk, err)
		}
		r.items = append(r.items, item)
		if how.read == nil {
			return nil
		}
		return how.read(ctx, len(r.items)-1)
	}}
	if how.within > 0 {
		req.Deadline = time.Now().Add(how.within)
	}
	reply, failure := s.Do(ctx, req)
	over.Store(true)
	r.reply = reply
	if failure != nil {
		r.err = s.fourParts(failure)
	}
	return r
}

// awaitServing waits until the pool's workers serve again, be they new ones.
func (s *subject) awaitServing() {
	s.Helper()
	s.awaitReady(s.limits.Size)
	s.must("echo", args{"value": "again"})
}

// lines counts those of a file; 0: it isn't there.
func lines(path string) int {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	return strings.Count(string(data), "\n")
}
