package pooltest

import (
	"slices"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

func TestPicked(t *testing.T) {
	for name, tc := range map[string]struct {
		variable string
		version  pool.Version
		want     bool
		fails    bool
	}{
		"both":          {"", pool.V1, true, false},
		"this":          {"v2", pool.V2, true, false},
		"the other":     {"v2", pool.V1, false, false},
		"no such thing": {"V2", pool.V2, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := picked(tc.variable, tc.version)
			if got != tc.want || (err != nil) != tc.fails {
				t.Errorf("picked %v, %v; want %v, failure %v", got, err, tc.want, tc.fails)
			}
		})
	}
}

// TestListsNameStories: a title that was changed in one place only would silently leave its story out, or in.
func TestListsNameStories(t *testing.T) {
	for version, list := range map[pool.Version]map[string]string{pool.V1: forking, pool.V2: unshared} {
		stories := contract(version)
		for title, why := range list {
			if stories[title] == nil || why == "" {
				t.Errorf("%s: in the contract: %v, reason: %q", title, stories[title] != nil, why)
			}
		}
	}
}

func TestRecorder(t *testing.T) {
	var order []string
	note := func(s string) func() { return func() { order = append(order, s) } }
	for name, tc := range map[string]struct {
		tell func(*recorder)
		want []string
	}{
		"passes":     {func(*recorder) {}, nil},
		"goes on":    {func(r *recorder) { r.Errorf("%d", 1); r.Error(2) }, []string{"1", "2"}},
		"ends":       {func(r *recorder) { r.Fatalf("%d", 1); r.Error(2) }, []string{"1"}},
		"panics":     {func(*recorder) { panic("oh") }, []string{"panic: oh"}},
		"fails late": {func(r *recorder) { r.Cleanup(func() { r.Fatal("late") }) }, []string{"late"}},
	} {
		t.Run(name, func(t *testing.T) {
			order = nil
			r := &recorder{TB: t, cancel: func() {}}
			r.run(func() {
				r.Cleanup(note("first"))
				r.Cleanup(note("second"))
				tc.tell(r)
			})
			if !slices.Equal(r.failures, tc.want) || r.Failed() != (tc.want != nil) {
				t.Errorf("failures %q, failed %v; want %q", r.failures, r.Failed(), tc.want)
			}
			if !slices.Equal(order, []string{"second", "first"}) {
				t.Errorf("cleanups ran in the order %q", order)
			}
		})
	}
}

func TestCheckEndsATestThatHangs(t *testing.T) {
	never := func(b *bench) { b.up(); <-b.Context().Done() }
	if got := check(t, pool.V1, never, nil, settings{patience: 100 * time.Millisecond}); !slices.Equal(got, []string{Hangs}) {
		t.Errorf("failures %q; want that it hangs", got)
	}
}
