package status

import (
	"fmt"
	"maps"
	"slices"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
)

// Uncreated is a workload whose pods would have the pool's label, that wants some and has none.
type Uncreated struct {
	Workload Workload
	// Message says why, in the words of the API server; empty: it doesn't say.
	Message string
}

// Wait is why a container can't be started, in the kubelet's words.
type Wait struct{ Reason, Message, Image string }

// What kubelets say of a container that they can't start. They go on trying, and something has to be put right for it.
var (
	imageWaits = []string{"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError", "RegistryUnavailable"}
	startWaits = []string{"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PreCreateHookError", "PreStartHookError", "PostStartHookError"}
)

const crashLoop = "CrashLoopBackOff"

// why says what keeps a container from starting, in the same words at each try; empty: nothing does.
func (w Wait) why() string {
	switch {
	case slices.Contains(imageWaits, w.Reason):
		return fmt.Sprintf("its image %s can't be pulled (%s)", w.Image, imageWaits[1])
	case slices.Contains(startWaits, w.Reason):
		return fmt.Sprintf("%s: %s", w.Reason, cut(w.Message, maxMessage))
	case w.Reason == crashLoop:
		return "it ends again and again (" + crashLoop + ")"
	}
	return ""
}

// stuckContainer is the first sidecar of a pod that can't be started, and why; empty: there is none. That one ends in a pod that
// runs is told with what it ends for.
func (p *Pod) stuckContainer() (name, why string) {
	for _, name := range slices.Sorted(maps.Keys(p.Waits)) {
		if why := p.Waits[name].why(); why != "" && (!p.Live || p.Waits[name].Reason != crashLoop) {
			return name, why
		}
	}
	return "", ""
}

// containersStuck tells of pods one of whose sidecars can't be started.
func containersStuck(in *Input) (finding, bool) {
	pods := in.where(func(p *Pod) bool {
		name, _ := p.stuckContainer()
		return p.Injected && name != ""
	})
	if len(pods) == 0 {
		return finding{}, false
	}
	p := first(pods)
	name, why := p.stuckContainer()
	return no(ReasonContainersNotStarting, "sidecars of %d of %d pods (%s) can't start; container %s of pod %s: %s. Look at: kubectl describe pod -n %s %s",
		len(pods), len(in.Pods), named(pods), name, p.Name, why, in.Pool.Namespace, p.Name), true
}

// noPods is what there is to say of a pool without a pod: nothing is to be done, unless some are wanted and don't come.
func noPods(in *Input) (finding, progress) {
	label := fmt.Sprintf("%s: %s", v1alpha1.PoolLabel, in.Pool.Name)
	switch {
	case len(in.Uncreated) > 0:
		u, others := in.Uncreated[0], ""
		if more := len(in.Uncreated) - 1; more > 0 {
			others = fmt.Sprintf(" (and %d more)", more)
		}
		text := fmt.Sprintf("%s/%s%s wants pods with the label %s, and none is created", u.Workload.Kind, u.Workload.Name, others, label)
		if u.Message == "" {
			return no(ReasonPodsStarting, "%s yet", text), moving
		}
		return no(ReasonPodsNotCreated, "%s: %s", text, cut(u.Message, maxMessage)), stuck
	case in.Leaving > 0:
		return no(ReasonNoPods, "no pod has the label %s but %d that are being deleted", label, in.Leaving), moving
	case in.Unlisted != "":
		return no(ReasonNoPods, "no pod has the label %s, and whether a workload wants one can't be told: %s", label, cut(in.Unlisted, maxMessage)), moving
	}
	return yes(ReasonNoPods, "no pod has the label %s, and none is wanted: there is nothing to do", label), settled
}

// restarting returns those of the outdated pods that are being replaced: their workload has a newer pod of another template
// that isn't outdated.
func (in *Input) restarting(outdated []*Pod) []*Pod {
	var leaving []*Pod
	for _, p := range outdated {
		if slices.ContainsFunc(in.Pods, func(q Pod) bool { return in.replaces(&q, p) }) {
			leaving = append(leaving, p)
		}
	}
	return leaving
}

func (in *Input) replaces(q, p *Pod) bool {
	same := p.Workload.Rolling && q.Workload.Kind == p.Workload.Kind && q.Workload.Name == p.Workload.Name
	return same && q.Workload.Template != p.Workload.Template && q.Workload.Made.After(p.Workload.Made) &&
		q.Injected && !in.Decision.Assignment.Outdated(&q.Pod)
}
