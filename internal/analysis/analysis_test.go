package analysis

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var start = time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)

var thresholds = Thresholds{MinSamples: 200, MaxErrorRateIncrease: 0.01, MaxTimeoutRateIncrease: 0.01}

// look is an input at the time of look k.
func look(k int, pods ...Pod) Input {
	return Input{
		CanaryName: "v2", StableName: "v1", Pods: pods, Span: 48 * time.Second, Thresholds: thresholds,
		Grid: Grid{Start: start}, Now: start.Add(time.Duration(k) * DefaultInterval),
	}
}

func pod(canary, stable Counts) Pod { return Pod{Canary: canary, Stable: stable} }

func TestDecide(t *testing.T) {
	healthy := pod(Counts{Requests: 400, Errors: 4}, Counts{Requests: 1200, Errors: 12})
	for name, c := range map[string]struct {
		in      Input
		verdict Verdict
		reason  Reason
	}{
		"healthy":                           {look(1, healthy), Pass, Healthy},
		"errors":                            {look(1, pod(Counts{Requests: 412, Errors: 61}, Counts{Requests: 1240, Errors: 3})), Fail, ErrorRateExceeded},
		"crashes count as errors":           {look(1, pod(Counts{Requests: 412, Infrastructure: 61}, Counts{Requests: 1240})), Fail, ErrorRateExceeded},
		"timeouts":                          {look(1, pod(Counts{Requests: 412, Timeouts: 61}, Counts{Requests: 1240})), Fail, TimeoutRateExceeded},
		"worse by chance":                   {look(1, pod(Counts{Requests: 200, Errors: 6}, Counts{Requests: 600, Errors: 6})), Insufficient, Undecided},
		"better than the stable":            {look(1, pod(Counts{Requests: 400}, Counts{Requests: 1200, Errors: 300})), Pass, Healthy},
		"few on the stable":                 {look(1, pod(Counts{Requests: 400}, Counts{Requests: 199})), Insufficient, InsufficientSamples},
		"few on the stable, and much worse": {look(1, pod(Counts{Requests: 400, Errors: 200}, Counts{Requests: 100})), Fail, ErrorRateExceeded},
		"before the first look":             {look(0, healthy), Insufficient, BetweenLooks},
		"no pod":                            {look(1), Insufficient, NoComparison},
	} {
		t.Run(name, func(t *testing.T) {
			r := Decide(c.in)
			if r.Verdict != c.verdict || r.Reason != c.reason {
				t.Errorf("%s (%s), want %s (%s): %+v", r.Verdict, r.Reason, c.verdict, c.reason, r)
			}
		})
	}
}

// Nothing is said of fewer samples than asked for, however bad they are; and the level isn't spent on them.
func TestO30_UnderMinSamples(t *testing.T) {
	in := look(3, pod(Counts{Requests: 199, Errors: 199}, Counts{Requests: 1000}))
	r := Decide(in)
	if r.Verdict != Insufficient || r.Reason != InsufficientSamples || r.CanarySamples != 199 || len(r.Evidence) != 0 {
		t.Fatalf("%+v", r)
	}
	if diff := cmp.Diff(Progress{Looked: 3, Tested: 0}, r.Progress); diff != "" {
		t.Fatal(diff)
	}
	in.Pods[0].Canary.Requests, in.Pods[0].Canary.Errors = 200, 200
	in.Now, in.Progress = in.Now.Add(DefaultInterval), r.Progress
	r = Decide(in)
	if r.Verdict != Fail {
		t.Fatalf("one more sample: %+v", r)
	}
	if want := Alpha / 2 * (1 - 1./5); math.Abs(r.Evidence[0].Bound-want) > 1e-12 {
		t.Errorf("bound %g, want that of all four looks, %g", r.Evidence[0].Bound, want)
	}
}

// A pod whose figures stopped coming adds nothing to either side; with none left nothing is said.
func TestO31_TelemetryLost(t *testing.T) {
	silent := Pod{}
	r := Decide(look(1, silent, silent))
	if r.Verdict != Insufficient || r.Reason != NoComparison || r.Progress.Tested != 0 {
		t.Fatalf("%+v", r)
	}
}

