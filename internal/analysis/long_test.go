//go:build long

package analysis

import "testing"

// All of the simulated rollouts, in minutes: go test -tags long ./internal/analysis -run O29 -v prints the rate of false
// rollbacks that the project promises.

func TestO29_SameOnBothSides(t *testing.T)      { sameOnBothSides(t, 10_000) }
func TestO29_WorseByWhatIsAllowed(t *testing.T) { worseByWhatIsAllowed(t, 4_000) }
func TestO26_Detection(t *testing.T)            { detection(t, 100) }
