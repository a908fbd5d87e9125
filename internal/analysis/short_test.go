//go:build !long

package analysis

import "testing"

// A few of the simulated rollouts in every run of the tests; long_test.go plays all of them.

func TestO29_SameOnBothSides(t *testing.T)      { sameOnBothSides(t, 500) }
func TestO29_WorseByWhatIsAllowed(t *testing.T) { worseByWhatIsAllowed(t, 100) }
func TestO26_Detection(t *testing.T)            { detection(t, 4) }
