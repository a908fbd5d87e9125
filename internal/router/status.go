package router

import (
	"math"
	"time"

	"github.com/dspex/workerpool-operator/internal/histogram"
	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/router/state"
	"github.com/dspex/workerpool-operator/internal/router/trip"
)

// Status is what GET /v1/status shows: to people, to `poold probe`, to tests. It holds no environment of a worker
// and no traceback.
type Status struct {
	Pool     string `json:"pool"`
	Instance string `json:"instance"` // of this router process
	Version  string `json:"version"`  // of poold
	// Configured: requests can be routed. It never goes back to false.
	Configured bool `json:"configured"`
	// Operator says whether the channel to the operator stands.
	Operator bool `json:"operatorConnected"`

	Epoch        uint64  `json:"epoch"` // of the snapshot in force; 0: the pod's own
	Sequence     uint64  `json:"sequence"`
	Stable       string  `json:"stable,omitempty"` // name of the slot
	Canary       string  `json:"canary,omitempty"`
	CanaryWeight float64 `json:"canaryWeight"` // percent that it gets: 0 while it is tripped
	GivenWeight  float64 `json:"givenWeight"`  // percent that the snapshot gives it
	// Trip is why it gets nothing, or would if trips were acted on; nil: it didn't trip.
	Trip *TripStatus `json:"trip,omitempty"`

	Waiting   int64            `json:"waiting"` // requests whose slot is away
	RSS       uint64           `json:"rssBytes"`
	Slots     []SlotStatus     `json:"slots"`
	Revisions []RevisionStatus `json:"revisions"`
	Store     StoreStatus      `json:"store"` // of programs and sessions
}

// TripStatus is the router's own decision against the canary.
type TripStatus struct {
	Revision   string      `json:"revision"`
	Reason     trip.Reason `json:"reason"`
	Message    string      `json:"message"`
	ByHand     bool        `json:"byHand"`
	ReportOnly bool        `json:"reportOnly"` // the traffic was left alone
	At         time.Time   `json:"at"`
}

// SlotStatus is one slot as the router knows it.
type SlotStatus struct {
	Name      string       `json:"name"`
	Reachable bool         `json:"reachable"`
	Problem   string       `json:"problem,omitempty"`
	Revision  string       `json:"revision,omitempty"` // what it runs now; "": idle
	Version   pool.Version `json:"version,omitempty"`
	Desired   int          `json:"desired"`
	Starting  int          `json:"starting"`
	Ready     int          `json:"ready"`
	Busy      int          `json:"busy"`
	Overflow  int          `json:"overflow"`
	Queued    int          `json:"queued"`
	Unstarted int          `json:"unstarted,omitempty"` // that requests start when they need them
	Capped    bool         `json:"capped,omitempty"`
	Boot      string       `json:"boot,omitempty"` // why workers don't come up
	// Startup is how workers' starts get on; nil: none is under way, and no worker is missing.
	Startup   *StartupStatus `json:"startup,omitempty"`
	Unhealthy string         `json:"unhealthy,omitempty"`   // why nobody can be said to work, though there are processes
	Unforked  string         `json:"forkRefused,omitempty"` // why workers aren't forked although they should be
	Inactive  []string       `json:"inactive,omitempty"`    // what its version doesn't do of what is configured
	Spawned   uint64         `json:"spawned"`
	Destroyed uint64         `json:"destroyed"`
	Crashed   uint64         `json:"crashed"`
	// Exits count by reason how the workers of what it runs now ended, as slotproto.Status has them.
	Exits map[string]uint64 `json:"exits,omitempty"`
	RSS   uint64            `json:"rssBytes"` // of the supervisor
	// What the workers hold together, and the CPU time that all of them have used, as slotproto.Status has them.
	Memory  uint64             `json:"workersMemoryBytes"`
	FDs     int                `json:"workersOpenFDs"`
	CPU     float64            `json:"workersCPUSeconds"`
	Workers []pool.WorkerStats `json:"workers,omitempty"`
}

// StartupStatus is how workers' starts get on.
type StartupStatus struct {
	Since   time.Time `json:"since,omitzero"` // when the worker began that has been starting longest
	LimitMS int64     `json:"limitMs"`        // of one start: spec.timeouts.start
	Line    string    `json:"line,omitempty"` // that this worker printed last, as the slot's log has it
	Pace    string    `json:"pace,omitempty"` // why few start at the same time
}

