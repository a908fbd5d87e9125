package crew

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

func TestP95_P96_WhenAPoolHangs(t *testing.T) {
	begin := time.Unix(1000, 0)
	before, after := begin.Add(-time.Minute), begin.Add(time.Minute)
	for name, tc := range map[string]struct {
		members int
		misses  int
		busy    []time.Time
		want    bool
	}{
		"nothing missed": {2, 0, nil, false},
		"one of two":     {2, 1, nil, false},
		"both":           {2, 2, nil, true},
		"the only one":   {1, 1, nil, true},
		"one twice, the other is busy since ever": {2, 2, []time.Time{before}, false},
		"all, and successors are busy":            {2, 2, []time.Time{after, after}, true},
		"busy for long, and nothing missed":       {2, 0, []time.Time{before, before}, false},
		"the last one, when none was left":        {0, 1, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			var v vitals
			for i := range tc.misses {
				v.miss(tc.members, begin.Add(time.Duration(i)*time.Second))
			}
			if got := v.hung(tc.busy); got != tc.want {
				t.Errorf("hung %v, want %v", got, tc.want)
			}
		})
	}
}

func TestP96_SinceWhenAMemberIsBusy(t *testing.T) {
	begin := time.Unix(1000, 0)
	var b beat
	for i, step := range []struct {
		requests int64
		idle     bool
		want     time.Duration // since begin; negative: it isn't busy
	}{{0, true, -1}, {0, false, 1}, {0, false, 1}, {1, false, 3}, {1, true, -1}, {1, false, 5}} {
		b.watch(step.requests, step.idle, begin.Add(time.Duration(i)))
		if step.want < 0 != b.busySince.IsZero() || step.want >= 0 && !b.busySince.Equal(begin.Add(step.want)) {
			t.Errorf("step %d: busy since %v, want %d", i, b.busySince, step.want)
		}
	}
}

func TestP96_AMemberGoesBackToItsPlace(t *testing.T) {
	begin := time.Unix(1000, 0)
	members := make([]*Member, 4)
	var idle Idle
	for i := range members {
		members[i] = &Member{}
		idle.Push(members[i], begin.Add(time.Duration(i)))
	}
	for i := range members {
		idle.Remove(members[i])
		idle.Restore(members[i])
		if !slices.Equal(idle.members, members) || !idle.Since().Equal(begin) {
			t.Fatalf("after member %d went and came: %v since %v, want the order as it was", i, idle.members, idle.Since())
		}
	}
}

// A member is sent a ping a heartbeat after it was last heard of, a quarter later at most, and none while requests wait.
func TestP96_WhenPingsAreSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := &fakeLine{}
		var w *fakeWorker
		c, end := newCrew(t, line, func(_ int, made *fakeWorker) { w = made })
		defer end()
		c.Configure(pool.Limits{Size: 1, Heartbeat: pool.Heartbeat{Every: 8 * time.Second}})
		begin := time.Now()
		time.Sleep(35 * time.Second)
		synctest.Wait()
		sent := w.sent()
		if len(sent) != 3 && len(sent) != 4 {
			t.Fatalf("%d pings in 35 s, with one each 8 to 10 s", len(sent))
		}
		for i, at := range sent {
			if gap := at.Sub(begin); gap < 8*time.Second || gap > 10*time.Second {
				t.Errorf("ping %d came %s after the one before", i, gap)
			}
			begin = at
		}
		line.wait(1)
		time.Sleep(time.Minute)
		if n := len(w.sent()); n != len(sent) {
			t.Errorf("%d pings while a request waited", n-len(sent))
		}
		line.wait(0)
	})
}

// One that doesn't answer is replaced under a reason of its own, and its successor is asked at once.
func TestP95_HungMemberIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := &fakeLine{}
		workers := map[int]*fakeWorker{}
		c, end := newCrew(t, line, func(n int, made *fakeWorker) {
			workers[n] = made
			if n == 1 {
				made.answer = worker.ReasonHung
			}
		})
		defer end()
		c.Configure(pool.Limits{Size: 1})
		time.Sleep(13 * time.Second) // the default heartbeat, and a quarter
		synctest.Wait()
		s := stats(c)
		if s.Exits["hung"] != 1 || s.Spawned != 2 || len(workers[2].sent()) != 1 || s.Unhealthy != nil {
			t.Errorf("exits %v, spawned %d, pings to the successor %d, unhealthy %v; want one hung, 2, 1, not any more",
				s.Exits, s.Spawned, len(workers[2].sent()), s.Unhealthy)
		}
	})
}
