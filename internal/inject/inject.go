// Package inject turns an application's pod into one with a worker pool in it: the init container that brings poold
// along, the two slots and the router as native sidecars in front of the application's own init containers, their
// volumes, and for the application one variable and one read-only mount. It is a pure function of the pod, its
// WorkerPool and the operator's settings, so that the webhook and every other way of injection give the same pod.
package inject

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/control/controlpb"
	"github.com/dspex/workerpool-operator/internal/revision"
)

// Names of the containers that injection adds, in the order in which they start.
const (
	InstallContainer = "workerpool-install"
	SlotAContainer   = "pool-a"
	SlotBContainer   = "pool-b"
	RouterContainer  = "pool-router"
)

// ownContainers in the order in which they start; they stop in reverse.
var ownContainers = []string{InstallContainer, SlotAContainer, SlotBContainer, RouterContainer}

// SlotContainers holds the container of each slot.
var SlotContainers = map[string]string{"a": SlotAContainer, "b": SlotBContainer}

// SocketVariable is the environment variable that tells the application where its pool listens.
const SocketVariable = "WORKERPOOL_SOCKET"

// BootstrapVariable of the router holds the snapshot (protojson) that it starts from when no operator answers.
const BootstrapVariable = "WORKERPOOL_BOOTSTRAP"

// Settings are the operator's own, the same for every pod.
type Settings struct {
	// OperatorImage holds /poold; the install container and the router run it.
	OperatorImage string
	// WorkerImage is what a slot runs when its revision names no image.
	WorkerImage string
	// ControlAddress is where routers find the operator, as host:port.
	ControlAddress string
}

// Input is everything beside the pod.
type Input struct {
	// Pool that the pod's label names.
	Pool *v1alpha1.WorkerPool
	// Bootstrap is what the router starts from when no operator answers.
	Bootstrap *controlpb.Snapshot
	// Workers are, by slot, those that its container is made for; a slot that is absent gets the stable's.
	Workers  map[string]revision.Worker
	Settings Settings
}

// Pod returns a copy of the pod with the sidecars, and warnings for whoever created it. An error is a refusal: its
// text names what is wrong with the pod and the way out. A pod that has the sidecars already keeps them as they are;
// only containers that came later get what the application gets.
func Pod(pod *corev1.Pod, in Input) (*corev1.Pod, []string, error) {
	injected, err := isInjected(pod, in.Pool)
	if err != nil {
		return nil, nil, err
	}
	out := pod.DeepCopy()
	if injected {
		if err := refuseContainers(&pod.Spec); err != nil { // those that came later
			return nil, nil, err
		}
		equipApp(&out.Spec)
		return out, nil, nil
	}
	if err := refuse(pod); err != nil {
		return nil, nil, err
	}
	if err := refuseMissingVolumes(&pod.Spec, in.Pool); err != nil {
		return nil, nil, err
	}
	bootstrap, err := bootstrapText(in)
	if err != nil {
		return nil, nil, err
	}

	user := chooseSlotUser(&pod.Spec)
	sizes := planResources(&pod.Spec, &in.Pool.Spec)
	equipApp(&out.Spec)
	out.Spec.InitContainers = append([]corev1.Container{
		install(in, sizes),
		slot("a", in, sizes, user),
		slot("b", in, sizes, user),
		router(pod, in, sizes, bootstrap),
	}, out.Spec.InitContainers...)
	added := volumes(in.Pool.Name, sizes.tmp)
	out.Spec.Volumes = append(out.Spec.Volumes, added...)
	raisePodResources(&out.Spec)
	annotate(out, in, added)
	return out, slices.Concat(user.warnings, sizes.warnings, podWarnings(pod, in)), nil
}

// isInjected tells whether the pod has the sidecars of this very pool. A pod with those of another pool, such as one
// made from a saved manifest after its pool was made anew, is refused: its router would never be believed.
func isInjected(pod *corev1.Pod, pool *v1alpha1.WorkerPool) (bool, error) {
	uid, marked := pod.Annotations[v1alpha1.InjectedAnnotation]
	if !marked || !hasSidecars(&pod.Spec) {
		return false, nil
	}
	if uid != string(pool.UID) {
		return false, fmt.Errorf("the pod already has sidecars, for a WorkerPool with the UID %q, but WorkerPool %q has the UID %q; create the pod without the init containers %v and without the annotation %s",
			uid, pool.Name, pool.UID, ownContainers, v1alpha1.InjectedAnnotation)
	}
	return true, nil
}

func hasSidecars(spec *corev1.PodSpec) bool {
	have := map[string]bool{}
	for _, c := range spec.InitContainers {
		have[c.Name] = true
	}
	for _, name := range ownContainers {
		if !have[name] {
			return false
		}
	}
	return true
}

// slotWorker is what a slot's container is made for: where nothing is placed there, the stable. Most next revisions get
// along with that.
func slotWorker(name string, in Input) revision.Worker {
	if w, placed := in.Workers[name]; placed {
		return w
	}
	return in.Workers[in.Bootstrap.GetStable()]
}

// slotImage is what a slot's container runs.
func slotImage(name string, in Input) string {
	return cmp.Or(slotWorker(name, in).Image, in.Settings.WorkerImage)
}

// SlotImages are the images by slot that ImagesAnnotation records.
func SlotImages(in Input) map[string]string {
	images := map[string]string{}
	for name := range maps.Keys(SlotContainers) {
		images[name] = slotImage(name, in)
	}
	return images
}
