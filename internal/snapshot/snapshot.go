// Package snapshot builds what the routers are told: the whole desired state of a pod, the same for every pod of a
// pool. It is pure; the operator sends its result down the channel and injection writes it into new pods.
package snapshot

import (
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/control/controlpb"
	"github.com/dspex/workerpool-operator/internal/revision"
	"github.com/dspex/workerpool-operator/internal/rollout"
)

// The API's defaults, for a spec that didn't pass through the API server.
const (
	defaultQueueLimit = 1000
	defaultCheckout   = 5 * time.Second
	defaultOperation  = 30 * time.Second
	defaultDrain      = 30 * time.Second
	defaultStart      = 2 * time.Minute
)

// Input holds everything that a snapshot is made of.
type Input struct {
	// Spec gives sizes and limits.
	Spec *v1alpha1.WorkerPoolSpec
	// Assignment gives the slots their revisions.
	Assignment rollout.Assignment
	// Texts hold at least the revisions of the assignment.
	Texts revision.Texts
	// Weight of the canary; ignored without one.
	Weight rollout.Weight
	// TripToken is the retry token that was handled last: routers' trips of another one are over.
	TripToken string
	// LastRollback is the last one that is known; nil: none.
	LastRollback *v1alpha1.RollbackStatus
	// Epoch and Sequence order snapshots. Both are 0 in a pod's bootstrap, which any leader's snapshot supersedes.
	Epoch, Sequence uint64
}

// Build makes the snapshot. It fails when the text of a revision is missing: a slot must not be told to run something
// that no one can describe.
func Build(in Input) (*controlpb.Snapshot, error) {
	s := &controlpb.Snapshot{
		Epoch:    in.Epoch,
		Sequence: in.Sequence,
		Stable:   in.Assignment.Stable.Slot,
		Limits:   limits(in.Spec),
		Trip:     &controlpb.TripRule{Token: in.TripToken, ReportOnly: rollout.ReportOnly(in.Spec)},

		RolledBack: RolledBack(in.LastRollback),
	}
	if c := in.Assignment.Canary; c != nil {
		s.Canary, s.CanaryWeight = c.Slot, uint32(in.Weight)
		s.Match, s.Stickiness = match(in.Spec.Canary), stickiness(in.Spec.Canary)
	}
	for _, name := range []string{rollout.SlotA, rollout.SlotB} {
		slot, err := buildSlot(name, in)
		if err != nil {
			return nil, err
		}
		s.Slots = append(s.Slots, slot)
	}
	return s, nil
}

// maxEvidence bounds a line of evidence, in bytes: every router keeps it.
const maxEvidence = 512

// RolledBack is a rollback as routers are told of it; nil: none.
func RolledBack(r *v1alpha1.RollbackStatus) *controlpb.RolledBack {
	if r == nil {
		return nil
	}
	out := &controlpb.RolledBack{
		Revision: r.Revision, From: string(r.From), To: string(r.To), ToRevision: r.ToRevision,
		Weight: r.Weight, Reason: r.Reason, AtUnix: r.Time.Unix(),
	}
	for _, line := range r.Evidence {
		if len(line) > maxEvidence {
			line = strings.ToValidUTF8(line[:maxEvidence-len("…")], "") + "…"
		}
		out.Evidence = append(out.Evidence, line)
	}
	return out
}

// match is what may go to the canary; nil: everything.
func match(c *v1alpha1.Canary) *controlpb.Match {
	if c == nil || c.Match == nil {
		return nil
	}
	return &controlpb.Match{Commands: c.Match.Commands, Programs: c.Match.Programs}
}

func stickiness(c *v1alpha1.Canary) controlpb.Stickiness {
	if c != nil && c.Stickiness == v1alpha1.StickinessSession {
		return controlpb.Stickiness_STICKINESS_SESSION
	}
	return controlpb.Stickiness_STICKINESS_REQUEST
}

// buildSlot gives a slot its revision and size, or leaves it idle.
func buildSlot(name string, in Input) (*controlpb.Slot, error) {
	placed := in.Assignment.In(name)
	if placed == nil {
		return &controlpb.Slot{Name: name}, nil
	}
	text, ok := in.Texts[placed.Revision]
	if !ok {
		return nil, fmt.Errorf("slot %s is to run revision %s, whose ControllerRevision is missing; restore it, or change spec.worker", name, placed.Revision)
	}
	return &controlpb.Slot{
		Name:     name,
		Revision: wire(text),
		Size:     uint32(in.Spec.Size),
		Overflow: uint32(in.Spec.Overflow),
	}, nil
}

func wire(t revision.Text) *controlpb.Revision {
	r := &controlpb.Revision{
		Hash:        t.Hash(),
		Version:     string(t.PoolVersion),
		Image:       t.Worker.Image,
		Python:      t.Worker.Python,
		WorkingDir:  t.Worker.WorkingDir,
		Module:      t.Worker.Module,
		Preload:     string(t.Worker.Preload),
		Concurrency: uint32(max(t.Worker.Concurrency, 0)),
	}
	for _, e := range t.Worker.Env {
		r.Env = append(r.Env, &controlpb.EnvVar{Name: e.Name, Value: e.Value})
	}
	return r
}

func limits(spec *v1alpha1.WorkerPoolSpec) *controlpb.Limits {
	l := &controlpb.Limits{
		QueueLimit:  defaultQueueLimit,
		CheckoutMs:  millis(spec.Timeouts.Checkout, defaultCheckout),
		OperationMs: millis(spec.Timeouts.Operation, defaultOperation),
		DrainMs:     millis(spec.Timeouts.Drain, defaultDrain),
		StartMs:     millis(spec.Timeouts.Start, defaultStart),
	}
	if spec.QueueLimit != nil {
		l.QueueLimit = uint32(*spec.QueueLimit)
	}
	l.Recycle, l.Lazy = recycle(spec.Worker.Recycle), spec.Worker.Start == v1alpha1.StartLazy
	return l
}

func recycle(r *v1alpha1.Recycle) *controlpb.Recycle {
	if r == nil {
		return nil
	}
	out := &controlpb.Recycle{
		MaxRequests: uint64(max(r.MaxRequests, 0)), MaxAgeMs: millis(r.MaxAge, 0), MaxIdleMs: millis(r.MaxIdle, 0),
	}
	if r.MaxMemory != nil {
		out.MaxMemoryBytes = uint64(max(r.MaxMemory.Value(), 0))
	}
	return out
}

func millis(d *metav1.Duration, absent time.Duration) uint64 {
	if d == nil {
		return uint64(absent.Milliseconds())
	}
	return uint64(max(d.Duration, 0).Milliseconds())
}
