package slot

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/slot/slotproto"
)

func TestOverflowShrinksFirst(t *testing.T) {
	for name, tc := range map[string]struct {
		version                pool.Version
		size, overflow, max    int
		wantSize, wantOverflow int
		wantCut                bool
	}{
		"no limit":                    {pool.V2, 4, 2, 0, 4, 2, false},
		"it fits exactly":             {pool.V2, 4, 2, 6, 4, 2, false},
		"less overflow":               {pool.V2, 4, 2, 5, 4, 1, true},
		"no overflow":                 {pool.V2, 4, 2, 4, 4, 0, true},
		"less size":                   {pool.V2, 4, 2, 3, 3, 0, true},
		"only size is cut":            {pool.V2, 4, 0, 3, 3, 0, true},
		"v1 has no overflow to lose":  {pool.V1, 4, 2, 4, 4, 0, false},
		"v1 loses workers of its own": {pool.V1, 4, 2, 3, 3, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			limits, cut := capped(slotproto.Config{Version: tc.version, Size: tc.size, Overflow: tc.overflow}, tc.max)
			if limits.Size != tc.wantSize || limits.Overflow != tc.wantOverflow || cut != tc.wantCut {
				t.Errorf("size %d, overflow %d, cut %v", limits.Size, limits.Overflow, cut)
			}
		})
	}
}

func TestCancelOrRecallBeforeItsRequest(t *testing.T) {
	is := newInstances()
	leave := is.join("i", true)
	defer leave()
	is.cancel("i", 7)
	is.recall("i", 9)
	var got []string
	note := func(request string) stops {
		return stops{
			cancel: func() { got = append(got, request+" cancelled") }, recall: func() { got = append(got, request+" recalled") },
		}
	}
	for id, name := range map[uint64]string{7: "7", 8: "8", 9: "9"} {
		defer is.begin("i", id, note(name))()
	}
	slices.Sort(got)
	if want := []string{"7 cancelled", "9 recalled"}; !slices.Equal(got, want) {
		t.Errorf("%v; want %v", got, want)
	}
}

func TestEarlyCancelsAreBounded(t *testing.T) {
	is := newInstances()
	defer is.join("i", true)()
	for id := range uint64(10 * maxEarly) {
		is.cancel("i", id)
	}
	if i := is.byName["i"]; len(i.early) != maxEarly || len(i.order) != maxEarly {
		t.Errorf("%d, %d kept; want %d", len(i.early), len(i.order), maxEarly)
	}
}

func TestInstancesAreForgotten(t *testing.T) {
	is := newInstances()
	leaveControl, leaveData := is.join("i", true), is.join("i", false)
	leaveControl()
	leaveData()
	if len(is.byName) != 0 {
		t.Errorf("%d instances without a connection", len(is.byName))
	}
}

// slowStats is a pool whose figures take until proceed is closed.
type slowStats struct {
	pool.Pool
	asked, proceed chan struct{}
}

func (p *slowStats) Stats() pool.Stats {
	close(p.asked)
	<-p.proceed
	return pool.Stats{
		Version: pool.V2, Limits: pool.Limits{Concurrency: 8},
		Spawned: 3, Destroyed: 2, Crashed: 1, CPU: 1500 * time.Millisecond,
		Workers: []pool.WorkerStats{{PSS: 10, Swap: 2, FDs: 5}, {PSS: 24, FDs: 7}},
	}
}

