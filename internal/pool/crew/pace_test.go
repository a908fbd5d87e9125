package crew

import (
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

func TestP2_PaceHalvesOncePerCrowd(t *testing.T) {
	var p pace
	now := t0
	for _, want := range []int{4, 2, 1, 1} {
		crowd, started := max(2, min(p.most(), 8)), now
		now = now.Add(5 * time.Second)
		for range crowd { // all that started together fail together
			p.slower(crowd, "took longer than 5s", started, now)
			now = now.Add(time.Millisecond)
		}
		if p.limit != want {
			t.Fatalf("pace %d after %d failed at once, want %d", p.limit, crowd, want)
		}
	}
}

func TestP2_PaceGrowsAgain(t *testing.T) {
	var p pace
	p.slower(8, "took longer than 5s", t0, in(5*time.Second))
	for range 100 {
		p.ready(t0) // they began with the crowd
	}
	if p.limit != 4 {
		t.Fatalf("pace %d; want 4, as nothing was tried since", p.limit)
	}
	for range 8 {
		p.ready(in(6 * time.Second))
	}
	if p.limit != 5 {
		t.Errorf("pace %d after as many good starts as were too many, want 5", p.limit)
	}
	for range 8 * maxStarting {
		p.ready(in(6 * time.Second))
	}
	if p != (pace{}) {
		t.Errorf("pace %+v in the end; want no bound", p)
	}
}

func TestPaceText(t *testing.T) {
	var p pace
	if p.text(true) != "" {
		t.Error("a pace that is as ever has a text")
	}
	p.slower(8, "took longer than 5s", t0, in(5*time.Second))
	if got, want := p.text(false), "8 starts at once took longer than 5s: starting 4 at a time"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := p.text(true), "8 starts at once took longer than 5s: starting 1 at a time"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// A module that hangs isn't the crowd's fault: the first failure without one is a state.
func TestP8_ACrowdIsNoStateBeforeOneFailsAlone(t *testing.T) {
	var b bootLog
	slow := worker.BootError{Message: "wasn't ready after 5s", Crowd: "took longer than 5s"}
	for range 8 {
		b.failed(failure{err: slow, started: t0, crowded: true}, in(5*time.Second), 0.5)
	}
	if b.report != nil || !b.failing {
		t.Errorf("report %+v, failing %v; want none before one was tried alone", b.report, b.failing)
	}
	b.failed(fails(slow, b.notBefore), in(11*time.Second), 0.5)
	if b.report == nil {
		t.Error("no report after one has failed alone")
	}
}
