package rollout_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/rollout"
)

var update = flag.Bool("update", false, "rewrite the stories in testdata")

// fleet plays the pods and the status through a story: it does as told unless the story says otherwise.
type fleet struct {
	spec    *v1alpha1.WorkerPoolSpec
	stable  *v1alpha1.SlotRevision
	canary  *v1alpha1.SlotRevision
	applied rollout.Weight
	told    *rollout.Told
	pods    []rollout.Pod
	deaf    map[string]bool // pods that acknowledge nothing
	away    map[string]bool // pods without a stream
	broken  map[string]bool // modules whose workers don't start
	slow    bool            // workers that are newly told don't get ready
	text    strings.Builder
}

func newFleet(pods ...string) *fleet {
	f := &fleet{deaf: map[string]bool{}, away: map[string]bool{}, broken: map[string]bool{}}
	f.join(pods...)
	return f
}

func (f *fleet) join(pods ...string) {
	for _, name := range pods {
		f.pods = append(f.pods, rollout.Pod{Name: name, Slots: map[string]rollout.Slot{}})
	}
}

// then does something and lets the operator decide until nothing changes any more.
func (f *fleet) then(title string, do func()) {
	fmt.Fprintf(&f.text, "%s\n", title)
	do()
	for last, n := "", 0; n < 20; n++ {
		f.obey()
		d := rollout.Decide(f.input())
		line := f.line(&d)
		f.take(&d)
		if line == last {
			return
		}
		fmt.Fprintf(&f.text, "    %s\n", line)
		last = line
	}
	f.text.WriteString("    (it never comes to rest)\n")
}

func (f *fleet) input() rollout.Input {
	return rollout.Input{Spec: f.spec, Stable: f.stable, Canary: f.canary, Applied: f.applied, Told: f.told, Pods: f.pods}
}

// take is what the reconciler does with a decision.
func (f *fleet) take(d *rollout.Decision) {
	stable := d.Assignment.Stable
	f.stable, f.canary, f.applied = &stable, d.Assignment.Canary, d.Applied
	told := rollout.Told{Assignment: d.Assignment, Weight: d.Weight}
	if d.Idle {
		told.Assignment.Canary = nil
	}
	if f.told == nil || describe(f.told.Assignment) != describe(told.Assignment) || f.told.Assignment.Stable.Revision != told.Assignment.Stable.Revision ||
		revisionOf(f.told.Assignment.Canary) != revisionOf(told.Assignment.Canary) || f.told.Weight != told.Weight {
		for i := range f.pods {
			f.pods[i].Acknowledged = false
		}
	}
	f.told = &told
}

func revisionOf(r *v1alpha1.SlotRevision) string {
	if r == nil {
		return ""
	}
	return r.Revision
}

// obey is what the pods do with what they were told.
func (f *fleet) obey() {
	for i := range f.pods {
		p := &f.pods[i]
		p.Connected = !f.away[p.Name]
		if f.told == nil || f.away[p.Name] || f.deaf[p.Name] {
			continue
		}
		p.Acknowledged = true
		for _, name := range []string{"a", "b"} {
			f.runSlot(p, name)
		}
	}
}

func (f *fleet) runSlot(p *rollout.Pod, name string) {
	in := f.told.Assignment.In(name)
	switch {
	case in == nil:
		delete(p.Slots, name)
	case p.Slots[name].Revision == in.Revision && p.Slots[name].Up:
	case f.broken[in.Revision]:
		p.Slots[name] = rollout.Slot{Revision: in.Revision, BootFailing: true}
	case f.slow:
		p.Slots[name] = rollout.Slot{Revision: in.Revision}
	default:
		p.Slots[name] = rollout.Slot{Revision: in.Revision, Serving: 4, Up: true}
	}
}

