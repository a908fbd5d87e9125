package router

import "sync"

// news wakes everybody who waits for a change.
type news struct {
	mu sync.Mutex
	ch chan struct{} // guarded by mu: closed and replaced by broadcast; nil: nobody has asked
}

// next returns a channel that is closed at the next broadcast.
func (n *news) next() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ch == nil {
		n.ch = make(chan struct{})
	}
	return n.ch
}

func (n *news) broadcast() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ch != nil {
		close(n.ch)
		n.ch = nil
	}
}
