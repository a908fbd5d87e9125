package rollout_test

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/rollout"
)

// unrecorded is a rollback of second30's canary, some time ago.
func unrecorded(in *rollout.Input, ago time.Duration) rollout.Unrecorded {
	return rollout.Unrecorded{RollbackStatus: v1alpha1.RollbackStatus{
		Revision: in.Canary.Revision, From: in.Canary.Version, To: in.Stable.Version, ToRevision: in.Stable.Revision,
		Weight: "25", Reason: "ErrorRateExceeded", Evidence: []string{"all failed"}, Time: metav1.NewTime(in.Now.Add(-ago)),
	}, Back: in.Stable.DeepCopy()}
}

// TestO37_ARollbackThatOnlyRoutersKnow is taken over by a leader whose status still gives the canary a weight, before that
// leader does anything else: also when it is held, or its spec has gone on, or its promotion was written and never told.
func TestO37_ARollbackThatOnlyRoutersKnow(t *testing.T) {
	for name, tc := range map[string]struct {
		change      func(*rollout.Input)
		state       rollout.State
		blocks      bool
		stable, was string // slots of the stable and the canary
	}{
		"a new leader":           {func(in *rollout.Input) { in.Told = nil }, rollout.RolledBack, true, "a", "b"},
		"the same":               {func(in *rollout.Input) { in.Told.Weight = 0 }, rollout.RolledBack, true, "a", "b"},
		"paused":                 {func(in *rollout.Input) { in.Told, in.Spec.Paused = nil, true }, rollout.RolledBack, true, "a", "b"},
		"with a promote token":   {func(in *rollout.Input) { in.Told, in.Tokens.Promote = nil, "now" }, rollout.RolledBack, true, "a", "b"},
		"superseded since":       {func(in *rollout.Input) { in.Told, in.Spec.Worker.Module = nil, "other" }, rollout.CanaryDropping, false, "a", "b"},
		"taken back by the spec": {func(in *rollout.Input) { in.Told, in.Spec.PoolVersion = nil, "v1" }, rollout.CanaryDropping, false, "a", "b"},
		"promoted, in the status alone": {func(in *rollout.Input) {
			in.Told, in.Stable, in.Canary, in.Rollout, in.Applied = nil, in.Canary, nil, nil, rollout.Full
		}, rollout.RolledBack, true, "a", "b"},
		"and dropped": {func(in *rollout.Input) { in.Told, in.Canary, in.Rollout = nil, nil, nil }, rollout.RolledBack, true, "a", ""},
	} {
		t.Run(name, func(t *testing.T) {
			in := second30()
			u := unrecorded(&in, time.Second)
			in.Unrecorded = &u
			tc.change(&in)
			d := rollout.Decide(in)
			if d.State != tc.state || d.Weight != 0 || (d.Blocked == u.Revision) != tc.blocks || d.Action != rollout.Rollback ||
				d.Rollback == nil || !d.Rollback.Time.Equal(&u.Time) {
				t.Errorf("%s by %q, weight %s, blocked %q, record %+v", d.State, d.Action, d.Weight, d.Blocked, d.Rollback)
			}
			was := ""
			if c := d.Assignment.Canary; c != nil {
				was = c.Slot
			}
			if d.Assignment.Stable.Slot != tc.stable || d.Assignment.Stable.Revision != u.ToRevision || was != tc.was {
				t.Errorf("stable %+v, canary in slot %q", d.Assignment.Stable, was)
			}
		})
	}
}

// TestO38_WhatIsOverIsNotTakenOver: what the status has, what a retry token has ended, and what no clock can have said.
func TestO38_WhatIsOverIsNotTakenOver(t *testing.T) {
	in := second30()
	u := unrecorded(&in, 10*time.Second)
	earlier, later := u, u
	earlier.Time, later.Time = metav1.NewTime(u.Time.Add(-time.Hour)), metav1.NewTime(u.Time.Add(5*time.Second))
	future := u
	future.Time = metav1.NewTime(in.Now.Add(time.Hour))
	for name, tc := range map[string]struct {
		known   []rollout.Unrecorded
		last    *v1alpha1.RollbackStatus
		handled string
		want    *metav1.Time
	}{
		"nothing is known":          {nil, nil, "", nil},
		"none is recorded":          {[]rollout.Unrecorded{u}, nil, "", &u.Time},
		"an earlier one is":         {[]rollout.Unrecorded{u}, &earlier.RollbackStatus, "", &u.Time},
		"it is":                     {[]rollout.Unrecorded{u}, u.DeepCopy(), "", nil},
		"a later one is":            {[]rollout.Unrecorded{u}, &later.RollbackStatus, "", nil},
		"it was retried since":      {[]rollout.Unrecorded{u}, nil, "again", nil},
		"two pods know two of them": {[]rollout.Unrecorded{later, u}, nil, "", &later.Time},
		"a router is out of time":   {[]rollout.Unrecorded{future}, nil, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := rollout.Newest(tc.known, tc.last, tc.handled, in.Now)
			if (got == nil) != (tc.want == nil) || got != nil && !got.Time.Equal(tc.want) {
				t.Errorf("%+v, want the one at %v", got, tc.want)
			}
		})
	}
}

// TestO15_NothingIsRaisedOnOldNews: what a pod said of its slots before it had in force what it was told last says nothing of
// whether it has the workers for more, or for the end.
func TestO15_NothingIsRaisedOnOldNews(t *testing.T) {
	for name, change := range map[string]func(*rollout.Input){
		"a raise":     func(in *rollout.Input) { in.Told.Weight, in.Spec.Canary = 0, nil },
		"a promotion": func(in *rollout.Input) { in.Told.Weight, in.Spec.Canary = rollout.Full, nil },
	} {
		t.Run(name, func(t *testing.T) {
			in := second30()
			in.Findings = nil
			change(&in)
			before := rollout.Decide(in)
			in.Pods[0].Unreported = true
			held := rollout.Decide(in)
			if before.Action == rollout.None || held.Action != rollout.None || held.State != rollout.CanaryProgressing || len(held.Blockers) != 1 {
				t.Errorf("%q with all reports; without one %q, %s, waits for %v", before.Action, held.Action, held.State, held.Blockers)
			}
		})
	}
}
