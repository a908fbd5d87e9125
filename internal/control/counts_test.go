package control

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/workerpool-operator/internal/analysis"
	"github.com/dspex/workerpool-operator/internal/control/controlpb"
)

// ended is a report of a revision whose requests ended in every way, each n times, in 5 ms of a worker.
func ended(revision string, n uint64) *controlpb.Report {
	return &controlpb.Report{Revisions: []*controlpb.RevisionCounters{{
		Revision: revision, Version: "v1", Requests: 10 * n, Errors: n, Infrastructure: n, Timeouts: n, Shed: n,
		CallerErrors: n, UpstreamErrors: n,
		Service: &controlpb.Histogram{Buckets: []uint32{3}, Counts: []uint64{8 * n}, SumUs: 8 * n * 5000},
	}}}
}

func all(n uint64) analysis.Counts {
	return analysis.Counts{Requests: 10 * n, Errors: n, Infrastructure: n, Timeouts: n, Shed: n, CallerErrors: n, UpstreamErrors: n}
}

// What a leader has seen of a pod goes on over its router's streams and processes, and begins with its first report.
func TestWhatALeaderHasSeen(t *testing.T) {
	const canary, stable = "0123456789", "9876543210"
	b := newBench()
	m := b.join("p", "first")
	both := func(a, b uint64) *controlpb.Report {
		r := ended(canary, a)
		r.Revisions = append(r.Revisions, ended(stable, b).Revisions...)
		return r
	}
	for _, step := range []struct {
		name           string
		do             func()
		canary, stable uint64
	}{
		{"the first report: another leader counted", func() { m.reports(both(100, 1000)) }, 0, 0},
		{"what is new", func() { m.reports(both(103, 1007)) }, 3, 7},
		{"another stream", func() { m = b.join("p", "first"); m.reports(both(104, 1010)) }, 4, 10},
		{"another process, which begins at 0", func() { m = b.join("p", "second"); m.reports(both(2, 2)) }, 4, 10},
		{"what is new of it", func() { m.reports(both(3, 5)) }, 5, 13},
		{"counters that shrank", func() { m.reports(both(1, 1)) }, 5, 13},
		{"a process that knows no revision yet", func() { m = b.join("p", "third"); m.reports(&controlpb.Report{}) }, 5, 13},
		{"and then does", func() { m.reports(both(1, 4)) }, 6, 17},
		{"a revision that is reported no more", func() { m.reports(ended(stable, 5)) }, 6, 18},
	} {
		step.do()
		want := analysis.Pod{Canary: all(step.canary), Stable: all(step.stable)}
		if diff := cmp.Diff(want, b.Seen(pool, canary, stable)[m.PodUID]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
	if got := b.Seen(pool, "aaaaaaaaaa", stable)[m.PodUID].Canary; got != (analysis.Counts{}) {
		t.Errorf("of a revision that never served: %+v", got)
	}
	for i := range uint64(100) {
		m.reports(ended(fmt.Sprintf("%010x", i), 1))
		if got := len(b.pools[pool].pods[m.PodUID].seen); got > maxSeen {
			t.Fatalf("%d revisions are kept", got)
		}
	}
}

// TestO79_WhatTheCanaryCannotGetIsNotCompared, and is in the figures all the same.
func TestO79_WhatTheCanaryCannotGetIsNotCompared(t *testing.T) {
	b := newBench()
	m := b.join("p", "i")
	for _, n := range []uint64{1, 4} {
		r := ended(counted, 10*n)
		r.Revisions[0].Unmatched = &controlpb.Ends{
			Requests: 80 * n, Errors: 8 * n, Infrastructure: 8 * n, Timeouts: 8 * n, Shed: 8 * n, CallerErrors: 8 * n, UpstreamErrors: 8 * n,
		}
		m.reports(r)
	}
	if diff := cmp.Diff(analysis.Pod{Stable: all(6)}, b.Seen(pool, "", counted)[m.PodUID]); diff != "" {
		t.Errorf("compared (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(all(30), b.View(pool).Figures[counted].Counts); diff != "" {
		t.Errorf("figures (-want +got):\n%s", diff)
	}
}

// TestO33_TheMeanServiceTimeIsMeasured, over the last minute and all pods.
func TestO33_TheMeanServiceTimeIsMeasured(t *testing.T) {
	b := newBench()
	one, two := b.join("one", "i"), b.join("two", "i")
	for _, m := range []*router{one, two} {
		m.reports(ended(counted, 0))
		m.reports(ended(counted, 2))
	}
	if got := b.View(pool).Figures[counted]; got.Service != 5*time.Millisecond || got.Shed != 4 {
		t.Errorf("service time %v, %d shed; want 5 ms and 4", got.Service, got.Shed)
	}
	lies := ended(counted, 3)
	lies.Revisions[0].Service.SumUs = 1<<64 - 1
	one.reports(lies)
	if got := b.View(pool).Figures[counted].Service; got != 5*time.Millisecond {
		t.Errorf("a sum that can't be moved the mean to %v", got)
	}
}

// TestO82_ATripWakesAtOnce, as its end does, and the same again doesn't.
func TestO82_ATripWakesAtOnce(t *testing.T) {
	b := newBench()
	m := b.join("p", "i")
	trip := &controlpb.Trip{Revision: counted, Reason: "CrashLoop", Message: strings.Repeat("x", 1<<16), AtUnixMs: 1_800_000_000_000}
	b.woken()
	for _, step := range []struct {
		name  string
		trip  *controlpb.Trip
		wakes int
		want  *TripView
	}{
		{"none", nil, 0, nil},
		{"tripped", trip, 1, &TripView{Revision: counted, Reason: "CrashLoop", Message: strings.Repeat("x", maxTripMessage), At: time.UnixMilli(1_800_000_000_000)}},
		{"the same", trip, 0, &TripView{Revision: counted, Reason: "CrashLoop", Message: strings.Repeat("x", maxTripMessage), At: time.UnixMilli(1_800_000_000_000)}},
		{"over", nil, 1, nil},
		{"by hand", &controlpb.Trip{Reason: "ByHand", ByHand: true, ReportOnly: true}, 1, &TripView{Reason: "ByHand", ByHand: true, ReportOnly: true, At: time.UnixMilli(0)}},
	} {
		m.reports(&controlpb.Report{Trip: step.trip})
		if got := b.woken(); got != step.wakes {
			t.Errorf("%s: woke %d times, want %d", step.name, got, step.wakes)
		}
		if diff := cmp.Diff(step.want, m.view().Trip); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
	m = b.join("p", "another process")
	if m.view().Trip == nil {
		t.Error("a router that was restarted keeps its trip on disk, and says so in its first report; until then it was forgotten")
	}
}

// TestO38_ATripBeforeASnapshotIsOutdated from when it is published until the router says that it stands, which wakes.
func TestO38_ATripBeforeASnapshotIsOutdated(t *testing.T) {
	b := newBench()
	m := b.join("p", "i")
	tripped := func(sequence uint64) *controlpb.Report {
		return &controlpb.Report{Epoch: 7, Sequence: sequence, Trip: &controlpb.Trip{Revision: counted, Reason: "CrashLoop"}}
	}
	for _, step := range []struct {
		name     string
		do       func()
		outdated bool
		wakes    int
	}{
		{"tripped", func() { b.Publish(pool, snapshotOf("a", 10)); m.reports(tripped(1)) }, false, 1},
		{"another is published", func() { b.Publish(pool, snapshotOf("a", 5)) }, true, 0},
		{"and acknowledged", func() { m.acknowledges(order{7, 2}) }, true, 1},
		{"a report that was on its way", func() { m.reports(tripped(1)) }, true, 0},
		{"the trip stands", func() { m.reports(tripped(2)) }, false, 1},
		{"and still", func() { m.reports(tripped(2)) }, false, 0},
	} {
		b.woken()
		step.do()
		if got, woke := m.view().Trip.Outdated, b.woken(); got != step.outdated || woke != step.wakes {
			t.Errorf("%s: outdated %v, woke %d times; want %v and %d", step.name, got, woke, step.outdated, step.wakes)
		}
	}
}

// TestO31_TelemetryThatFailsToComeIsStale after five seconds, and its return wakes.
func TestO31_TelemetryThatFailsToComeIsStale(t *testing.T) {
	b := newBench()
	m := b.join("p", "i")
	stale := func() bool {
		v := m.view()
		return v.Stale(b.watch.Now())
	}
	b.watch.pass(5 * time.Second)
	if stale() {
		t.Error("stale 5 s after it connected")
	}
	b.watch.pass(time.Millisecond)
	if !stale() {
		t.Error("not stale though no report ever came")
	}
	b.woken()
	m.reports(&controlpb.Report{})
	if stale() || b.woken() != 1 {
		t.Error("a report came, and it is stale still or no one was told")
	}
	b.watch.pass(5 * time.Second)
	m.reports(&controlpb.Report{})
	if b.woken() != 0 {
		t.Error("a report in time woke")
	}
	b.watch.pass(time.Minute)
	m.leaves()
	if stale() {
		t.Error("a pod without a stream is unreachable, not stale")
	}
}
