package worker

import (
	"errors"
	"log/slog"
	"sync"
	"time"
)

// Zygote makes the workers of one Spec by forks of a process that has imported their module once. Where a fork isn't
// safe, and while the process is dead, it starts them as Launch does: its callers always get a worker, or the
// *BootError that a worker of its own would have had. All methods are safe for concurrent use.
type Zygote struct {
	host *Host
	log  *slog.Logger
	runs sync.WaitGroup // one for each process, until nothing of it is left

	// mu guards what follows. Nothing waits for Python while it is held.
	mu      sync.Mutex
	spec    *Spec
	current *incubator // nil: none runs
	record  zygoteRecord
	starts  int
	closed  bool
}

// NewZygote starts nothing: the first Launch does. Close must be called.
func NewZygote(host *Host, spec *Spec, log *slog.Logger) *Zygote {
	return &Zygote{host: host, spec: spec, log: log.With("module", spec.Module)}
}

// Launch is the Zygote's kind of the function of that name: Ready must be called next, once. It waits for the import
// of the module when that hasn't happened yet; Close ends the wait.
func (z *Zygote) Launch() (*Worker, error) {
	p, err := z.incubator()
	if err != nil {
		return nil, err
	}
	if p != nil {
		w, err := p.fork(z.host, z.now())
		if err == nil || (errors.As(err, new(*BootError)) && !z.ended()) {
			return w, err
		}
		z.excuse(p, err)
	}
	return Launch(z.host, z.now())
}

// Use has processes that are started from now on made by another Spec, which differs from the one before in its
// InitTimeout only.
func (z *Zygote) Use(spec *Spec) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.spec = spec
}

// now returns the Spec of a process that is started now.
func (z *Zygote) now() *Spec {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.spec
}

// incubator returns the process to fork from, started if need be and perhaps not ready yet; nil: spawn for now.
func (z *Zygote) incubator() (*incubator, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.closed || z.current != nil {
		return z.current, nil
	}
	now := time.Now()
	if !z.record.mayStart(now) {
		return nil, nil
	}
	p, err := startIncubator(z.host, z.spec, z.starts+1)
	if err != nil {
		return nil, &BootError{Message: "starting the zygote of module " + z.spec.Module + " in " + z.spec.WorkingDir + ": " + err.Error()}
	}
	z.starts++
	z.current = p
	spec := z.spec
	z.runs.Go(func() { z.watch(p, spec, now) })
	return p, nil
}

// watch sees a process through its life: from the import, over forks, to its end.
func (z *Zygote) watch(p *incubator, spec *Spec, started time.Time) {
	p.prepare(spec)
	if p.failed != nil {
		z.drop(p) // before anyone hears of it: the next Launch is a new try
		p.kill()
	}
	close(p.prepared)
	<-p.proc.done
	z.drop(p)
	if p.failed == nil {
		z.died(p, started, time.Now())
	}
	p.clean(z.host, spec)
}

// drop makes the next Launch do without p.
func (z *Zygote) drop(p *incubator) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.current == p {
		z.current = nil
	}
}

// died notes the end of a process that had been ready, unless it was asked to end.
func (z *Zygote) died(p *incubator, started, now time.Time) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.closed || z.record.refused != "" {
		return
	}
	z.record.died(started, now)
	z.log.Warn("zygote ended; its workers live on, and new ones are spawned until it is started again",
		"zygote", p.id, "exit", p.proc.exit.String(), "next", z.record.notBefore)
}

// excuse notes why a worker is spawned instead.
func (z *Zygote) excuse(p *incubator, err error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	var refusal *refusalError
	switch {
	case z.closed || z.record.refused != "":
	case errors.As(err, &refusal):
		z.record.refused = refusal.Error()
		z.log.Warn("workers can't be forked and are spawned instead; docs/workers.md says what a module may leave behind",
			"zygote", p.id, "reason", z.record.refused)
		p.kill()
	default:
		z.log.Warn("a worker couldn't be forked and is spawned instead", "zygote", p.id, "error", err)
	}
}

// Refused tells what stands against forks: threads, child processes, connected sockets of the module; "" while nothing
// is known to.
func (z *Zygote) Refused() string {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.record.refused
}

// Said is the last line that the process has printed that workers are forked from; "": none, or there is no such process.
func (z *Zygote) Said() string {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.current == nil {
		return ""
	}
	return z.current.output.lastLine()
}

// PID of the process that workers are forked from; 0: there is none now.
func (z *Zygote) PID() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.current == nil {
		return 0
	}
	return z.current.proc.pid
}

func (z *Zygote) ended() bool {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.closed
}

// Close ends the process, not its workers, and waits until nothing of it is left. Launch spawns from now on.
// Idempotent.
func (z *Zygote) Close() {
	z.mu.Lock()
	z.closed = true
	p := z.current
	z.mu.Unlock()
	if p != nil {
		p.kill()
	}
	z.runs.Wait()
}

// Back-off between a zygote's death and its next start: doubling.
const (
	firstZygoteDelay = 500 * time.Millisecond
	maxZygoteDelay   = 30 * time.Second
	// zygoteProven is how long one must live for the deaths before it to be forgotten.
	zygoteProven = time.Minute
)

// zygoteRecord says whether a zygote may be started.
type zygoteRecord struct {
	refused   string // why forks aren't safe with this module: never again
	deaths    int    // in a row
	notBefore time.Time
}

func (r *zygoteRecord) mayStart(now time.Time) bool {
	return r.refused == "" && !now.Before(r.notBefore)
}

// died notes the death, at now, of a zygote that was started at started.
func (r *zygoteRecord) died(started, now time.Time) {
	if now.Sub(started) >= zygoteProven {
		r.deaths = 0
	}
	delay := maxZygoteDelay
	if r.deaths < 16 {
		delay = min(maxZygoteDelay, firstZygoteDelay<<r.deaths)
	}
	r.deaths++
	r.notBefore = now.Add(delay)
}
