package affinity_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool/affinity"
)

var t0 = time.Unix(1000, 0)

type table struct {
	*testing.T
	*affinity.Table[string]
}

// serve has a request of the key begin and end at the same time, served by worker unless the key has one; "": by nobody.
func (t table) serve(key, worker string, at time.Time) (by string) {
	k := t.Hold(key, at)
	defer t.Release(k, at)
	by, bound := k.Worker()
	if !bound && worker != "" {
		t.Bind(k, worker)
		by = worker
	}
	return by
}

func (t table) wants(key, worker string, at time.Time) {
	t.Helper()
	if by := t.serve(key, "", at); by != worker {
		t.Errorf("key %s has worker %q; want %q", key, by, worker)
	}
}

func TestP69_AffinityGoesWithItsWorker(t *testing.T) {
	tab := table{t, affinity.NewTable[string]()}
	tab.serve("a", "w1", t0)
	tab.serve("b", "w1", t0)
	tab.serve("c", "w2", t0)
	held := tab.Hold("b", t0)
	tab.Unbind("w1")
	if w, bound := held.Worker(); bound {
		t.Errorf("a key that is held still has %s, which has left", w)
	}
	tab.Bind(held, "w1") // by whoever was handed the worker at the same moment
	tab.Unbind("w1")
	tab.Release(held, t0)
	tab.wants("a", "", t0)
	tab.wants("b", "", t0)
	tab.wants("c", "w2", t0)
}

func TestP69_AffinityEndsWithItsIdleTime(t *testing.T) {
	tab := table{t, affinity.NewTable[string]()}
	tab.serve("a", "w1", t0)
	almost := t0.Add(affinity.IdleTime - 1)
	tab.wants("a", "w1", almost) // which is a use
	tab.wants("a", "w1", almost.Add(affinity.IdleTime-1))
	tab.wants("a", "", almost.Add(2*affinity.IdleTime))

	held := tab.Hold("b", t0)
	tab.Bind(held, "w1")
	late := t0.Add(5 * affinity.IdleTime)
	tab.wants("b", "w1", late) // it is in use all the time
	tab.Release(held, late)
	tab.wants("b", "w1", late.Add(affinity.IdleTime-1))
}

func TestMemoryOfATableIsBounded(t *testing.T) {
	tab := table{t, affinity.NewTable[string]()}
	held := tab.Hold("held", t0)
	tab.Bind(held, "w1")
	tab.serve("never served", "", t0)
	for i := range affinity.MaxIdle + 1 {
		tab.serve(strconv.Itoa(i), "w1", t0)
	}
	tab.wants("0", "", t0)
	tab.wants("1", "w1", t0)
	tab.wants("held", "w1", t0)
	if n := tab.Len(); n != affinity.MaxIdle+1 {
		t.Errorf("%d keys; want the held one and %d", n, affinity.MaxIdle)
	}
	later := t0.Add(affinity.IdleTime)
	tab.serve("last", "w1", later)
	if n := tab.Len(); n != 2 {
		t.Errorf("%d keys; want the held one, and the one that isn't too old", n)
	}
	tab.Release(held, later)
	if n := tab.Held(); n != 0 {
		t.Errorf("%d requests hold keys; want 0", n)
	}
}

func TestAKeyThatMovesIsNewsToItsOtherRequests(t *testing.T) {
	tab := affinity.NewTable[string]()
	one := tab.Hold("a", t0)
	if tab.Bind(one, "w1") {
		t.Error("news to nobody")
	}
	other := tab.Hold("a", t0)
	if one != other {
		t.Fatal("two keys of one name")
	}
	if tab.Bind(other, "w1") {
		t.Error("the same worker is no news")
	}
	if !tab.Bind(other, "w2") {
		t.Error("the other request wasn't told")
	}
}
