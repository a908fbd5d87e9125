package status_test

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/analysis"
	"github.com/dspex/workerpool-operator/internal/revision"
	"github.com/dspex/workerpool-operator/internal/rollout"
	"github.com/dspex/workerpool-operator/internal/status"
)

// hashOf is the revision that a pool's spec asks for.
func hashOf(p *v1alpha1.WorkerPool) string { return revision.Of(&p.Spec).Hash() }

// readyIs compares Ready, and how kstatus reads the whole, with what is wanted: status and reason, kstatus, and parts of the message.
func readyIs(t *testing.T, in *status.Input, want, kind string, parts ...string) {
	t.Helper()
	got := status.Of(*in)
	ready := meta.FindStatusCondition(got.Conditions, "Ready")
	if is := string(ready.Status) + " " + ready.Reason; is != want || kstatus(got) != kind {
		t.Errorf("Ready is %s, kstatus %s; want %s, %s", is, kstatus(got), want, kind)
	}
	for _, part := range parts {
		if !strings.Contains(ready.Message, part) {
			t.Errorf("Ready lacks %q: %s", part, ready.Message)
		}
	}
}

// TestO4_NoPods: nothing to do is ready; pods that are wanted and don't come aren't nothing.
func TestO4_NoPods(t *testing.T) {
	web := status.Uncreated{Workload: status.Workload{Kind: "deployment", Name: "web"}, Message: `pods "web-1-" is forbidden: exceeded quota: small`}
	for name, tc := range map[string]struct {
		change     func(*status.Input)
		want, kind string
		says       string
	}{
		"none is wanted":         {func(*status.Input) {}, "True NoPods", "Current", "there is nothing to do"},
		"with a canary":          {func(in *status.Input) { in.Decision = canary(rollout.WaitingForPods, 0, 1000) }, "True NoPods", "Current", ""},
		"the last are leaving":   {func(in *status.Input) { in.Leaving = 2 }, "False NoPods", "InProgress", "but 2 that are being deleted"},
		"a quota refuses them":   {func(in *status.Input) { in.Uncreated = []status.Uncreated{web} }, "False PodsNotCreated", "Failed", "deployment/web wants pods with the label pool.dspex.dev/pool: main, and none is created: pods \"web-1-\" is forbidden: exceeded quota: small"},
		"in two workloads":       {func(in *status.Input) { in.Uncreated = []status.Uncreated{web, web} }, "False PodsNotCreated", "Failed", "deployment/web (and 1 more) wants"},
		"they are being created": {func(in *status.Input) { in.Uncreated = []status.Uncreated{{Workload: web.Workload}} }, "False PodsStarting", "InProgress", "none is created yet"},
		"it can't be told":       {func(in *status.Input) { in.Unlisted = "replicasets.apps is forbidden" }, "False NoPods", "InProgress", "whether a workload wants one can't be told: replicasets.apps is forbidden"},
		"of what was rolled back": {func(in *status.Input) {
			in.Pool.Spec.Worker.Module = "m"
			in.Decision = canary(rollout.RolledBack, 0, 0)
			in.Decision.Blocked, in.Decision.Assignment.Canary = hashOf(in.Pool), nil
		}, "False RolledBack", "Failed", ""},
	} {
		t.Run(name, func(t *testing.T) {
			in := status.Input{Pool: pool(), Decision: promoted(), Now: t0}
			tc.change(&in)
			readyIs(t, &in, tc.want, tc.kind, tc.says)
		})
	}
}

// replica is a pod of deployment web, of a template.
func replica(name, template string, age time.Duration, placed ...v1alpha1.SlotRevision) status.Pod {
	p := pod(name, placed...)
	p.Workload.Template, p.Workload.Made = template, t0.Add(-age)
	return p
}

