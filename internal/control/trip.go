package control

import (
	"time"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
)

// TripView is a router's own decision that the canary gets nothing in its pod.
type TripView struct {
	Revision string
	// Reason: CrashLoop, StartsFailed, ConsecutiveFailures or ByHand. Message: what was seen.
	Reason, Message string
	ByHand          bool
	// ReportOnly: the traffic was left alone.
	ReportOnly bool
	At         time.Time // by the router's clock
	// Outdated: it was told before the current snapshot was in force, which may have ended it.
	Outdated bool
}

// maxTripMessage bounds what a router says of its trip, in bytes.
const maxTripMessage = 512

// tripOf copies what is kept of a trip; nil: there is none.
func tripOf(t *controlpb.Trip) *TripView {
	if t == nil {
		return nil
	}
	return &TripView{
		Revision: bounded(t.GetRevision(), maxName), Reason: bounded(t.GetReason(), maxName),
		Message: bounded(t.GetMessage(), maxTripMessage),
		ByHand:  t.GetByHand(), ReportOnly: t.GetReportOnly(), At: time.UnixMilli(int64(t.GetAtUnixMs())),
	}
}

// trips takes over what a report says of a trip, and tells whether that is new.
func (p *podState) trips(t *controlpb.Trip) bool {
	next := tripOf(t)
	if (next == nil) == (p.tripped == nil) && (next == nil || *next == *p.tripped) {
		return false
	}
	p.tripped = next
	return true
}

// trip is what is known of a trip, as against the current snapshot. An acknowledgement comes before the report that says
// what became of a trip under it.
func (p *podState) trip(current *controlpb.Snapshot) *TripView {
	if p.tripped == nil || current == nil || p.reportedUnder == orderOf(current) {
		return p.tripped
	}
	outdated := *p.tripped
	outdated.Outdated = true
	return &outdated
}
