package router

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
	"github.com/dspex/workerpool-operator/internal/router/trip"
)

// ctl runs `poold ctl` as kubectl exec would, and returns its exit code and what it prints.
func (p *podProcesses) ctl(args ...string) (code int, out string) {
	p.t.Helper()
	cmd := exec.Command(p.poold, append([]string{"ctl", args[0], "--socket", p.dir + "/state/" + ControlSocket}, args[1:]...)...)
	text, _ := cmd.CombinedOutput()
	return cmd.ProcessState.ExitCode(), string(text)
}

// TestO27_CrashLoopOfRealWorkers: every request that the canary gets kills its worker. The pod takes it off the traffic
// by itself, the stable loses nothing.
func TestO27_CrashLoopOfRealWorkers(t *testing.T) {
	p := newPod(t, changed(samples(5000), func(s *controlpb.Snapshot) {
		s.Slots[1].Revision.Env = []*controlpb.EnvVar{{Name: "CRASH", Value: "1"}}
	}))
	const callers, each = 4, 100
	var mu sync.Mutex
	failed, first, last := map[string]int{}, time.Time{}, time.Time{}
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range each {
				a := p.post("work", `{"text": "x"}`)
				if a.code == 200 {
					continue
				}
				mu.Lock()
				failed[a.header.Get("Workerpool-Version")+" "+a.failure.Type]++
				if last = time.Now(); first.IsZero() {
					first = last
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	st := p.state()
	if st.Trip == nil || st.Trip.Revision != "r2" || st.CanaryWeight != 0 || st.GivenWeight != 50 {
		t.Fatalf("weight %v, trip %+v after %v", st.CanaryWeight, st.Trip, failed)
	}
	t.Logf("%s: %s; from the first bad reply to the last %v; failures %v", st.Trip.Reason, st.Trip.Message, last.Sub(first), failed)
	// Four crashes trip; what has been sent meanwhile to the two workers may fail as well.
	if n := failed["v2 port_exited"]; len(failed) != 1 || n < 4 || n > 8 {
		t.Errorf("failures %v, want the few of v2 that it took", failed)
	}
	if slot := p.slot("a"); slot.Crashed+slot.Destroyed > 0 {
		t.Errorf("the stable slot noticed: %+v", slot)
	}
}

// TestO27_WhatWaitsInARealSlotGoesToTheStable: both workers of the canary are busy when it trips, and four requests wait
// for them.
func TestO27_WhatWaitsInARealSlotGoesToTheStable(t *testing.T) {
	p := newPod(t, changed(samples(10_000), func(s *controlpb.Snapshot) { s.Limits.CheckoutMs, s.Limits.OperationMs = 20_000, 20_000 }))
	const waiting = 4
	running, waited := make(chan *answer, 2), make(chan *answer, waiting)
	for range cap(running) {
		go func() { running <- p.post("sleep", `{"ms": 4000}`) }()
	}
	p.until(func() bool { return p.slot("b").Busy == 2 }) // a slot tells its load once a second
	for range waiting {
		go func() { waited <- p.post("work", `{"text": "x"}`) }()
	}
	p.until(func() bool { return p.slot("b").Queued == waiting })
	if code, out := p.ctl("trip"); code != 0 {
		t.Fatalf("code %d\n%s", code, out)
	}
	for range waiting {
		if a := <-waited; a.code != 200 || a.header.Get("Workerpool-Version") != "v1" {
			t.Errorf("one that waited: %d %s by %s", a.code, a.body, a.header.Get("Workerpool-Version"))
		}
	}
	if len(running) > 0 {
		t.Error("they waited for the canary's workers")
	}
	for range cap(running) {
		if a := <-running; a.code != 200 || a.header.Get("Workerpool-Version") != "v2" {
			t.Errorf("one that ran: %d %s by %s", a.code, a.body, a.header.Get("Workerpool-Version"))
		}
	}
	for _, row := range p.state().Revisions {
		if row.Infrastructure+row.Shed > 0 {
			t.Errorf("failures are counted: %+v", row)
		}
	}
}

// TestKilledWorkersAreNoLoop: somebody's kill -9, of one worker or of all that there are.
func TestKilledWorkersAreNoLoop(t *testing.T) {
	p := newPod(t, samples(5000))
	crashed := uint64(0)
	for _, n := range []int{1, 2} {
		for _, w := range p.slot("b").Workers[:n] {
			if err := syscall.Kill(w.PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			crashed++
		}
		p.until(func() bool { s := p.slot("b"); return s.Crashed == crashed && s.Ready == 2 })
	}
	by := map[string]int{}
	for range 20 {
		a := p.post("work", `{"text": "x"}`)
		if a.code != 200 {
			t.Errorf("%d %s", a.code, a.body)
		}
		by[a.header.Get("Workerpool-Version")]++
	}
	if by["v1"] != 10 || by["v2"] != 10 {
		t.Errorf("20 requests at weight 50 were answered by %v", by)
	}
	if st := p.state(); st.Trip != nil {
		t.Errorf("tripped: %+v", st.Trip)
	}
}

// TestO80_TripByHandWithNoOperator: there is none in these tests at all. The trip outlives a kill -9 of the router.
func TestO80_TripByHandWithNoOperator(t *testing.T) {
	p := newPod(t, samples(5000))
	if code, out := p.ctl("status"); code != 0 || !strings.Contains(out, "slot b  canary, 50 %") || !strings.Contains(out, "operator not connected") {
		t.Errorf("status before: code %d\n%s", code, out)
	}
	info, err := os.Stat(filepath.Join(p.dir, "state", ControlSocket))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the control socket: %v, %v", info, err)
	}
	code, out := p.ctl("trip", "--reason", "wrong answers")
	if code != 0 || !strings.Contains(out, "v2 (revision r2, slot b) goes from 50 % to 0 %") || !strings.Contains(out, "pool.dspex.dev/retry") {
		t.Errorf("trip: code %d\n%s", code, out)
	}
	stableOnly := func(when string) {
		t.Helper()
		for range 20 {
			if a := p.post("work", `{"text": "x"}`); a.header.Get("Workerpool-Version") != "v1" {
				t.Errorf("%s: %d %s by %s", when, a.code, a.body, a.header.Get("Workerpool-Version"))
			}
		}
		if st := p.state(); st.Trip == nil || st.Trip.Reason != trip.ByHand || st.CanaryWeight != 0 {
			t.Errorf("%s: weight %v, trip %+v", when, st.CanaryWeight, st.Trip)
		}
	}
	stableOnly("after the trip")
	_ = p.end("router", syscall.SIGKILL)
	if code, out := p.ctl("trip"); code != 2 || !strings.Contains(out, "the router can't be reached") {
		t.Errorf("with no router: code %d\n%s", code, out)
	}
	p.client.CloseIdleConnections()
	p.startRouter()
	stableOnly("after the router was killed")
	if code, out := p.ctl("trip"); code != 0 || !strings.Contains(out, "gets nothing in this pod already") {
		t.Errorf("a second trip: code %d\n%s", code, out)
	}
	if code, out := p.ctl("status"); code != 0 || !strings.Contains(out, "canary, 0 % in place of 50 %") || !strings.Contains(out, "wrong answers") {
		t.Errorf("status after: code %d\n%s", code, out)
	}
}

func TestCtlSaysWhyNot(t *testing.T) {
	p := newPod(t, changed(samples(0), func(s *controlpb.Snapshot) {
		s.Slots[1].Revision, s.Slots[1].Size, s.Canary = nil, 0, ""
	}))
	for name, tc := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no canary":    {[]string{"trip"}, 1, "nothing to trip in this pod of summarizer: there is no canary"},
		"no command":   {[]string{"retry"}, 2, "usage: poold ctl trip"},
		"an argument":  {[]string{"trip", "now"}, 2, `unexpected argument "now"`},
		"unknown flag": {[]string{"status", "--reason", "x"}, 2, "flag provided but not defined"},
		"help":         {[]string{"trip", "-h"}, 0, "control socket"},
	} {
		if code, out := p.ctl(tc.args...); code != tc.code || !strings.Contains(out, tc.want) {
			t.Errorf("%s: code %d\n%s", name, code, out)
		}
	}
}

// TestO17_WhatWaitsInARealSlotIsTakenBack: the canary is dropped while both of its workers are busy and four requests wait for
// them; the slot, told to go idle, lets what runs finish.
func TestO17_WhatWaitsInARealSlotIsTakenBack(t *testing.T) {
	s := changed(samples(10_000), func(s *controlpb.Snapshot) { s.Limits.CheckoutMs, s.Limits.OperationMs = 20_000, 20_000 })
	p := newLivePod(t, s)
	const waiting = 4
	running, waited := make(chan *answer, 2), make(chan *answer, waiting)
	for range cap(running) {
		go func() { running <- p.post("sleep", `{"ms": 4000}`) }()
	}
	p.until(func() bool { return p.slots["b"].State().Status.Busy == 2 })
	for range waiting {
		go func() { waited <- p.post("work", `{"text": "x"}`) }()
	}
	p.until(func() bool { return p.slots["b"].State().Status.Queued == waiting })
	dropped := changed(s, func(s *controlpb.Snapshot) {
		s.Slots[1].Revision, s.Slots[1].Size, s.Slots[1].Overflow, s.Canary, s.CanaryWeight = nil, 0, 0, "", 0
	})
	if err := p.Apply(t.Context(), at(dropped, 1, 1)); err != nil {
		t.Fatal(err)
	}
	for range waiting {
		if a := <-waited; a.code != 200 || a.header.Get("Workerpool-Version") != "v1" {
			t.Errorf("one that waited: %d %s by %s", a.code, a.body, a.header.Get("Workerpool-Version"))
		}
	}
	if len(running) > 0 {
		t.Error("they waited for the canary's workers")
	}
	for range cap(running) {
		if a := <-running; a.code != 200 || a.header.Get("Workerpool-Version") != "v2" {
			t.Errorf("one that ran: %d %s by %s", a.code, a.body, a.header.Get("Workerpool-Version"))
		}
	}
}