// What was advised is advised until it is done, and not while it is: a newer pod of another template isn't outdated.
func TestARestartThatIsUnderWayIsNotAdvised(t *testing.T) {
	old := func(p *status.Pod) { p.Images = map[string][]string{"a": {"shop/worker:2"}} }
	starting := func(p *status.Pod) { p.Live, p.Connected, p.Acknowledged = false, false, false }
	other := func(p *status.Pod) { p.Workload.Name = "api" }
	one, two := edit(replica("one", "t1", time.Hour, v1), old), edit(replica("two", "t1", time.Hour, v1), old)
	for name, tc := range map[string]struct {
		pods       []status.Pod
		want, kind string
		says       string
	}{
		"not done":              {[]status.Pod{one, two}, "False PodsOutdated", "Failed", "run: kubectl rollout restart -n shop deployment/web"},
		"under way":             {[]status.Pod{one, two, edit(replica("three", "t2", time.Second), starting)}, "False PodsRestarting", "InProgress", "2 of 3 pods have a slot with an older image (one, two); they are being replaced"},
		"a scale-up is none":    {[]status.Pod{one, two, replica("three", "t1", time.Second, v1)}, "False PodsOutdated", "Failed", "run:"},
		"an undone one is none": {[]status.Pod{one, replica("three", "t0", 2*time.Hour, v1)}, "False PodsOutdated", "Failed", "run:"},
		"under way in one of two": {[]status.Pod{one, edit(edit(replica("api", "x1", time.Hour, v1), old), other), edit(replica("three", "t2", time.Second), starting)},
			"False PodsOutdated", "Failed", "run: kubectl rollout restart -n shop deployment/api"},
	} {
		t.Run(name, func(t *testing.T) {
			readyIs(t, &status.Input{Pool: pool(), Decision: promoted(), Pods: tc.pods, Now: t0}, tc.want, tc.kind, tc.says)
		})
	}
}

// A pod that can't start says why, whatever else there is to say: nothing else puts it right. The words stay the same from try to try.
func TestAPodWhoseSidecarCannotStart(t *testing.T) {
	waiting := func(container, reason, message string) func(*status.Pod) {
		return func(p *status.Pod) {
			p.Live, p.Connected, p.Acknowledged = false, false, false
			p.Waits = map[string]status.Wait{"pool-a": {Reason: "PodInitializing"}, container: {Reason: reason, Message: message, Image: "shop/worker:tpyo"}}
		}
	}
	old := edit(replica("one", "t1", time.Hour, v1), func(p *status.Pod) { p.Images = map[string][]string{"a": {"shop/worker:2"}} })
	pulls := "container pool-b of pod two: its image shop/worker:tpyo can't be pulled"
	for name, tc := range map[string]struct {
		wait func(*status.Pod)
		want string
		says string
	}{
		"its idle slot's image":   {waiting("pool-b", "ImagePullBackOff", "Back-off"), "False ContainersNotStarting", pulls},
		"at another try":          {waiting("pool-b", "ErrImagePull", "rpc error: 7a3f"), "False ContainersNotStarting", pulls},
		"a Secret that lacks":     {waiting("pool-b", "CreateContainerConfigError", `secret "llm-keys" not found`), "False ContainersNotStarting", `secret "llm-keys" not found`},
		"the binaries don't run":  {waiting("workerpool-install", "CrashLoopBackOff", "back-off 10s"), "False ContainersNotStarting", "it ends again and again"},
		"nothing is wrong so far": {waiting("pool-b", "PodInitializing", ""), "False PodsRestarting", "being replaced"},
	} {
		t.Run(name, func(t *testing.T) {
			in := status.Input{Pool: pool(), Decision: promoted(), Pods: []status.Pod{old, edit(replica("two", "t2", time.Second), tc.wait)}, Now: t0}
			kind := "Failed"
			if strings.Contains(tc.want, "Restarting") {
				kind = "InProgress"
			}
			readyIs(t, &in, tc.want, kind, tc.says)
			in.Pods = in.Pods[1:]
			if kind == "Failed" {
				readyIs(t, &in, tc.want, kind, tc.says)
			}
			if strings.HasPrefix(name, "its idle slot") { // whose container was started again
				in.Pods[0].Live, in.Pods[0].Connected, in.Pods[0].Acknowledged = true, true, true
				readyIs(t, &in, tc.want, kind, tc.says)
			}
		})
	}
}

