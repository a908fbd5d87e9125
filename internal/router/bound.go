package router

import (
	"errors"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// setter is what sets the end of a request, or of a part of it.
type setter int

const (
	byRouter   setter = iota // a constant
	byCheckout               // the pool's timeouts.checkout
	byPool                   // that and timeouts.operation
	byCaller                 // the caller's deadline
)

// bound is the end of something, and what sets it.
type bound struct {
	at time.Time
	by setter
}

// bodyBounds are the ends of a body's arrival and of its waits for room, under the limits of a table; nil: under none.
func bodyBounds(c *call, t *table) (arriveBy, roomBy bound) {
	arriveBy, roomBy = bound{c.start.Add(bodyTimeout), byRouter}, bound{c.start.Add(roomTimeout), byRouter}
	if t != nil {
		arriveBy = sooner(arriveBy, bound{c.start.Add(t.limits.checkout + t.limits.operation), byPool})
		roomBy = sooner(arriveBy, bound{c.start.Add(t.limits.checkout), byCheckout})
	}
	if c.budget > 0 {
		arriveBy = sooner(arriveBy, bound{c.start.Add(c.budget), byCaller})
	}
	return arriveBy, sooner(roomBy, arriveBy)
}

func sooner(a, b bound) bound {
	if b.at.Before(a.at) {
		return b
	}
	return a
}

// setting names what sets an end, in the words of who can change it.
func (c *call) setting(by setter) string {
	switch by {
	case byCheckout:
		return "timeouts.checkout"
	case byPool:
		return "timeouts.checkout and timeouts.operation"
	case byCaller:
		return headerDeadline + ": " + c.budget.String()
	case byRouter:
	}
	return "the router's limit"
}

// hurried reports whether the call's end is its caller's, not the pool's.
func (c *call) hurried(l limits) bool { return c.budget > 0 && c.budget < l.checkout+l.operation }

// outOfTime returns err; if the call's time ended it, with what set that.
func (c *call) outOfTime(l limits, err error) error {
	var e *pool.Error
	if !errors.As(err, &e) || e.Type != pool.DeadlineExceeded && (e.Type != pool.CommandTimeout || e.Context[pool.LimitedBy] == pool.ByOperation) {
		return err
	}
	by := byPool
	if c.hurried(l) {
		by = byCaller
	}
	told := e.With(pool.LimitedBy, c.setting(by))
	told.Message += " (" + c.setting(by) + ")"
	return told
}
