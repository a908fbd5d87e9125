package rollout_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the stories in testdata")

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
		t.Run(name, func(t *testing.T) { compare(t, name, tell()) })
	}
}

// compare holds a story against the one that is kept, or keeps it.
func compare(t *testing.T, name string, told *fleet) {
	t.Helper()
	if told.problem != nil {
		t.Error(told.problem)
	}
	got := told.text.String()
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
}
