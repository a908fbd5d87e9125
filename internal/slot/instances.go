package slot

import (
	"context"
	"sync"
)

// maxEarly bounds the cancels that a router's instance may have sent before their requests were read.
const maxEarly = 1024

// instances knows the running requests of each router process, so that its control connection can cancel them.
type instances struct {
	mu     sync.Mutex
	byName map[string]*instance // guarded by mu, and all that it holds
}

type instance struct {
	connections int
	controls    int
	requests    map[uint64]context.CancelFunc
	// early holds cancels that came before their request: the two travel on different connections. An id is
	// never used twice by an instance, so one that stays here does no harm.
	early map[uint64]struct{}
	order []uint64
}

func newInstances() *instances { return &instances{byName: map[string]*instance{}} }

// join notes a connection of the instance; the caller must call leave at its end, which cancels the instance's
// requests if it was the last control connection.
func (is *instances) join(name string, control bool) (leave func()) {
	is.mu.Lock()
	defer is.mu.Unlock()
	i := is.byName[name]
	if i == nil {
		i = &instance{requests: map[uint64]context.CancelFunc{}, early: map[uint64]struct{}{}}
		is.byName[name] = i
	}
	i.connections++
	if control {
		i.controls++
	}
	return func() { is.leave(name, i, control) }
}

func (is *instances) leave(name string, i *instance, control bool) {
	is.mu.Lock()
	defer is.mu.Unlock()
	if control {
		if i.controls--; i.controls == 0 {
			for _, cancel := range i.requests {
				cancel()
			}
		}
	}
	if i.connections--; i.connections == 0 {
		delete(is.byName, name)
	}
}

// begin notes a running request; the caller must call end. A cancel that came earlier takes effect now.
func (is *instances) begin(name string, id uint64, cancel context.CancelFunc) (end func()) {
	is.mu.Lock()
	defer is.mu.Unlock()
	i := is.byName[name]
	if _, early := i.early[id]; early {
		cancel()
	}
	i.requests[id] = cancel
	return func() {
		is.mu.Lock()
		defer is.mu.Unlock()
		delete(i.requests, id)
	}
}

// cancel cancels a request of the instance, also one that hasn't been read yet.
func (is *instances) cancel(name string, id uint64) {
	is.mu.Lock()
	defer is.mu.Unlock()
	i := is.byName[name]
	if cancel, running := i.requests[id]; running {
		cancel()
		return
	}
	if len(i.order) == maxEarly {
		delete(i.early, i.order[0])
		i.order = i.order[1:]
	}
	i.early[id] = struct{}{}
	i.order = append(i.order, id)
}
