package rollout_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/analysis"
	"github.com/dspex/workerpool-operator/internal/revision"
	"github.com/dspex/workerpool-operator/internal/rollout"
)

// anything is what may happen to a fleet: what people do, and what breaks.
func anything(t *rapid.T, f *fleet) map[string]func() {
	pod := rapid.SampledFrom([]string{"p", "q"})
	module := rapid.SampledFrom([]string{"m", "n", "o"})
	token := func() string { return fmt.Sprintf("%s/%d", f.now.Sub(start), rapid.IntRange(0, 9).Draw(t, "token")) }
	keep := func(s *v1alpha1.WorkerPoolSpec) { s.Rollback, s.Paused, f.spec = f.spec.Rollback, f.spec.Paused, s }
	toggle := func(set map[string]bool) func() {
		return func() { name := pod.Draw(t, "pod"); set[name] = !set[name] }
	}
	return map[string]func(){
		"a pinned weight": func() {
			keep(spec("v2", rapid.SampledFrom([]string{"0", "10", "50", "100"}).Draw(t, "weight"), module.Draw(t, "module")))
		},
		"steps": func() {
			steps := rapid.SampledFrom([][]string{{"5 for 5s", "25 for 9s", "50 for 4s"}, {"25 for 8s"}, {"4 for 3s", "10 for 3s", "60 for 3s", "90 for 3s"}})
			keep(stepped(module.Draw(t, "module"), steps.Draw(t, "steps")...))
		},
		"at once": func() { keep(spec("v2", "", module.Draw(t, "module"))) },
		"v1":      func() { keep(spec("v1", "", module.Draw(t, "module"))) },
		"retry":   func() { f.tokens.Retry = token() },
		"promote": func() { f.tokens.Promote = token() },
		"abort":   func() { f.tokens.Abort = token() },
		"pause":   func() { f.tokens.Pause = token() },
		"resume":  func() { f.tokens.Resume = token() },
		"paused":  func() { f.spec.Paused = !f.spec.Paused },
		"policy": func() {
			f.spec.Rollback.Policy = rapid.SampledFrom([]v1alpha1.RollbackPolicy{"", "Automatic", "Pause", "DryRun"}).Draw(t, "policy")
		},
		"deaf":     toggle(f.deaf),
		"away":     toggle(f.away),
		"silent":   toggle(f.silent),
		"slow":     func() { f.slow = !f.slow },
		"broken":   func() { f.broken[placed("v2", module.Draw(t, "module"), "b").Revision] = true },
		"bad":      func() { f.bad(module.Draw(t, "module"), 0.5) },
		"leader":   f.newLeader,
		"trip":     func() { f.trip(crashLoop, pod.Draw(t, "pod")) },
		"by hand":  func() { f.trip(rollout.Trip{Reason: "ByHand", ByHand: true}, pod.Draw(t, "pod")) },
		"no pods":  func() { f.pods = nil },
		"new pods": func() { f.pods = nil; f.join("p", "q") },
	}
}

// somewhere is a fleet in any state that it can reach.
func somewhere(t *rapid.T) *fleet {
	f := newFleet("p", "q")
	f.perSecond = 50
	f.spec = spec("v1", "", "m")
	f.second()
	ways := anything(t, f)
	way := rapid.SampledFrom(slices.Sorted(maps.Keys(ways)))
	for range rapid.IntRange(0, 12).Draw(t, "happens") {
		ways[way.Draw(t, "way")]()
		for range rapid.IntRange(1, 12).Draw(t, "seconds") {
			f.second()
		}
	}
	return f
}

// mended is a fleet in which nothing is broken any more.
func mended(f *fleet) {
	clear(f.deaf)
	clear(f.away)
	clear(f.silent)
	clear(f.broken)
	clear(f.trips)
	f.slow = false
	if len(f.pods) == 0 {
		f.join("p", "q")
	}
}

func (f *fleet) wanted() string { return revision.Of(f.spec).Hash() }

// allAtOnce tells whether a promotion is asked for that waits for no analysis.
func (f *fleet) allAtOnce() bool {
	return f.spec.PoolVersion == "v1" || rollout.SpecWeight(f.spec) == rollout.Full || (f.rollout != nil && f.rollout.Promoting)
}

// From wherever it is, a canary that fails ends without traffic, be the rollout paused or not.
func TestO26_AFailingCanaryReachesZeroFromAnywhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := somewhere(t)
		mended(f)
		f.spec.Rollback.Policy = v1alpha1.RollbackAutomatic
		f.second() // tokens that are still there
		f.second()
		if f.allAtOnce() {
			t.Skip("everything is asked for at once")
		}
		if f.canary != nil {
			f.fails(f.wanted(), 0.9)
		}
		f.fails(f.stable.Revision, 0)
		f.counts, f.left = map[string]analysis.Pod{}, map[string]float64{} // what the stable failed before excuses nothing
		for range 90 {
			f.second()
		}
		if f.problem != nil {
			t.Fatal(f.problem, "\n", f.text.String())
		}
		fails := f.canary != nil && f.failing[f.canary.Revision] > 0
		if fails && f.told.Weight > 0 {
			t.Fatalf("still at %s %%\n%s", f.told.Weight, f.text.String())
		}
		if f.stable.Revision == f.wanted() && f.failing[f.wanted()] > 0 {
			t.Fatalf("it was promoted\n%s", f.text.String())
		}
	})
}

// From wherever it is, a canary that is healthy is promoted once nobody holds or blocks it; a pinned one gets its weight.
func TestO22_AHealthyCanaryIsPromotedFromAnywhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := somewhere(t)
		mended(f)
		clear(f.failing)
		f.spec.Paused = false
		f.tokens = v1alpha1.HandledTokens{Retry: "healthy", Resume: "healthy"}
		var last []rollout.Decision
		for range 150 {
			last = f.second()
		}
		if f.problem != nil {
			t.Fatal(f.problem, "\n", f.text.String())
		}
		end := last[len(last)-1]
		pinned := end.State == rollout.CanaryPinned && end.Applied == rollout.SpecWeight(f.spec) && len(f.spec.Canary.Steps) == 0
		promoted := end.State == rollout.Promoted && f.stable.Revision == f.wanted() && f.canary == nil
		if !pinned && !promoted {
			t.Fatalf("it ended as %s\n%s", end.State, f.text.String())
		}
	})
}

// With no pod heard, nothing happens, whatever is known of them and however long it lasts.
func TestO32_NoPodHeardNothingHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := somewhere(t)
		f.second()
		f.second()
		f.away["p"], f.away["q"] = true, true
		if len(f.pods) == 0 {
			f.join("p")
		}
		f.second() // what is lowered, or dropped from a slot, needs no pod's consent
		f.second()
		before, placed := f.told.Weight, describe(f.told.Assignment)
		for range int(time.Minute / time.Second) {
			for _, d := range f.second() {
				if d.Action != rollout.None || d.Weight != before || describe(d.Assignment) != placed {
					t.Fatalf("%s by %q at %s %%, was %s %%\n%s", d.State, d.Action, d.Weight, before, f.text.String())
				}
			}
		}
	})
}
