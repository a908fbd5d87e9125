//go:build !long

package analysis

// How many rollouts the simulations play in every run of the tests; with the build tag long, the full number.
const (
	simulated        = 500
	simulatedAtLimit = 100
	simulatedBad     = 4
)