// TestO31_GraceIsNoEvidence: a pod counts while its figures are fresh. One that is cut off counts no more, whether its stream seems
// to stand or is being made anew; how the others are is told of them alone.
func TestO31_GraceIsNoEvidence(t *testing.T) {
	heard := t0.Add(-7 * time.Second)
	for name, tc := range map[string]struct {
		change                     func(*status.Pod)
		metrics, synced, available string
	}{
		"changes its stream, as each does": {
			func(p *status.Pod) { p.Connected, p.Acknowledged, p.Joining, p.Settled = false, false, true, true },
			"True 2 of 2 pods send figures", "True 2 of 2 pods have the configuration in force", "True v1 serves 2 of 2 pods",
		},
		"its stream seems to stand": {
			func(p *status.Pod) { p.Stale, p.Silent, p.Heard = true, true, heard },
			"False no figures for more than 5 s from 1 of 2 pods, whose connections still stand (two; two was last heard at 2026-11-24T08:59:53Z)",
			"True 2 of 2 pods", "True v1 serves 1 of 2 pods, and served the others (two; two was last heard at 2026-11-24T08:59:53Z) when",
		},
		"its stream has ended": {
			func(p *status.Pod) {
				p.Connected, p.Acknowledged, p.Joining, p.Settled, p.Silent, p.Heard = false, false, true, true, true, heard
			},
			"Unknown 1 of 2 pods send figures; on their way to the operator: two; two was last heard at 2026-11-24T08:59:53Z",
			"False 1 of 2 pods haven't acknowledged", "True v1 serves 1 of 2 pods, and served the others",
		},
		"for long": {
			func(p *status.Pod) { p.Connected, p.Acknowledged, p.Silent, p.Heard = false, false, true, heard },
			"False no figures from 1 of 2 pods, which have no connection to the operator (two; two was last heard", "False 1 of 2 pods", "True v1 serves 1 of 2 pods, and served",
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := status.Input{Pool: pool(), Decision: promoted(), Pods: []status.Pod{pod("one", v1), edit(pod("two", v1), tc.change)}, Now: t0}
			got := status.Of(in)
			for condition, want := range map[string]string{"MetricsAvailable": tc.metrics, "ConfigSynced": tc.synced, "Available": tc.available} {
				c := meta.FindStatusCondition(got.Conditions, condition)
				if is := string(c.Status) + " " + c.Message; !strings.HasPrefix(is, want) {
					t.Errorf("%s says %q, want %q", condition, is, want)
				}
			}
		})
	}
}

// Paused is never Ready while there is a canary: what is held isn't what the spec will come to.
func TestAPausedPinnedCanaryIsNotReady(t *testing.T) {
	for _, state := range []rollout.State{rollout.CanaryPinned, rollout.Unacknowledged} {
		in := status.Input{Pool: pool(), Decision: canary(state, 1000, 1000), Pods: []status.Pod{pod("one", v1, v2)}, Now: t0}
		readyIs(t, &in, "True CanaryPinned", "Current")
		in.Pool.Spec.Paused = true
		readyIs(t, &in, "False Paused", "InProgress", "v2 (2222) is at 10 %", "spec.paused")
		in.Pool.Spec.Paused, in.Decision.Hold = false, &v1alpha1.HoldStatus{By: v1alpha1.HeldByToken}
		readyIs(t, &in, "False Paused", "InProgress", "pool.dspex.dev/resume")
	}
}

// TestO11_ShownIsTheCanary while there is one: its figures, and which of two revisions of one version is which.
func TestO11_ShownIsTheCanary(t *testing.T) {
	figures := func(failed uint64, p95 time.Duration) status.Figures {
		return status.Figures{Version: "v2", Counts: analysis.Counts{Requests: 100, Errors: failed}, P95: p95}
	}
	in := status.Input{Pool: pool(), Decision: canary(rollout.CanaryPinned, 1000, 1000), Pods: []status.Pod{pod("one", v1, v2)}, Now: t0}
	in.Figures = map[string]status.Figures{v1.Revision: figures(1, time.Millisecond), v2.Revision: figures(25, time.Second)}
	if s := status.Of(in).Shown; s.Version != "v2" || s.Stable != "v1" || s.ErrorRate != "25" || s.P95.Duration != time.Second {
		t.Errorf("v1 → v2: %+v", s)
	}
	stable, other := v1, v2
	stable.Version, other.Revision = "v2", hashOf(in.Pool)
	in.Decision.Assignment = rollout.Assignment{Stable: stable, Canary: &other}
	s := status.Of(in).Shown
	if s.Version != "v2@"+other.Revision[:4] || s.Stable != "v2@1111" || s.ErrorRate != "" || s.P95 != nil {
		t.Errorf("v2 → v2, with no request to the canary: %+v", s)
	}
	in.Decision = promoted()
	if s := status.Of(in).Shown; s.Stable != "v1" || s.ErrorRate != "1" || s.P95.Duration != time.Millisecond {
		t.Errorf("alone: %+v", s)
	}
}
