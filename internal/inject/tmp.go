package inject

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
)

// defaultTmp is what the workers of a slot may have below /tmp when the pool says nothing.
const defaultTmp = 1 << 30 // bytes

// tmp is a slot's scratch space. On disk, the slot's supervisor sees to it that the workers keep to the limit: when a
// volume outgrows its own, the kubelet evicts all of the pod. In memory the kernel does.
type tmp struct {
	limit    int64 // bytes
	inMemory bool
}

func planTmp(pool *v1alpha1.WorkerPoolSpec, workers int64) tmp {
	t := tmp{limit: defaultTmp}
	if said := pool.Worker.Tmp; said != nil {
		t.inMemory = said.Medium == v1alpha1.TmpMemory
		if said.SizeLimit != nil {
			t.limit = said.SizeLimit.Value()
		}
	}
	if w := pool.Worker.Resources; w != nil && !t.inMemory {
		if each := w.Limits.StorageEphemeral().Value(); each > 0 {
			t.limit = min(t.limit, workers*each)
		}
	}
	return t
}

// args tell the supervisor.
func (t tmp) args() []string { return []string{"--tmp-limit", strconv.FormatInt(t.limit, 10)} }

// volume is one slot's /tmp.
func (t tmp) volume(name string) corev1.Volume {
	source := &corev1.EmptyDirVolumeSource{SizeLimit: t.backstop(1)}
	if t.inMemory {
		source = &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: resource.NewQuantity(t.limit, resource.BinarySI)}
	}
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: source}}
}

// backstop is a limit for volumes that so many slots can write to: the kubelet's, for when a supervisor doesn't do its
// work. It is far enough above the supervisors' own that these act first.
func (t tmp) backstop(slots int64) *resource.Quantity {
	return resource.NewQuantity(slots*(2*t.limit+(1<<30)), resource.BinarySI)
}
