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

// note makes stops that note in got what is done to a request.
func note(got *[]string, request string) stops {
	return stops{
		cancel: func() { *got = append(*got, request+" cancelled") }, recall: func() { *got = append(*got, request+" recalled") },
	}
}

func TestCancelOrRecallBeforeItsRequest(t *testing.T) {
	is := newInstances()
	s := is.control(&slotproto.Hello{Instance: "i"})
	is.cancel(s, 7)
	is.recall(s, 9)
	is.cancel(s, 10)
	is.recall(s, 10) // which undoes no cancel
	var got []string
	for _, id := range []uint64{7, 8, 9, 10} {
		if _, ok := is.begin(s, id, note(&got, fmt.Sprint(id))); !ok {
			t.Errorf("request %d can't run", id)
		}
	}
	slices.Sort(got)
	if want := []string{"10 cancelled", "10 recalled", "7 cancelled", "9 recalled"}; !slices.Equal(got, want) {
		t.Errorf("%v; want %v", got, want)
	}
}

func TestEarlyCancelsAreBounded(t *testing.T) {
	is := newInstances()
	s := is.control(&slotproto.Hello{Instance: "i"})
	for id := range uint64(10 * maxEarly) {
		is.cancel(s, id)
		is.recall(s, id)
	}
	if len(s.early) != maxEarly || len(s.order) != maxEarly {
		t.Errorf("%d, %d kept; want %d", len(s.early), len(s.order), maxEarly)
	}
}

// TestP29_WhatNobodyCouldCancelIsntRun: a request is run only while the control connection of its data connection is there,
// in whatever order the connections of a router come and go.
func TestP29_WhatNobodyCouldCancelIsntRun(t *testing.T) {
	control := func(number uint64) *slotproto.Hello { return &slotproto.Hello{Instance: "i", Session: number} }
	data := control
	for name, tc := range map[string]struct {
		play func(*instances) *session // the data connection's
		runs bool
	}{
		"its control connection is there": {func(is *instances) *session {
			is.control(control(1))
			return is.data(data(1))
		}, true},
		"it has ended since": {func(is *instances) *session {
			c, d := is.control(control(1)), is.data(data(1))
			is.leave("i", c, true)
			return d
		}, false},
		"it had ended before": {func(is *instances) *session {
			is.leave("i", is.control(control(1)), true)
			return is.data(data(1))
		}, false},
		"it had ended before, and isn't counted": {func(is *instances) *session {
			is.leave("i", is.control(control(0)), true)
			return is.data(data(0))
		}, false},
		"it was never seen": {func(is *instances) *session { return is.data(data(1)) }, false},
		"there is another one since": {func(is *instances) *session {
			is.control(control(1)) // its end isn't noticed yet
			d := is.data(data(1))
			is.control(control(2))
			return d
		}, false},
		"there was another one before": {func(is *instances) *session {
			is.control(control(1))
			is.control(control(2))
			return is.data(data(1))
		}, false},
		"the one before ends late": {func(is *instances) *session {
			first := is.control(control(1))
			is.control(control(2))
			d := is.data(data(2))
			is.leave("i", first, true)
			return d
		}, true},
		"another router's ends": {func(is *instances) *session {
			other := is.control(&slotproto.Hello{Instance: "other", Session: 1})
			is.control(control(1))
			d := is.data(data(1))
			is.leave("other", other, true)
			return d
		}, true},
		"one of a session before came first": {func(is *instances) *session {
			is.data(data(1)) // at a slot that has just started
			is.control(control(2))
			return is.data(data(2))
		}, true},
		"there is none": {func(is *instances) *session { return is.data(data(0)) }, true},
		"it comes later": {func(is *instances) *session {
			d := is.data(data(0))
			is.control(control(0))
			return d
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			is, got := newInstances(), []string(nil)
			s := tc.play(is)
			if _, ok := is.begin(s, 3, note(&got, "it")); ok != tc.runs {
				t.Errorf("it runs: %v; want %v", ok, tc.runs)
			}
			if is.cancel(s, 3); tc.runs != slices.Equal(got, []string{"it cancelled"}) {
				t.Errorf("a cancel did: %v", got)
			}
		})
	}
}

func TestInstancesAreForgotten(t *testing.T) {
	is := newInstances()
	for i := range 10 * maxEnded {
		name := fmt.Sprint(i)
		c, d := is.control(&slotproto.Hello{Instance: name, Session: 1}), is.data(&slotproto.Hello{Instance: name, Session: 1})
		is.leave(name, c, true)
		is.leave(name, d, false)
		name += " without control"
		is.leave(name, is.data(&slotproto.Hello{Instance: name}), false)
	}
	if len(is.byName) != maxEnded || len(is.ended) != maxEnded {
		t.Errorf("%d, %d instances without a connection; want %d", len(is.byName), len(is.ended), maxEnded)
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
		revision: "new", config: slotproto.Config{Revision: "new"}, pool: &slowStats{asked: make(chan struct{}), proceed: p.proceed},
	}
	s.retired[&engine{revision: "draining", config: slotproto.Config{Revision: "draining"}, pool: p}] = struct{}{}
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
