package status

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/rollout"
)

// Reasons. They are states.
const (
	ReasonNoPods                = "NoPods"
	ReasonPodsStarting          = "PodsStarting"
	ReasonStableServing         = "StableServing"
	ReasonCanaryServing         = "CanaryServing"
	ReasonWorkersNotReady       = "WorkersNotReady"
	ReasonAllInjected           = "AllInjected"
	ReasonPodsNotInjected       = "PodsNotInjected"
	ReasonAllAcknowledged       = "AllAcknowledged"
	ReasonConfigurationRefused  = "ConfigurationRefused"
	ReasonResourcesInsufficient = "ResourcesInsufficient"
	ReasonPodsOutdated          = "PodsOutdated"
	ReasonPodsRestarting        = "PodsRestarting"
	ReasonPodsNotCreated        = "PodsNotCreated"
	ReasonContainersNotStarting = "ContainersNotStarting"
	ReasonPodsUnreachable       = "PodsUnreachable"
	ReasonUnacknowledged        = "Unacknowledged"
	ReasonPromoted              = "Promoted"
	ReasonStableIsOther         = "StableIsOther"
	ReasonWorkerBootFailed      = "WorkerBootFailed"
	ReasonWorkersHung           = "WorkersHung"
	ReasonSlotsHung             = "SlotsHung"
	ReasonForksRefused          = "ForksRefused"
	ReasonOutOfMemory           = "OutOfMemory"
	ReasonHealthy               = "Healthy"
	ReasonWaitingForWorkers     = "WaitingForWorkers"
	ReasonCanaryProgressing     = "CanaryProgressing"
	ReasonCanaryPinned          = "CanaryPinned"
	ReasonBlocked               = "Blocked"
	ReasonRolledBack            = "RolledBack"
	ReasonNotRolledBack         = "NotRolledBack"
	ReasonAllReporting          = "AllReporting"
	ReasonTelemetryStale        = "TelemetryStale"
	ReasonPodsJoining           = "PodsJoining"
	ReasonNoCanary              = "NoCanary"
	ReasonNoLookYet             = "NoLookYet"
	ReasonPaused                = "Paused"
	ReasonNotPaused             = "NotPaused"
	ReasonSpecPaused            = "SpecPaused"
	ReasonAllAccepted           = "AllAccepted"
	ReasonUnknownAnnotation     = "UnknownAnnotation"
	ReasonUnsupportedAnnotation = "UnsupportedAnnotation"
	ReasonTokenTooLong          = "TokenTooLong"
)

// finding is what there is to say about a condition.
type finding struct {
	status  metav1.ConditionStatus
	reason  string
	message string
}

func yes(reason, format string, args ...any) finding {
	return finding{metav1.ConditionTrue, reason, fmt.Sprintf(format, args...)}
}

func no(reason, format string, args ...any) finding {
	return finding{metav1.ConditionFalse, reason, fmt.Sprintf(format, args...)}
}

func unknown(reason, format string, args ...any) finding {
	return finding{metav1.ConditionUnknown, reason, fmt.Sprintf(format, args...)}
}

// setConditions sets all of them at every visit.
func setConditions(in *Input, s *v1alpha1.WorkerPoolStatus) {
	ready, progress := summarise(in)
	if in.Problem != "" {
		keepOthers(in, s)
	} else {
		in.set(s, v1alpha1.ConditionAvailable, available(in))
		in.set(s, v1alpha1.ConditionInjected, injected(in))
		in.set(s, v1alpha1.ConditionConfigSynced, configSynced(in))
		in.set(s, v1alpha1.ConditionPromoted, promoted(in))
		in.set(s, v1alpha1.ConditionMetricsAvailable, metricsAvailable(in))
		in.set(s, v1alpha1.ConditionErrorsHealthy, errorsHealthy(in))
		in.set(s, v1alpha1.ConditionResourcesHealthy, resourcesHealthy(in))
		in.set(s, v1alpha1.ConditionPaused, paused(in))
		in.set(s, v1alpha1.ConditionRolledBack, rolledBack(in, s.LastRollback))
	}
	in.set(s, v1alpha1.ConditionAccepted, accepted(in.Pool))
	in.set(s, v1alpha1.ConditionReady, ready)
	in.setWhile(s, v1alpha1.ConditionReconciling, progress == moving, ready)
	in.setWhile(s, v1alpha1.ConditionStalled, progress == stuck, ready)
}

