package analysis

// Counts are how a revision's requests in one pod ended.
type Counts struct {
	Requests       uint64 // all that ended, with those below
	Errors         uint64 // handlers that raised
	Infrastructure uint64 // crashes and protocol errors
	Timeouts       uint64
	Shed           uint64 // refused for load
	CallerErrors   uint64 // unknown commands, invalid payloads, callers that gave up, and what a handler blames on its caller
	UpstreamErrors uint64 // what a handler blames on a service that it calls
}

// Executed is how many requests tell something about the revision: not those that it never began, nor those that
// failed through somebody else.
func (c Counts) Executed() uint64 {
	return remaining(c.Requests, c.Shed, c.CallerErrors, c.UpstreamErrors)
}

// Failed is how many of the executed requests failed, timeouts apart.
func (c Counts) Failed() uint64 { return min(c.Errors+c.Infrastructure, c.Executed()) }

// TimedOut is how many of the executed requests timed out.
func (c Counts) TimedOut() uint64 { return min(c.Timeouts, c.Executed()) }

// Add returns the sum of both.
func (c Counts) Add(o Counts) Counts {
	return Counts{
		Requests:       c.Requests + o.Requests,
		Errors:         c.Errors + o.Errors,
		Infrastructure: c.Infrastructure + o.Infrastructure,
		Timeouts:       c.Timeouts + o.Timeouts,
		Shed:           c.Shed + o.Shed,
		CallerErrors:   c.CallerErrors + o.CallerErrors,
		UpstreamErrors: c.UpstreamErrors + o.UpstreamErrors,
	}
}

// remaining is what is left of n; counters that don't fit together leave nothing, never a huge number.
func remaining(n uint64, less ...uint64) uint64 {
	for _, l := range less {
		n -= min(l, n)
	}
	return n
}

// Pod holds what both revisions did in one pod.
type Pod struct{ Canary, Stable Counts }

// pooled sums up the pods in which both revisions executed something: only there do they compare.
func pooled(pods []Pod) (canary, stable Counts, compared int) {
	for _, p := range pods {
		if p.Canary.Executed() == 0 || p.Stable.Executed() == 0 {
			continue
		}
		canary, stable = canary.Add(p.Canary), stable.Add(p.Stable)
		compared++
	}
	return canary, stable, compared
}
