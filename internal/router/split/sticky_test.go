package split

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

func TestO20_ASessionGoesOverOnceAsTheWeightRises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		session, revision := rapid.String().Draw(t, "session"), rapid.StringMatching(`[0-9a-f]{10}`).Draw(t, "revision")
		weights := rapid.SliceOfN(rapid.Uint32Range(0, Whole), 2, 2).Draw(t, "weights")
		low, high := min(weights[0], weights[1]), max(weights[0], weights[1])
		if Sticky(session, revision, low) && !Sticky(session, revision, high) {
			t.Fatalf("session %q of %s is the canary's at %d and not at %d", session, revision, low, high)
		}
		if Sticky(session, revision, 0) || !Sticky(session, revision, Whole) {
			t.Fatalf("session %q at no weight, or not at all of it", session)
		}
	})
}

// TestO20_TheSameInEveryPod: known values, so that a change of the function is noticed: it would move sessions between
// pods of two versions of this program.
func TestO20_TheSameInEveryPod(t *testing.T) {
	got := ""
	for i := range 20 {
		if Sticky(fmt.Sprint("session-", i), "5f3a9c0d1e", 2500) {
			got += fmt.Sprint(i, " ")
		}
	}
	if want := "1 7 8 9 11 17 "; got != want {
		t.Errorf("sessions %s are the canary's, want %s", got, want)
	}
}

func TestStickySharesAreFair(t *testing.T) {
	const sessions = 20_000
	for _, weight := range []uint32{100, 1000, 2500, 5000, 9000} {
		n, both := 0, 0
		for i := range sessions {
			session := fmt.Sprintf("%08x", i)
			if Sticky(session, "r2", weight) {
				n++
				if Sticky(session, "r3", weight) {
					both++
				}
			}
		}
		want := float64(sessions) * float64(weight) / Whole
		if d := float64(n) - want; d*d > 25*want { // five standard deviations, and more
			t.Errorf("weight %d: %d of %d sessions, want about %.0f", weight, n, sessions, want)
		}
		if share := float64(both) / float64(n); weight < 9000 && share > 0.01+1.5*float64(weight)/Whole {
			t.Errorf("weight %d: %.0f %% of them are the next canary's as well", weight, 100*share)
		}
	}
}