// keepOthers leaves the conditions as they were when nothing new is known, with the generation that they were found at,
// or whoever waits for one would take it for a finding about the new spec. Those that don't exist become Unknown.
func keepOthers(in *Input, s *v1alpha1.WorkerPoolStatus) {
	for _, name := range []string{
		v1alpha1.ConditionAvailable, v1alpha1.ConditionInjected, v1alpha1.ConditionConfigSynced, v1alpha1.ConditionPromoted,
		v1alpha1.ConditionMetricsAvailable, v1alpha1.ConditionErrorsHealthy, v1alpha1.ConditionResourcesHealthy,
		v1alpha1.ConditionPaused, v1alpha1.ConditionRolledBack,
	} {
		if meta.FindStatusCondition(s.Conditions, name) == nil {
			in.set(s, name, unknown(ReasonBlocked, "%s", in.Problem))
		}
	}
}

// set writes a condition. Its transition time moves only when its status does.
func (in *Input) set(s *v1alpha1.WorkerPoolStatus, name string, f finding) {
	meta.SetStatusCondition(&s.Conditions, metav1.Condition{
		Type: name, Status: f.status, Reason: f.reason, Message: f.message,
		ObservedGeneration: in.Pool.Generation, LastTransitionTime: metav1.NewTime(in.Now),
	})
}

// setWhile writes a condition that is absent when it isn't true.
func (in *Input) setWhile(s *v1alpha1.WorkerPoolStatus, name string, present bool, why finding) {
	if !present {
		meta.RemoveStatusCondition(&s.Conditions, name)
		return
	}
	in.set(s, name, yes(why.reason, "%s", why.message))
}

// available: requests are being served in every live pod, by whatever revision. A gap as short as a worker's
// replacement doesn't end it: with a pool of one, each crash would.
func available(in *Input) finding {
	live := in.live()
	switch {
	case len(in.Pods) == 0:
		f, _ := noPods(in)
		return no(f.reason, "%s", f.message)
	case len(live) == 0:
		return no(ReasonPodsStarting, "none of %d pods is running yet (%s)", len(in.Pods), named(in.where(func(*Pod) bool { return true })))
	}
	serving, reason := in.serving(), ReasonStableServing
	without := in.without(serving)
	if stable := &in.Decision.Assignment.Stable; serving != stable { // which takes what the canary can't, until it is replaced
		reason = ReasonCanaryServing
		instead := len(without)
		without = slices.DeleteFunc(without, func(p *Pod) bool { return p.Serves(stable) || p.Runs(stable) })
		if instead > 0 && len(without) == 0 {
			return yes(reason, "%s serves %d of %d pods, %s the others", serving.Version, len(live)-instead, len(live), stable.Version)
		}
	}
	if unheard := in.unheard(); len(without) == 0 && len(unheard) > 0 && len(unheard) < len(live) {
		return yes(reason, "%s serves %d of %d pods, and served the others (%s) when they were last heard",
			serving.Version, len(live)-len(unheard), len(live), heardLast(unheard))
	}
	if len(without) == 0 {
		return yes(reason, "%s serves %d of %d pods", serving.Version, len(live), len(live))
	}
	if len(without) == len(in.unreachable()) && len(without) == len(live) {
		return unknown(ReasonPodsUnreachable, "no router can be reached; what was configured last serves on")
	}
	for _, found := range []func(*Input, *v1alpha1.SlotRevision) (finding, bool){slotsHung, hung} {
		if f, found := found(in, serving); found {
			return f
		}
	}
	return no(ReasonWorkersNotReady, "%s serves %d of %d pods; not in %s",
		serving.Version, len(live)-len(without), len(live), named(without))
}

// injected: every pod with the label has this pool's sidecars.
func injected(in *Input) finding {
	if len(in.Pods) == 0 {
		f, _ := noPods(in)
		return unknown(f.reason, "%s", f.message)
	}
	if without := in.notInjected(); len(without) > 0 {
		return no(ReasonPodsNotInjected, "%d of %d pods have no sidecars of this pool (%s): they are older than the pool or the operator; run: %s",
			len(without), len(in.Pods), named(without), remedy(in.Pool.Namespace, without))
	}
	return yes(ReasonAllInjected, "%d of %d pods have the sidecars", len(in.Pods), len(in.Pods))
}

