package control

import (
	"time"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
)

// RolledBackView is a rollback as a router was told of it.
type RolledBackView struct {
	Revision, From string
	To, ToRevision string
	Weight, Reason string
	Evidence       []string
	At             time.Time // by the leader's clock that decided it
	TripToken      string    // that the router had been told with it
}

// Bounds of what a router may say of a rollback.
const (
	maxEvidence     = 10
	maxEvidenceLine = 1024 // bytes
)

// rolledBackOf copies what a Hello says of a rollback. What a status couldn't hold is as if it hadn't been said.
func rolledBackOf(hello *controlpb.Hello) *RolledBackView {
	r := hello.GetRolledBack()
	version := func(v string) bool { return v == "v1" || v == "v2" }
	if !hash.MatchString(r.GetRevision()) || !hash.MatchString(r.GetToRevision()) || !version(r.GetFrom()) || !version(r.GetTo()) || r.GetAtUnix() <= 0 {
		return nil
	}
	v := &RolledBackView{
		Revision: r.GetRevision(), From: r.GetFrom(), To: r.GetTo(), ToRevision: r.GetToRevision(),
		Weight: bounded(r.GetWeight(), maxName), Reason: bounded(r.GetReason(), maxName),
		At: time.Unix(r.GetAtUnix(), 0).UTC(), TripToken: bounded(hello.GetTripToken(), maxReason),
	}
	for _, line := range r.GetEvidence()[:min(len(r.GetEvidence()), maxEvidence)] {
		v.Evidence = append(v.Evidence, bounded(line, maxEvidenceLine))
	}
	return v
}
