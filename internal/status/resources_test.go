package status_test

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/dspex/workerpool-operator/internal/rollout"
	"github.com/dspex/workerpool-operator/internal/status"
)

// hanging is a pod whose slot says that no worker answers; up: not for longer than a replacement takes.
func hanging(name string, up bool) status.Pod {
	return edit(pod(name, v1), func(p *status.Pod) {
		p.Slots[v1.Slot] = rollout.Slot{Revision: v1.Revision, Up: up}
		p.Workers[v1.Slot] = status.Workers{Desired: 4, Unhealthy: "no worker has answered since noon"}
	})
}

// silent is a pod whose slot says nothing to its router, which knows what it said before.
func silent(name string) status.Pod {
	return edit(pod(name, v1), func(p *status.Pod) {
		p.Slots[v1.Slot] = rollout.Slot{Revision: v1.Revision}
		p.Workers[v1.Slot] = status.Workers{Desired: 4, Hangs: "it has said nothing for 3s on its control connection"}
	})
}

// unforked is a pod whose slot spawns workers that should be forked.
func unforked(name string) status.Pod {
	return edit(pod(name, v1), func(p *status.Pod) {
		p.Workers[v1.Slot] = status.Workers{Desired: 4, ForkRefused: "after the import of the module there is: thread pump"}
	})
}

// killed is a pod of which slot b's container was killed some time ago.
func killed(name string, ago time.Duration) status.Pod {
	return edit(pod(name, v1), func(p *status.Pod) {
		p.Kills = map[string]status.Kill{"b": {At: t0.Add(-ago), Restarts: 2}}
	})
}

func TestP76_P95_ResourcesHealthy(t *testing.T) {
	for name, tc := range map[string]struct {
		pods                       []status.Pod
		resources, available, says string // says: of ResourcesHealthy
	}{
		"healthy":                   {[]status.Pod{pod("one", v1)}, "True Healthy", "True StableServing", "no slot ran out of memory"},
		"no pods":                   {nil, "Unknown NoPods", "False NoPods", "no pod has the label"},
		"one of two hangs":          {[]status.Pod{pod("one", v1), hanging("two", false)}, "False WorkersHung", "False WorkersHung", "v1 (1111) hang in 1 of 2 pods (two): no worker has answered since noon"},
		"a slot hangs":              {[]status.Pod{pod("one", v1), silent("two")}, "False SlotsHung", "False SlotsHung", "slot a with v1 (1111) hangs in 1 of 2 pods (two) and gets no requests: it has said nothing for 3s"},
		"forks are refused":         {[]status.Pod{pod("one", v1), unforked("two")}, "True ForksRefused", "True StableServing", "spawned instead of forked in 1 of 2 pods (two), each with an import and memory of its own: after the import of the module there is: thread pump"},
		"both":                      {[]status.Pod{silent("one"), unforked("two")}, "False SlotsHung", "False SlotsHung", "(one)"},
		"forks of another revision": {[]status.Pod{edit(unforked("one"), func(p *status.Pod) { p.Slots["a"] = rollout.Slot{Revision: "9999", Up: true} })}, "True Healthy", "False WorkersNotReady", ""},
		"hangs since a moment":      {[]status.Pod{hanging("one", true)}, "False WorkersHung", "True StableServing", "hang in 1 of 1 pods"},
		"another revision hangs":    {[]status.Pod{edit(hanging("one", true), func(p *status.Pod) { p.Slots["a"] = rollout.Slot{Revision: "9999"} })}, "True Healthy", "False WorkersNotReady", ""},
		"nobody is heard": {
			[]status.Pod{edit(hanging("one", true), func(p *status.Pod) { p.Connected = false })}, "Unknown PodsUnreachable", "True StableServing", "",
		},
		"killed": {
			[]status.Pod{killed("one", 20*time.Minute), killed("two", time.Minute), pod("three", v1)}, "False OutOfMemory", "True StableServing",
			"2 of 3 pods (one, two); the last was container pool-b of pod two at 2026-11-24T08:59:00Z, which has been restarted 2 times: raise spec.worker.resources.limits.memory",
		},
		"killed long ago":   {[]status.Pod{killed("one", time.Hour)}, "True Healthy", "True StableServing", ""},
		"killed, and hangs": {[]status.Pod{killed("one", time.Minute), hanging("two", true)}, "False WorkersHung", "True StableServing", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := status.Of(status.Input{Pool: pool(), Decision: promoted(), Pods: tc.pods, Now: t0})
			all := conditions(got)
			if all["ResourcesHealthy"] != tc.resources || all["Available"] != tc.available {
				t.Errorf("ResourcesHealthy %q, Available %q; want %q, %q", all["ResourcesHealthy"], all["Available"], tc.resources, tc.available)
			}
			if message := meta.FindStatusCondition(got.Conditions, "ResourcesHealthy").Message; !strings.Contains(message, tc.says) {
				t.Errorf("says %q, want %q", message, tc.says)
			}
		})
	}
}

// TestASlotThatHangsIsInReady: with the pod, and why, as long as it lasts.
func TestASlotThatHangsIsInReady(t *testing.T) {
	got := status.Of(status.Input{Pool: pool(), Decision: promoted(), Pods: []status.Pod{pod("one", v1), silent("two")}, Now: t0})
	all := conditions(got)
	if all["Ready"] != "False SlotsHung" || all["Reconciling"] != "True SlotsHung" || all["Stalled"] != "" {
		t.Errorf("Ready %q, Reconciling %q, Stalled %q", all["Ready"], all["Reconciling"], all["Stalled"])
	}
}
