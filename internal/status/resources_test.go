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
		"healthy":                {[]status.Pod{pod("one", v1)}, "True Healthy", "True StableServing", "no slot ran out of memory"},
		"no pods":                {nil, "Unknown NoPods", "False NoPods", "no pod has the label"},
		"one of two hangs":       {[]status.Pod{pod("one", v1), hanging("two", false)}, "False WorkersHung", "False WorkersHung", "v1 (1111) hang in 1 of 2 pods (two): no worker has answered since noon"},
		"hangs since a moment":   {[]status.Pod{hanging("one", true)}, "False WorkersHung", "True StableServing", "hang in 1 of 1 pods"},
		"another revision hangs": {[]status.Pod{edit(hanging("one", true), func(p *status.Pod) { p.Slots["a"] = rollout.Slot{Revision: "9999"} })}, "True Healthy", "False WorkersNotReady", ""},
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
