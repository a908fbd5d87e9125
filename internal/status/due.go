package status

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/rollout"
)

// How old what is written may become. States are written at once.
const (
	countsEvery       = 5 * time.Second  // ready workers: a worker that is replaced isn't two writes; what messages count; that a capacity is known
	canaryFigures     = 30 * time.Second // figures while there is a canary
	stableFigures     = 5 * time.Minute  // figures otherwise
	endedTrafficAfter = time.Minute      // figures of a revision that has no traffic any more
)

// Due tells whether next must be written over old, given how long ago the last write was; if not now, after how long
// to look again. Zero: there is nothing to write.
func Due(old, next *v1alpha1.WorkerPoolStatus, since time.Duration) (write bool, again time.Duration) {
	if equality.Semantic.DeepEqual(old, next) {
		return false, 0
	}
	after := stableFigures
	switch {
	case !equality.Semantic.DeepEqual(states(old), states(next)):
		return true, 0
	case old.Workers.Ready != next.Workers.Ready, !sameMessages(old, next), (old.SerialCapacity == nil) != (next.SerialCapacity == nil):
		after = countsEvery
	case next.Canary != nil:
		after = canaryFigures
	case len(next.Versions) == 0:
		after = endedTrafficAfter
	}
	return since >= after, max(after-since, 0)
}

// sameMessages compares what conditions say, given that their states are the same. What a canary's errors are when a
// look finds nothing against them is a figure, and so are the samples that a step waits for, as long as it takes: they
// change with every look.
func sameMessages(old, next *v1alpha1.WorkerPoolStatus) bool {
	return slices.EqualFunc(old.Conditions, next.Conditions, func(a, b metav1.Condition) bool {
		if (looked(&a) && looked(&b)) || a.Reason == string(rollout.InsufficientSamples) {
			return a.Reason == b.Reason
		}
		return a.Message == b.Message
	})
}

// looked tells of a finding that may come and go with every look at a canary.
func looked(c *metav1.Condition) bool {
	return c.Type == v1alpha1.ConditionErrorsHealthy && c.Status != metav1.ConditionFalse
}

// states is a status without what merely counts or describes.
func states(s *v1alpha1.WorkerPoolStatus) *v1alpha1.WorkerPoolStatus {
	s = s.DeepCopy()
	s.Versions, s.Weight.Observed = nil, ""
	s.Shown.ErrorRate, s.Shown.P95 = "", nil
	s.Workers.Ready, s.Workers.Busy, s.Workers.Summary = 0, 0, ""
	if c := s.SerialCapacity; c != nil {
		c.RequestsPerSecond, c.Load = "", ""
		if !c.Exceeded {
			s.SerialCapacity = nil
		}
	}
	for i := range s.Conditions {
		c := &s.Conditions[i]
		c.Message = ""
		if looked(c) {
			c.Status, c.Reason, c.LastTransitionTime = metav1.ConditionUnknown, "", metav1.Time{}
		}
	}
	return s
}
