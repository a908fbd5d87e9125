package slottest

import (
	"net"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// Refuse makes the slot refuse its next configurations with e; nil: accept again.
func (s *Slot) Refuse(e *pool.Error) { s.set(func() { s.refuse = e }) }

// Deaf makes the slot leave configurations unanswered.
func (s *Slot) Deaf(deaf bool) { s.set(func() { s.deaf = deaf }) }

// Mute leaves data connections without a greeting, and tells arrived of each; nil: greet again.
func (s *Slot) Mute(arrived chan struct{}) { s.set(func() { s.mute = arrived }) }

// Raw lets answer write what it likes to the data connection in place of the handler's reply.
func (s *Slot) Raw(answer func(conn net.Conn, call Call)) { s.set(func() { s.raw = answer }) }

// Unready makes the slot report no worker able to serve (or, with false, all of them), and tells the router.
func (s *Slot) Unready(unready bool) {
	s.set(func() { s.unready = unready })
	s.Report()
}

// Crash makes the slot report that n more workers crashed, each replaced at once.
func (s *Slot) Crash(n int) {
	s.set(func() { s.crashed += uint64(n) })
	s.Report()
}

// CrashDraining is Crash of workers of a pool that was replaced and still drains.
func (s *Slot) CrashDraining(n int) {
	s.set(func() { s.drained += uint64(n) })
	s.Crash(n)
}

// FailBoot makes the slot report that workers can't be started, or with nil that they can, and tells the router.
func (s *Slot) FailBoot(boot *pool.BootFailure) {
	s.set(func() { s.boot = boot })
	s.Report()
}

// StartUp makes the slot report how its starts get on, or with nil that none is under way, and tells the router.
func (s *Slot) StartUp(how *pool.Startup) {
	s.set(func() { s.startup = how })
	s.Report()
}

// Resets returns how often the router has asked for new workers.
func (s *Slot) Resets() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.resets
}

// Hang makes the slot report that its workers don't answer, or with nil that they do, and tells the router.
func (s *Slot) Hang(why *pool.Unhealthy) {
	s.set(func() { s.unhealthy = why })
	s.Report()
}
