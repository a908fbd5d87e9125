package router

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
	"github.com/dspex/workerpool-operator/internal/router/trip"
)

// TestO80_TripHolds goes through everything that must not end a trip, and then what does.
func TestO80_TripHolds(t *testing.T) {
	r := newRig(t, snapshot(0), nil)
	r.apply(at(under(snapshot(2500), "one"), 3, 1))
	answer, err := r.TripByHand("wrong\nanswers\x00 ")
	if err != nil || answer.Before != 25 || answer.Canary.Revision != "r2" || answer.Stable.Slot != "a" || answer.Already {
		t.Fatalf("%+v, %v", answer, err)
	}
	if got := r.tripped(); got.Message != "poold ctl trip: wrong answers" || !got.ByHand || !r.Report().GetTrip().GetByHand() {
		t.Errorf("%+v", got)
	}
	r.servesStableOnly("after the trip")

	again, err := r.TripByHand("once more")
	if err != nil || !again.Already || again.Trip.Message != "poold ctl trip: wrong answers" {
		t.Errorf("again: %+v, %v", again, err)
	}
	for sequence, weight := range []uint32{5000, 10_000, 2500} {
		r.apply(at(under(snapshot(weight), "one"), 3, uint64(sequence+2)))
		r.servesStableOnly("after a snapshot with a weight")
	}
	r.apply(at(under(snapshot(5000), "one"), 4, 1))
	r.servesStableOnly("after another leader's snapshot")

	r.restart()
	r.until(func() bool { return r.status().Configured && ready(r.Router, snapshot(0)) })
	r.servesStableOnly("after a restart")
	if got := r.tripped(); got.Reason != trip.ByHand || got.Message != "poold ctl trip: wrong answers" {
		t.Errorf("after a restart: %+v", got)
	}

	noCanary := changed(under(snapshot(0), "one"), func(s *controlpb.Snapshot) { s.Slots[1].Revision, s.Canary = nil, "" })
	r.apply(at(noCanary, 4, 2))
	if st := r.status(); st.Trip != nil || r.Report().GetTrip() != nil {
		t.Errorf("there is no canary, and a trip is shown: %+v", st.Trip)
	}
	r.apply(at(under(snapshot(5000), "one"), 4, 3))
	r.servesStableOnly("when the same canary is back")

	r.apply(at(under(snapshot(5000), "two"), 4, 4))
	if _, b := r.burst(100); b != 50 || r.status().Trip != nil || r.Report().GetTrip() != nil {
		t.Errorf("with another token the canary answered %d of 100: %+v", b, r.status().Trip)
	}
	r.restart()
	r.until(func() bool { return r.status().Configured && ready(r.Router, snapshot(0)) })
	if st := r.status(); st.Trip != nil || st.CanaryWeight != 50 {
		t.Errorf("a trip that was over is back after a restart: %+v", st)
	}
}

func TestAnotherRevisionEndsATrip(t *testing.T) {
	r := newRig(t, snapshot(0), nil)
	r.apply(at(snapshot(5000), 1, 1))
	if _, err := r.TripByHand(""); err != nil {
		t.Fatal(err)
	}
	r3 := changed(snapshot(5000), func(s *controlpb.Snapshot) { s.Slots[1].Revision.Hash = "r3" })
	r.apply(at(r3, 1, 2))
	if _, b := r.burst(100); b != 50 {
		t.Errorf("the next canary answered %d of 100", b)
	}
	r.apply(at(snapshot(5000), 1, 3))
	if _, b := r.burst(100); b != 50 {
		t.Errorf("when the revision that had tripped was sent again by the leader it answered %d of 100", b)
	}
}

// TestO17_O80_NoRequestAfterATrip: while a leader raises the weight again and again, whatever begins after the trip is the
// stable's.
func TestO17_O80_NoRequestAfterATrip(t *testing.T) {
	r := newRig(t, snapshot(0), nil)
	r.apply(at(snapshot(5000), 1, 1))
	stop, applied := make(chan struct{}), make(chan uint64)
	go func() {
		sequence := uint64(1)
		for {
			select {
			case <-stop:
				applied <- sequence
				return
			default:
				sequence++
				if err := r.Apply(context.Background(), at(snapshot(5000+uint32(sequence%2)*5000), 1, sequence)); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	if _, b := r.burst(200); b == 0 {
		t.Error("the canary got nothing before the trip")
	}
	if _, err := r.TripByHand(""); err != nil {
		t.Fatal(err)
	}
	if _, b := r.burst(500); b != 0 {
		t.Errorf("%d requests that began after the trip reached the canary", b)
	}
	close(stop)
	if n := <-applied; n < 10 {
		t.Errorf("only %d snapshots were applied meanwhile", n)
	}
}

// TestTripThatCanNotBeRead: the router serves, and says what is lost.
func TestTripThatCanNotBeRead(t *testing.T) {
	r := newRig(t, snapshot(5000), nil)
	if _, err := r.TripByHand(""); err != nil {
		t.Fatal(err)
	}
	r.end()
	if err := os.WriteFile(filepath.Join(r.config.StateDir, "trip"), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.until(func() bool { return r.status().Configured })
	if !strings.Contains(r.logs.String(), "the trip kept on disk is of no use") {
		t.Errorf("the log doesn't say so:\n%s", r.logs)
	}
}

// TestTripThatCanNotBeKeptIsInForce: a full disk stops no trip, whoever tripped is told, and it is kept as soon as it can be.
func TestTripThatCanNotBeKeptIsInForce(t *testing.T) {
	r := newRig(t, snapshot(5000), nil)
	if err := os.RemoveAll(r.config.StateDir); err != nil {
		t.Fatal(err)
	}
	answer, err := r.TripByHand("")
	if err != nil || !strings.Contains(answer.Unkept, r.config.StateDir) {
		t.Fatalf("%+v, %v", answer, err)
	}
	r.servesStableOnly("after the trip")
	if again, err := r.TripByHand(""); err != nil || again.Unkept == "" {
		t.Errorf("asked again: %+v, %v", again, err)
	}
	if n := strings.Count(r.logs.String(), "would not be if the router restarted"); n != 1 {
		t.Errorf("the log tells %d times, want once:\n%s", n, r.logs)
	}
	if err := os.Mkdir(r.config.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	r.b.Crash(1) // whatever changes
	r.until(func() bool { _, err := os.Stat(filepath.Join(r.config.StateDir, "trip")); return err == nil })
	if again, err := r.TripByHand(""); err != nil || again.Unkept != "" {
		t.Errorf("once it is kept: %+v, %v", again, err)
	}
}

func TestTripByHandNeedsACanary(t *testing.T) {
	r := newRig(t, changed(snapshot(0), func(s *controlpb.Snapshot) { s.Slots[1].Revision, s.Canary = nil, "" }), nil)
	if _, err := r.TripByHand(""); err == nil || !strings.Contains(err.Error(), "there is no canary") {
		t.Errorf("got %v", err)
	}
	t.Run("which may have no weight yet", func(t *testing.T) {
		r.apply(at(snapshot(0), 1, 1))
		if _, err := r.TripByHand(""); err != nil {
			t.Fatal(err)
		}
		r.apply(at(snapshot(5000), 1, 2))
		r.servesStableOnly("after its weight was raised")
	})
}
