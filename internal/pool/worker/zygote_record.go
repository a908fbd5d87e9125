package worker

import (
	"strings"
	"time"
)

// Back-off between a zygote's death and its next start: doubling.
const (
	firstZygoteDelay = 500 * time.Millisecond
	maxZygoteDelay   = 30 * time.Second
	// zygoteProven is how long one must live for the deaths before it to be forgotten.
	zygoteProven = time.Minute
)

const (
	// maxForkFailures in a row, and forks are given up. One that hangs is enough.
	maxForkFailures = 3
	// forkRetry is how long forks that were given up aren't tried again: a try that hangs leaves a worker missing.
	forkRetry = 10 * time.Minute
)

// refusalError is why a fork wouldn't be safe.
type refusalError struct{ found []string }

func (e *refusalError) Error() string {
	return "after the import of the module there is: " + strings.Join(e.found, "; ")
}

// forkError is why a fork gave no worker.
type forkError struct {
	message string
	hung    bool // it took longer than any fork may
	lives   bool // the process that was to fork is as good as before
}

func (e *forkError) Error() string { return e.message }

// fatal reports whether the process that was to fork has ended by it. e may be nil.
func (e *forkError) fatal() bool { return e != nil && !e.lives }

// zygoteRecord says whether a zygote may be started.
type zygoteRecord struct {
	refused   string // why forks aren't safe with this module: never again
	broken    string // why forks were given up: until one works
	failures  int    // forks in a row that gave no worker
	deaths    int    // in a row
	notBefore time.Time
}

// reason is why workers are spawned; "": they are forked, as far as is known.
func (r *zygoteRecord) reason() string {
	if r.refused != "" {
		return r.refused
	}
	return r.broken
}

func (r *zygoteRecord) mayStart(now time.Time) bool {
	return r.refused == "" && !now.Before(r.notBefore)
}

// forked notes a fork that worked.
func (r *zygoteRecord) forked() { r.failures, r.broken = 0, "" }

// failed notes a fork that gave no worker, and reports whether the next one may be tried.
func (r *zygoteRecord) failed(e *forkError) bool {
	r.failures++
	return !e.hung && r.failures < maxForkFailures && r.broken == ""
}

// relent has forks tried again that were given up.
func (r *zygoteRecord) relent() { r.broken, r.failures, r.notBefore = "", 0, time.Time{} }

func (r *zygoteRecord) giveUp(reason string, now time.Time) {
	r.broken, r.failures, r.notBefore = reason, 0, now.Add(forkRetry)
}

// died notes the death, at now, of a zygote that was started at started, and reports whether another one is started soon.
func (r *zygoteRecord) died(started, now time.Time) bool {
	switch {
	case r.refused != "":
		return false
	case r.broken != "": // by its death, or it was a try that didn't come to a fork
		r.notBefore = now.Add(forkRetry)
		return false
	}
	if now.Sub(started) >= zygoteProven {
		r.deaths = 0
	}
	delay := maxZygoteDelay
	if r.deaths < 16 {
		delay = min(maxZygoteDelay, firstZygoteDelay<<r.deaths)
	}
	r.deaths++
	r.notBefore = now.Add(delay)
	return true
}
