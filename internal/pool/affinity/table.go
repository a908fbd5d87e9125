// Package affinity remembers which worker served which key last, and puts requests that ask for that worker into a
// pool's line: see pool.Affinity and Gate.
package affinity

import (
	"container/list"
	"time"
)

const (
	// IdleTime is how long a key that no request asks for keeps its worker.
	IdleTime = 10 * time.Minute
	// MaxIdle is how many such keys are remembered, the longest unused being forgotten first. With keys of 256 bytes, the
	// longest there are, they take 5 MB.
	MaxIdle = 10_000
)

// Table has the worker of each key. It needs no clock of its own and no goroutine: what is too old goes when it is
// asked for, or when another key becomes idle. Not safe for concurrent use.
type Table[W comparable] struct {
	keys  map[string]*Key[W]
	homes map[W]*home[W] // of workers that some key has
	idle  list.List      // of *Key: those that no request holds, the one held last in front
	held  int            // requests that hold keys
}

// Key is what all requests of the same key hold while they are in the pool.
type Key[W comparable] struct {
	name      string
	home      *home[W] // nil: no worker
	holders   int
	idle      *list.Element // nil: it is held
	idleSince time.Time
}

// home is a worker as its keys see it: one mark ends it for all of them.
type home[W comparable] struct {
	worker W
	left   bool
}

// NewTable returns an empty table.
func NewTable[W comparable]() *Table[W] {
	return &Table[W]{keys: map[string]*Key[W]{}, homes: map[W]*home[W]{}}
}

// Hold returns the key of that name for a request, which must Release it. As long as it is held it isn't forgotten.
func (t *Table[W]) Hold(name string, now time.Time) *Key[W] {
	k := t.keys[name]
	switch {
	case k == nil:
		k = &Key[W]{name: name}
		t.keys[name] = k
	case k.idle != nil:
		t.idle.Remove(k.idle)
		k.idle = nil
		if now.Sub(k.idleSince) >= IdleTime {
			k.home = nil
		}
	}
	k.holders++
	t.held++
	return k
}

// Release ends a Hold, and forgets what has been idle for too long or is too much.
func (t *Table[W]) Release(k *Key[W], now time.Time) {
	t.held--
	if k.holders--; k.holders > 0 {
		return
	}
	if _, bound := k.Worker(); !bound {
		delete(t.keys, k.name)
		return
	}
	k.idle, k.idleSince = t.idle.PushFront(k), now
	for {
		oldest := t.idle.Back().Value.(*Key[W])
		if t.idle.Len() <= MaxIdle && now.Sub(oldest.idleSince) < IdleTime {
			return // k at the latest, which is idle since now
		}
		t.idle.Remove(oldest.idle)
		delete(t.keys, oldest.name)
	}
}

// Held is how many requests hold keys.
func (t *Table[W]) Held() int { return t.held }

// Bind makes w the key's worker, and reports whether that is news to other requests that hold the key.
func (t *Table[W]) Bind(k *Key[W], w W) (moved bool) {
	h := t.homes[w]
	if h == nil {
		h = &home[W]{worker: w}
		t.homes[w] = h
	}
	moved = k.home != h && k.holders > 1
	k.home = h
	return moved
}

// Unbind ends a worker, for all keys that have it. It must be called at every worker's end, again if the worker was
// bound after it.
func (t *Table[W]) Unbind(w W) {
	if h := t.homes[w]; h != nil {
		h.left = true
		delete(t.homes, w)
	}
}

// Worker returns the key's worker, if it has one.
func (k *Key[W]) Worker() (w W, bound bool) {
	if k.home == nil || k.home.left {
		return w, false
	}
	return k.home.worker, true
}
