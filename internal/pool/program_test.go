package pool_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// TestRecentDropsWhatWasUnusedLongest: each step is a use of a key, or puts one of that size, and says what must go.
func TestRecentDropsWhatWasUnusedLongest(t *testing.T) {
	r := pool.NewRecent[int](3, 100)
	for i, step := range []struct {
		put   string
		bytes int
		get   string
		gone  []string
	}{
		{put: "a", bytes: 10}, {put: "b", bytes: 10}, {put: "c", bytes: 10},
		{get: "a"},
		{put: "d", bytes: 10, gone: []string{"b"}},      // by number
		{put: "e", bytes: 90, gone: []string{"c", "a"}}, // by number, then by size: d and e fit exactly
		{put: "e", bytes: 50}, {put: "f", bytes: 40},    // what is replaced doesn't count
		{put: "g", bytes: 1000, gone: []string{"d", "e", "f"}},           // alone, however large
		{put: "h", bytes: 1, gone: []string{"g"}}, {put: "i", bytes: 99}, // it goes as soon as there is another
	} {
		if step.get != "" {
			if _, known := r.Get(step.get); !known {
				t.Errorf("step %d: %s isn't there", i, step.get)
			}
			continue
		}
		if diff := cmp.Diff(step.gone, r.Put(step.put, i, step.bytes)); diff != "" {
			t.Errorf("step %d (-want +got)\n%s", i, diff)
		}
		if v, known := r.Get(step.put); !known || v != i {
			t.Errorf("step %d: %s is %d, %v", i, step.put, v, known)
		}
	}
	r.Remove("h")
	r.Remove("h")
	if _, known := r.Get("h"); known {
		t.Error("h is there after its removal")
	}
}
