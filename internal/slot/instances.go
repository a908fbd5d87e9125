package slot

import (
	"slices"
	"sync"

	"github.com/dspex/workerpool-operator/internal/slot/slotproto"
)

const (
	// maxEarly bounds the cancels and recalls that a router may have sent before their requests were read.
	maxEarly = 1024
	// maxEnded bounds the router processes that are remembered after their end: data connections may come later than that.
	maxEnded = 256
)

// instances knows the requests of each router process, by its control connection: that cancels them or calls them back, and
// its end cancels all. Whatever else is read from a data connection after the end of its control connection isn't run: nobody
// could cancel it.
type instances struct {
	mu     sync.Mutex
	byName map[string]*session // guarded by mu: the latest of each router process
	ended  []string            // guarded by mu: whose session is over, in order
}

// session is a control connection with its data connections. One of a router that has none, and had none before, is a
// session without it.
type session struct {
	// All is guarded by the instances' mu.
	number      uint64 // of the control connection, as its router counts them; 0: it doesn't
	controlled  bool
	over        bool
	connections int
	requests    map[uint64]stops
	// early holds what came before its request: the two travel on different connections. An id is never used twice
	// by a router process, so one that stays here does no harm.
	early map[uint64]early
	order []uint64
}

// stops end a running request: cancel whatever it does, recall only while it waits for a worker. Neither blocks; each
// may be called again.
type stops struct{ cancel, recall func() }

// early is what is to be done with a request when it is read.
type early struct{ cancel, recall bool }

func (e early) to(s stops) {
	if e.recall {
		s.recall()
	}
	if e.cancel {
		s.cancel()
	}
}

func newInstances() *instances { return &instances{byName: map[string]*session{}} }

func newSession(number uint64) *session {
	return &session{number: number, requests: map[uint64]stops{}, early: map[uint64]early{}}
}

// control begins a session, which the caller must leave at the end of the control connection. A router process has one
// session at a time: the one before is over, also when its end hasn't been noticed yet.
func (is *instances) control(h *slotproto.Hello) *session {
	is.mu.Lock()
	defer is.mu.Unlock()
	s := is.byName[h.Instance]
	if s == nil || s.controlled || s.over {
		if s != nil {
			s.stop()
		}
		s = newSession(h.Session)
		is.byName[h.Instance] = s
	}
	s.number, s.controlled = h.Session, true
	s.connections++
	return s
}

// data notes a data connection and returns its session, which the caller must leave. The session is over already when the
// router has another one now.
func (is *instances) data(h *slotproto.Hello) *session {
	is.mu.Lock()
	defer is.mu.Unlock()
	s := is.byName[h.Instance]
	switch {
	case s == nil:
		s = newSession(0)
		s.over = h.Session != 0 // its control connection came first, so it has ended
		is.byName[h.Instance] = s
	case s.controlled && h.Session != s.number:
		s = newSession(h.Session)
		s.over = true
	}
	s.connections++
	return s
}

// leave ends a connection of a session; the control connection's end is the session's.
func (is *instances) leave(name string, s *session, control bool) {
	is.mu.Lock()
	defer is.mu.Unlock()
	if control {
		s.stop()
		if is.byName[name] == s {
			is.remember(name)
		}
	}
	if s.connections--; s.connections == 0 && !s.controlled {
		s.stop()
		if is.byName[name] == s {
			delete(is.byName, name)
		}
	}
}

// remember keeps the names of routers whose session is over, up to maxEnded. The caller holds mu.
func (is *instances) remember(name string) {
	is.ended = append(slices.DeleteFunc(is.ended, func(n string) bool { return n == name }), name)
	if len(is.ended) <= maxEnded {
		return
	}
	oldest := is.ended[0]
	is.ended = is.ended[1:]
	if s := is.byName[oldest]; s != nil && s.over {
		delete(is.byName, oldest)
	}
}

// stop ends the session and cancels all its requests. The caller holds the instances' mu.
func (s *session) stop() {
	s.over = true
	for _, running := range s.requests {
		running.cancel()
	}
	clear(s.early)
	s.order = nil
}

// begin notes a running request, which the caller must end; false: the session is over, and the request must not run. What
// came earlier for it takes effect now.
func (is *instances) begin(s *session, id uint64, how stops) (end func(), ok bool) {
	is.mu.Lock()
	defer is.mu.Unlock()
	if s.over {
		return nil, false
	}
	s.early[id].to(how)
	s.requests[id] = how
	return func() {
		is.mu.Lock()
		defer is.mu.Unlock()
		delete(s.requests, id)
	}, true
}

// cancel cancels a request of the session, also one that hasn't been read yet.
func (is *instances) cancel(s *session, id uint64) { is.apply(s, id, early{cancel: true}) }

// recall takes a request of the session back if no worker has it, also one that hasn't been read yet.
func (is *instances) recall(s *session, id uint64) { is.apply(s, id, early{recall: true}) }

func (is *instances) apply(s *session, id uint64, e early) {
	is.mu.Lock()
	defer is.mu.Unlock()
	if running, ok := s.requests[id]; ok {
		e.to(running)
		return
	}
	if s.over {
		return
	}
	known, there := s.early[id]
	if !there {
		s.order = append(s.order, id)
	}
	if len(s.order) > maxEarly {
		delete(s.early, s.order[0])
		s.order = s.order[1:]
	}
	s.early[id] = early{cancel: known.cancel || e.cancel, recall: known.recall || e.recall}
}
