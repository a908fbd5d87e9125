package status_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/rollout"
	"github.com/dspex/workerpool-operator/internal/status"
)

var (
	t0 = time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	v1 = v1alpha1.SlotRevision{Version: "v1", Revision: "1111", Slot: "a"}
	v2 = v1alpha1.SlotRevision{Version: "v2", Revision: "2222", Slot: "b"}
)

func pool() *v1alpha1.WorkerPool {
	p := &v1alpha1.WorkerPool{Spec: v1alpha1.WorkerPoolSpec{PoolVersion: "v2", Size: 4}}
	p.Name, p.Namespace, p.Generation = "main", "shop", 3
	return p
}

// pod is live, and its slots run what is placed in them with 4 workers.
func pod(name string, placed ...v1alpha1.SlotRevision) status.Pod {
	p := status.Pod{
		Pod:      rollout.Pod{Name: name, Connected: true, Acknowledged: true, Slots: map[string]rollout.Slot{}},
		Workload: status.Workload{Kind: "deployment", Name: "web", Rolling: true},
		Injected: true, Live: true, Busy: 1, Workers: map[string]status.Workers{},
	}
	for _, r := range placed {
		p.Slots[r.Slot] = rollout.Slot{Revision: r.Revision, Serving: 4, Up: true}
		p.Workers[r.Slot] = status.Workers{Desired: 4}
	}
	return p
}

// edit changes a pod.
func edit(p status.Pod, change func(*status.Pod)) status.Pod {
	change(&p)
	return p
}

func promoted() rollout.Decision {
	return rollout.Decision{Assignment: rollout.Assignment{Stable: v1}, State: rollout.Promoted, Desired: rollout.Full, Applied: rollout.Full}
}

func canary(state rollout.State, applied, desired rollout.Weight) rollout.Decision {
	return rollout.Decision{Assignment: rollout.Assignment{Stable: v1, Canary: &v2}, State: state, Desired: desired, Applied: applied, Weight: applied}
}

// conditions as a user sees them in one line each, but for the messages.
func conditions(s v1alpha1.WorkerPoolStatus) map[string]string {
	out := map[string]string{}
	for _, c := range s.Conditions {
		out[c.Type] = fmt.Sprintf("%s %s", c.Status, c.Reason)
	}
	return out
}

// of are some of a status' conditions.
func of(s v1alpha1.WorkerPoolStatus, names ...string) map[string]string {
	all := conditions(s)
	maps.DeleteFunc(all, func(name, _ string) bool { return !slices.Contains(names, name) })
	return all
}

