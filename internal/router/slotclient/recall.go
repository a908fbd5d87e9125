package slotclient

import (
	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
)

// Recall asks the slot to give back every request whose Recall channel is closed and that no worker has yet: Do returns
// such a one as pool_not_available, unsent. A request that a worker has goes on to its end. Requests that come while it
// runs with the channel closed already aren't sent at all.
func (c *Client) Recall() {
	c.mu.Lock()
	s := c.session
	var ids []uint64
	for id, recall := range c.running {
		if recalled(recall) {
			ids = append(ids, id)
		}
	}
	c.mu.Unlock()
	if s == nil {
		return // the slot cancels what it has of a lost session
	}
	for _, id := range ids {
		s.recall(id)
	}
}

// recallable notes a request that Recall may take back; the caller must call end.
func (c *Client) recallable(id uint64, recall <-chan struct{}) (end func()) {
	if recall == nil {
		return func() {}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running[id] = recall
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.running, id)
	}
}

// recalled reports whether a request's Recall is closed.
func recalled(recall <-chan struct{}) bool {
	select {
	case <-recall:
		return true
	default:
		return false
	}
}

// recall asks for one request. Best effort, as cancel is.
func (s *session) recall(id uint64) {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	s.writeLocked(&frame.Frame{Kind: frame.Recall, ID: id})
}

// recalled: the request was taken back before it left the router.
func (c *Client) recalled() *pool.Error {
	return pool.NewError(pool.ResourceError, pool.NotAvailable,
		"slot %s takes no more of these requests now; retry", c.opts.Name).With("slot", c.opts.Name)
}
