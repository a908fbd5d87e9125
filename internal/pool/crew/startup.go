package crew

import (
	"cmp"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// startup returns how starts get on; nil: none is under way, and no member is missing. The caller holds mu.
func (c *Crew) startup() *pool.Startup {
	var oldest *Member
	for m := range c.members {
		if m.state == starting && (oldest == nil || m.startedAt.Before(oldest.startedAt)) {
			oldest = m
		}
	}
	s := &pool.Startup{Limit: cmp.Or(c.startLimit, worker.DefaultInitTimeout)}
	if oldest == nil && c.census().missing() == 0 {
		return nil
	}
	s.Pace = c.pace.text(c.boot.failing)
	if oldest != nil {
		s.Since = oldest.startedAt
		if oldest.worker != nil {
			s.Line = oldest.worker.Said()
		}
	}
	return s
}
