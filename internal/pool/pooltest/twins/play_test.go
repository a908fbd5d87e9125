// Package twins holds V1 against V2: what is asked of both in the same order has the same results and figures, to the
// nanosecond where nothing runs side by side, but for the differences that its tests declare.
package twins

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/checkout"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
	"github.com/dspex/workerpool-operator/internal/pool/pooltest"
	"github.com/dspex/workerpool-operator/internal/pool/serial"
)

// name of the pools that are compared.
const name = "twin"

// step is one command of a sequence; one of its fields is set.
type step struct {
	Submit    *operation
	Sleep     time.Duration
	Configure *pool.Limits
	Kill      bool // whoever served last
}

// scenario is a sequence of commands, the same for both.
type scenario struct {
	Limits pool.Limits
	Alone  bool // each request ends before the next command
	Steps  []step
	Grace  time.Duration // of Close; 0: all requests end before it
}

// String shows it as JSON, with what is behind its pointers.
func (sc scenario) String() string {
	text, err := json.Marshal(sc)
	return fmt.Sprint(string(text), err)
}

// outcome is how a request ended.
type outcome struct {
	Now           bool   // it was asked for with strict-now
	Result        string // payload or error
	Context       string // the error's
	Sent          bool
	Wait, Service time.Duration
	Ended         time.Time
}

// record is all that can be seen of a pool.
type record struct {
	Outcomes []outcome
	Moments  []pool.Stats // after each step
	Settled  pool.Stats   // when all requests have ended; zero if Close ended them
	End      pool.Stats   // after Close
}

func v1(ctx context.Context, name string, l crew.Launch, limits pool.Limits, log *slog.Logger) pool.Pool {
	return serial.New(ctx, name, l, limits, log)
}

func v2(ctx context.Context, name string, l crew.Launch, limits pool.Limits, log *slog.Logger) pool.Pool {
	return checkout.New(ctx, name, l, limits, log)
}

// play does what the scenario says with a pool, in a bubble whose time is nobody else's.
func play(t *testing.T, open pooltest.Factory, sc scenario) (rec record) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{}
		p := player{T: t, Pool: open(t.Context(), name, s.launch, sc.Limits, slog.New(slog.DiscardHandler)), rec: &rec, stage: s}
		synctest.Wait()
		for _, st := range sc.Steps {
			if sc.Alone && st.Submit != nil {
				s.last.Store(nil) // a kill that follows is for whoever serves this one, if anybody does
			}
			p.do(st)
			if sc.Alone {
				p.running.Wait()
			}
			synctest.Wait()
			rec.Moments = append(rec.Moments, p.Stats())
		}
		p.end(sc.Grace)
	})
	return rec
}

type player struct {
	*testing.T
	pool.Pool
	stage   *stage
	rec     *record
	running sync.WaitGroup
	mu      sync.Mutex // guards rec.Outcomes
}

func (p *player) do(st step) {
	switch {
	case st.Submit != nil:
		p.submit(*st.Submit)
	case st.Configure != nil:
		p.Configure(*st.Configure)
	case st.Kill:
		p.stage.killLast()
	default:
		time.Sleep(st.Sleep)
	}
}

func (p *player) submit(op operation) {
	payload, err := json.Marshal(op)
	if err != nil {
		p.Fatal(err)
	}
	req := pool.Request{Command: op.Kind, Payload: payload, Affinity: op.Affinity}
	if op.Deadline != 0 {
		req.Deadline = time.Now().Add(op.Deadline)
	}
	ctx, cancel := context.WithCancel(p.Context())
	if op.Cancel > 0 {
		ctx, cancel = context.WithTimeout(p.Context(), op.Cancel)
	}
	p.mu.Lock()
	n := len(p.rec.Outcomes)
	p.rec.Outcomes = append(p.rec.Outcomes, outcome{})
	p.mu.Unlock()
	p.running.Go(func() {
		defer cancel()
		out := outcomeOf(p.Do(ctx, req))
		out.Now = op.Affinity.Mode == pool.AffinityStrictNow
		p.mu.Lock()
		defer p.mu.Unlock()
		p.rec.Outcomes[n] = out
	})
}

func outcomeOf(reply pool.Reply, err error) outcome {
	out := outcome{Result: string(reply.Payload), Wait: reply.Wait, Service: reply.Service, Ended: time.Now()}
	if e := (*pool.Error)(nil); errors.As(err, &e) {
		out.Result, out.Context, out.Sent = e.Error(), fmt.Sprint(e.Context), e.Sent
	}
	return out
}

func (p *player) end(grace time.Duration) {
	if grace == 0 {
		p.running.Wait()
		synctest.Wait()
		p.rec.Settled = p.Stats()
		grace = time.Hour
	}
	ctx, cancel := context.WithTimeout(p.Context(), grace)
	defer cancel()
	if err := p.Close(ctx); err != nil {
		p.Errorf("Close: %v", err)
	}
	p.running.Wait()
	p.rec.End = p.Stats()
}
