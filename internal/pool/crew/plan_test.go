package crew

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var t0 = time.Unix(1_700_000_000, 0)

func ago(d time.Duration) time.Time { return t0.Add(-d) }
func in(d time.Duration) time.Time  { return t0.Add(d) }

func TestDecide(t *testing.T) {
	for name, tc := range map[string]struct {
		facts facts
		want  plan
	}{
		"complete and idle":        {facts{size: 4, live: 4, idleSince: ago(time.Hour)}, plan{}},
		"P2_all start at once":     {facts{size: 8}, plan{start: 8}},
		"those that start count":   {facts{size: 8, live: 3, starting: 3}, plan{start: 5}},
		"P92_starts are bounded":   {facts{size: 100, live: 10, starting: 10}, plan{start: maxStarting - 10}},
		"the ending hold places":   {facts{size: 4, live: 4, ending: 1}, plan{}},
		"P92_too many are retired": {facts{size: 2, overflow: 1, live: 5, idleSince: t0}, plan{surplus: 2, wake: in(overflowIdle)}},
		"the ending aren't too many": {
			facts{size: 2, live: 4, ending: 2}, plan{},
		},
		"a request that just came": {
			facts{size: 1, overflow: 2, live: 1, waiting: 1, oldestWait: ago(10 * time.Millisecond)},
			plan{wake: in(overflowAfter - 10*time.Millisecond)},
		},
		"requests that have waited": {
			facts{size: 1, overflow: 2, live: 1, waiting: 9, oldestWait: ago(overflowAfter)}, plan{start: 2},
		},
		"one waits, one more is started": {
			facts{size: 1, overflow: 2, live: 1, waiting: 1, oldestWait: ago(time.Second)}, plan{start: 1},
		},
		"whoever starts will take it": {
			facts{size: 1, overflow: 2, live: 2, starting: 1, waiting: 1, oldestWait: ago(time.Second)},
			plan{wake: in(overflowIdle)},
		},
		"no overflow configured": {facts{size: 1, live: 1, waiting: 9, oldestWait: ago(time.Hour)}, plan{}},
		"no overflow for one that is missing anyway": {
			facts{size: 2, overflow: 2, live: 1, waiting: 1, oldestWait: ago(time.Second)}, plan{start: 1},
		},
		"P80_overflow while starts fail": {
			facts{size: 1, overflow: 2, live: 1, waiting: 9, oldestWait: ago(time.Second), failing: true}, plan{start: 1},
		},
		"P80_no overflow before its time": {
			facts{size: 1, overflow: 2, live: 1, waiting: 9, oldestWait: ago(time.Second), failing: true, notBefore: in(time.Second)},
			plan{wake: in(time.Second)},
		},
		"overflow that had its rest is retired": {
			facts{size: 1, overflow: 2, live: 3, idleSince: ago(overflowIdle)}, plan{longIdle: 2, wake: in(overflowIdle)},
		},
		"overflow that is idle for a while": {
			facts{size: 1, overflow: 2, live: 3, idleSince: ago(time.Second)}, plan{wake: in(overflowIdle - time.Second)},
		},
		"busy overflow is looked at again": {facts{size: 1, overflow: 2, live: 3}, plan{wake: in(overflowIdle)}},
		"P1_a lazy crew needs none":        {facts{size: 4, overflow: 2, lazy: true}, plan{}},
		"P3_a lazy crew starts for who waits": {
			facts{size: 4, lazy: true, live: 1, waiting: 2, oldestWait: t0}, plan{start: 2},
		},
		"P3_whoever starts already counts": {
			facts{size: 4, lazy: true, live: 2, starting: 2, waiting: 3, oldestWait: t0}, plan{start: 1},
		},
		"P3_whoever is idle too": {facts{size: 4, lazy: true, live: 1, idle: 1, waiting: 1, oldestWait: t0, idleSince: t0}, plan{}},
		"P3_a lazy crew's size":  {facts{size: 4, lazy: true, live: 3, waiting: 9, oldestWait: t0}, plan{start: 1}},
		"P8_a lazy crew goes on trying": {
			facts{size: 4, lazy: true, failing: true, notBefore: ago(0)}, plan{start: 1},
		},
		"P87_one of all may be missing":        {facts{size: 4, live: 4, worn: 3}, plan{recycle: 1}},
		"P87_one is missing already":           {facts{size: 4, live: 4, starting: 1, worn: 3}, plan{}},
		"P87_one is on its way out":            {facts{size: 4, live: 4, ending: 1, worn: 3}, plan{}},
		"P87_a substitute first":               {facts{size: 4, overflow: 2, live: 4, worn: 3}, plan{start: 1}},
		"P87_no second one beside it":          {facts{size: 4, overflow: 2, live: 5, starting: 1, worn: 3}, plan{}},
		"P87_it is there":                      {facts{size: 4, overflow: 1, live: 5, worn: 3, idleSince: ago(time.Hour)}, plan{recycle: 1}},
		"P87_no room for one":                  {facts{size: 4, overflow: 1, live: 5, ending: 1, worn: 3}, plan{}},
		"P87_nobody goes while starts fail":    {facts{size: 4, live: 4, worn: 3, failing: true}, plan{}},
		"P87_nobody goes who has no successor": {facts{size: 4, live: 4, worn: 3, frozen: true}, plan{}},
		"P86_the next one is waited for":       {facts{size: 4, live: 4, nextWorn: in(time.Hour)}, plan{wake: in(time.Hour)}},
		"P87_a lazy crew lets one go":          {facts{size: 4, overflow: 2, lazy: true, live: 2, worn: 2}, plan{recycle: 1}},
		"P87_a lazy crew lets go by turns":     {facts{size: 4, lazy: true, live: 2, ending: 1, worn: 1}, plan{}},
		"P8_no start before its time": {
			facts{size: 4, failing: true, notBefore: in(time.Second)}, plan{wake: in(time.Second)},
		},
		"P8_one try at a time":          {facts{size: 4, failing: true, notBefore: ago(0)}, plan{start: 1}},
		"P8_no second try beside a try": {facts{size: 4, live: 1, starting: 1, failing: true}, plan{}},
		"P2_fewer at a time":            {facts{size: 8, pace: 4}, plan{start: 4}},
		"P2_those that start count":     {facts{size: 8, live: 3, starting: 3, pace: 4}, plan{start: 1}},
		"P2_the ready don't":            {facts{size: 8, live: 4, pace: 4}, plan{start: 4}},
		"P2_one after a failure":        {facts{size: 8, pace: 4, failing: true}, plan{start: 1}},
		"P3_a lazy crew, too": {
			facts{size: 8, lazy: true, waiting: 8, oldestWait: t0, pace: 2}, plan{start: 2},
		},
		"P14_overflow, too": {
			facts{size: 1, overflow: 8, live: 1, waiting: 8, oldestWait: ago(time.Second), pace: 2}, plan{start: 2},
		},
		"P80_a substitute before its time": {
			facts{size: 4, overflow: 2, live: 4, worn: 3, failing: true, notBefore: in(time.Second)}, plan{wake: in(time.Second)},
		},
		"P80_failures are forgotten later": {facts{size: 4, live: 4, failing: true, settles: in(time.Minute)}, plan{wake: in(time.Minute)}},
	} {
		t.Run(name, func(t *testing.T) {
			got := decide(tc.facts, t0)
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(plan{})); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestIdle(t *testing.T) {
	var idle Idle
	a, b, c := &Member{}, &Member{}, &Member{}
	for i, m := range []*Member{a, b, c} {
		idle.Push(m, in(time.Duration(i)*time.Second))
	}
	if got := idle.RemoveIdleSince(ago(time.Second)); got != nil {
		t.Error("removed a member that wasn't idle for so long")
	}
	if got := idle.Since(); !got.Equal(t0) {
		t.Errorf("idle since %s, want %s", got, t0)
	}
	if !idle.Remove(b) || idle.Remove(b) {
		t.Error("Remove doesn't tell whether the member was in")
	}
	if idle.PopNewest() != c || idle.PopOldest() != a || idle.PopOldest() != nil || idle.PopNewest() != nil {
		t.Error("order lost")
	}
	if !idle.Since().IsZero() || idle.RemoveIdleSince(in(time.Hour)) != nil {
		t.Error("not empty")
	}
}
