package router

import (
	_ "embed" // of the API's document
	"net/http"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// openAPI is the API's description; a test holds it against the server.
//
//go:embed openapi.yaml
var openAPI []byte

// Stats are the answer to GET /v1/stats: the same keys whatever version serves.
type Stats struct {
	Pool      string           `json:"pool"`
	Workers   WorkerTotals     `json:"workers"`
	Waiting   int64            `json:"waiting"` // requests whose slot is away
	Revisions []RevisionStatus `json:"revisions"`
	Store     StoreStatus      `json:"store"`
}

// WorkerTotals are the workers of both slots.
type WorkerTotals struct {
	Desired  int `json:"desired"`
	Starting int `json:"starting"`
	Ready    int `json:"ready"`
	Busy     int `json:"busy"`
	Overflow int `json:"overflow"`
	Queued   int `json:"queued"` // requests that wait for one
}

// Health is the answer to GET /v1/health while a request would be served; else that is an error.
type Health struct {
	Healthy bool   `json:"healthy"`
	Slot    string `json:"slot"`                   // that would serve it
	Store   string `json:"storeProblem,omitempty"` // why programs and sessions can't be used; commands can
}

func (r *Router) getStatus(x *exchange) error {
	x.answer(http.StatusOK, r.status())
	return nil
}

func (r *Router) getStats(x *exchange) error {
	st := r.status()
	stats := Stats{Pool: st.Pool, Waiting: st.Waiting, Revisions: st.Revisions, Store: st.Store}
	for _, s := range st.Slots {
		w := &stats.Workers
		w.Desired += s.Desired
		w.Starting += s.Starting
		w.Ready += s.Ready
		w.Busy += s.Busy
		w.Overflow += s.Overflow
		w.Queued += s.Queued
	}
	if stats.Revisions == nil {
		stats.Revisions = []RevisionStatus{}
	}
	x.answer(http.StatusOK, stats)
	return nil
}

func (r *Router) getHealth(x *exchange) error {
	t := r.table.Load()
	if t == nil {
		return r.unconfigured()
	}
	to := t.pick(stable, &call{})
	if to == nil || !to.ready() {
		return r.notReady(t.stable)
	}
	if to.slot.State().Status.Unhealthy != nil {
		return r.notReady(to)
	}
	x.answer(http.StatusOK, Health{Healthy: true, Slot: to.slot.Name(), Store: r.records.status().Problem})
	return nil
}

func (r *Router) notReady(to *target) *pool.Error {
	known := to.slot.State()
	problem := noWorkersYet(known.Status.Startup)
	switch {
	case !known.Reachable:
		problem = known.Problem
	case known.Status.Boot != nil:
		problem = known.Status.Boot.Message
	case known.Status.Unhealthy != nil:
		problem = known.Status.Unhealthy.Message
	}
	return r.named(pool.NewError(pool.ResourceError, pool.NotAvailable,
		"pool %s would serve no request now: slot %s (%s): %s", r.cfg.Pool, to.slot.Name(), to.version, problem)).
		With("slot", to.slot.Name())
}

func (r *Router) getOpenAPI(x *exchange) error {
	x.w.Header()["Content-Type"] = []string{"application/yaml"}
	x.write(http.StatusOK, openAPI)
	return nil
}
