package router

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/dspex/workerpool-operator/internal/histogram"
	"github.com/dspex/workerpool-operator/internal/pool"
)

// outcome groups the ways in which a request ends by who is to blame; each is one counter of the reports.
type outcome int

const (
	succeeded      outcome = iota
	failed                 // the handler raised
	timedOut               // command_timeout
	infrastructure         // crashes, protocol errors
	shed                   // queue_full, worker_busy, checkout_timeout, an open breaker: that it is open was counted
	expired                // the request's own time ended while it waited, or because it had waited
	unavailable            // nobody was there to run it: a slot that is away, starts or stops
	callerError            // unknown command, invalid payload, cancelled, what the handler blames on its caller
	upstreamError          // what the handler blames on a service that it calls
	outcomes               // their number
)

// outcomeOf classifies the end of a request. One without an error can be a batch some of whose calls have failed.
func outcomeOf(outputs pool.Type, err error) outcome {
	if err == nil {
		switch outputs {
		case pool.PythonError:
			return failed
		case pool.UpstreamError:
			return upstreamError
		case pool.CallerError:
			return callerError
		default:
			return succeeded
		}
	}
	var e *pool.Error
	if !errors.As(err, &e) {
		return infrastructure
	}
	switch e.Type {
	case pool.PythonError:
		return failed
	case pool.CommandTimeout:
		return timedOut
	case pool.DeadlineExceeded:
		return expired
	case pool.QueueFull, pool.WorkerBusy, pool.CheckoutTimeout:
		return shed
	case pool.UpstreamError:
		return upstreamError
	case pool.NotAvailable:
		switch {
		case e.Sent:
			return infrastructure
		case e.IsBreakerOpen():
			return shed
		}
		return unavailable
	default:
		if e.Category == pool.RequestError {
			return callerError
		}
		return infrastructure
	}
}

// fairShare is the part of an operation's time that has to be left of it for a timeout to be the version's doing.
const fairShare = 0.9

// waitedAway reports whether an operation ran out of its request's time because that had waited for long: load, which the
// canary and the stable have different shares of, isn't the version's doing. A deadline that is short for both is.
func (c *call) waitedAway(l limits, service time.Duration, err error) bool {
	var e *pool.Error
	if !errors.As(err, &e) || e.Context[pool.LimitedBy] != pool.ByDeadline || service == 0 {
		return false
	}
	fair := l.operation
	if c.budget > 0 {
		fair = min(fair, c.budget)
	}
	return float64(service) < fairShare*float64(fair)
}

// unstarted reports whether requests of this outcome speak for or against no revision, as none ran as it should have.
func (o outcome) unstarted() bool { return o == shed || o == expired || o == unavailable }

// executed reports whether the outcome tells how fast the revision is. Requests that were refused or given up would
// hide a slow one behind quick failures, and so would those that an upstream failed: they did run, but their time is
// the upstream's.
func (o outcome) executed() bool { return !o.unstarted() && o != callerError && o != upstreamError }

// counters are one revision's figures, cumulative since the router started.
type counters struct {
	revision string
	version  pool.Version

	mu      sync.Mutex
	ends    [outcomes]uint64    // guarded by mu
	apart   [outcomes]uint64    // guarded by mu: of ends, those of calls that don't match
	latency histogram.Histogram // guarded by mu: as the application sees it
	service histogram.Histogram // guarded by mu: inside the worker
}

// record counts the end of one request. Service 0 means that no worker was reached; apart, that the request didn't match.
func (c *counters) record(o outcome, apart bool, latency, service time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ends[o]++
	if apart {
		c.apart[o]++
	}
	if o.executed() {
		c.latency.Observe(latency)
		if service > 0 {
			c.service.Observe(service)
		}
	}
}

// figures are a consistent copy of counters.
type figures struct {
	revision         string
	version          pool.Version
	ends, apart      [outcomes]uint64
	latency, service histogram.Histogram
}

func (c *counters) figures() figures {
	c.mu.Lock()
	defer c.mu.Unlock()
	return figures{revision: c.revision, version: c.version, ends: c.ends, apart: c.apart, latency: c.latency, service: c.service}
}

func (f *figures) requests() uint64 { return total(&f.ends) }

// unstarted are the requests that speak for or against no revision.
func unstarted(ends *[outcomes]uint64) (n uint64) {
	for o, k := range ends {
		if outcome(o).unstarted() {
			n += k
		}
	}
	return n
}

func total(ends *[outcomes]uint64) uint64 {
	var n uint64
	for _, k := range ends {
		n += k
	}
	return n
}

// keptRevisions bounds a ledger, and so a report: what serves, what served before, and what comes next.
const keptRevisions = 4

// ledger holds the counters of the revisions that were put in force last, the newest last. One that fell out and
// comes back starts at 0 again, as the operator expects of a revision that wasn't in the report before.
type ledger struct {
	mu   sync.Mutex
	rows []*counters // guarded by mu
}

// of returns the counters of a revision that is put in force.
func (l *ledger) of(revision string, version pool.Version) *counters {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &counters{revision: revision, version: version}
	for i, row := range l.rows {
		if row.revision == revision {
			c = row
			l.rows = slices.Delete(l.rows, i, i+1)
			break
		}
	}
	l.rows = append(l.rows, c)
	if len(l.rows) > keptRevisions {
		l.rows = slices.Delete(l.rows, 0, 1)
	}
	return c
}

func (l *ledger) figures() []figures {
	l.mu.Lock()
	rows := append([]*counters(nil), l.rows...)
	l.mu.Unlock()
	out := make([]figures, len(rows))
	for i, c := range rows {
		out[i] = c.figures()
	}
	return out
}
