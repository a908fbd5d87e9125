package rollout_test

import (
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/rollout"
)

var threeSteps = []string{"5 for 20s", "25 for 20s", "50 for 20s"}

// busy is a fleet of two pods that serve v1, with so many requests a second each.
func busy(perSecond int) *fleet {
	f := newFleet("p", "q")
	f.timed, f.perSecond = true, perSecond
	f.fails(placed("v1", "m", "a").Revision, 0.01)
	f.then("kubectl apply: v1", f.apply("v1", "", "m"))
	return f
}

// bad makes v2 of a module fail.
func (f *fleet) bad(module string, share float64) { f.fails(placed("v2", module, "b").Revision, share) }

func (f *fleet) policy(p v1alpha1.RollbackPolicy) { f.spec.Rollback.Policy = p }

var crashLoop = rollout.Trip{Reason: "CrashLoop", Message: "3 workers died within 5 s: exit status 1"}

// Each story is told as it happens: when, who serves, step, weight, state, what was done, and what the looks found.
func TestCanaryStories(t *testing.T) {
	for name, tell := range map[string]func() *fleet{
		"O15_O67_O68_three_good_steps": func() *fleet {
			f := busy(100)
			f.bad("m", 0.01)
			f.then("v2 in steps", f.applySteps("m", threeSteps...))
			f.wait("time passes", 80*time.Second)
			f.then("v2 of another module, in steps", f.applySteps("n", threeSteps...))
			f.wait("time passes", 5*time.Second)
			return f
		},
		"O66_first_install_with_steps": func() *fleet {
			f := newFleet()
			f.timed, f.perSecond = true, 100
			f.then("kubectl apply: v2 in steps, no pods yet", f.applySteps("m", threeSteps...))
			f.wait("time passes", 10*time.Second)
			f.then("two pods start", func() { f.join("p", "q") })
			f.wait("time passes", 80*time.Second)
			return f
		},
		"O26_O35_O37_O38_O39_a_bad_v2_goes_back": func() *fleet {
			f := busy(100)
			f.bad("m", 0.05)
			f.then("v2 in steps, which fails 5 %", f.applySteps("m", threeSteps...))
			f.wait("time passes", 80*time.Second)
			f.then("a new leader", f.newLeader)
			f.then("a third pod", func() { f.join("r") })
			f.wait("an hour passes", time.Hour)
			f.then("a retry token", func() { f.tokens.Retry = "again" })
			f.wait("time passes", 80*time.Second)
			f.then("the same token", func() { f.tokens.Retry = "again" })
			f.then("back to v1 by hand", f.apply("v1", "", "m"))
			return f
		},
		"O39_back_to_v1_asks_no_analysis": func() *fleet {
			f := newFleet("p", "q")
			f.timed, f.perSecond = true, 100
			f.then("kubectl apply: v2", f.apply("v2", "", "m"))
			f.bad("n", 0.5)
			f.then("another module, which fails, in steps", f.applySteps("n", threeSteps...))
			f.wait("time passes", 20*time.Second)
			f.then("v1, whose figures nobody has, whatever the steps", func() {
				f.silent["p"], f.slow = true, true
				s := stepped("m", threeSteps...)
				s.PoolVersion = "v1"
				f.spec = s
			})
			f.then("its workers are ready", func() { f.slow = false })
			return f
		},
		"O30_too_few_samples_hold": func() *fleet {
			f := busy(4)
			f.bad("m", 1)
			f.then("v2 at 5 %, which fails always; 4 requests a second and pod", f.applySteps("m", "5 for 20s", "50 for 20s"))
			f.wait("four minutes pass", 4*time.Minute)
			f.then("a promote token", func() { f.tokens.Promote = "now" })
			f.wait("time passes", 5*time.Second)
			return f
		},
		"O16_O31_O32_no_figures_hold": func() *fleet {
			f := busy(100)
			f.then("v2 in steps", f.applySteps("m", threeSteps...))
			f.wait("time passes", 10*time.Second)
			f.then("p's figures don't come", func() { f.silent["p"] = true })
			f.wait("a minute passes", time.Minute)
			f.then("they come again; q is away", func() { f.silent["p"], f.away["q"] = false, true })
			f.wait("a minute passes", time.Minute)
			f.then("p is away, too: nothing is done", func() { f.away["p"] = true })
			f.wait("a minute passes", time.Minute)
			f.then("both are back", func() { f.away["p"], f.away["q"] = false, false })
			f.wait("time passes", 10*time.Second)
			return f
		},
		"O22_pause_and_a_restart_in_every_step": func() *fleet {
			f := busy(100)
			f.then("v2 in steps", f.applySteps("m", threeSteps...))
			f.wait("time passes", 15*time.Second)
			f.then("a new leader", f.newLeader)
			f.wait("time passes", 10*time.Second)
			f.then("a pause token", func() { f.tokens.Pause = "lunch" })
			f.then("a new leader", f.newLeader)
			f.wait("a minute passes", time.Minute)
			f.then("a resume token", func() { f.tokens.Resume = "back" })
			f.wait("time passes", 5*time.Second)
			f.then("spec.paused", func() { f.spec.Paused = true })
			f.wait("a minute passes", time.Minute)
			f.then("not paused, a new leader", func() { f.spec.Paused = false; f.newLeader() })
			f.wait("time passes", 5*time.Second)
			return f
		},
		"O26_a_pause_still_rolls_back": func() *fleet {
			f := busy(100)
			f.then("v2 in steps", f.applySteps("m", threeSteps...))
			f.wait("time passes", 25*time.Second)
			f.then("a pause token; then it begins to fail", func() { f.tokens.Pause = "lunch"; f.bad("m", 0.3) })
			f.wait("time passes", 20*time.Second)
			return f
		},
		"O40_DryRun_only_tells": func() *fleet {
			f := busy(100)
			f.bad("m", 0.3)
			f.then("v2 in steps, which fails 30 %; DryRun", func() { f.applySteps("m", threeSteps...)(); f.policy(v1alpha1.RollbackDryRun) })
			f.wait("time passes", 25*time.Second)
			f.then("both pods would trip", func() {
				t := crashLoop
				t.ReportOnly = true
				f.trip(t, "p", "q")
			})
			f.wait("time passes", time.Minute)
			return f
		},
		"policy_Pause_asks_a_human": func() *fleet {
			f := busy(100)
			f.bad("m", 0.3)
			f.then("v2 in steps, which fails 30 %; Pause", func() { f.applySteps("m", threeSteps...)(); f.policy(v1alpha1.RollbackPause) })
			f.wait("time passes", time.Minute)
			f.then("seen, and resumed", func() { f.tokens.Resume = "1"; f.bad("m", 0.01) })
			f.wait("time passes", 30*time.Second)
			f.bad("m", 0.3)
			f.wait("it fails again", 20*time.Second)
			f.then("aborted", func() { f.tokens.Abort = "1" })
			f.wait("time passes", 5*time.Second)
			return f
		},
		"O80_O82_trips": func() *fleet {
			f := busy(100)
			f.join("r")
			f.then("v2 in steps", f.applySteps("m", threeSteps...))
			f.wait("time passes", 5*time.Second)
			f.then("p trips by itself", func() { f.trip(crashLoop, "p") })
			f.wait("a minute passes", time.Minute)
			f.then("q is tripped by hand", func() { f.trip(rollout.Trip{Reason: "ByHand", Message: "poold ctl trip", ByHand: true}, "q") })
			f.then("a new leader", f.newLeader)
			f.wait("a minute passes", time.Minute)
			f.then("a retry token", func() { f.tokens.Retry = "1" })
			f.wait("time passes", 25*time.Second)
			f.then("p and r trip by themselves", func() { f.trip(crashLoop, "p", "r") })
			f.wait("time passes", 5*time.Second)
			f.then("a retry token: it starts over", func() { f.tokens.Retry = "2" })
			f.wait("time passes", 5*time.Second)
			return f
		},
		"O82_the_only_pod_trips": func() *fleet {
			f := newFleet("p")
			f.timed, f.perSecond = true, 100
			f.then("kubectl apply: v1", f.apply("v1", "", "m"))
			f.then("v2 at 10 %", f.apply("v2", "10", "m"))
			f.then("p trips by itself", func() { f.trip(crashLoop, "p") })
			f.wait("time passes", 5*time.Second)
			f.then("another module", f.apply("v2", "10", "n"))
			return f
		},
		"O78_a_pinned_weight_is_guarded": func() *fleet {
			f := busy(100)
			f.then("v2 at 10 %", f.apply("v2", "10", "m"))
			f.wait("time passes", time.Minute)
			f.bad("m", 0.3)
			f.wait("it begins to fail", time.Minute)
			f.then("spec.canary.weight changes, its revision doesn't", f.apply("v2", "50", "m"))
			f.then("a retry token; it is good now, and promoted by a token", func() { f.bad("m", 0); f.tokens.Retry = "1" })
			f.wait("time passes", 5*time.Second)
			f.then("promote", func() { f.tokens.Promote = "1" })
			f.wait("time passes", 5*time.Second)
			return f
		},
		"O21_superseded_in_a_step": func() *fleet {
			f := busy(100)
			f.then("v2 of B in steps", f.applySteps("B", threeSteps...))
			f.wait("time passes", 25*time.Second)
			f.then("C", f.applySteps("C", threeSteps...))
			f.wait("time passes", 25*time.Second)
			f.bad("C", 0.5)
			f.wait("it fails", 5*time.Second)
			f.then("B again", f.applySteps("B", threeSteps...))
			f.wait("time passes", 5*time.Second)
			f.then("back to what serves", f.apply("v1", "", "m"))
			return f
		},
		"O62_the_leader_dies_between_status_and_routers": func() *fleet {
			f := busy(100)
			f.bad("m", 0.3)
			f.then("v2 in steps, which fails 30 %", f.applySteps("m", threeSteps...))
			for f.blocked == "" {
				f.second()
			}
			f.then("the leader died before it told the routers: they still give v2 its share, as the status has it", func() {
				f.applied, f.told = 500, nil
				f.canary = new(placed("v2", "m", "b"))
			})
			f.wait("time passes", 5*time.Second)
			f.tell("rollbacks on record: %d", len(f.rollbacks))
			return f
		},
		"a_stable_that_fails_is_kept_beside_a_worse_canary": func() *fleet {
			f := busy(100)
			f.fails(placed("v1", "m", "a").Revision, 0.5)
			f.bad("m", 0.9)
			f.then("v2 in steps", f.applySteps("m", threeSteps...))
			f.wait("time passes", 30*time.Second)
			return f
		},
	} {
		t.Run(name, func(t *testing.T) { compare(t, name, tell()) })
	}
}