// line tells a decision.
func (f *fleet) line(d *rollout.Decision) string {
	slots := map[string]string{"a": "-", "b": "-"}
	for name := range slots {
		if in := d.Assignment.In(name); in != nil && (!d.Idle || in != d.Assignment.Canary) {
			slots[name] = string(in.Version)
		}
	}
	role := "stable " + d.Assignment.Stable.Slot
	if d.Assignment.Canary != nil {
		role += ", canary " + d.Assignment.Canary.Slot
	}
	text := fmt.Sprintf("a=%-2s b=%-2s %-18s %3s→%-3s told %-5s %-17s", slots["a"], slots["b"], role, d.Applied, d.Desired, d.Weight, d.State)
	if d.Action != rollout.None {
		text += " " + string(d.Action)
	}
	if len(d.Blockers) > 0 {
		text += " waits for " + strings.Join(d.Blockers, ", ")
	}
	return strings.TrimRight(text, " ")
}

func (f *fleet) apply(version v1alpha1.PoolVersion, weight, module string) func() {
	return func() { f.spec = spec(version, weight, module) }
}

func TestStories(t *testing.T) {
	for name, tell := range map[string]func() *fleet{
		"O66_O67_first_apply_with_a_weight": func() *fleet {
			f := newFleet()
			f.then("kubectl apply: v2 at 10 %, no pods yet", f.apply("v2", "10", "m"))
			f.then("two pods start", func() { f.join("p", "q") })
			f.then("weight 50", f.apply("v2", "50", "m"))
			f.then("weight 100", f.apply("v2", "100", "m"))
			f.then("another module at 10 %", f.apply("v2", "10", "n"))
			return f
		},
		"O14_O78_without_a_canary": func() *fleet {
			f := newFleet("p", "q")
			f.then("kubectl apply: v1", f.apply("v1", "", "m"))
			f.then("v2, whose workers take their time", func() { f.slow = true; f.apply("v2", "", "m")() })
			f.then("they are ready", func() { f.slow = false })
			f.then("back to v1, by hand", f.apply("v1", "", "m"))
			return f
		},
		"O34_workers_that_do_not_start": func() *fleet {
			f := newFleet("p", "q")
			f.then("kubectl apply: v1", f.apply("v1", "", "m"))
			f.then("v2 of a module that doesn't import", func() {
				f.broken[placed("v2", "broken", "b").Revision] = true
				f.apply("v2", "", "broken")()
			})
			f.then("the module is fixed", f.apply("v2", "", "m"))
			return f
		},
		"O21_superseded": func() *fleet {
			f := newFleet("p", "q")
			f.then("kubectl apply: A", f.apply("v2", "", "A"))
			f.then("B at 20 %", f.apply("v2", "20", "B"))
			f.then("C at 20 %", f.apply("v2", "20", "C"))
			f.then("back to A", f.apply("v2", "20", "A"))
			return f
		},
		"O16_O42_pods_that_hold": func() *fleet {
			f := newFleet("p", "q")
			f.then("kubectl apply: v2 at 10 %", f.apply("v2", "10", "m"))
			f.then("q acknowledges nothing any more; weight 25", func() { f.deaf["q"] = true; f.apply("v2", "25", "m")() })
			f.then("q does again", func() { f.deaf["q"] = false })
			f.then("p is away; weight 100", func() { f.away["p"] = true; f.apply("v2", "100", "m")() })
			f.then("p is away; weight 5", f.apply("v2", "5", "m"))
			f.then("p is back", func() { f.away["p"] = false })
			return f
		},
		"O22_a_change_of_leader": func() *fleet {
			f := newFleet("p", "q")
			f.then("kubectl apply: v2 at 10 %", f.apply("v2", "10", "m"))
			f.then("a new leader, and no pod has found it yet", func() {
				f.told = nil
				f.away["p"], f.away["q"] = true, true
			})
			f.then("both have", func() { f.away["p"], f.away["q"] = false, false })
			return f
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := tell().text.String()
			file := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("the story has changed; if it is better now: go test ./internal/rollout -update (-want +got):\n%s", diff)
			}
		})
	}
}
