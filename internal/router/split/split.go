// Package split decides, request by request, which of them go to the canary: of each command exactly as many as the
// weight says, at random places.
package split

import (
	"strings"
	"sync"
	"sync/atomic"
)

// Whole is the weight that means every request; weights are hundredths of a percent.
const Whole = 10_000

const (
	// maxCommands is how many commands have a stream of their own; the others share one.
	maxCommands = 128
	// reviewEvery so many requests of commands that share a stream, those that have one and didn't use it lose it.
	reviewEvery = 1024
)

// Splitter has a stream for each command, so that each has its own exact share: no command is kept from the canary, and
// none makes up most of what it gets, whatever rhythm the requests have. Safe for concurrent use, and exact under it.
type Splitter struct {
	seed    func() uint64
	streams atomic.Pointer[table]
	shared  stream        // of the commands for which there is no room
	crowd   atomic.Uint32 // requests that went through shared
	editing sync.Mutex    // held from a load of streams to the store of what takes its place
}

// New makes a Splitter. seed is asked for a number with each new command, by one caller at a time: a random one, so that
// no two pods pick in the same rhythm.
func New(seed func() uint64) *Splitter {
	s := &Splitter{seed: seed}
	s.streams.Store(&table{})
	s.shared.begin(seed())
	return s
}

// Next reports whether the next request of a command goes to the canary. Weight 0 never does, Whole (or more) always.
func (s *Splitter) Next(command string, weight uint32) bool {
	switch {
	case weight == 0:
		return false
	case weight >= Whole:
		return true // and what each stream owes stays as it is
	}
	return s.stream(command).next(weight)
}

func (s *Splitter) stream(command string) *stream {
	streams := s.streams.Load()
	if found := streams.find(command); found != nil {
		found.use()
		return found
	}
	if streams.size < maxCommands {
		return s.begin(command)
	}
	if s.crowd.Add(1)%reviewEvery == 0 {
		s.review()
	}
	return &s.shared
}

// begin gives a command a stream, if there is still room.
func (s *Splitter) begin(command string) *stream {
	s.editing.Lock()
	defer s.editing.Unlock()
	streams := *s.streams.Load()
	if found := streams.find(command); found != nil {
		return found
	}
	if streams.size >= maxCommands {
		return &s.shared
	}
	begun := &stream{command: strings.Clone(command)} // the name is part of a whole request
	begun.begin(s.seed())
	streams.add(begun)
	s.streams.Store(&streams)
	return begun
}

// review makes room for commands that share a stream: names that somebody made up, or that a module no longer has, don't
// keep the others out for ever.
func (s *Splitter) review() {
	s.editing.Lock()
	defer s.editing.Unlock()
	var kept table
	for _, of := range s.streams.Load().places {
		if of != nil && of.used.Swap(false) {
			kept.add(of)
		}
	}
	s.streams.Store(&kept)
}
