package controllers

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/revision"
	"github.com/dspex/workerpool-operator/internal/rollout"
)

// memory is what this leader remembers of a pool between passes. A new leader starts without it, from the status.
type memory struct {
	uid  types.UID
	led  time.Time     // the leadership in which told was told
	told *rollout.Told // last, to the routers; nil: nothing yet
	// texts of the revisions that were told of: a ControllerRevision that someone deletes must not keep a canary from
	// being taken back, and is stored again.
	texts revision.Texts
	// record is what is known of the status.
	record record
	// books are being kept, for longer than a pass waits; nil: none are.
	books *books
	// unrecorded is a rollback that the routers were told of; it is kept until it is recorded and was told in an event. nil: none.
	unrecorded *rollout.Unrecorded
	// comparison of the canary with the stable.
	comparison comparison
	// rolledBack is when this leader decided the rollback that is being carried out; zero: none is.
	rolledBack time.Time
	// warned is the canary for which it was said that the stable can't serve the load alone.
	warned string
}

// record is what this leader knows of a pool's status.
type record struct {
	// written is the pool with the last status that was written; nil: none was. A cache that is behind it must not be acted
	// upon, or a promotion could be undone by its own past.
	written *v1alpha1.WorkerPool
	at      time.Time // when that was
	// settled: since this process leads, every live pod has been heard of, or has had time enough for it.
	settled bool
}

// memories by pool. The queue never hands the same pool to two workers, so that mu guards the map alone.
type memories struct {
	mu     sync.Mutex
	byPool map[types.NamespacedName]*memory
}

// of returns what is remembered of a pool, nothing when it is another one of the same name or leadership is new.
func (m *memories) of(key types.NamespacedName, uid types.UID, led time.Time) *memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.byPool == nil {
		m.byPool = map[types.NamespacedName]*memory{}
	}
	found, ok := m.byPool[key]
	if !ok || found.uid != uid || !found.led.Equal(led) {
		found = &memory{uid: uid, led: led}
		m.byPool[key] = found
	}
	return found
}

func (m *memories) forget(key types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.byPool, key)
}
