package slot

import (
	"os"
	"strings"
	"sync"
	"unicode"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
	"github.com/dspex/workerpool-operator/internal/slot/slotproto"
)

// Status describes the slot: workers and boot failure of the current pool; counters of all pools since the slot
// started. Reading the workers' figures takes time, so requests don't wait for it.
func (s *Slot) Status() slotproto.Status {
	s.mu.Lock()
	counted, current := s.past.census(), s.current
	var config slotproto.Config
	if current != nil {
		config = current.config
	}
	retired := make(map[*engine]string, len(s.retired)) // none of which is in past yet
	for e := range s.retired {
		retired[e] = e.revision
	}
	s.mu.Unlock()
	status := slotproto.Status{Slot: s.opt.Name, MaxWorkers: s.opt.MaxWorkers, RSS: worker.ResidentMemory(os.Getpid())}
	for e, revision := range retired {
		counted.add(revision, e.pool.Stats())
	}
	if current != nil {
		stats := current.pool.Stats()
		counted.add(config.Revision, stats)
		_, status.Capped = capped(config, s.opt.MaxWorkers)
		status.Revision, status.Version = config.Revision, config.Version
		status.Desired, status.Starting, status.Ready = stats.Desired, stats.Starting, stats.Ready
		status.Busy, status.Overflow, status.Queued = stats.Busy, stats.Overflow, stats.Queued
		status.Unstarted, status.Inactive = stats.Unstarted, inactive(config)
		status.Startup = progress(stats.Startup, current.zygote)
		status.Boot, status.Workers, status.PoolCrashed = stats.Boot, stats.Workers, stats.Crashed
		status.Unhealthy, status.Exits = stats.Unhealthy, stats.Exits
		status.Commands, status.MoreCommands = told(stats.Commands)
		if current.zygote != nil {
			status.ForkRefused = current.zygote.Refused()
		}
	}
	counted.fill(&status)
	return status
}

// maxSaid is how much a status tells of a line that a worker printed, in bytes.
const maxSaid = 200

// progress is what a status tells of starts. While a zygote imports, no worker has a process that could print anything.
func progress(s *pool.Startup, zygote *worker.Zygote) *pool.Startup {
	if s == nil {
		return nil
	}
	if s.Line == "" && zygote != nil && !s.Since.IsZero() {
		s.Line = zygote.Said()
	}
	printable := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s.Line[:min(len(s.Line), 2*maxSaid)])
	s.Line = strings.ToValidUTF8(printable[:min(len(printable), maxSaid)], "")
	return s
}

// What a status tells of commands at most: it is sent each second.
const (
	maxCommands     = 200
	maxCommandBytes = 8 << 10
)

// told cuts names to what a status holds, and says whether it had to.
func told(names []string) (some []string, more bool) {
	bytes := 0
	for i, name := range names {
		bytes += len(name)
		if i == maxCommands || bytes > maxCommandBytes {
			return names[:i:i], true
		}
	}
	return names, false
}

// hub tells any number of listeners, coalesced, that something has changed. The zero value is ready.
type hub struct {
	mu        sync.Mutex
	listeners map[chan struct{}]struct{} // guarded by mu
}

func (h *hub) listen() (ch chan struct{}, cancel func()) {
	ch = make(chan struct{}, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.listeners == nil {
		h.listeners = map[chan struct{}]struct{}{}
	}
	h.listeners[ch] = struct{}{}
	return ch, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.listeners, ch)
	}
}

func (h *hub) notify() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for ch := range h.listeners {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}
