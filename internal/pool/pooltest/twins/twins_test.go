package twins

import (
	"os"
	"reflect"
	"regexp"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/pooltest"
	"github.com/dspex/workerpool-operator/internal/pool/pooltest/broken"
)

// TestMain takes one processor. With more, goroutines of a synctest bubble run its timers beside the bubble's own loop, both
// with the bubble's one context of the race detector, which isn't made for that: a rare run ends in a SIGSEGV inside the
// detector (Go 1.26, unlockAndRun in runtime/time.go). The clock is a fake, so nothing takes longer, and races are found by
// what happens before what, not by what happens at the same time.
func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(1)
	os.Exit(m.Run())
}

// difference is one that is allowed: forget takes it out of a record. shown is a scenario that has it.
type difference struct {
	name   string
	forget func(*record)
	shown  scenario
}

var (
	byVersion = difference{
		name:   "the figures say which version it is",
		forget: func(r *record) { r.stats(func(s *pool.Stats) { s.Version = "" }) },
		shown:  scenario{Limits: roomy(1, 0)},
	}
	byWorker = difference{
		name: "V1 uses its workers in turn, V2 the one that was used last",
		forget: func(r *record) {
			r.stats(func(s *pool.Stats) { s.Workers = nil })
			for i := range r.Outcomes {
				o := &r.Outcomes[i]
				o.Result, o.Context = anyWorker.ReplaceAllString(o.Result, "w-n"), anyWorker.ReplaceAllString(o.Context, "w-n")
			}
		},
		shown: scenario{Limits: roomy(2, 0), Alone: true, Steps: []step{submit("echo", 10), submit("raise", 10)}},
	}
	byOverflow = difference{
		name: "V1 has no overflow: it starts no extra workers, and retires at once what is beyond size",
		forget: func(r *record) {
			r.stats(func(s *pool.Stats) {
				s.Spawned, s.Destroyed, s.Start = 0, 0, nil
				s.Starting, s.Ready, s.Overflow = 0, 0, 0
				delete(s.Exits, "retired")
				delete(s.Exits, "closed")
			})
		},
		shown: scenario{Limits: roomy(1, 1), Steps: []step{submit("echo", 200), submit("echo", 200)}},
	}
	byWaiting = difference{
		name: "V2 runs operations side by side, so that they wait less and end sooner",
		forget: func(r *record) {
			r.Moments = nil
			forgetWait := func(s *pool.Stats) { s.Wait = nil }
			r.stats(forgetWait)
			for i := range r.Outcomes {
				r.Outcomes[i].Wait, r.Outcomes[i].Ended = 0, time.Time{}
			}
		},
		shown: scenario{Limits: roomy(2, 0), Steps: []step{submit("echo", 20), submit("echo", 20)}},
	}
)

var byBusyWorker = difference{
	name: "V2 refuses a strict-now whose worker serves another, where under V1 both wait for their turns",
	forget: func(r *record) {
		r.stats(func(s *pool.Stats) { s.Shed, s.Service = 0, nil })
		for i := range r.Outcomes {
			if r.Outcomes[i].Now {
				r.Outcomes[i] = outcome{}
			}
		}
	},
	shown: scenario{Limits: roomy(2, 0), Steps: []step{submit("echo", 20), submitNow("a", 20), submitNow("a", 20)}},
}

var anyWorker = regexp.MustCompile(`w-\d+`)

func (r *record) stats(change func(*pool.Stats)) {
	change(&r.Settled)
	change(&r.End)
	for i := range r.Moments {
		change(&r.Moments[i])
	}
}

func roomy(size, overflow int) pool.Limits {
	return pool.Limits{Size: size, Overflow: overflow, QueueLimit: 100, Checkout: time.Hour, Operation: time.Hour}
}

func submit(kind string, ms int) step {
	return step{Submit: &operation{Kind: kind, Service: time.Duration(ms) * time.Millisecond}}
}

func submitNow(key string, ms int) step {
	st := submit("echo", ms)
	st.Submit.Affinity = pool.Affinity{Key: key, Mode: pool.AffinityStrictNow}
	return st
}

// compare plays the scenario with both and returns what differs apart from what is allowed.
func compare(t *testing.T, a, b pooltest.Factory, sc scenario, allowed []difference) string {
	first, second := play(t, a, sc), play(t, b, sc)
	for _, d := range allowed {
		d.forget(&first)
		d.forget(&second)
	}
	if reflect.DeepEqual(first, second) { // a hundred times as fast as cmp, with all those histograms
		return ""
	}
	return cmp.Diff(first, second)
}

func TestP22_SameResults(t *testing.T) {
	for name, tc := range map[string]struct {
		mode    mode
		allowed []difference
	}{
		"one worker":           {mode{sizes: 1, stops: true, tight: true}, []difference{byVersion}},
		"one request at once":  {mode{sizes: 4, overflow: 2, stops: true, alone: true}, []difference{byVersion, byWorker, byOverflow}},
		"many workers and all": {mode{sizes: 4, overflow: 2}, []difference{byVersion, byWorker, byOverflow, byWaiting}},
	} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(r *rapid.T) {
				sc := tc.mode.draw(r)
				if diff := compare(t, v1, v2, sc, tc.allowed); diff != "" {
					r.Fatalf("%s\nV1 and V2 differ (-V1 +V2):\n%s", sc, diff)
				}
			})
		})
	}
}

