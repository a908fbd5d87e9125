package slotclient

import "github.com/dspex/workerpool-operator/internal/frame"

// Reset has the slot replace all its workers, one after the other; no request fails for it. It returns when the slot was
// told, or an error that is ErrUnreachable.
func (c *Client) Reset() error {
	c.mu.Lock()
	s := c.session
	c.mu.Unlock()
	if s == nil {
		return c.unreachable()
	}
	s.wmu.Lock()
	defer s.wmu.Unlock()
	s.writeLocked(&frame.Frame{Kind: frame.Reset})
	return nil
}
