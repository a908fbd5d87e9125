// Package trip decides when a router takes the canary off the traffic of its own pod, without asking the operator. It is
// pure: facts and times in, a verdict out. Only what is the pool's own failure counts (crashes, workers that don't
// start, replies that break the protocol): an error that a handler raised, or blames on somebody else, proves that the
// pool works, and a timeout may be an upstream's. Those the operator compares between the versions.
package trip

import "time"

// Reason names why, as reports and conditions show it.
type Reason string

// Reasons.
const (
	CrashLoop           Reason = "CrashLoop"           // workers crash faster than by accident
	StartsFailed        Reason = "StartsFailed"        // workers don't start
	ConsecutiveFailures Reason = "ConsecutiveFailures" // requests fail in the pool itself, one after the other
	ByHand              Reason = "ByHand"              // somebody said so
)

// Trip is a decision that was made. It holds until Over.
type Trip struct {
	Revision string `json:"revision"` // of the canary
	Token    string `json:"token"`    // that the snapshot had
	Reason   Reason `json:"reason"`
	Message  string `json:"message"` // what was seen
	// ReportOnly: it is said, and the traffic left alone.
	ReportOnly bool      `json:"reportOnly,omitempty"`
	At         time.Time `json:"at"`
}

// Situation is what a leader's snapshot says of the things that a trip is bound to.
type Situation struct {
	Stable, Canary string // revisions; Canary "": there is none
	Token          string
	ReportOnly     bool
}

// Over reports whether a leader has ended the trip: with another token or another canary, or by promoting what had
// tripped. A canary that is away for a while comes back tripped. One that was only reported is over, too, when trips
// are to be acted on from now on: what is still wrong will show again.
func (t *Trip) Over(s Situation) bool {
	return s.Token != t.Token || s.Stable == t.Revision ||
		s.Canary != "" && s.Canary != t.Revision || t.ReportOnly && !s.ReportOnly
}

// Against reports whether the trip is about a canary of that revision.
func (t *Trip) Against(revision string) bool { return t != nil && t.Revision == revision }

// Stops reports whether the trip keeps requests from a canary of that revision.
func (t *Trip) Stops(revision string) bool { return t.Against(revision) && !t.ReportOnly }