// A difference that nothing shows any more is to be taken off the list.
func TestP22_DeclaredDifferencesAreReal(t *testing.T) {
	all := []difference{byVersion, byWorker, byOverflow, byWaiting, byBusyWorker}
	for i, d := range all {
		t.Run(d.name, func(t *testing.T) {
			if diff := compare(t, v1, v2, d.shown, all); diff != "" {
				t.Errorf("differs in what isn't declared (-V1 +V2):\n%s", diff)
			}
			others := append(append([]difference{}, all[:i]...), all[i+1:]...)
			if compare(t, v1, v2, d.shown, others) == "" {
				t.Error("V1 and V2 don't differ")
			}
		})
	}
}

// What a differential test finds in pools that are broken on purpose shows what it would find.
func TestBrokenTwinIsNoticed(t *testing.T) {
	wanted := map[string]bool{
		"last come first served, by V2": true, "an expired request is executed": true,
		"what was sent is sent again": true, "waiting isn't part of the budget": true, "an exception costs a worker": true,
		"no other worker is tried when nothing was sent": true, "a counter never moves": true, "errors are swallowed": true,
		"strict-now takes any worker": true,
	}
	drawn := rapid.Custom(mode{sizes: 1, stops: true, tight: true}.draw)
	for _, p := range broken.Pools() {
		if !wanted[p.Fault] {
			continue
		}
		delete(wanted, p.Fault)
		t.Run(p.Fault, func(t *testing.T) {
			for seed := range 100 {
				if compare(t, v1, p.Factory(v2), drawn.Example(seed), []difference{byVersion}) != "" {
					return
				}
			}
			t.Error("a hundred sequences show nothing")
		})
	}
	if len(wanted) > 0 {
		t.Errorf("there are no such pools: %v", wanted)
	}
}

// mode is a family of scenarios.
type mode struct {
	sizes, overflow int  // at most
	stops           bool // deadlines, cancels and kills
	tight           bool // queues that fill up, waits that end, workers that litter, and a Close that may not wait
	alone           bool
}

// Each moment at which something ends has a place of its own below 10 ms, so that no two things happen at once: their
// order would be anybody's guess.
const tick = 10 * time.Millisecond

func (m mode) draw(r *rapid.T) scenario {
	sc := scenario{Limits: m.limits(r), Alone: m.alone}
	submitted := 0
	kinds := []string{"submit", "submit", "submit", "sleep", "configure"}
	if m.stops {
		kinds = append(kinds, "kill")
	}
	for range rapid.IntRange(1, 25).Draw(r, "steps") {
		switch rapid.SampledFrom(kinds).Draw(r, "step") {
		case "submit":
			if submitted < 18 {
				sc.Steps = append(sc.Steps, step{Submit: m.operation(r, submitted)})
				submitted++
			}
		case "sleep":
			sc.Steps = append(sc.Steps, step{Sleep: ticks(r, "sleep", 30)})
		case "configure":
			sc.Steps = append(sc.Steps, step{Configure: new(m.limits(r))})
		case "kill":
			// With several workers whoever served last may have been retired meanwhile, by V1 sooner than by V2.
			if last := len(sc.Steps) - 1; m.alone && (last < 0 || sc.Steps[last].Submit == nil) {
				continue
			}
			sc.Steps = append(sc.Steps, step{Kill: true})
		}
	}
	if m.tight && rapid.Bool().Draw(r, "impatient close") {
		sc.Grace = ticks(r, "grace", 10) + 9*time.Millisecond
	}
	return sc
}

func ticks(r *rapid.T, what string, most int) time.Duration {
	return time.Duration(rapid.IntRange(1, most).Draw(r, what)) * tick
}

func (m mode) limits(r *rapid.T) pool.Limits {
	l := roomy(rapid.IntRange(1, m.sizes).Draw(r, "size"), rapid.IntRange(0, m.overflow).Draw(r, "overflow"))
	if m.stops {
		l.Operation = ticks(r, "operation timeout", 20) + 123_457
	}
	if m.tight {
		l.QueueLimit = rapid.IntRange(0, 4).Draw(r, "queue limit")
		l.Recycle.MaxRequests = rapid.IntRange(0, 4).Draw(r, "max requests") // so few that they are exact
		l.Checkout = ticks(r, "checkout timeout", 20) + 3*time.Millisecond + 1
	}
	return l
}

func (m mode) operation(r *rapid.T, n int) *operation {
	kinds := []string{"echo", "echo", "raise", "crash", "babble"}
	if m.tight {
		kinds = append(kinds, "litter")
	}
	op := &operation{
		Kind:    rapid.SampledFrom(kinds).Draw(r, "kind"),
		Service: ticks(r, "service", 15) + 2<<n,
	}
	if key := rapid.SampledFrom([]string{"", "", "a", "b"}).Draw(r, "key"); key != "" {
		op.Affinity = pool.Affinity{Key: key, Mode: rapid.SampledFrom(m.affinities()).Draw(r, "affinity")}
	}
	if !m.stops {
		return op
	}
	own := time.Duration(n)*2*time.Microsecond + 1
	switch rapid.SampledFrom([]string{"no", "no", "deadline", "past", "cancel"}).Draw(r, "stop") {
	case "deadline":
		op.Deadline = ticks(r, "deadline", 20) + 5*time.Millisecond + own
	case "past":
		op.Deadline = -time.Millisecond
	case "cancel":
		op.Cancel = ticks(r, "cancel", 20) + 7*time.Millisecond + own
	}
	return op
}

// affinities are the modes of a family: what byBusyWorker allows changes what comes after it where operations run side by
// side.
func (m mode) affinities() []pool.AffinityMode {
	modes := []pool.AffinityMode{pool.AffinityHint, pool.AffinityStrict}
	if m.sizes == 1 || m.alone {
		modes = append(modes, pool.AffinityStrictNow)
	}
	return modes
}
