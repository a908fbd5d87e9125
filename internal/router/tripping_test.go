package router

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/router/slottest"
	"github.com/dspex/workerpool-operator/internal/router/trip"
)

// under gives a snapshot the token of its trips.
func under(s *controlpb.Snapshot, token string) *controlpb.Snapshot {
	return changed(s, func(s *controlpb.Snapshot) { s.Trip = &controlpb.TripRule{Token: token} })
}

// failing is a Handler whose requests were sent and ended so.
func failing(category pool.Category, errorType pool.Type) slottest.Handler {
	return func(context.Context, slottest.Call) (string, error) {
		e := pool.NewError(category, errorType, "told to")
		e.Sent = true
		return "", e
	}
}

// ends holds a command for each way in which a request may end.
var ends = map[string]slottest.Handler{
	"crash":    failing(pool.CommunicationError, pool.PortExited),
	"mismatch": failing(pool.CommunicationError, pool.ResponseMismatch),
	"raise":    failing(pool.CommunicationError, pool.PythonError),
	"caller":   failing(pool.RequestError, pool.CallerError),
	"upstream": failing(pool.CommunicationError, pool.UpstreamError),
	"unknown":  failing(pool.RequestError, pool.UnknownCommand),
	"large":    failing(pool.CommunicationError, pool.FrameTooLarge),
	"timeout":  failing(pool.TimeoutError, pool.CommandTimeout),
	"full":     failing(pool.ResourceError, pool.QueueFull),
	"wait":     failing(pool.TimeoutError, pool.CheckoutTimeout),
}

// tripped waits until the router's canary has tripped, and returns why.
func (r *rig) tripped() TripStatus {
	r.t.Helper()
	r.until(func() bool { return r.status().Trip != nil })
	return *r.status().Trip
}

// servesStableOnly sends requests and wants none of them to reach the canary.
func (r *rig) servesStableOnly(when string) {
	r.t.Helper()
	before := len(r.b.Calls())
	if a, _ := r.burst(50); a != 50 || len(r.b.Calls()) != before {
		r.t.Errorf("%s: the stable answered %d of 50, the canary got %d", when, a, len(r.b.Calls())-before)
	}
	if st := r.status(); st.CanaryWeight != 0 {
		r.t.Errorf("%s: the status shows a weight of %v", when, st.CanaryWeight)
	}
}

// looked makes sure that the router has judged what the canary's slot has reported.
func (r *rig) looked(crashed uint64) {
	r.t.Helper()
	r.until(func() bool { return r.slots["b"].State().Status.Crashed == crashed })
	r.lookAtCanary(time.Now())
}

func TestO27_CrashLoop(t *testing.T) {
	r := newRig(t, snapshot(5000), nil)
	r.apply(at(snapshot(5000), 1, 1))
	r.b.Crash(1)
	r.looked(1)
	r.b.Crash(3) // as many as there are workers, by now
	r.looked(4)
	if st := r.status(); st.Trip != nil || st.CanaryWeight != 50 {
		t.Fatalf("tripped by %+v, which may be accidents", st.Trip)
	}
	told, begin := r.Tripped(), time.Now()
	r.b.Crash(1)
	<-told
	if took := time.Since(begin); took > 100*time.Millisecond {
		t.Errorf("weight 0 came %v after the slot's report", took)
	} else {
		t.Logf("from the slot's report to weight 0: %v", took)
	}
	got := r.tripped()
	if got.Reason != trip.CrashLoop || got.Revision != "r2" || got.ByHand || got.ReportOnly || !strings.Contains(got.Message, "crashed 5 times") {
		t.Errorf("%+v", got)
	}
	if st := r.status(); st.GivenWeight != 50 {
		t.Errorf("the status shows a given weight of %v, want the snapshot's", st.GivenWeight)
	}
	r.servesStableOnly("after the trip")
	report := r.Report().GetTrip()
	if report.GetRevision() != "r2" || report.GetReason() != "CrashLoop" || report.GetMessage() == "" || report.GetAtUnixMs() == 0 {
		t.Errorf("report %v", report)
	}
	if f := r.revisionFigures("r1"); f.Infrastructure+f.Errors+f.Timeouts+f.Shed > 0 {
		t.Errorf("the stable's failures: %+v", f)
	}
}

