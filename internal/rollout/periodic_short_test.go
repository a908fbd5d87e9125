//go:build !long

package rollout_test

import "testing"

// TestO15_O29_AnEqualCanaryUnderPeriodicTraffic: see hoursOfRhythm; periodic_long_test.go plays more of them.
func TestO15_O29_AnEqualCanaryUnderPeriodicTraffic(t *testing.T) { hoursOfRhythm(t, 1) }
