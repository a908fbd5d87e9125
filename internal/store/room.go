package store

import (
	"slices"
)

// recordText is what a record has besides an application's text, at most: names, times, hash, checksum.
const recordText = 512 // bytes

// sessionCost is what using a session will add to the store.
func (t *txn) sessionCost(id string) int {
	if t.index.owners[sessionOwner(id)] != nil {
		return 0
	}
	return overhead + recordText
}

// makeRoom lets the store grow by some bytes: what was idle longest goes, until a tenth of the store is free, so
// that this isn't for every change to do. It refuses, and removes nothing, if that isn't enough. Owners in keep stay.
func (t *txn) makeRoom(grown int, keep ...owner) error {
	x, limit := t.index, t.store.opts.MaxBytes
	if grown <= 0 || x.bytes+grown <= limit {
		return nil
	}
	if t.now.Before(x.inUseUntil) {
		return t.store.full()
	}
	var gone []owner
	after := x.bytes + grown
	idle := x.idle(t.now.Add(-t.store.opts.MinIdle))
	if len(idle) == 0 {
		x.inUseUntil = x.oldest().Add(t.store.opts.MinIdle)
	}
	for _, o := range idle {
		if after <= limit-limit/10 {
			break
		}
		if !slices.Contains(keep, o) {
			gone = append(gone, o)
			after -= x.owners[o].bytes
		}
	}
	if after > limit {
		return t.store.full()
	}
	return t.evict(gone)
}

func (t *txn) evict(gone []owner) error {
	since := t.index.owners[gone[len(gone)-1]].used
	for _, o := range gone {
		err := error(nil)
		if o.program != "" {
			err = t.deleteProgram(o.session, o.program)
		} else {
			err = t.deleteSession(o.session)
		}
		if err != nil {
			return err
		}
	}
	t.tx.OnCommit(func() {
		t.store.stats.Evicted += uint64(len(gone))
		t.store.opts.Log.Info("the store of programs and sessions was full: what was idle longest is removed",
			"removed", len(gone), "lastUsedUntil", since, "limitBytes", t.store.opts.MaxBytes)
	})
	return nil
}
