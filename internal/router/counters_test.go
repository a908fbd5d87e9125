package router

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/router/slotclient"
	"github.com/dspex/workerpool-operator/internal/router/slottest"
)

func TestLedgerKeepsWhatServesAndServedLast(t *testing.T) {
	var l ledger
	for _, revision := range []string{"r1", "r2", "r1", "r3", "r4", "r1", "r5"} {
		l.of(revision, "v2").record(succeeded, false, time.Millisecond, 0)
	}
	var got []string
	for _, f := range l.figures() {
		got = append(got, fmt.Sprint(f.revision, " ", f.requests()))
	}
	if diff := cmp.Diff([]string{"r3 1", "r4 1", "r1 3", "r5 1"}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if f := l.of("r2", "v2").figures(); f.requests() != 0 {
		t.Errorf("a revision that fell out comes back with %d requests", f.requests())
	}
}

// TestP111_Figures: every end of a request has its counter, also those that a handler blames on somebody else.
func TestP111_Figures(t *testing.T) {
	failure := func(category pool.Category, errorType pool.Type) slottest.Handler {
		return func(context.Context, slottest.Call) (string, error) {
			time.Sleep(2 * time.Millisecond)
			e := pool.NewError(category, errorType, "told to")
			e.Sent = true
			return "", e
		}
	}
	r := newRig(t, snapshot(0), map[string]slottest.Handler{
		"raise":   failure(pool.CommunicationError, pool.PythonError),
		"timeout": failure(pool.TimeoutError, pool.CommandTimeout),
		"late":    failure(pool.TimeoutError, pool.DeadlineExceeded),
		"crash":   failure(pool.CommunicationError, pool.PortExited),
		"full":    failure(pool.ResourceError, pool.QueueFull),
		"wait":    failure(pool.TimeoutError, pool.CheckoutTimeout),
		"unknown": failure(pool.RequestError, pool.UnknownCommand),
		"bad":     failure(pool.RequestError, pool.InvalidPayload),
		"large":   failure(pool.CommunicationError, pool.FrameTooLarge),
		"yours":   failure(pool.RequestError, pool.CallerError),
		"theirs":  failure(pool.CommunicationError, pool.UpstreamError),
	})
	for _, command := range []string{
		"ok", "ok", "ok", "raise", "timeout", "late", "crash", "full", "wait", "unknown", "bad", "large", "yours", "theirs", "theirs",
	} {
		r.post(command, "{}")
	}
	got := r.revisionFigures("r1")
	want := RevisionStatus{
		Revision: "r1", Version: "v1", Requests: 15, Errors: 1, Timeouts: 1, Infrastructure: 2, Shed: 2, Expired: 1,
		CallerErrors: 3, UpstreamErrors: 2,
		Latency: got.Latency, Service: got.Service,
	}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	report := r.Report().GetRevisions()[0]
	if n := sum(report.GetLatency().GetCounts()); n != 7 {
		t.Errorf("latency of %d requests, want those that a worker ran: 7", n)
	}
	if n := report.GetUpstreamErrors(); n != 2 || report.GetCallerErrors() != 3 {
		t.Errorf("the report has %d upstream's and %d caller's errors, want 2 and 3", n, report.GetCallerErrors())
	}
	if got.Latency.P99 < 2 || got.Service.P99 < 2 || got.Latency.P99 < got.Service.P50 {
		t.Errorf("latency %+v, service %+v of a handler that takes 2 ms", got.Latency, got.Service)
	}
}

func sum(counts []uint64) uint64 {
	var n uint64
	for _, c := range counts {
		n += c
	}
	return n
}

// TestASuccessCostsNothingToJudge: it is what nearly every request is.
func TestASuccessCostsNothingToJudge(t *testing.T) {
	r := newRig(t, snapshot(10_000), nil)
	c, to, now := &call{}, r.table.Load().canary, time.Now()
	if n := testing.AllocsPerRun(100, func() {
		if turnedAway(nil) {
			t.Error("a success was turned away")
		}
		r.observe(c, to, slotclient.Reply{}, succeeded, nil, now)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
