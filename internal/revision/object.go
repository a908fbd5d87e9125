package revision

import (
	"cmp"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
)

// Keep is how many ControllerRevisions of a pool stay.
const Keep = 10

// Texts are revisions by hash.
type Texts map[string]Text

// ObjectName is the name of the ControllerRevision that stores a revision of a pool.
func ObjectName(pool, hash string) string { return pool + "-" + hash }

// Object returns the ControllerRevision that stores a text, owned by its pool, so that it goes with it. The number
// orders the revisions of a pool by last use.
func Object(pool *v1alpha1.WorkerPool, t Text, number int64) *appsv1.ControllerRevision {
	return &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Name:      ObjectName(pool.Name, t.Hash()),
			Namespace: pool.Namespace,
			Labels: map[string]string{
				v1alpha1.ManagedByLabel: v1alpha1.ManagedBy,
				v1alpha1.PoolLabel:      pool.Name,
			},
			OwnerReferences: []metav1.OwnerReference{OwnedBy(pool)},
		},
		Data:     runtime.RawExtension{Raw: t.Canonical()},
		Revision: number,
	}
}

// OwnedBy makes an object go with its pool. It doesn't block the pool's deletion: that would take the right to update
// its finalizers.
func OwnedBy(pool *v1alpha1.WorkerPool) metav1.OwnerReference {
	ref := *metav1.NewControllerRef(pool, v1alpha1.GroupVersion.WithKind("WorkerPool"))
	ref.BlockOwnerDeletion = nil
	return ref
}

// Read collects the texts of a pool's own ControllerRevisions. One whose text isn't what its name says is an error:
// someone else made it, and serving it would be serving something that no one asked for.
func Read(pool *v1alpha1.WorkerPool, objects []appsv1.ControllerRevision) (Texts, error) {
	texts := Texts{}
	for i := range objects {
		o := &objects[i]
		if !metav1.IsControlledBy(o, pool) {
			continue
		}
		t, err := Parse(o.Data.Raw)
		if err == nil && ObjectName(pool.Name, t.Hash()) != o.Name {
			err = fmt.Errorf("its text has the hash %s", t.Hash())
		}
		if err != nil {
			return nil, fmt.Errorf("ControllerRevision %s isn't a revision of pool %s (%w); delete it", o.Name, pool.Name, err)
		}
		texts[t.Hash()] = t
	}
	return texts, nil
}

// Surplus returns the ControllerRevisions of a pool beyond the Keep last used, never one of the hashes in use.
func Surplus(pool *v1alpha1.WorkerPool, objects []appsv1.ControllerRevision, inUse ...string) []appsv1.ControllerRevision {
	own := slices.DeleteFunc(slices.Clone(objects), func(o appsv1.ControllerRevision) bool {
		return !metav1.IsControlledBy(&o, pool)
	})
	slices.SortFunc(own, func(a, b appsv1.ControllerRevision) int { return cmp.Compare(b.Revision, a.Revision) })
	if len(own) <= Keep {
		return nil
	}
	return slices.DeleteFunc(own[Keep:], func(o appsv1.ControllerRevision) bool {
		return slices.ContainsFunc(inUse, func(hash string) bool { return o.Name == ObjectName(pool.Name, hash) })
	})
}