func TestRequestsDontWaitForTheFiguresOfADrainingPool(t *testing.T) {
	p := &slowStats{asked: make(chan struct{}), proceed: make(chan struct{})}
	s := New(Options{Name: "a"})
	s.past.add("old", pool.Stats{Spawned: 8, Destroyed: 8, Crashed: 4})
	s.past.add("new", pool.Stats{Spawned: 2, Destroyed: 2, Crashed: 1})
	s.current = &engine{
		config: slotproto.Config{Revision: "new"}, pool: &slowStats{asked: make(chan struct{}), proceed: p.proceed},
	}
	s.retired[&engine{config: slotproto.Config{Revision: "draining"}, pool: p}] = struct{}{}
	status := make(chan slotproto.Status, 1)
	go func() { status <- s.Status() }()
	<-p.asked
	if s.mu.TryLock() {
		s.mu.Unlock()
	} else {
		t.Error("the slot is locked while figures are read")
	}
	close(p.proceed)
	got := <-status
	if got.Spawned != 16 || got.Destroyed != 14 || got.Crashed != 7 {
		t.Errorf("spawned %d, destroyed %d, crashed %d; want each pool counted once: 16, 14, 7", got.Spawned, got.Destroyed, got.Crashed)
	}
	if got.PoolCrashed != 1 {
		t.Errorf("%d crashed in the pool that runs, want 1: those that were replaced aren't its", got.PoolCrashed)
	}

	want := []slotproto.RevisionWorkers{
		{Revision: "draining", Live: 2, Places: 16, Spawned: 3, Destroyed: 2, Crashed: 1, CPU: 1.5, Memory: 36, FDs: 12},
		{Revision: "new", Live: 2, Places: 16, Spawned: 5, Destroyed: 4, Crashed: 2, CPU: 1.5, Memory: 36, FDs: 12},
		{Revision: "old", Spawned: 8, Destroyed: 8, Crashed: 4},
	}
	if diff := cmp.Diff(want, got.Revisions); diff != "" {
		t.Errorf("by revision (-want +got):\n%s", diff)
	}
	if got.CPU != 3 || got.Memory != 72 || got.FDs != 24 {
		t.Errorf("CPU %g s, memory %d, files %d; want 3, 72, 24", got.CPU, got.Memory, got.FDs)
	}
}

// However many revisions a slot has had, the last few are told apart, and all are counted.
func TestRevisionsThatEndedLongAgoAreCountedTogether(t *testing.T) {
	var past tally
	for i := range 10 {
		past.add(fmt.Sprint("r", i), pool.Stats{Spawned: 1})
	}
	past.add("r6", pool.Stats{Spawned: 1})
	past.add("r10", pool.Stats{Spawned: 1})
	counted := past.census()
	var got slotproto.Status
	counted.fill(&got)
	want := []slotproto.RevisionWorkers{{Revision: "r10", Spawned: 1}, {Revision: "r6", Spawned: 2}, {Revision: "r8", Spawned: 1}, {Revision: "r9", Spawned: 1}}
	if diff := cmp.Diff(want, got.Revisions); diff != "" || got.Spawned != 12 {
		t.Errorf("%d spawned, want 12; by revision (-want +got):\n%s", got.Spawned, diff)
	}
}

func TestToldCommandsAreBounded(t *testing.T) {
	many := make([]string, 300)
	for i := range many {
		many[i] = fmt.Sprint("c", i)
	}
	long := []string{strings.Repeat("a", 4<<10), strings.Repeat("b", 4<<10), "c"}
	for name, tc := range map[string]struct {
		names []string
		some  int
		more  bool
	}{
		"none": {nil, 0, false}, "a few": {many[:3], 3, false}, "as many as are told": {many[:200], 200, false},
		"one more": {many[:201], 200, true}, "many": {many, 200, true}, "long": {long, 2, true},
	} {
		t.Run(name, func(t *testing.T) {
			if some, more := told(tc.names); len(some) != tc.some || more != tc.more {
				t.Errorf("%d told, more %v; want %d, %v", len(some), more, tc.some, tc.more)
			}
		})
	}
}

func TestP76_WorkersAreBounded(t *testing.T) {
	s := New(Options{WorkerMemory: 1 << 30})
	if got := s.spec(slotproto.Config{Worker: &slotproto.Worker{}}).Memory; got != 1<<30 {
		t.Errorf("a worker may take %d bytes, want the slot's %d", got, 1<<30)
	}
}
