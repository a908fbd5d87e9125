// Package backoff spaces the tries of a loop that must never give up.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff doubles its delay with each try, from Min to Max, and takes a random part of it (50 to 100 %) so that
// many processes which failed together don't return together. Not safe for concurrent use.
type Backoff struct {
	Min, Max time.Duration
	next     time.Duration
}

// Next returns the delay before the next try.
func (b *Backoff) Next() time.Duration {
	d := max(b.next, b.Min)
	b.next = min(2*d, b.Max)
	return d/2 + rand.N(d/2+1)
}

// Reset makes the next delay the shortest one: what was tried has worked.
func (b *Backoff) Reset() { b.next = 0 }

// Wait sleeps for the next delay; it returns false when ctx ended first.
func (b *Backoff) Wait(ctx context.Context) bool {
	timer := time.NewTimer(b.Next())
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
