package router

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// faults logs what goes wrong in the router, and between it and the slots: of each kind once a second, with how many there
// were meanwhile. Neither arguments nor results are in it, nor what a handler says.
type faults struct {
	log *slog.Logger

	mu    sync.Mutex
	kinds map[string]*faultKind // guarded by mu
}

type faultKind struct {
	logged     time.Time
	suppressed int // since
}

// maxFaultKinds bounds the kinds that are told apart.
const maxFaultKinds = 256

// due reports whether a fault of that kind is to be logged now, with how many weren't since the last that was.
func (f *faults) due(kind string, now time.Time) (suppressed int, due bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := f.kinds[kind]
	switch {
	case k == nil:
		if f.kinds == nil || len(f.kinds) >= maxFaultKinds {
			f.kinds = map[string]*faultKind{}
		}
		f.kinds[kind] = &faultKind{logged: now}
		return 0, true
	case now.Sub(k.logged) < time.Second:
		k.suppressed++
		return 0, false
	}
	suppressed, k.suppressed, k.logged = k.suppressed, 0, now
	return suppressed, true
}

// failed logs a request that infrastructure has failed.
func (f *faults) failed(c *call, to *target, e *pool.Error, now time.Time) {
	slot, revision := "", ""
	if to != nil {
		slot, revision = to.slot.Name(), to.revision
	}
	suppressed, due := f.due(string(e.Type)+" "+slot, now)
	if !due {
		return
	}
	f.log.Warn("request failed", "type", e.Type, "sent", e.Sent, "command", c.command, "slot", slot, "revision", revision,
		"reason", reasonOf(e), "suppressed", suppressed)
}

// reasonOf is an error's message, unless that quotes somebody: an import that fails says what it likes.
func reasonOf(e *pool.Error) string {
	if e.Context["attempts"] != nil && e.Type == pool.NotAvailable {
		return "no worker can be started; see the slot's log"
	}
	return head(e.Message, maxMessage)
}

// recovered answers a request whose handling panicked, which is a bug of ours.
func (r *Router) recovered(x *exchange) {
	p := recover()
	if p == nil {
		return
	}
	if suppressed, due := r.faults.due("panic", time.Now()); due {
		r.log.Error("request panicked", "panic", panicText(p), "path", head(x.req.URL.Path, maxShownPath), "stack", string(debug.Stack()),
			"suppressed", suppressed)
	}
	if x.answered {
		panic(http.ErrAbortHandler) // half an answer is none
	}
	x.abandon()
	r.writeError(x, pool.NewError(pool.SystemError, pool.Internal, "the router failed at this request by a bug of its own; report it, with the stack that its log has"))
}

// panicText says what a panic was. Only the runtime's own words are shown: others may hold values.
func panicText(p any) string {
	if e, ok := p.(interface {
		error
		RuntimeError()
	}); ok {
		return e.Error()
	}
	return fmt.Sprintf("%T", p)
}

// serverLog takes what net/http's server logs: connections that can't be accepted, bugs.
type serverLog struct{ *faults }

func (s serverLog) Write(line []byte) (int, error) {
	kind, _, _ := bytes.Cut(line, []byte(":"))
	if suppressed, due := s.due("http "+head(string(kind), 40), time.Now()); due {
		s.log.Warn("http server", "says", head(string(bytes.TrimSpace(line)), maxMessage), "suppressed", suppressed)
	}
	return len(line), nil
}
