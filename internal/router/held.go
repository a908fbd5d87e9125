package router

import (
	"sync"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// heldPrograms keeps one copy of each program's body for all calls that run it now: together they take no more than the
// store holds, however many calls there are.
type heldPrograms struct {
	mu     sync.Mutex
	byHash map[string]*heldProgram // guarded by mu
}

type heldProgram struct {
	program pool.Program
	calls   int
}

// take returns the program of that hash, whose body is kept until the call releases it. The caller must release once.
func (h *heldPrograms) take(hash string, body []byte) (p *pool.Program, release func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	held := h.byHash[hash]
	if held == nil {
		held = &heldProgram{program: pool.Program{Hash: hash, Body: body}}
		if h.byHash == nil {
			h.byHash = map[string]*heldProgram{}
		}
		h.byHash[hash] = held
	}
	held.calls++
	return &held.program, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if held.calls--; held.calls == 0 {
			delete(h.byHash, hash)
		}
	}
}
