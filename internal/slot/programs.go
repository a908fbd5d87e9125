package slot

import (
	"sync"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// What a slot holds of programs at most, beside those of the requests that are in it: enough for what is in use, and
// little beside what a supervisor's container has.
const (
	maxPrograms     = 1024
	maxProgramBytes = 8 << 20
)

// programs are what the router has sent, kept once for all requests, so that it needn't send them again.
type programs struct {
	mu     sync.Mutex
	recent *pool.Recent[*pool.Program] // guarded by mu
}

func newPrograms() *programs {
	return &programs{recent: pool.NewRecent[*pool.Program](maxPrograms, maxProgramBytes)}
}

// keep returns the program of that hash: the one that is there already, so that requests share a single body, or the
// new one.
func (s *programs) keep(hash string, body []byte) *pool.Program {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, held := s.recent.Get(hash); held {
		return p
	}
	p := &pool.Program{Hash: hash, Body: body}
	s.recent.Put(hash, p, len(body))
	return p
}

// find returns the program that a request names, nil for a plain command. What came ahead of it is there, whatever
// was kept or dropped since.
func (s *programs) find(hash string, ahead *pool.Program) (p *pool.Program, held bool) {
	switch {
	case hash == "":
		return nil, true
	case ahead != nil && ahead.Hash == hash:
		return ahead, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.recent.Get(hash)
}