// What the caller did wrong, what a service behind the handler did, and what was refused for load neither speak
// against the canary nor for it.
func TestP111_ErrorsOfOthers(t *testing.T) {
	for name, c := range map[string]struct {
		canary Counts
		reason Reason
	}{
		"callers":   {Counts{Requests: 700, CallerErrors: 300, Errors: 4}, Healthy},
		"upstream":  {Counts{Requests: 700, UpstreamErrors: 300, Errors: 4}, Healthy},
		"shed":      {Counts{Requests: 700, Shed: 300, Errors: 4}, Healthy},
		"no sample": {Counts{Requests: 700, CallerErrors: 400, UpstreamErrors: 101}, InsufficientSamples},
		"nor cover": {Counts{Requests: 100_400, CallerErrors: 100_000, Errors: 60}, ErrorRateExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			if r := Decide(look(1, pod(c.canary, Counts{Requests: 1200, Errors: 12}))); r.Reason != c.reason {
				t.Errorf("%s, want %s: %+v", r.Reason, c.reason, r)
			}
		})
	}
}

// Pods in which only one of the two served aren't compared: the stable's outage elsewhere excuses no canary.
func TestPairedPods(t *testing.T) {
	r := Decide(look(1,
		pod(Counts{Requests: 400, Errors: 100}, Counts{Requests: 1200}),
		pod(Counts{}, Counts{Requests: 5000, Errors: 5000}),
		pod(Counts{Requests: 5000, CallerErrors: 5000}, Counts{Requests: 10}),
	))
	if r.Verdict != Fail || r.CanarySamples != 400 || r.StableSamples != 1200 || r.Evidence[0].Pods != 1 {
		t.Fatalf("%+v", r)
	}
}

// Counters that can't be true (a router's mistake) give no verdict out of huge numbers.
func TestInconsistentCounts(t *testing.T) {
	c := Counts{Requests: 10, Shed: 20, Errors: 30, Timeouts: 40}
	if c.Executed() != 0 || c.Failed() != 0 || c.TimedOut() != 0 {
		t.Errorf("executed %d, failed %d, timed out %d", c.Executed(), c.Failed(), c.TimedOut())
	}
}

func TestO35_Evidence(t *testing.T) {
	r := Decide(look(4, pod(Counts{Requests: 412, Errors: 61}, Counts{Requests: 1240, Errors: 3})))
	e := r.Evidence[0]
	for what, c := range map[string]struct{ got, want string }{
		"line":         {e.String(), "v2 failed 61 of 412 requests (14.8 %), v1 3 of 1240 (0.2 %), same pods, 48 s; allowed increase 1 %"},
		"short":        {e.Summary(), "error rate 14.8 % against 0.2 %, n=412/1240"},
		"proof":        {e.Proof(), "exact unconditional test (Chan 1998): p 2e-06, bound 0.0002, look 4, pods 1"},
		"other metric": {r.Evidence[1].String(), "v2 timed out in 0 of 412 requests (0 %), v1 0 of 1240 (0 %), same pods, 48 s; allowed increase 1 %"},
	} {
		if c.got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", what, c.got, c.want)
		}
	}
}

func TestWords(t *testing.T) {
	for want, got := range map[string]string{
		"0 %": percent(Proportion{Bad: 0, Requests: 7}), "<0.1 %": percent(Proportion{Bad: 1, Requests: 10_000}),
		"100 %": percent(Proportion{Bad: 7, Requests: 7}), ">99.9 %": percent(Proportion{Bad: 9_999, Requests: 10_000}),
		"1": points(0.01), "0.25": points(0.0025), "0": points(0), "12.5": points(0.125), "100": points(1),
		"119 s": span(119 * time.Second), "2 min": span(2 * time.Minute), "90 min": span(90 * time.Minute), "26 h": span(26 * time.Hour),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestGrid(t *testing.T) {
	g := Grid{Start: start, Interval: 10 * time.Second}
	for name, c := range map[string]struct {
		after  time.Duration
		number int
		next   time.Duration
	}{
		"a clock that lags": {-time.Hour, 0, 10 * time.Second},
		"at the start":      {0, 0, 10 * time.Second},
		"just before":       {10*time.Second - 1, 0, 10 * time.Second},
		"the first":         {10 * time.Second, 1, 20 * time.Second},
		"a day later":       {24*time.Hour + time.Second, 8640, 24*time.Hour + 10*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			now := start.Add(c.after)
			if n := g.Number(now); n != c.number {
				t.Errorf("number %d, want %d", n, c.number)
			}
			if next := g.Next(now); !next.Equal(start.Add(c.next)) {
				t.Errorf("next %v, want %v", next, start.Add(c.next))
			}
		})
	}
}

// However often an operator asks, stops, and starts again with what the status kept, the same looks are made.
func TestO22_RestartNeitherAddsNorLosesALook(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := Grid{Start: start, Interval: 10 * time.Second}
		var kept Progress
		var bounds float64
		looks := 0
		now := start
		for range rapid.IntRange(1, 60).Draw(t, "visits") {
			now = now.Add(time.Duration(rapid.IntRange(0, 45).Draw(t, "seconds")) * time.Second)
			in := look(0, pod(Counts{Requests: 400}, Counts{Requests: 400}))
			in.Grid, in.Progress, in.Now = g, kept, now
			r := Decide(in)
			if r.Reason != BetweenLooks {
				looks++
				bounds += r.Evidence[0].Bound
			}
			kept = r.Progress
			if r := Decide(Input{Pods: in.Pods, Thresholds: thresholds, Grid: g, Progress: kept, Now: now}); r.Reason != BetweenLooks {
				t.Fatalf("a second look at the same time: %+v", r)
			}
		}
		last := g.Number(now)
		if looks > last || kept.Looked != last {
			t.Fatalf("%d looks by look %d, the last was %d", looks, last, kept.Looked)
		}
		if want := Alpha / 2 * (1 - 1/float64(last+1)); math.Abs(bounds-want) > 1e-15 {
			t.Fatalf("spent %g by look %d, want %g", bounds, last, want)
		}
	})
}