// TestCrashesOfAReplacedPoolTripNothing: what the canary's slot ran before drains, and crashes; the canary isn't to blame.
func TestCrashesOfAReplacedPoolTripNothing(t *testing.T) {
	r := newRig(t, snapshot(5000), nil)
	r.b.CrashDraining(9)
	r.looked(9)
	if st := r.status(); st.Trip != nil || st.CanaryWeight != 50 {
		t.Fatalf("tripped: %+v", st.Trip)
	}
	r.b.Crash(5)
	if got := r.tripped(); !strings.Contains(got.Message, "crashed 5 times") {
		t.Errorf("%+v", got)
	}
}

func TestFailedStartsTrip(t *testing.T) {
	r := newRig(t, snapshot(1000), nil)
	r.b.FailBoot(&pool.BootFailure{Reason: "WorkerBootFailed", Message: "killed when idle", Attempts: 3, Crashing: true})
	r.until(func() bool { return r.slots["b"].State().Status.Boot != nil })
	r.lookAtCanary(time.Now())
	if st := r.status(); st.Trip != nil {
		t.Fatalf("tripped by crashes that are few: %+v", st.Trip)
	}
	r.b.FailBoot(&pool.BootFailure{Reason: "WorkerBootFailed", Message: "No module named 'shop'", Attempts: 2})
	if got := r.tripped(); got.Reason != trip.StartsFailed || !strings.Contains(got.Message, "No module named 'shop'") {
		t.Errorf("%+v", got)
	}
	r.servesStableOnly("after the trip")
}

// TestO27_ConsecutiveFailures: the request that is one failure too many trips the canary before it is answered, so
// that the very next one is the stable's.
func TestO27_ConsecutiveFailures(t *testing.T) {
	r := newRig(t, snapshot(10_000), ends)
	for _, command := range []string{
		"crash", "mismatch", "crash", "crash", "raise", // the worker answers: all is forgotten
		"crash", "crash", "crash", "crash", "x",
		"crash", "timeout", "crash", "full", "crash", "wait", "crash", // these tell nothing
	} {
		if a := r.post(command, "{}"); a.header.Get("Workerpool-Revision") != "r2" {
			t.Fatalf("%s: %d %s by %s", command, a.code, a.body, a.header.Get("Workerpool-Revision"))
		}
	}
	if st := r.status(); st.Trip != nil {
		t.Fatalf("tripped: %+v", st.Trip)
	}
	begin := time.Now()
	r.post("crash", "{}")
	after := r.post("x", "{}")
	if took := time.Since(begin); after.slot() != "a" {
		t.Errorf("the request after the last failure: %d %s", after.code, after.body)
	} else {
		t.Logf("from sending the last bad request to the stable's next reply: %v", took)
	}
	if got := r.tripped(); got.Reason != trip.ConsecutiveFailures || !strings.Contains(got.Message, "5 requests in a row") {
		t.Errorf("%+v", got)
	}
	r.servesStableOnly("after the trip")
}

func TestP111_HandlersErrorsTripNothing(t *testing.T) {
	r := newRig(t, snapshot(10_000), ends)
	for _, command := range []string{"raise", "caller", "upstream", "unknown", "large", "timeout", "full", "wait"} {
		for range 12 {
			r.post(command, "{}")
		}
	}
	if st := r.status(); st.Trip != nil || st.CanaryWeight != 100 {
		t.Errorf("weight %v, trip %+v", st.CanaryWeight, st.Trip)
	}
}

func TestTestsOfAVersionTripNothing(t *testing.T) {
	r := newRig(t, snapshot(1), ends)
	for range 12 {
		r.post("crash", "{}", "Workerpool-Version", "v2")
	}
	if st := r.status(); st.Trip != nil {
		t.Errorf("%+v", st.Trip)
	}
}

// queueing holds a command "run", which a worker of r2 has until finish is closed, and "queue", which waits for one. Each
// tells entered; r1 answers both at once.
func queueing(entered chan<- struct{}, finish <-chan struct{}) map[string]slottest.Handler {
	hold := func(ctx context.Context, call slottest.Call) (string, error) {
		if call.Revision == "r1" {
			return `"a"`, nil
		}
		entered <- struct{}{}
		if call.Command == "run" {
			<-finish
			return `"b"`, nil
		}
		select {
		case <-finish:
			return `"b"`, nil
		case <-call.Recalled:
			return "", pool.NewRecalled("summarizer")
		case <-ctx.Done():
			return "", pool.NewCancelled("summarizer")
		}
	}
	return map[string]slottest.Handler{"run": hold, "queue": hold}
}

