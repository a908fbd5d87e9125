package worker

import (
	"context"
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
	runs sync.WaitGroup  // one for each process, until nothing of it is left
	open context.Context //nolint:containedctx // until Close
	shut context.CancelFunc

	// mu guards what follows. Nothing waits for Python while it is held.
	mu      sync.Mutex
	spec    *Spec
	current *incubator // nil: none runs
	record  zygoteRecord
	closed  bool
}

// NewZygote starts nothing: the first Launch does. Close must be called.
func NewZygote(host *Host, spec *Spec, log *slog.Logger) *Zygote {
	z := &Zygote{host: host, spec: spec, log: log.With("module", spec.Module)}
	z.open, z.shut = context.WithCancel(context.Background()) //nolint:forbidigo // it lives until Close, whoever made it
	return z
}

// Launch is the Zygote's kind of the function of that name: Ready must be called next, once. It waits for the import
// of the module when that hasn't happened yet, and for the forked worker's first word; Close ends the wait.
func (z *Zygote) Launch() (*Worker, error) {
	p, err := z.incubator()
	if err != nil {
		return nil, err
	}
	if p != nil {
		w, err := p.fork(z.open, z.host, z.now())
		switch {
		case err == nil:
			z.forked()
			return w, nil
		case errors.As(err, new(*BootError)) && !z.ended():
			return nil, err
		}
		z.excuse(p, err, time.Now())
	}
	return Launch(z.host, z.now())
}

// Use has processes that are started from now on made by another Spec, which differs from the one before in its
// InitTimeout only. With more time, forks that were given up are tried again.
func (z *Zygote) Use(spec *Spec) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if spec.InitTimeout > z.spec.InitTimeout {
		z.record.relent()
	}
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
	p, err := startIncubator(z.host, z.spec)
	if err != nil {
		return nil, &BootError{Message: "starting the zygote of module " + z.spec.Module + " in " + z.spec.WorkingDir + ": " + err.Error()}
	}
	z.current = p
	spec := z.spec
	z.runs.Go(func() { z.watch(p, spec, now) })
	return p, nil
}

// watch sees a process through its life: from the import, over forks, to its end.
func (z *Zygote) watch(p *incubator, spec *Spec, started time.Time) {
	p.prepare(spec)
	if p.failed != nil {
		z.drop(p) // before anyone hears of it: the next Launch does without it
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
	if p.useless != "" && !z.closed {
		z.giveUp(p, p.useless, time.Now())
		p.useless = ""
	}
}

// died notes the end of a process that had been ready, unless it was asked to end.
func (z *Zygote) died(p *incubator, started, now time.Time) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.closed || !z.record.died(started, now) {
		return
	}
	z.log.Warn("zygote ended; its workers live on, and new ones are spawned until it is started again",
		"zygote", p.id, "exit", p.proc.exit.String(), "next", z.record.notBefore)
}

// forked notes that forks work.
func (z *Zygote) forked() {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.record.broken != "" {
		z.log.Info("workers are forked again")
	}
	z.record.forked()
}

// excuse notes why a worker is spawned instead. One death of a process fails all forks that wait for it, and counts once.
func (z *Zygote) excuse(p *incubator, err error, now time.Time) {
	z.mu.Lock()
	defer z.mu.Unlock()
	var refusal *refusalError
	var broken *forkError
	switch {
	case z.closed || z.record.refused != "" || p.excused:
	case errors.As(err, &refusal):
		z.record.refused = refusal.Error()
		z.log.Warn("workers can't be forked and are spawned instead; docs/workers.md says what a module may leave behind",
			"zygote", p.id, "reason", z.record.refused)
		p.kill()
	case !errors.As(err, &broken) || z.record.failed(broken):
		z.log.Warn("a worker couldn't be forked and is spawned instead", "zygote", p.id, "error", err)
	default:
		z.giveUp(p, broken.Error(), now)
		p.excused = true
		p.kill()
	}
	p.excused = p.excused || broken.fatal()
}

// giveUp has workers spawned for a long time, as forks don't work. The caller holds mu.
func (z *Zygote) giveUp(p *incubator, reason string, now time.Time) {
	z.record.giveUp(reason, now)
	z.log.Warn("forks of the module don't work, and workers are spawned instead", "zygote", p.id, "reason", reason, "next", z.record.notBefore)
}

// Refused says why workers are spawned instead of forked: what stands against forks (threads, child processes, connected
// sockets of the module), or how they failed; "" while nothing is known to.
func (z *Zygote) Refused() string {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.record.reason()
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
	z.shut()
	if p != nil {
		p.kill()
	}
	z.runs.Wait()
}
