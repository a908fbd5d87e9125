package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// WorkerPoolStatus is what the pool is.
type WorkerPoolStatus struct {
	// observedGeneration is the spec's generation that this status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// stable is the revision that serves, and keeps serving when a canary fails.
	// +optional
	Stable *SlotRevision `json:"stable,omitempty"`
	// canary is the revision that is being brought in; absent when there is none.
	// +optional
	Canary *SlotRevision `json:"canary,omitempty"`

	// rollout is how far the canary has come; absent when there is none.
	// +optional
	Rollout *RolloutStatus `json:"rollout,omitempty"`
	// blockedRevision was rolled back. It isn't tried again before a retry token or another revision.
	// +optional
	BlockedRevision string `json:"blockedRevision,omitempty"`
	// lastRollback says what was rolled back last, and why. It stays when a later revision is promoted.
	// +optional
	LastRollback *RollbackStatus `json:"lastRollback,omitempty"`
	// hold is why the rollout stands still although the spec isn't paused; absent: it doesn't.
	// +optional
	Hold *HoldStatus `json:"hold,omitempty"`
	// handled are the annotations' tokens that were acted upon last. The same token again does nothing.
	// +optional
	Handled HandledTokens `json:"handled,omitzero"`
	// serialCapacity compares what a v1 stable can serve with the pool's load; absent: no v1 stable beside a canary.
	// +optional
	SerialCapacity *SerialCapacity `json:"serialCapacity,omitempty"`

	// shown is what kubectl get has of the revisions.
	// +optional
	Shown ShownStatus `json:"shown,omitzero"`
	// weight of the canary, or 100 when the stable serves alone.
	// +optional
	Weight WeightStatus `json:"weight,omitzero"`
	// pods that carry the pool's label.
	// +optional
	Pods PodsStatus `json:"pods,omitzero"`
	// workers of all live pods, both slots.
	// +optional
	Workers WorkersStatus `json:"workers,omitzero"`
	// versions are the figures of the last minute by revision: the stable's first.
	// +optional
	// +listType=map
	// +listMapKey=revision
	// +kubebuilder:validation:MaxItems=4
	Versions []VersionStatus `json:"versions,omitempty"`

	// conditions: Ready, Available, Injected, ConfigSynced, Promoted, MetricsAvailable, ErrorsHealthy, Paused, RolledBack,
	// Accepted; Reconciling and Stalled only while true.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// SlotRevision is a revision and the slot that runs it, the same in every pod.
type SlotRevision struct {
	// version is v1 or v2.
	// +required
	Version PoolVersion `json:"version"`
	// revision is the hash of what makes a worker; its full text is the ControllerRevision <pool>-<revision>.
	// +required
	Revision string `json:"revision"`
	// slot is a or b.
	// +required
	// +kubebuilder:validation:Enum=a;b
	Slot string `json:"slot"`
	// image of the workers; empty: the operator's own worker image.
	// +optional
	Image string `json:"image,omitempty"`
	// envFrom names the objects that its workers have variables from, for example "secret/llm-keys, configmap/settings";
	// empty: none.
	// +optional
	EnvFrom string `json:"envFrom,omitempty"`
	// proven: a worker of it has been ready in a pod. A stable revision that never was has nothing to keep, and is
	// replaced without a canary.
	// +optional
	Proven bool `json:"proven,omitempty"`
}

// RolloutStatus is how far a canary has come. Times are of the leader's clock, to the second.
type RolloutStatus struct {
	// revision that this speaks of.
	// +required
	Revision string `json:"revision"`
	// step is the number of the step in progress, from 1; 0: pinned weight, not at its first step yet, or all steps done.
	// +optional
	Step int32 `json:"step,omitempty"`
	// steps is how many there are; 0: a pinned weight, or all at once.
	// +optional
	Steps int32 `json:"steps,omitempty"`
	// stepSince is when every pod had acknowledged the step's weight.
	// +optional
	StepSince *metav1.Time `json:"stepSince,omitempty"`
	// weightSince is when every pod had acknowledged the present weight, a step's or a pinned one.
	// +optional
	WeightSince *metav1.Time `json:"weightSince,omitempty"`
	// analysisSince is when the canary first had traffic in any pod: the analysis looks at fixed times after it.
	// +optional
	AnalysisSince *metav1.Time `json:"analysisSince,omitempty"`
	// promoting: all steps are done, or a promote token skipped them; the weight goes to 100.
	// +optional
	Promoting bool `json:"promoting,omitempty"`
	// skipped is the pinned weight that a promote token skipped, in percent: another one in the spec ends the promotion.
	// +optional
	Skipped string `json:"skipped,omitempty"`
	// wouldRollBack is what rollback.policy Automatic would have rolled back for, under DryRun; empty: nothing so far.
	// +optional
	WouldRollBack string `json:"wouldRollBack,omitempty"`
	// summary is step/steps, for example 2/3; empty without steps.
	// +optional
	Summary string `json:"summary,omitempty"`
}

// RollbackStatus is a rollback with its evidence.
type RollbackStatus struct {
	// revision that was rolled back.
	// +required
	Revision string `json:"revision"`
	// from its version.
	// +required
	From PoolVersion `json:"from"`
	// to the stable's version.
	// +required
	To PoolVersion `json:"to"`
	// toRevision is the stable's.
	// +required
	ToRevision string `json:"toRevision"`
	// weight that the canary had, in percent.
	// +required
	Weight string `json:"weight"`
	// reason: ErrorRateExceeded, TimeoutRateExceeded, PodsTripped or Aborted.
	// +required
	Reason string `json:"reason"`
	// evidence: one line for each thing that was found, the worst first.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	Evidence []string `json:"evidence,omitempty"`
	// time of the decision.
	// +required
	Time metav1.Time `json:"time"`
}

// HoldStatus is why a rollout stands still by something else than spec.paused.
type HoldStatus struct {
	// by is PauseToken, or RollbackPolicy when the analysis failed under rollback.policy Pause.
	// +required
	// +kubebuilder:validation:Enum=PauseToken;RollbackPolicy
	By string `json:"by"`
	// revision that is held; empty: whichever comes.
	// +optional
	Revision string `json:"revision,omitempty"`
	// message says what was found, or which token.
	// +optional
	Message string `json:"message,omitempty"`
	// since when.
	// +required
	Since metav1.Time `json:"since"`
}

// What holds a rollout.
const (
	HeldByToken  = "PauseToken"
	HeldByPolicy = "RollbackPolicy"
)

// HandledTokens are the values of the annotations pool.dspex.dev/retry, promote, abort, pause and resume that were acted
// upon last.
type HandledTokens struct {
	// retry tries a revision that was rolled back again, from zero, and ends the pods' trips.
	// +optional
	Retry string `json:"retry,omitempty"`
	// promote skips what is left of the steps.
	// +optional
	Promote string `json:"promote,omitempty"`
	// abort takes the canary off the traffic, as a rollback does.
	// +optional
	Abort string `json:"abort,omitempty"`
	// pause holds the rollout where it is.
	// +optional
	Pause string `json:"pause,omitempty"`
	// resume ends a hold.
	// +optional
	Resume string `json:"resume,omitempty"`
}

// SerialCapacity is what a v1 stable could serve alone: it runs one request at a time in each pod.
type SerialCapacity struct {
	// requestsPerSecond of all live pods together: 1 / service time, times pods.
	// +required
	RequestsPerSecond string `json:"requestsPerSecond"`
	// load is the rate of requests that all revisions served in the last minute.
	// +required
	Load string `json:"load"`
	// exceeded: a rollback would leave the stable with more than it can serve; what is over would be refused.
	// +optional
	Exceeded bool `json:"exceeded,omitempty"`
}

// ShownStatus is what kubectl get shows of the revisions.
type ShownStatus struct {
	// version that the spec wants, with the beginning of its revision where the stable is another one of the same version:
	// v2@a1b2.
	// +optional
	Version string `json:"version,omitempty"`
	// stable is its version, likewise.
	// +optional
	Stable string `json:"stable,omitempty"`
	// errorRate of the last minute, in percent: the canary's while there is one, else the stable's; absent without requests.
	// +optional
	ErrorRate string `json:"errorRate,omitempty"`
	// p95 of the latency in the last minute, as the application sees it, of the same.
	// +optional
	P95 *metav1.Duration `json:"p95,omitempty"`
}

// WeightStatus are shares in percent, as texts with up to two decimals.
type WeightStatus struct {
	// desired is where the spec wants the weight.
	// +optional
	Desired string `json:"desired,omitempty"`
	// applied is what every live pod has acknowledged.
	// +optional
	Applied string `json:"applied,omitempty"`
	// observed is the measured share over the last minute; absent without traffic.
	// +optional
	Observed string `json:"observed,omitempty"`
	// summary is applied, or applied→desired while they differ.
	// +optional
	Summary string `json:"summary,omitempty"`
}

// PodsStatus counts pods.
type PodsStatus struct {
	// matched pods carry the label and aren't finished.
	Matched int32 `json:"matched"`
	// injected of them have the sidecars.
	Injected int32 `json:"injected"`
	// acknowledged of these have the current configuration in force.
	Acknowledged int32 `json:"acknowledged"`
	// outdated of the injected have a slot with another image or envFrom than its revision wants, or other volumeMounts
	// than the spec.
	Outdated int32 `json:"outdated"`
	// unreachable of the injected and running have no stream to the operator.
	Unreachable int32 `json:"unreachable"`
	// summary is acknowledged/matched.
	// +optional
	Summary string `json:"summary,omitempty"`
}

// WorkersStatus counts workers.
type WorkersStatus struct {
	// desired by all connected pods' configuration, after capping.
	Desired int32 `json:"desired"`
	// ready ones can take a request or are serving one.
	Ready int32 `json:"ready"`
	// busy ones are serving a request.
	Busy int32 `json:"busy"`
	// summary is ready/desired.
	// +optional
	Summary string `json:"summary,omitempty"`
}

// VersionStatus are a revision's figures over the last minute.
type VersionStatus struct {
	// version is v1 or v2.
	Version PoolVersion `json:"version"`
	// revision is its hash.
	Revision string `json:"revision"`
	// requests that ended in the last minute.
	Requests int64 `json:"requests"`
	// errorRate is the share of requests whose handler failed, in percent with two decimals, for example "0.25".
	// +optional
	ErrorRate string `json:"errorRate,omitempty"`
	// timeoutRate is the share that timed out, likewise.
	// +optional
	TimeoutRate string `json:"timeoutRate,omitempty"`
	// p50 of the latency as the application sees it.
	// +optional
	P50 *metav1.Duration `json:"p50,omitempty"`
	// p95 of the same.
	// +optional
	P95 *metav1.Duration `json:"p95,omitempty"`
	// p99 of the same.
	// +optional
	P99 *metav1.Duration `json:"p99,omitempty"`
	// throughput is the rate of requests that workers served, per second.
	// +optional
	Throughput string `json:"throughput,omitempty"`
	// utilization is the share of what the workers can serve at the same time that was taken by requests which ended in
	// that minute, in percent.
	// +optional
	Utilization string `json:"utilization,omitempty"`
	// spawned workers since the slots started, over all pods that there are now.
	// +optional
	Spawned int64 `json:"spawned,omitempty"`
	// destroyed of them have ended.
	// +optional
	Destroyed int64 `json:"destroyed,omitempty"`
	// crashed of these ended without having been told to.
	// +optional
	Crashed int64 `json:"crashed,omitempty"`
	// memory of the live workers together, with their part of what they share.
	// +optional
	Memory *resource.Quantity `json:"memory,omitempty"`
	// cpu that the workers used, in cores.
	// +optional
	CPU *resource.Quantity `json:"cpu,omitempty"`
	// openFDs are the open files of the live workers together.
	// +optional
	OpenFDs int64 `json:"openFDs,omitempty"`
}

// Conditions of a WorkerPool. Reconciling and Stalled are absent when they aren't true (kstatus).
const (
	// ConditionReady sums up: the spec is in force everywhere and served by healthy workers.
	ConditionReady = "Ready"
	// ConditionAvailable: requests are being served in every live pod, by whatever revision.
	ConditionAvailable = "Available"
	// ConditionInjected: every pod with the label has the sidecars.
	ConditionInjected = "Injected"
	// ConditionConfigSynced: every live pod has the configuration in force, uncapped.
	ConditionConfigSynced = "ConfigSynced"
	// ConditionPromoted: the spec's revision is the stable one.
	ConditionPromoted = "Promoted"
	// ConditionMetricsAvailable: the figures that the analysis needs come in from every live pod.
	ConditionMetricsAvailable = "MetricsAvailable"
	// ConditionErrorsHealthy: the canary's error and timeout rates aren't above the stable's by more than is allowed.
	ConditionErrorsHealthy = "ErrorsHealthy"
	// ConditionResourcesHealthy: every slot's workers answer, and none of its containers was killed lately for lack of memory.
	ConditionResourcesHealthy = "ResourcesHealthy"
	// ConditionPaused: the rollout is held by spec.paused, by a token, or by rollback.policy Pause.
	ConditionPaused = "Paused"
	// ConditionRolledBack: the spec's revision was rolled back and isn't tried again by itself.
	ConditionRolledBack = "RolledBack"
	// ConditionAccepted: every annotation of the operator's on the pool is understood.
	ConditionAccepted = "Accepted"
	// ConditionReconciling: on the way.
	ConditionReconciling = "Reconciling"
	// ConditionStalled: it can't get further without a change.
	ConditionStalled = "Stalled"
)