// RevisionStatus holds what a revision has served since the router started. Requests that asked for a version
// aren't in it.
type RevisionStatus struct {
	Revision       string       `json:"revision"`
	Version        pool.Version `json:"version"`
	Requests       uint64       `json:"requests"`
	Errors         uint64       `json:"errors"`
	Timeouts       uint64       `json:"timeouts"`
	Infrastructure uint64       `json:"infrastructure"`
	Shed           uint64       `json:"shed"`
	Expired        uint64       `json:"expired"`     // whose own time ended while they waited, or because they had
	Unavailable    uint64       `json:"unavailable"` // that nobody was there to run
	CallerErrors   uint64       `json:"callerErrors"`
	UpstreamErrors uint64       `json:"upstreamErrors"`
	Latency        Quantiles    `json:"latencyMs"` // as the application sees it
	Service        Quantiles    `json:"serviceMs"` // inside the worker
}

// Quantiles are in milliseconds.
type Quantiles struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
}

func (r *Router) status() Status {
	st := Status{
		Pool: r.cfg.Pool, Instance: r.instance, Version: r.cfg.Version,
		Operator: r.connected.Load(), Waiting: r.waiting.Load(), RSS: residentBytes(), Store: r.records.status(),
	}
	if t := r.table.Load(); t != nil {
		st.Configured = true
		st.Epoch, st.Sequence = t.snapshot.GetEpoch(), t.snapshot.GetSequence()
		st.Stable, st.Canary = t.snapshot.GetStable(), t.snapshot.GetCanary()
		st.CanaryWeight, st.GivenWeight = percent(t.weight), percent(t.snapshot.GetCanaryWeight())
		st.Trip = tripStatus(t.trip)
	}
	for _, name := range slotNames {
		st.Slots = append(st.Slots, r.slotStatus(name))
	}
	for _, f := range r.ledger.figures() {
		st.Revisions = append(st.Revisions, revisionStatus(&f))
	}
	return st
}

// percent of a weight.
func percent(weight uint32) float64 { return float64(weight) / 100 }

func tripStatus(t *trip.Trip) *TripStatus {
	if t == nil {
		return nil
	}
	return &TripStatus{
		Revision: t.Revision, Reason: t.Reason, Message: t.Message, ByHand: t.Reason == trip.ByHand, ReportOnly: t.ReportOnly, At: t.At,
	}
}

var slotNames = [...]string{state.SlotA, state.SlotB}

func (r *Router) slotStatus(name string) SlotStatus {
	known := r.slots[name].State()
	st := known.Status
	s := SlotStatus{
		Name: name, Reachable: known.Reachable, Problem: known.Problem,
		Revision: st.Revision, Version: st.Version,
		Desired: st.Desired, Starting: st.Starting, Ready: st.Ready, Busy: st.Busy, Overflow: st.Overflow, Queued: st.Queued, Unstarted: st.Unstarted,
		Capped: st.Capped, Unforked: st.ForkRefused, Inactive: st.Inactive, Spawned: st.Spawned, Destroyed: st.Destroyed, Crashed: st.Crashed, RSS: st.RSS, Workers: st.Workers,
		Memory: st.Memory, FDs: st.FDs, CPU: st.CPU, Exits: st.Exits,
	}
	if u := st.Startup; u != nil {
		s.Startup = &StartupStatus{Since: u.Since, LimitMS: u.Limit.Milliseconds(), Line: u.Line, Pace: u.Pace}
	}
	if st.Unhealthy != nil {
		s.Unhealthy = st.Unhealthy.Message
	}
	if st.Boot != nil {
		s.Boot = st.Boot.Message
	}
	return s
}

func revisionStatus(f *figures) RevisionStatus {
	return RevisionStatus{
		Revision: f.revision, Version: f.version, Requests: f.requests(),
		Errors: f.ends[failed], Timeouts: f.ends[timedOut], Infrastructure: f.ends[infrastructure],
		Shed: f.ends[shed], Expired: f.ends[expired], Unavailable: f.ends[unavailable],
		CallerErrors: f.ends[callerError], UpstreamErrors: f.ends[upstreamError],
		Latency: quantilesOf(&f.latency), Service: quantilesOf(&f.service),
	}
}

func quantilesOf(h *histogram.Histogram) Quantiles {
	ms := func(q float64) float64 {
		return math.Round(float64(h.Quantile(q))/float64(time.Microsecond)) / 1000
	}
	return Quantiles{P50: ms(0.50), P95: ms(0.95), P99: ms(0.99)}
}
