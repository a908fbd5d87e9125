package rollout_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/analysis"
	"github.com/dspex/workerpool-operator/internal/rollout"
	"github.com/dspex/workerpool-operator/internal/router/split"
)

// kind of requests, of an application that sends its kinds in a fixed order.
type kind struct {
	command string
	times   int             // in a row
	fails   map[string]bool // the revisions on which each of them fails
}

// rhythm is traffic that has one. Each pod's router splits it by the real thing.
type rhythm struct {
	turns   []kind
	seed    uint64
	turn    map[string]int // by pod
	routers map[string]*split.Splitter
}

// periodic makes the application send kinds in turn. Pods begin at the same one.
func (f *fleet) periodic(seed uint64, kinds ...kind) {
	r := &rhythm{seed: seed, turn: map[string]int{}, routers: map[string]*split.Splitter{}}
	for _, k := range kinds {
		for range max(k.times, 1) {
			r.turns = append(r.turns, k)
		}
	}
	f.rhythm = r
}

// requests of a pod, so many of them, and how they end.
func (r *rhythm) requests(pod string, n int, weight rollout.Weight, canary, stable string) (p analysis.Pod) {
	if r.routers[pod] == nil {
		r.routers[pod] = split.New(rand.New(rand.NewPCG(r.seed, uint64(len(r.routers)))).Uint64)
	}
	for range n {
		k := &r.turns[r.turn[pod]%len(r.turns)]
		r.turn[pod]++
		side, revision := &p.Stable, stable
		if r.routers[pod].Next(k.command, uint32(weight)) {
			side, revision = &p.Canary, canary
		}
		side.Requests++
		if k.fails[revision] {
			side.Errors++
		}
	}
	return p
}

// rhythms are those of applications in which something always fails, on both versions.
func rhythms(revisions ...string) map[string][]kind {
	failing := map[string]bool{}
	for _, r := range revisions {
		failing[r] = true
	}
	// One command with ten kinds of arguments, which no router can tell apart; ten commands; pairs; bursts.
	all := map[string][]kind{"pairs": {{command: "embed", fails: failing}, {command: "summarize"}}}
	for i := range 10 {
		fails := map[string]bool{}
		if i == 9 {
			fails = failing
		}
		all["ten kinds of one command"] = append(all["ten kinds of one command"], kind{command: "work", fails: fails})
		all["ten commands"] = append(all["ten commands"], kind{command: fmt.Sprint("work-", i), fails: fails})
	}
	for _, k := range []int{2, 5, 20} {
		all[fmt.Sprintf("bursts of %d", k)] = []kind{{command: "work", times: k, fails: failing}, {command: "work", times: 3 * k}}
	}
	return all
}

// hoursOfRhythm play an hour of each rhythm at each weight, with so many seeds.
func hoursOfRhythm(t *testing.T, seeds int) {
	v1, v2 := placed("v1", "m", "a").Revision, placed("v2", "m", "b").Revision
	for name, kinds := range rhythms(v1, v2) {
		for _, weight := range []string{"5", "10", "25", "50"} {
			t.Run(name+" at "+weight, func(t *testing.T) {
				for seed := range seeds {
					f := newFleet("p", "q")
					f.timed, f.perSecond = true, 20
					f.periodic(uint64(seed), kinds...)
					f.then("kubectl apply: v1", f.apply("v1", "", "m"))
					f.then("v2", f.apply("v2", weight, "m"))
					for range int(time.Hour / analysis.DefaultInterval) { // a pass for each look is enough
						f.now = f.now.Add(analysis.DefaultInterval - time.Second)
						f.serve()
						f.second()
					}
					if len(f.rollbacks) > 0 {
						t.Fatalf("seed %d: an equal canary was rolled back: %v", seed, f.rollbacks[0].Evidence)
					}
					if f.canary == nil || f.counts["p"].Canary.Errors == 0 {
						t.Fatalf("seed %d: nothing was compared: %+v", seed, f.counts)
					}
				}
			})
		}
	}
}

// TestO15_O26_AVersionThatFailsOneOfAPair: users call embed, then summarize; v2's embed always fails. The canary gets its share of
// both, so that it is found out at whatever weight.
func TestO15_O26_AVersionThatFailsOneOfAPair(t *testing.T) {
	v2 := placed("v2", "m", "b").Revision
	for _, weight := range []string{"5", "10", "25", "50"} {
		f := newFleet("p", "q")
		f.timed, f.perSecond = true, 100
		f.periodic(1, kind{command: "embed", fails: map[string]bool{v2: true}}, kind{command: "summarize"})
		f.then("kubectl apply: v1", f.apply("v1", "", "m"))
		f.then("v2 in steps", f.applySteps("m", weight+" for 60s"))
		f.wait("time passes", 60*time.Second)
		if len(f.rollbacks) == 0 {
			t.Errorf("at %s %% v2, half of whose requests fail, wasn't rolled back: %+v", weight, f.counts)
		}
	}
}
