package slot

import "sync"

// maxEarly bounds the cancels and recalls that a router's instance may have sent before their requests were read.
const maxEarly = 1024

// instances knows the running requests of each router process, so that its control connection can cancel them or
// call them back.
type instances struct {
	mu     sync.Mutex
	byName map[string]*instance // guarded by mu, and all that it holds
}

type instance struct {
	connections int
	controls    int
	requests    map[uint64]stops
	// early holds what came before its request: the two travel on different connections. An id is never used twice
	// by an instance, so one that stays here does no harm.
	early map[uint64]stop
	order []uint64
}

// stops end a running request: cancel whatever it does, recall only while it waits for a worker. Neither blocks; each
// may be called again.
type stops struct{ cancel, recall func() }

// stop chooses one of stops.
type stop func(stops)

func toCancel(s stops) { s.cancel() }
func toRecall(s stops) { s.recall() }

func newInstances() *instances { return &instances{byName: map[string]*instance{}} }

// join notes a connection of the instance; the caller must call leave at its end, which cancels the instance's
// requests if it was the last control connection.
func (is *instances) join(name string, control bool) (leave func()) {
	is.mu.Lock()
	defer is.mu.Unlock()
	i := is.byName[name]
	if i == nil {
		i = &instance{requests: map[uint64]stops{}, early: map[uint64]stop{}}
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
			for _, running := range i.requests {
				running.cancel()
			}
		}
	}
	if i.connections--; i.connections == 0 {
		delete(is.byName, name)
	}
}

// begin notes a running request; the caller must call end. What came earlier for it takes effect now.
func (is *instances) begin(name string, id uint64, s stops) (end func()) {
	is.mu.Lock()
	defer is.mu.Unlock()
	i := is.byName[name]
	if stop, early := i.early[id]; early {
		stop(s)
	}
	i.requests[id] = s
	return func() {
		is.mu.Lock()
		defer is.mu.Unlock()
		delete(i.requests, id)
	}
}

// cancel cancels a request of the instance, also one that hasn't been read yet.
func (is *instances) cancel(name string, id uint64) { is.stop(name, id, toCancel) }

// recall takes a request of the instance back if no worker has it, also one that hasn't been read yet.
func (is *instances) recall(name string, id uint64) { is.stop(name, id, toRecall) }

func (is *instances) stop(name string, id uint64, how stop) {
	is.mu.Lock()
	defer is.mu.Unlock()
	i := is.byName[name]
	if s, running := i.requests[id]; running {
		how(s)
		return
	}
	if len(i.order) == maxEarly {
		delete(i.early, i.order[0])
		i.order = i.order[1:]
	}
	i.early[id] = how
	i.order = append(i.order, id)
}
