package pool

import "time"

// Budget is the time that one request has, waiting and operation together, and what ends its waiting early.
type Budget struct {
	limits     Limits
	checkoutBy time.Time // end of the wait by the pool's checkout timeout
	end        time.Time // of everything
	recall     <-chan struct{}
}

// NewBudget starts a request's budget.
func NewBudget(req Request, limits Limits, now time.Time) Budget {
	b := Budget{limits: limits, checkoutBy: now.Add(limits.Checkout), end: req.Deadline, recall: req.Recall}
	if b.end.IsZero() {
		b.end = b.checkoutBy.Add(limits.Operation)
	}
	return b
}

// WaitUntil is when a request that no worker has taken is given up.
func (b Budget) WaitUntil() time.Time {
	if b.end.Before(b.checkoutBy) {
		return b.end
	}
	return b.checkoutBy
}

// WaitError is what that request gets.
func (b Budget) WaitError(pool string) *Error {
	if b.end.Before(b.checkoutBy) {
		return NewDeadlineExceeded(pool)
	}
	return NewCheckoutTimeout(pool, b.limits.Checkout)
}

// Recalled is closed when a request that no worker has taken is to be given back, with NewRecalled; nil: never.
func (b Budget) Recalled() <-chan struct{} { return b.recall }

// LimitedBy is the key, in an error's context, of what set the time that was over: ByOperation, or ByDeadline, which the
// router replaces by what set the deadline.
const (
	LimitedBy   = "limited_by"
	ByOperation = "spec.timeouts.operation"
	ByDeadline  = "deadline"
)

// Explain returns err, of an operation that a worker took at began. If that ran out of time, it says what set the time,
// and the way out.
func (b Budget) Explain(err *Error, began time.Time) *Error {
	if err == nil || err.Type != CommandTimeout || err.Context["idle_ms"] != nil {
		return err
	}
	by, wayOut := ByOperation, "; make it faster or raise "+ByOperation
	if b.OperationUntil(began).Equal(b.end) {
		by, wayOut = ByDeadline, "; that was all the time that its request had left: make it faster or give it more"
	}
	err = err.With(LimitedBy, by)
	err.Message += wayOut
	return err
}

// OperationUntil is when an operation that a worker takes at now is given up.
func (b Budget) OperationUntil(now time.Time) time.Time {
	if until := now.Add(b.limits.Operation); until.Before(b.end) {
		return until
	}
	return b.end
}
