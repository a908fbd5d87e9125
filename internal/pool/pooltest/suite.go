package pooltest

import (
	"fmt"
	"maps"
	"os"
	"testing"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// story is one behaviour, told with a pool of its own.
type story func(*bench)

// Run checks a pool implementation against the whole contract. version says which promise about concurrency holds.
// POOL_VERSION=v1|v2 picks one implementation; without it each runs.
func Run(t *testing.T, version pool.Version, factory Factory) {
	run(t, version, factory, settings{patience: patience, up: func() {}})
}

// RunForked checks with workers that are forked from a zygote what this can change.
func RunForked(t *testing.T, version pool.Version, factory Factory) {
	stories := contract(version)
	maps.DeleteFunc(stories, func(title string, _ story) bool { return forking[title] == "" })
	tellAll(t, stories, version, factory, settings{patience: patience, up: func() {}, forked: true})
}

// RunShared checks the same with workers that serve several requests at the same time, and what holds for those.
func RunShared(t *testing.T, version pool.Version, factory Factory) {
	run(t, version, factory, settings{patience: patience, up: func() {}, shared: true})
}

func run(t *testing.T, version pool.Version, factory Factory, set settings) {
	stories := contract(version)
	if set.shared {
		maps.DeleteFunc(stories, func(title string, _ story) bool { return unshared[title] != "" })
		maps.Copy(stories, sharing)
		maps.Copy(stories, placing)
	}
	tellAll(t, stories, version, factory, set)
}

func tellAll(t *testing.T, stories map[string]story, version pool.Version, factory Factory, set settings) {
	wanted, err := picked(os.Getenv("POOL_VERSION"), version)
	if err != nil {
		t.Fatal(err)
	}
	if !wanted {
		t.Skipf("POOL_VERSION asks for the other version than %s", version)
	}
	for title, tell := range stories {
		t.Run(title, func(t *testing.T) {
			tell(newBench(t, version, factory, set))
		})
	}
}

// picked tells whether POOL_VERSION asks for version.
func picked(variable string, version pool.Version) (bool, error) {
	switch pool.Version(variable) {
	case "":
		return true, nil
	case pool.V1, pool.V2:
		return variable == string(version), nil
	}
	return false, fmt.Errorf("POOL_VERSION is %q; set it to v1 or v2, or not at all to run both", variable)
}

// contract is every story that holds for a version, by its title.
func contract(version pool.Version) map[string]story {
	sets := []map[string]story{
		lifecycle, timeouts, failures, frames, exits, crowds, changes, programs, recycling, lazy, memory, affinities, hanging, ladder,
		streams, health,
	}
	switch version {
	case pool.V1:
		sets = append(sets, serialOnly)
	case pool.V2:
		sets = append(sets, checkoutOnly, surging, choosing, streamsInParallel)
	}
	all := map[string]story{}
	for _, set := range sets {
		maps.Copy(all, set)
	}
	return all
}