func TestConditions(t *testing.T) {
	both := []status.Pod{pod("one", v1, v2), pod("two", v1, v2)}
	without := func(p status.Pod) status.Pod {
		return edit(p, func(p *status.Pod) { p.Injected, p.Live, p.Connected = false, false, false })
	}
	for name, tc := range map[string]struct {
		decision rollout.Decision
		pods     []status.Pod
		problem  string
		want     map[string]string
		says     []string // of Ready
	}{
		"promoted": {
			decision: promoted(), pods: []status.Pod{pod("one", v1)},
			want: map[string]string{
				"Ready": "True Promoted", "Available": "True StableServing", "Injected": "True AllInjected",
				"ConfigSynced": "True AllAcknowledged", "Promoted": "True Promoted",
			},
		},
		"promoted, and lazy: no worker has started": {
			decision: promoted(), pods: []status.Pod{edit(pod("one", v1), func(p *status.Pod) {
				p.Slots[v1.Slot] = rollout.Slot{Revision: v1.Revision, Up: true}
			})},
			want: map[string]string{
				"Ready": "True Promoted", "Available": "True StableServing", "Injected": "True AllInjected",
				"ConfigSynced": "True AllAcknowledged", "Promoted": "True Promoted",
			},
		},
		"no pods": {
			decision: promoted(),
			want: map[string]string{
				"Ready": "True NoPods", "Available": "False NoPods", "Injected": "Unknown NoPods",
				"ConfigSynced": "Unknown NoPods", "Promoted": "True Promoted",
			},
			says: []string{"pool.dspex.dev/pool: main"},
		},
		"pods on their way": {
			decision: promoted(), pods: []status.Pod{edit(pod("one"), func(p *status.Pod) { p.Live, p.Connected = false, false })},
			want: map[string]string{
				"Ready": "False PodsStarting", "Available": "False PodsStarting", "Injected": "True AllInjected",
				"ConfigSynced": "Unknown PodsStarting", "Promoted": "True Promoted", "Reconciling": "True PodsStarting",
			},
			says: []string{"none of 1 pods is running yet (one)"},
		},
		"TestO78 pinned": {
			decision: canary(rollout.CanaryPinned, 1000, 1000), pods: both,
			want: map[string]string{
				"Ready": "True CanaryPinned", "Available": "True StableServing", "Injected": "True AllInjected",
				"ConfigSynced": "True AllAcknowledged", "Promoted": "False StableIsOther",
			},
			says: []string{"v2 (2222) has its 10 %"},
		},
		"progressing": {
			decision: canary(rollout.CanaryProgressing, 500, 2500),
			pods:     []status.Pod{both[0], edit(both[1], func(p *status.Pod) { p.Acknowledged = false })},
			want: map[string]string{
				"Ready": "False CanaryProgressing", "Available": "True StableServing", "Injected": "True AllInjected",
				"ConfigSynced": "False Unacknowledged", "Promoted": "False StableIsOther", "Reconciling": "True CanaryProgressing",
			},
			says: []string{"at 5 % on its way to 25 %"},
		},
		"workers start": {
			decision: canary(rollout.WaitingForWorkers, 0, 1000), pods: []status.Pod{both[0], pod("two", v1)},
			want: map[string]string{
				"Ready": "False WaitingForWorkers", "Available": "True StableServing", "Injected": "True AllInjected",
				"ConfigSynced": "True AllAcknowledged", "Promoted": "False StableIsOther", "Reconciling": "True WaitingForWorkers",
			},
			says: []string{"v2 (2222)", "1 of 2 pods (two)"},
		},
		"workers start, for long": {
			decision: canary(rollout.WaitingForWorkers, 0, 1000),
			pods: []status.Pod{both[0], edit(pod("two", v1), func(p *status.Pod) {
				p.Slots["b"] = rollout.Slot{Revision: "2222"}
				p.Workers["b"] = status.Workers{Desired: 4, Startup: status.Startup{
					Since: t0, Limit: 5 * time.Minute, Pace: "8 starts at once took longer than 5s: starting 4 at a time",
				}}
			})},
			want: map[string]string{
				"Ready": "False WaitingForWorkers", "Available": "True StableServing", "Injected": "True AllInjected",
				"ConfigSynced": "True AllAcknowledged", "Promoted": "False StableIsOther", "Reconciling": "True WaitingForWorkers",
			},
			says: []string{
				"1 of 2 pods (two); starting in two since 2026-11-24T09:00:00Z, for 5m0s at most (spec.timeouts.start)",
				"; two: 8 starts at once took longer than 5s: starting 4 at a time",
			},
		},
		"TestP80 some workers don't start": {
			decision: promoted(),
			pods: []status.Pod{edit(pod("one"), func(p *status.Pod) {
				p.Slots["a"] = rollout.Slot{Revision: "1111", Serving: 1, BootFailing: true}
				p.Workers["a"] = status.Workers{Desired: 4, Serving: 1, BootMessage: "importing m failed: address in use", BootTraceback: "File m.py"}
			})},
			want: map[string]string{
				"Ready": "False WorkerBootFailed", "Available": "True StableServing", "Injected": "True AllInjected",
				"ConfigSynced": "True AllAcknowledged", "Promoted": "True Promoted", "Stalled": "True WorkerBootFailed",
			},
			says: []string{"1 of 1 pods (one; 1 of 4 serve there): importing m failed: address in use\nFile m.py"},
		},
		"TestO34 workers don't start: the stable serves": {
			decision: canary(rollout.WorkerBootFailed, 0, 1000),
			pods: []status.Pod{both[0], edit(pod("two", v1), func(p *status.Pod) {
				p.Slots["b"] = rollout.Slot{Revision: "2222", BootFailing: true}
				p.Workers["b"] = status.Workers{Desired: 4, BootMessage: "module shop doesn't import", BootTraceback: "File shop.py\nKeyError: 'x'"}
			})},
			want: map[string]string{
				"Ready": "False WorkerBootFailed", "Available": "True StableServing", "Injected": "True AllInjected",
				"ConfigSynced": "True AllAcknowledged", "Promoted": "False StableIsOther", "Stalled": "True WorkerBootFailed",
			},
			says: []string{"1 of 2 pods (two)", "module shop doesn't import", "v1 (1111) serves on", "\nFile shop.py\nKeyError: 'x'"},
		},
		"the stable's workers don't start": {
			decision: promoted(),
			pods: []status.Pod{edit(pod("one"), func(p *status.Pod) {
				p.Slots["a"] = rollout.Slot{Revision: "1111", BootFailing: true}
				p.Workers["a"] = status.Workers{Desired: 4, BootMessage: "no module named shop"}
			})},
			want: map[string]string{
				"Ready": "False WorkerBootFailed", "Available": "False WorkersNotReady", "Injected": "True AllInjected",
				"ConfigSynced": "True AllAcknowledged", "Promoted": "True Promoted", "Stalled": "True WorkerBootFailed",
			},
		},
		"TestO50 a pod without sidecars": {
			decision: promoted(), pods: []status.Pod{pod("one", v1), without(pod("two"))},
			want: map[string]string{
				"Ready": "False PodsNotInjected", "Available": "True StableServing", "Injected": "False PodsNotInjected",
				"ConfigSynced": "True AllAcknowledged", "Promoted": "True Promoted", "Stalled": "True PodsNotInjected",
			},
			says: []string{"1 of 2 pods", "(two)", "kubectl rollout restart -n shop deployment/web"},
		},
		"TestO74 capped": {
			decision: promoted(), pods: []status.Pod{edit(pod("one", v1), func(p *status.Pod) {
				p.Workers["a"] = status.Workers{Desired: 3, Max: 3, Capped: true}
			})},
			want: map[string]string{
				"Ready": "False ResourcesInsufficient", "Available": "True StableServing", "Injected": "True AllInjected",
				"ConfigSynced": "False ResourcesInsufficient", "Promoted": "True Promoted", "Stalled": "True ResourcesInsufficient",
			},
			says: []string{"room for 3 workers per slot, not 4", "lower spec.size, or run: kubectl rollout restart -n shop deployment/web"},
		},
		"an older image": {
			decision: promoted(), pods: []status.Pod{edit(pod("one", v1), func(p *status.Pod) {
				p.Images = map[string][]string{"a": {"shop/worker:2"}}
			})},
			want: map[string]string{
				"Ready": "False PodsOutdated", "Available": "True StableServing", "Injected": "True AllInjected",
				"ConfigSynced": "False PodsOutdated", "Promoted": "True Promoted", "Stalled": "True PodsOutdated",
			},
			says: []string{"1 of 1 pods", "kubectl rollout restart -n shop deployment/web"},
		},
		"volumes without which the workers don't start": {
			decision: promoted(), pods: []status.Pod{edit(pod("one"), func(p *status.Pod) {
				p.OtherMounts = true
				p.Slots["a"] = rollout.Slot{Revision: "1111", BootFailing: true}
			})},
			want: map[string]string{
				"Ready": "False PodsOutdated", "Available": "False WorkersNotReady", "Injected": "True AllInjected",
				"ConfigSynced": "False PodsOutdated", "Promoted": "True Promoted", "Stalled": "True PodsOutdated",
			},
			says: []string{"other worker.volumeMounts"},
		},
		"no pod ever runs: its image doesn't exist, and was corrected": {
			decision: promoted(), pods: []status.Pod{edit(pod("one"), func(p *status.Pod) {
				p.Live, p.Connected, p.Acknowledged = false, false, false
				p.Images = map[string][]string{"a": {"shop/worker:tpyo"}}
			})},
			want: map[string]string{
				"Ready": "False PodsOutdated", "Available": "False PodsStarting", "Injected": "True AllInjected",
				"ConfigSynced": "False PodsOutdated", "Promoted": "True Promoted", "Stalled": "True PodsOutdated",
			},
			says: []string{"1 of 1 pods", "kubectl rollout restart -n shop deployment/web"},
		},
		"an older image in which the workers don't start": {
			decision: promoted(), pods: []status.Pod{edit(pod("one"), func(p *status.Pod) {
				p.Images = map[string][]string{"a": {"shop/worker:2"}}
				p.Slots["a"] = rollout.Slot{Revision: "1111", BootFailing: true}
			})},
			want: map[string]string{
				"Ready": "False PodsOutdated", "Available": "False WorkersNotReady", "Injected": "True AllInjected",
				"ConfigSynced": "False PodsOutdated", "Promoted": "True Promoted", "Stalled": "True PodsOutdated",
			},
			says: []string{"kubectl rollout restart -n shop deployment/web"},
		},
		"the only worker is being replaced": {
			decision: promoted(), pods: []status.Pod{edit(pod("one"), func(p *status.Pod) {
				p.Slots["a"] = rollout.Slot{Revision: "1111", Serving: 0, Up: true}
			})},
			want: map[string]string{
				"Ready": "True Promoted", "Available": "True StableServing", "Injected": "True AllInjected",
				"ConfigSynced": "True AllAcknowledged", "Promoted": "True Promoted",
			},
		},
		"TestO45 refused": {
			decision: promoted(), pods: []status.Pod{edit(pod("one", v1), func(p *status.Pod) {
				p.Acknowledged, p.Refusal = false, "slot a is away"
			})},
			want: map[string]string{
				"Ready": "False ConfigurationRefused", "Available": "True StableServing", "Injected": "True AllInjected",
				"ConfigSynced": "False ConfigurationRefused", "Promoted": "True Promoted", "Reconciling": "True ConfigurationRefused",
			},
			says: []string{"one", "slot a is away"},
		},
		"away": {
			decision: promoted(), pods: []status.Pod{pod("one", v1), edit(pod("two", v1), func(p *status.Pod) {
				p.Connected, p.Acknowledged = false, false
			})},
			want: map[string]string{
				"Ready": "False PodsUnreachable", "Available": "True StableServing", "Injected": "True AllInjected",
				"ConfigSynced": "False PodsUnreachable", "Promoted": "True Promoted", "Reconciling": "True PodsUnreachable",
			},
			says: []string{"two", "kubectl logs -n shop two -c pool-router"},
		},
		"TestO32 all away, and unknown": {
			decision: promoted(), pods: []status.Pod{edit(pod("one"), func(p *status.Pod) { p.Connected, p.Acknowledged = false, false })},
			want: map[string]string{
				"Ready": "False PodsUnreachable", "Available": "Unknown PodsUnreachable", "Injected": "True AllInjected",
				"ConfigSynced": "False PodsUnreachable", "Promoted": "True Promoted", "Reconciling": "True PodsUnreachable",
			},
		},
		"just started": {
			decision: promoted(), pods: []status.Pod{edit(pod("one"), func(p *status.Pod) { p.Connected, p.Acknowledged, p.Joining = false, false, true })},
			want: map[string]string{
				"Ready": "False Unacknowledged", "Available": "False WorkersNotReady", "Injected": "True AllInjected",
				"ConfigSynced": "False Unacknowledged", "Promoted": "True Promoted", "Reconciling": "True Unacknowledged",
			},
		},
		"nothing can be decided": {
			decision: promoted(), problem: "ControllerRevision main-1 isn't a revision",
			want: map[string]string{
				"Ready": "False Blocked", "Available": "Unknown Blocked", "Injected": "Unknown Blocked",
				"ConfigSynced": "Unknown Blocked", "Promoted": "Unknown Blocked", "Stalled": "True Blocked",
			},
			says: []string{"ControllerRevision main-1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := status.Of(status.Input{Pool: pool(), Decision: tc.decision, Pods: tc.pods, Problem: tc.problem, Now: t0})
			if diff := cmp.Diff(tc.want, of(got, "Ready", "Available", "Injected", "ConfigSynced", "Promoted", "Reconciling", "Stalled")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			ready := meta.FindStatusCondition(got.Conditions, "Ready")
			for _, want := range tc.says {
				if !strings.Contains(ready.Message, want) {
					t.Errorf("Ready's message lacks %q: %s", want, ready.Message)
				}
			}
			if diff := cmp.Diff(kstatusOf(tc.want), kstatus(got)); diff != "" {
				t.Errorf("TestO4: kstatus (-want +got):\n%s", diff)
			}
			for _, c := range got.Conditions {
				if c.ObservedGeneration != 3 || got.ObservedGeneration != 3 {
					t.Errorf("TestO1: %s observed generation %d, the status %d", c.Type, c.ObservedGeneration, got.ObservedGeneration)
				}
			}
		})
	}
}

// kstatus reads a status as Flux, Argo CD and kpt do.
func kstatus(s v1alpha1.WorkerPoolStatus) string {
	switch {
	case meta.IsStatusConditionTrue(s.Conditions, "Reconciling"):
		return "InProgress"
	case meta.IsStatusConditionTrue(s.Conditions, "Stalled"):
		return "Failed"
	case !meta.IsStatusConditionTrue(s.Conditions, "Ready"):
		return "InProgress"
	}
	return "Current"
}

// kstatusOf is what a case's conditions are to be read as: a pool is Current only when it is ready.
func kstatusOf(conditions map[string]string) string {
	switch {
	case strings.HasPrefix(conditions["Ready"], "True"):
		return "Current"
	case conditions["Stalled"] != "":
		return "Failed"
	}
	return "InProgress"
}

// TestO1_OldFindingsKeepTheirGeneration: while nothing can be decided, no one who waits for a condition of the new spec
// is told of the old one's.
func TestO1_OldFindingsKeepTheirGeneration(t *testing.T) {
	in := status.Input{Pool: pool(), Decision: promoted(), Pods: []status.Pod{pod("one", v1)}, Now: t0}
	in.Pool.Status = status.Of(in)
	in.Pool.Generation, in.Problem = 4, "the revision can't be stored"
	got := status.Of(in)
	for name, want := range map[string]int64{
		"Promoted": 3, "Available": 3, "Injected": 3, "ConfigSynced": 3, "Ready": 4, "Stalled": 4,
	} {
		if c := meta.FindStatusCondition(got.Conditions, name); c == nil || c.ObservedGeneration != want {
			t.Errorf("%s: %+v, want generation %d", name, c, want)
		}
	}
}

func TestO6_TransitionTimesMoveWithTheStatusAlone(t *testing.T) {
	in := status.Input{Pool: pool(), Decision: promoted(), Pods: []status.Pod{pod("one", v1)}, Now: t0}
	in.Pool.Status = status.Of(in)
	in.Now = t0.Add(time.Hour)
	in.Pods = append(in.Pods, pod("two", v1)) // other messages
	in.Pool.Status = status.Of(in)
	for _, c := range in.Pool.Status.Conditions {
		if !c.LastTransitionTime.Time.Equal(t0) {
			t.Errorf("%s moved to %v though its status didn't change", c.Type, c.LastTransitionTime)
		}
	}
	in.Pods, in.Leaving = nil, 1
	in.Pool.Status = status.Of(in)
	if c := meta.FindStatusCondition(in.Pool.Status.Conditions, "Ready"); !c.LastTransitionTime.Time.Equal(in.Now) {
		t.Errorf("Ready changed and has %v", c.LastTransitionTime)
	}
}

// A message names a few pods and stays within what an object can hold, whatever a worker printed.
func TestMessagesAreBounded(t *testing.T) {
	var pods []status.Pod
	for i := range 300 {
		pods = append(pods, edit(pod(fmt.Sprintf("web-%03d", i), v1), func(p *status.Pod) {
			p.Slots["a"] = rollout.Slot{Revision: "1111", BootFailing: true}
			p.Workers["a"] = status.Workers{BootMessage: "no", BootTraceback: strings.Repeat("ä", 1<<16)}
		}))
	}
	got := status.Of(status.Input{Pool: pool(), Decision: promoted(), Pods: pods, Now: t0})
	m := meta.FindStatusCondition(got.Conditions, "Stalled").Message
	if len(m) > 6<<10 || !strings.Contains(m, "web-000, web-001, web-002, web-003, web-004 and 295 more") || strings.ContainsRune(m, '\uFFFD') {
		t.Errorf("%d bytes: %.300s", len(m), m)
	}
}

// TestO74_WhatToLower names what asks for too many workers: under v1 overflow doesn't.
func TestO74_WhatToLower(t *testing.T) {
	for name, tc := range map[string]struct {
		version v1alpha1.PoolVersion
		says    string
	}{
		"v2": {v1alpha1.PoolV2, "not 6: their containers' limits are of the size at which they were made; lower spec.size or spec.overflow, or"},
		"v1": {v1alpha1.PoolV1, "not 4: their containers' limits are of the size at which they were made; lower spec.size, or"},
	} {
		t.Run(name, func(t *testing.T) {
			capped := edit(pod("one", v1), func(p *status.Pod) {
				p.Workers["a"] = status.Workers{Desired: 3, Max: 3, Capped: true}
			})
			in := status.Input{Pool: pool(), Decision: promoted(), Pods: []status.Pod{capped}, Now: t0}
			in.Pool.Spec.PoolVersion, in.Pool.Spec.Overflow = tc.version, 2
			ready := meta.FindStatusCondition(status.Of(in).Conditions, "Ready")
			if !strings.Contains(ready.Message, tc.says) {
				t.Errorf("Ready says %q, want %q", ready.Message, tc.says)
			}
		})
	}
}
