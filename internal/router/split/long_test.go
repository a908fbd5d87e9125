//go:build long

package split

import "testing"

func TestLongPeriodicTraffic(t *testing.T) {
	var weights []uint32
	for weight := uint32(100); weight < Whole; weight += 100 {
		weights = append(weights, weight)
	}
	periodic(t, append(weights, someWeights...), 3000)
}
