//go:build long

package rollout_test

import "testing"

func TestO15_O29_AnEqualCanaryUnderPeriodicTraffic(t *testing.T) { hoursOfRhythm(t, 20) }
