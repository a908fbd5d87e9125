package control

import (
	"maps"

	"github.com/dspex/workerpool-operator/internal/analysis"
)

// seen are, by revision, the requests of a pod that canary and stable share and whose end this leader has seen: cumulative over its router's processes,
// from the leader's first word of each on. What isn't reported is kept all the same while there is room (maxSeen): a
// revision whose counts began anew beside one whose counts went on couldn't be compared with it.
type seen map[string]analysis.Counts

// ends are how requests ended: all of a revision's, or those that the canary can't get.
type ends interface {
	GetRequests() uint64
	GetErrors() uint64
	GetInfrastructure() uint64
	GetTimeouts() uint64
	GetShed() uint64
	GetCallerErrors() uint64
	GetUpstreamErrors() uint64
}

// countsOf are what a router process has counted since it started.
func countsOf(r ends) analysis.Counts {
	return analysis.Counts{
		Requests:       r.GetRequests(),
		Errors:         r.GetErrors(),
		Infrastructure: r.GetInfrastructure(),
		Timeouts:       r.GetTimeouts(),
		Shed:           r.GetShed(),
		CallerErrors:   r.GetCallerErrors(),
		UpstreamErrors: r.GetUpstreamErrors(),
	}
}

// growth is what was counted between two reports of the same router process; before may be zero. A counter that shrank
// is a router's error and counts nothing.
func growth(now, before analysis.Counts) analysis.Counts {
	return analysis.Counts{
		Requests:       grown(now.Requests, before.Requests),
		Errors:         grown(now.Errors, before.Errors),
		Infrastructure: grown(now.Infrastructure, before.Infrastructure),
		Timeouts:       grown(now.Timeouts, before.Timeouts),
		Shed:           grown(now.Shed, before.Shed),
		CallerErrors:   grown(now.CallerErrors, before.CallerErrors),
		UpstreamErrors: grown(now.UpstreamErrors, before.UpstreamErrors),
	}
}

func grown(now, before uint64) uint64 {
	if now < before {
		return 0
	}
	return now - before
}

// see adds what is new of a revision.
func (s seen) see(revision string, more analysis.Counts) { s[revision] = s[revision].Add(more) }

// maxSeen revisions of a pod are kept: those of a report, and as many that were in earlier ones.
const maxSeen = 2 * maxRevisions

// keep forgets what isn't in the last report, when it is too much.
func (s seen) keep(reported map[string]totals) {
	if len(s) <= maxSeen {
		return
	}
	maps.DeleteFunc(s, func(revision string, _ analysis.Counts) bool {
		_, stays := reported[revision]
		return !stays
	})
}
