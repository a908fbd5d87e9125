package pooltest

import (
	"testing"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// story is one behaviour, told with a pool of its own.
type story func(*bench)

// Run checks a pool implementation against the whole contract. version says which promise about concurrency holds.
func Run(t *testing.T, version pool.Version, factory Factory) {
	sets := []map[string]story{lifecycle, timeouts, failures, frames, exits, crowds, changes, programs}
	switch version {
	case pool.V1:
		sets = append(sets, serialOnly)
	case pool.V2:
		sets = append(sets, checkoutOnly)
	}
	for _, set := range sets {
		for title, tell := range set {
			t.Run(title, func(t *testing.T) { tell(newBench(t, version, factory)) })
		}
	}
}