// configSynced: every live pod has the configuration in force, uncapped, and no pod was made for another one.
func configSynced(in *Input) finding {
	live := in.live()
	if len(live) == 0 && len(in.outdated()) == 0 {
		f := available(in)
		return unknown(f.reason, "%s", f.message)
	}
	for _, problem := range []func(*Input) (finding, bool){refused, insufficient, outdated, unreachable, unacknowledged} {
		if f, found := problem(in); found {
			return f
		}
	}
	return yes(ReasonAllAcknowledged, "%d of %d pods have the configuration in force", len(live), len(live))
}

func refused(in *Input) (finding, bool) {
	pods := in.refusing()
	if len(pods) == 0 {
		return finding{}, false
	}
	return no(ReasonConfigurationRefused, "%s refused the configuration and kept the one before: %s", named(pods), first(pods).Refusal), true
}

func outdated(in *Input) (finding, bool) {
	pods := in.outdated()
	if len(pods) == 0 {
		return finding{}, false
	}
	what := fmt.Sprintf("%d of %d pods have a slot with %s (%s)", len(pods), len(in.withSidecars()), in.lacking(pods), named(pods))
	leaving := in.restarting(pods)
	if len(leaving) == len(pods) {
		return no(ReasonPodsRestarting, "%s; they are being replaced", what), true
	}
	left := slices.DeleteFunc(pods, func(p *Pod) bool { return slices.Contains(leaving, p) })
	return no(ReasonPodsOutdated, "%s; run: %s", what, remedy(in.Pool.Namespace, left)), true
}

// lacking says what the slots of outdated pods were made with that isn't what is wanted now.
func (in *Input) lacking(pods []*Pod) string {
	var image, envFrom, mounts bool
	for _, p := range pods {
		for _, placed := range in.assigned() {
			image = image || !p.HasImage(placed)
			envFrom = envFrom || !p.HasEnvFrom(placed)
		}
		mounts = mounts || p.OtherMounts
	}
	var what []string
	for _, difference := range []struct {
		is   bool
		what string
	}{{image, "an older image"}, {envFrom, "another worker.envFrom"}, {mounts, "other worker.volumeMounts"}} {
		if difference.is {
			what = append(what, difference.what)
		}
	}
	return strings.Join(what, " or ")
}

func unreachable(in *Input) (finding, bool) {
	pods := in.unreachable()
	if len(pods) == 0 {
		return finding{}, false
	}
	return no(ReasonPodsUnreachable, "%d of %d pods have no connection to the operator (%s): they serve on with what they have; look at: kubectl logs -n %s %s -c pool-router",
		len(pods), len(in.live()), named(pods), in.Pool.Namespace, first(pods).Name), true
}

func unacknowledged(in *Input) (finding, bool) {
	pods := in.unacknowledged()
	if len(pods) == 0 {
		return finding{}, false
	}
	return no(ReasonUnacknowledged, "%d of %d pods haven't acknowledged the configuration yet (%s)", len(pods), len(in.live()), named(pods)), true
}

// first of some pods by name, so that a message stays the same while its pods do.
func first(pods []*Pod) *Pod {
	least := pods[0]
	for _, p := range pods {
		if p.Name < least.Name {
			least = p
		}
	}
	return least
}

// promoted: the spec's revision is the stable one.
func promoted(in *Input) finding {
	a := &in.Decision.Assignment
	if in.Decision.State == rollout.Promoted {
		return yes(ReasonPromoted, "%s (%s) is the stable revision", a.Stable.Version, a.Stable.Revision)
	}
	return no(ReasonStableIsOther, "%s (%s) is the stable revision; the spec wants %s", a.Stable.Version, a.Stable.Revision, in.wanted())
}

func (in *Input) wanted() string {
	if c := in.Decision.Assignment.Canary; c != nil && in.Decision.State != rollout.CanaryDropping {
		return fmt.Sprintf("%s (%s)", c.Version, c.Revision)
	}
	return string(in.Pool.Spec.PoolVersion)
}
