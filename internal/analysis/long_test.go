//go:build long

package analysis

// How many rollouts the simulations play: go test -tags long ./internal/analysis -run O29 -v takes minutes and prints
// the rate that the project promises.
const (
	simulated        = 10_000 // canaries as good as the stable
	simulatedAtLimit = 4_000  // canaries that are worse by what is allowed
	simulatedBad     = 100
)
