package crew

import (
	"strconv"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// fails is a start's failure of the usual kind.
func fails(err worker.BootError, started time.Time) failure {
	return failure{err: err, started: started}
}

func TestP8_BackOffGrows(t *testing.T) {
	same := worker.BootError{Message: "no module", Traceback: "line 1"}
	var b bootLog
	now, tries := t0, 0
	for now.Before(t0.Add(10 * time.Minute)) {
		b.failed(fails(same, now), now, 0.5)
		tries++
		now = b.notBefore
	}
	if tries < 15 || tries > 30 {
		t.Errorf("%d tries in 10 minutes; want some, with back-off up to %s", tries, maxDelay)
	}
	if b.report == nil || b.report.Attempts != tries || !b.report.Next.Equal(b.notBefore) || b.report.Traceback != "line 1" {
		t.Errorf("report %+v after %d tries", b.report, tries)
	}
}

func TestP8_Reported(t *testing.T) {
	x, y, z := worker.BootError{Message: "x"}, worker.BootError{Message: "y"}, worker.BootError{Message: "z"}
	for name, tc := range map[string]struct {
		failures []worker.BootError
		want     bool
	}{
		"once":                {[]worker.BootError{x}, false},
		"the same twice":      {[]worker.BootError{x, x}, true},
		"two reasons":         {[]worker.BootError{x, y}, false},
		"three, all unlike":   {[]worker.BootError{x, y, z}, true},
		"unlike, then alike":  {[]worker.BootError{x, y, y}, true},
		"same message, other": {[]worker.BootError{x, {Message: "x", Traceback: "elsewhere"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var b bootLog
			at := t0
			for i, f := range tc.failures {
				at = in(time.Duration(i) * time.Minute)
				b.failed(fails(f, at), at, 0)
			}
			if got := b.report != nil; got != tc.want {
				t.Errorf("reported %v, want %v", got, tc.want)
			}
			b.ready(at)
			if b.settle(false, at); b.failing || (b.report != nil) != tc.want {
				t.Error("a member got ready while others are missing: that is no recovery, though starts may go on")
			}
			if b.settle(true, at); b.report != nil {
				t.Error("still reported, and no member is missing")
			}
		})
	}
}

// Each failure has another text, as where a port or a pid is in it.
func TestP80_UnlikeFailuresStayReported(t *testing.T) {
	var b bootLog
	now := t0
	for i := range 50 {
		b.failed(fails(worker.BootError{Message: "port " + strconv.Itoa(i)}, now), now, 0.5)
		now = b.notBefore
		if i+1 >= unlikeFailures && (b.report == nil || b.report.Message != b.last.Message) {
			t.Fatalf("report %+v after %d failures", b.report, i+1)
		}
	}
	if wait := b.notBefore.Sub(b.failedAt); wait < maxDelay*3/4 {
		t.Errorf("waits %s after 50 failures, want about %s", wait, maxDelay)
	}
}

func TestP80_WhatProvesThatStartsWork(t *testing.T) {
	for name, tc := range map[string]struct {
		started, readyAt time.Time
		served           bool
		want             bool
	}{
		"started before, has served and lives long": {ago(time.Hour), ago(time.Hour), true, false},
		"started beside it, and got ready after":    {ago(time.Second), in(time.Second), true, false},
		"started after, just ready":                 {in(time.Second), in(2 * time.Second), false, false},
		"started after, has served":                 {in(time.Second), in(2 * time.Second), true, true},
		"started after, lives long":                 {in(0), ago(0), false, true},
	} {
		b := bootLog{rounds: 1, failedAt: t0}
		if got := b.provenBy(tc.started, tc.readyAt, tc.served, in(provenAfter)); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func TestP80_OnlyALaterStartEndsTheBackOff(t *testing.T) {
	var b bootLog
	b.failed(fails(worker.BootError{Message: "x"}, t0), in(time.Second), 0.5)
	if b.ready(t0); !b.failing || b.notBefore.IsZero() {
		t.Error("a start that began beside the one that failed ends the back-off")
	}
	if b.ready(b.notBefore); b.failing || !b.notBefore.IsZero() || b.rounds != 1 {
		t.Errorf("failing %v, not before %s, rounds %d; want no wait, and the next failure's to be longer", b.failing, b.notBefore, b.rounds)
	}
}

func TestP80_AFailureThatNobodyMissesIsForgotten(t *testing.T) {
	var b bootLog
	for range 2 {
		b.failed(fails(worker.BootError{Message: "x"}, t0), t0, 0.5)
	}
	if again := b.settle(false, in(time.Hour)); !again.IsZero() || b.report == nil {
		t.Error("forgotten while members are missing")
	}
	if again := b.settle(true, in(time.Second)); !again.Equal(in(forgetAfter)) || b.report == nil {
		t.Errorf("to be looked at again at %s, want %s", again, in(forgetAfter))
	}
	if b.settle(true, in(forgetAfter)); b.report != nil || b.failing || b.rounds == 0 {
		t.Errorf("%+v; want no state, and the back-off as it was", b)
	}
}

func TestStartsSideBySideAreOneRound(t *testing.T) {
	var b bootLog
	for i := range 8 {
		b.failed(fails(worker.BootError{Message: "x"}, t0), t0.Add(time.Duration(i+1)*time.Millisecond), 0)
	}
	if b.rounds != 1 || b.attempts != 8 {
		t.Errorf("rounds %d, attempts %d; want 1, 8", b.rounds, b.attempts)
	}
}

func TestP80_CrashingMembersStayReported(t *testing.T) {
	var b bootLog
	for i := range 3 {
		at := t0.Add(time.Duration(i) * time.Minute)
		b.failed(failure{err: worker.BootError{Message: "died idle"}, started: at, crashing: true}, at, 0)
		b.ready(at)
		b.settle(true, at)
	}
	if b.report == nil || !b.report.Crashing || b.rounds != 3 {
		t.Errorf("report %v, rounds %d; want one, 3: getting ready proves nothing", b.report, b.rounds)
	}
	if b.proven(); b.report != nil || b.rounds != 0 {
		t.Error("still reported after a member has proved good")
	}
}

// Members that have served and crash all the same have no back-off. What befalls each of four once is no loop.
func TestP80_ManyYoungCrashesAreAState(t *testing.T) {
	var b bootLog
	for i := range 20 {
		now := in(time.Duration(i) * provenAfter / 3)
		if b.crashed("died", 4, now); b.state(now) != nil {
			t.Fatalf("a state after %d crashes, 4 of them within %s", i+1, provenAfter)
		}
	}
	for i := range 5 {
		b.crashed("died", 4, in(time.Hour))
		if s := b.state(in(time.Hour)); (s != nil) != (i == 4) || s != nil && (s.Message != "died" || !s.Crashing || s.Attempts != 5) {
			t.Errorf("crash %d within a moment: %+v", i+1, s)
		}
	}
	if s := b.state(in(time.Hour + provenAfter + 1)); s != nil || len(b.crashes) > 5 || b.failing {
		t.Errorf("%+v of %d crashes, when the last one is over", s, len(b.crashes))
	}
}

func TestDelayIsBounded(t *testing.T) {
	for n := 1; n < 100; n++ {
		low, high := delay(n, 0), delay(n, 0.999)
		if low < firstDelay*3/4 || high > maxDelay*5/4 || low > high {
			t.Errorf("delay %d is from %s to %s", n, low, high)
		}
	}
}