// TestO27_WhatWaitsGoesToTheStable: a request that no worker of the canary has by the time of the trip is served by the
// stable, one that a worker has gets its own end, and none runs twice.
func TestO27_WhatWaitsGoesToTheStable(t *testing.T) {
	entered, finish := make(chan struct{}, 10), make(chan struct{})
	r := newRig(t, snapshot(10_000), queueing(entered, finish))
	waiting, running := make(chan *answer, 3), make(chan *answer, 1)
	go func() { running <- r.post("run", "{}") }()
	for range cap(waiting) {
		go func() { waiting <- r.post("queue", "{}") }()
	}
	for range cap(waiting) + 1 {
		<-entered
	}
	if _, err := r.TripByHand(""); err != nil {
		t.Fatal(err)
	}
	for range cap(waiting) {
		if a := <-waiting; a.slot() != "a" {
			t.Errorf("one that waited: %d %s", a.code, a.body)
		}
	}
	close(finish)
	if a := <-running; a.slot() != "b" {
		t.Errorf("the one that ran: %d %s", a.code, a.body)
	}
	if a, b := len(r.a.Calls()), len(r.b.Calls()); a != 3 || b != 4 {
		t.Errorf("the stable got %d requests and the canary %d, want the 3 that waited and each of 4 once", a, b)
	}
	if f := r.revisionFigures("r2"); f.Infrastructure > 0 {
		t.Errorf("what was taken back counts as the canary's failures: %+v", f)
	}
}

func TestNoTripWithoutAStableThatServes(t *testing.T) {
	r := newRig(t, snapshot(10_000), ends)
	r.a.Unready(true)
	r.until(func() bool { return r.slots["a"].State().Status.Starting > 0 })
	for range 12 {
		r.post("crash", "{}")
	}
	if st := r.status(); st.Trip != nil || st.CanaryWeight != 100 {
		t.Errorf("weight %v, trip %+v, and nobody to take the requests", st.CanaryWeight, st.Trip)
	}
	if _, err := r.TripByHand(""); err == nil || !strings.Contains(err.Error(), "couldn't take the canary's requests; poold ctl status says why") {
		t.Errorf("by hand: %v", err)
	}
	if n := strings.Count(r.logs.String(), "the canary would be tripped"); n != 1 {
		t.Errorf("it is logged %d times, want once", n)
	}
	r.a.Unready(false)
	if got := r.tripped(); got.Reason != trip.ConsecutiveFailures {
		t.Errorf("once the stable serves: %+v", got)
	}
	r.servesStableOnly("after the trip")
}

func TestTripsThatAreOnlyReported(t *testing.T) {
	reported := changed(snapshot(10_000), func(s *controlpb.Snapshot) { s.Trip = &controlpb.TripRule{ReportOnly: true} })
	r := newRig(t, snapshot(0), ends)
	r.apply(at(reported, 1, 1))
	for range 12 {
		r.post("crash", "{}")
	}
	if got := r.tripped(); !got.ReportOnly || got.Reason != trip.ConsecutiveFailures || !r.Report().GetTrip().GetReportOnly() {
		t.Errorf("%+v", got)
	}
	if _, b := r.burst(20); b != 20 || r.status().CanaryWeight != 100 {
		t.Errorf("the canary answered %d of 20", b)
	}
	if n := strings.Count(r.logs.String(), "canary tripped"); n != 1 {
		t.Errorf("it is logged %d times, want once", n)
	}
	t.Run("until trips are acted on", func(t *testing.T) {
		r.apply(at(snapshot(10_000), 1, 2))
		if st := r.status(); st.Trip != nil {
			t.Errorf("what was only said is in force: %+v", st.Trip)
		}
		for range 5 {
			r.post("crash", "{}")
		}
		r.servesStableOnly("after a trip that is acted on")
	})
	t.Run("a person means what they say", func(t *testing.T) {
		r := newRig(t, snapshot(0), nil)
		r.apply(at(reported, 1, 1))
		if _, err := r.TripByHand(""); err != nil {
			t.Fatal(err)
		}
		r.servesStableOnly("after a trip by hand")
	})
}

func TestTripIsNotTheApplications(t *testing.T) {
	r := newRig(t, snapshot(1000), nil)
	if a := r.send(http.MethodPost, TripPath, http.NoBody); a.code != 404 {
		t.Errorf("the application's socket answers %d %s", a.code, a.body)
	}
	if st := r.status(); st.Trip != nil {
		t.Errorf("%+v", st.Trip)
	}
}