// A leader that has lost the progress spends no level that another may have spent before: over any number of losses,
// the levels of all tests are within Alpha's half. And it still finds what is badly wrong.
func TestO22_O29_ProgressLostSpendsNoLevelTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := Grid{Start: start}
		progress, now := Progress{}, start
		var bounds float64
		for range rapid.IntRange(1, 60).Draw(t, "visits") {
			now = now.Add(time.Duration(rapid.IntRange(0, 9).Draw(t, "seconds")) * time.Second)
			if rapid.IntRange(0, 4).Draw(t, "loses its leader") == 0 {
				progress = g.Unknown(now)
			}
			in := look(0, pod(Counts{Requests: 400}, Counts{Requests: 400}))
			in.Grid, in.Progress, in.Now = g, progress, now
			r := Decide(in)
			if progress = r.Progress; r.Reason != BetweenLooks {
				bounds += r.Evidence[0].Bound
			}
		}
		if bounds > Alpha/2 {
			t.Fatalf("spent %g, more than there is, %g", bounds, Alpha/2)
		}
		bad := look(0, pod(Counts{Requests: 400, Errors: 120}, Counts{Requests: 400, Errors: 4}))
		bad.Grid, bad.Progress, bad.Now = g, g.Unknown(now), g.Next(now)
		if r := Decide(bad); r.Verdict != Fail {
			t.Fatalf("30 %% against 1 %% by a new leader, at look %d: %+v", g.Number(bad.Now), r)
		}
	})
}

// Any counts at all: a verdict that follows from its evidence, and never more spent than there is.
func TestDecideHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		counts := func(name string) Counts {
			small := rapid.Uint64Range(0, 300)
			return Counts{
				Requests: rapid.Uint64Range(0, 3000).Draw(t, name), Errors: small.Draw(t, name+"Errors"),
				Infrastructure: small.Draw(t, name+"Infrastructure"), Timeouts: small.Draw(t, name+"Timeouts"),
				Shed: small.Draw(t, name+"Shed"), CallerErrors: small.Draw(t, name+"Caller"),
			}
		}
		in := look(rapid.IntRange(1, 1000).Draw(t, "look"), pod(counts("canary"), counts("stable")))
		in.Progress.Tested = rapid.IntRange(0, in.Grid.Number(in.Now)-1).Draw(t, "tested")
		in.Progress.Looked = in.Progress.Tested
		r := Decide(in)
		worse := false
		for _, e := range r.Evidence {
			if math.IsNaN(e.P) || e.P < 0 || e.P > 1 || e.Bound <= 0 || e.Bound > Alpha {
				t.Fatalf("%+v", e)
			}
			worse = worse || e.Exceeded()
			if e.Exceeded() && e.Canary.Rate()-e.Stable.Rate() <= e.Allowed {
				t.Fatalf("failed within what is allowed: %+v", e)
			}
		}
		if worse != (r.Verdict == Fail) || r.Progress.Looked != in.Grid.Number(in.Now) {
			t.Fatalf("%+v", r)
		}
	})
}
