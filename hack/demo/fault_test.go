package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/test/e2e/harness"
)

// A pod's clock may be wrong by any amount: the times come out the same.
func TestFaultTimes(t *testing.T) {
	received := time.Now()
	for name, skew := range map[string]time.Duration{"right": 0, "behind": -time.Hour, "ahead": time.Minute} {
		pod := received.Add(skew)
		at := func(ago time.Duration) time.Time { return pod.Add(-ago) }
		var f fault
		f.add(harness.Figures{Now: pod, Versions: map[string]harness.VersionFigures{
			"v2":   {Requests: 40, Errors: 12, FirstError: at(9 * time.Second), LastReply: at(4 * time.Second)},
			"v1":   {Requests: 900, LastReply: at(0)},
			"none": {Requests: 2, Errors: 1},
		}}, received, received.Add(-2*time.Second))
		f.add(harness.Figures{Now: pod, Versions: map[string]harness.VersionFigures{
			"v2": {Requests: 10, Errors: 1, FirstError: at(8 * time.Second), LastReply: at(2 * time.Second)},
		}}, received, received.Add(-2*time.Second))
		want := fault{inPod: 6 * time.Second, inFleet: 7 * time.Second, v2: 50, v2Failed: 13, v1: 902, v1Failed: 1}
		if f != want {
			t.Errorf("clock %s: got %+v, want %+v", name, f, want)
		}
	}
}

func TestNewlyRolledBack(t *testing.T) {
	state := func(revision string, status metav1.ConditionStatus, observed int64) *v1alpha1.WorkerPool {
		p := &v1alpha1.WorkerPool{ObjectMeta: metav1.ObjectMeta{Generation: 7}}
		if revision != "" {
			p.Status.LastRollback = &v1alpha1.RollbackStatus{Revision: revision}
		}
		p.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionRolledBack, Status: status, ObservedGeneration: observed}}
		return p
	}
	none, first := state("", metav1.ConditionFalse, 6), state("r1", metav1.ConditionTrue, 6)
	for name, tc := range map[string]struct {
		before, now *v1alpha1.WorkerPool
		want        bool
	}{
		"not yet":                {none, state("", metav1.ConditionFalse, 7), false},
		"the first":              {none, state("r1", metav1.ConditionTrue, 7), true},
		"of an older spec":       {none, state("r1", metav1.ConditionTrue, 6), false},
		"still the one before":   {first, state("r1", metav1.ConditionTrue, 7), false},
		"the second":             {first, state("r2", metav1.ConditionTrue, 7), true},
		"kept, no longer so now": {none, state("r1", metav1.ConditionFalse, 7), false},
	} {
		if got := newlyRolledBack(tc.before, tc.now); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func TestRecordKeeps(t *testing.T) {
	const session = `{"id":"demo-1","startedAt":"2026-11-26T10:00:00Z","operations":2,"version":1,"data":{"n":1}}`
	for answer, want := range map[string]bool{
		session: true,
		strings.Replace(session, `"operations":2`, `"operations":9`, 1): true,
		strings.Replace(session, `"operations":2`, `"operations":1`, 1): false,
		strings.Replace(session, `10:00:00Z`, `10:00:01Z`, 1):           false,
		strings.Replace(session, `"n":1`, `"n":2`, 1):                   false,
		strings.Replace(session, `"version":1`, `"version":2`, 1):       false,
		`{}`: false,
	} {
		var before, now record
		if err := json.Unmarshal([]byte(session), &before); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(answer), &now); err != nil {
			t.Fatal(err)
		}
		if got := before.keeps(now); got != want {
			t.Errorf("%s: %v, want %v", answer, got, want)
		}
	}
}

// described is what kubectl prints.
const described = `Name:         demo
Status:
  Canary:
    Slot:  b
  Conditions:
    Last Transition Time:  2026-11-26T10:00:00Z
    Message:               v2 (7c9f) was rolled back; v1 serves
    Observed Generation:   6
    Reason:                RolledBack
    Status:                False
    Type:                  Ready
    Last Transition Time:  2026-11-26T10:00:00Z
    Message:               at 25 %: v2 failed 61 of 412 requests (14.8 %), v1 3 of 1240 (0.2 %), same pods, 48 s; allowed increase 1 %. To try v2 again after a fix: kubectl annotate
    Observed Generation:   6
    Reason:                ErrorRateExceeded
    Status:                True
    Type:                  RolledBack
  Handled:
  Weight:
    Type:  Promoted
Events:  <none>
`

func TestConditionIn(t *testing.T) {
	got := conditionIn(described, "RolledBack")
	if len(got) != 4 || !strings.HasSuffix(got[0], "  RolledBack") || !strings.Contains(got[1], "61 of 412") ||
		!strings.HasSuffix(got[2], "ErrorRateExceeded") || !strings.HasSuffix(got[3], "True") {
		t.Errorf("got %q", got)
	}
	for _, missing := range []string{"Promoted", "Paused"} {
		if got := conditionIn(described, missing); got != nil {
			t.Errorf("%s: got %q, want nothing", missing, got)
		}
	}
}

func TestWrap(t *testing.T) {
	for line, want := range map[string][]string{
		"short":                  {"short"},
		"Message:  aaa bbb ccc":  {"Message:  aaa", "          bbb", "          ccc"},
		"Message:  aaaaaaaaaaaa": {"Message:  aaaaaaaaaaaa"},
		"Grün:     äöü äöü":      {"Grün:     äöü", "          äöü"},
	} {
		if got := wrap(line, 14, 10); !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
}
