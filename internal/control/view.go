package control

import (
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/dspex/workerpool-operator/internal/analysis"
)

// Bounds on what a router can make the operator keep. What is over is cut, not refused: a report is worth having.
const (
	maxSlots     = 2
	maxRevisions = 4
	maxName      = 64   // bytes: of revisions, instances and versions
	maxReason    = 1024 // bytes
	maxTraceback = 4096 // bytes
)

// PoolView is what is known of a pool, at one moment.
type PoolView struct {
	Pods map[types.UID]PodView
	// Figures of the last minute by revision.
	Figures map[string]Figures
}

// PodView is what is known of one pod. Without a connection it is the last that was known.
type PodView struct {
	Connected bool
	// Since when it is connected, or isn't any more.
	Since time.Time
	// Acknowledged: the current snapshot is in force there.
	Acknowledged bool
	// Settled: it isn't connected, and had the current snapshot in force when its stream ended, Since.
	Settled bool
	// Refusal is why the current snapshot isn't; empty: it wasn't refused.
	Refusal string
	Slots   map[string]SlotView
	// Busy workers of both slots.
	Busy int
	// Reported is when the last report came; zero: none yet.
	Reported time.Time
	// Reporting: the current snapshot is in force, and the last report was made under it, on the present stream. What was
	// counted until that report may be of an earlier one; what is counted after it isn't.
	Reporting bool
	// Trip is the router's own decision against a canary; nil: there is none.
	Trip *TripView
	// RolledBack is what the router had been told of a rollback when it connected, by an earlier leader maybe; nil: nothing.
	RolledBack *RolledBackView
}

// staleAfter is how long a router's figures may fail to come, with reports that come every second.
const staleAfter = 5 * time.Second

// Silent reports whether nothing was heard of the pod for longer than its reports may take, connected or not.
func (p *PodView) Silent(now time.Time) bool { return now.Sub(p.Reported) > staleAfter }

// Stale tells whether the pod is connected, and its figures haven't come for longer than telemetry may take.
func (p *PodView) Stale(now time.Time) bool {
	last := p.Since
	if p.Reported.After(last) {
		last = p.Reported
	}
	return p.Connected && now.Sub(last) > staleAfter
}

// SlotView is what a slot last reported.
type SlotView struct {
	Reachable bool
	Revision  string // empty: idle
	Desired   int    // workers, after capping
	Serving   int    // ready and busy ones; none while it is Unhealthy
	// Up: it has all its workers, or starts those that lack when requests need them; or had them until less than a worker's
	// replacement ago.
	Up         bool
	MaxWorkers int // that the container's limits allow; 0: no limit
	Capped     bool
	Boot       BootFailure // zero: its workers start
	Startup    Startup     // zero: no worker has been starting for long
	Unhealthy  string      // why none of its workers can be said to work, though there are processes; empty: they work
	Hangs      string      // why the slot itself, which is there, is taken to hang; empty: it answers
	// ForkRefused is why workers are spawned though the pool wants them forked; empty: they aren't.
	ForkRefused string
}

// BootFailure is why a slot's workers don't start.
type BootFailure struct {
	Message   string
	Traceback string
}

// Startup is how a slot's workers' starts get on.
type Startup struct {
	Since time.Time     // when the worker began that has been starting longest; zero: none has for long
	Limit time.Duration // of one start
	Pace  string        // why few start at the same time; empty: as many as are missing do
}

// Figures are a revision's over the last minute.
type Figures struct {
	Version string
	// Span is the time that counts and sums speak for: the last minute, or since the revision began to serve, or this leader
	// to count, and until the last report.
	Span time.Duration
	analysis.Counts
	P50, P95, P99 time.Duration // latency as the application sees it
	Service       time.Duration // mean time that a request kept a worker busy; 0: none did
	Busy          time.Duration // that requests kept workers busy, all together
	CPU           time.Duration // that workers used
	// Workers of all pods' slots: Live ones now, and those that have been since the slots started.
	Live                        int
	Places                      int // requests that the live ones serve at the same time, at most
	Spawned, Destroyed, Crashed uint64
	Memory, OpenFDs             uint64 // of the live ones
}

// bounded cuts a text to n bytes, at a character's edge.
func bounded(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
