package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// PoolVersion names a pool implementation.
//
// +kubebuilder:validation:Enum=v1;v2
type PoolVersion string

// The two implementations.
const (
	// PoolV1 runs one operation at a time, first come, first served.
	PoolV1 PoolVersion = "v1"
	// PoolV2 lets callers check workers out and run in parallel.
	PoolV2 PoolVersion = "v2"
)

// WorkerPoolSpec is what the pool is to become.
//
// +kubebuilder:validation:XValidation:rule="self.size + (has(self.overflow) ? self.overflow : 0) <= 256",fieldPath=".overflow",message="size and overflow are more than 256 workers per pod together; lower one of them"
type WorkerPoolSpec struct {
	// poolVersion is the desired implementation: v1 (serialised) or v2 (concurrent checkout). Changing it
	// migrates live, without restarting a container.
	// +required
	PoolVersion PoolVersion `json:"poolVersion"`

	// size is the number of workers that each pod keeps.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=256
	Size int32 `json:"size"`

	// overflow is the number of extra workers that a pod may start while requests wait, and retires when they
	// are idle. Only v2 uses it.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=256
	Overflow int32 `json:"overflow,omitempty"`

	// canary limits how much of the traffic a new revision gets. Absent: all of it, as soon as its workers are
	// ready. A change to poolVersion v1 ignores it: that is a rollback by hand and moves at once.
	// +optional
	Canary *Canary `json:"canary,omitempty"`

	// worker says how a worker process is made.
	// +required
	Worker Worker `json:"worker"`

	// timeouts bound each request.
	// +optional
	// +kubebuilder:default={}
	Timeouts Timeouts `json:"timeouts,omitzero"`

	// queueLimit is the number of requests per pod that may wait for a worker; the next one is refused at once. Each
	// holds a connection inside the pod, hence the maximum.
	// +optional
	// +kubebuilder:default=1000
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=3000
	QueueLimit *int32 `json:"queueLimit,omitempty"`
}

// Canary pins the share of a new revision.
type Canary struct {
	// weight is the share of requests that go to the new revision, in percent: 10, "10" or "0.25%", from 0 to
	// 100 in steps of 0.01. Below 100 it holds; 100 promotes.
	// +required
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self >= 0 && self <= 100 : self.matches('^(100([.]0{1,2})?|[0-9]{1,2}([.][0-9]{1,2})?)%?$')",message="weight is no percentage from 0 to 100 with at most two decimals; write for example 10 or 0.25%"
	Weight intstr.IntOrString `json:"weight"`
}

// Worker says how a worker process is made. Everything but resources is part of the revision.
type Worker struct {
	// image holds Python (3.9 or later) and the user's packages. Default: the operator's own worker image.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="self.matches('^([A-Za-z0-9]([A-Za-z0-9._:/@-]*[A-Za-z0-9])?)?$')",message="image is no image reference; write for example registry.example.com/team/worker:1.4, or leave it out for the operator's own"
	Image string `json:"image,omitempty"`

	// python is the interpreter, a path in the image or a name on its PATH. Default: $VIRTUAL_ENV/bin/python,
	// python3, python, the first that exists.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="self.matches('^[^[:cntrl:]]*$')",message="python has control characters; write a path in the image or a name on its PATH, for example python3.12"
	Python string `json:"python,omitempty"`

	// module is the Python module with the commands, importable from the image's WORKDIR or packages.
	// +required
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z_][A-Za-z0-9_]*([.][A-Za-z_][A-Za-z0-9_]*)*$')",message="module is no dotted Python module name (letters, digits, underscores); write for example summarizer.commands"
	Module string `json:"module"`

	// env are literal variables of the worker processes, at most 16384 characters together. Not for secrets. Names
	// that begin with WORKERPOOL_ are the pool's own.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:XValidation:rule="self.map(e, size(e.name) + (has(e.value) ? size(e.value) : 0)).sum() <= 16384",message="env has more than 16384 characters of names and values together; put the rest into the image or a mounted file"
	Env []EnvVar `json:"env,omitempty"`

	// resources of one worker. A slot's container gets the supervisor's and (size + overflow) times these;
	// absent: no requests and no limits for the slots.
	// +optional
	Resources *WorkerResources `json:"resources,omitempty"`
}

// WorkerResources are the requests and limits of one worker.
//
// +kubebuilder:validation:XValidation:rule="!has(self.requests) || !has(self.limits) || self.requests.all(r, !(r in self.limits) || !isQuantity(string(self.requests[r])) || !isQuantity(string(self.limits[r])) || quantity(string(self.requests[r])).compareTo(quantity(string(self.limits[r]))) <= 0)",message="a request is above its limit; lower the request or raise the limit"
type WorkerResources struct {
	// requests of one worker. A request without a value is its limit.
	// +optional
	// +kubebuilder:validation:MaxProperties=3
	// +kubebuilder:validation:XValidation:rule="self.all(r, r in ['cpu', 'memory', 'ephemeral-storage'])",message="only cpu, memory and ephemeral-storage are shared out to workers; remove the others"
	// +kubebuilder:validation:XValidation:rule="self.all(r, isQuantity(string(self[r])) && quantity(string(self[r])).isGreaterThan(quantity('0')))",message="a quantity isn't above zero; write for example cpu: 250m or memory: 256Mi"
	Requests corev1.ResourceList `json:"requests,omitempty"`
	// limits of one worker.
	// +optional
	// +kubebuilder:validation:MaxProperties=3
	// +kubebuilder:validation:XValidation:rule="self.all(r, r in ['cpu', 'memory', 'ephemeral-storage'])",message="only cpu, memory and ephemeral-storage are shared out to workers; remove the others"
	// +kubebuilder:validation:XValidation:rule="self.all(r, isQuantity(string(self[r])) && quantity(string(self[r])).isGreaterThan(quantity('0')))",message="a quantity isn't above zero; write for example cpu: 250m or memory: 256Mi"
	Limits corev1.ResourceList `json:"limits,omitempty"`
}

// EnvVar is a literal variable.
type EnvVar struct {
	// name of the variable.
	// +required
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z_][A-Za-z0-9_]*$')",message="name is no variable name: letters, digits and underscores, no digit first"
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('WORKERPOOL_')",message="names that begin with WORKERPOOL_ are the pool's own; choose another name"
	Name string `json:"name"`
	// value of the variable.
	// +optional
	// +kubebuilder:validation:MaxLength=16384
	Value string `json:"value,omitempty"`
}

// Timeouts bound each request; each is from 1ms to 24h, drain to 10m.
type Timeouts struct {
	// checkout is how long a request may wait for a worker.
	// +optional
	// +kubebuilder:default="5s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ns|us|µs|ms|s|m|h))+$') && duration(self) >= duration('1ms') && duration(self) <= duration('24h')",message="checkout is no duration from 1ms to 24h; write for example 5s"
	Checkout *metav1.Duration `json:"checkout,omitempty"`
	// operation is how long a worker may take; then it is replaced.
	// +optional
	// +kubebuilder:default="30s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ns|us|µs|ms|s|m|h))+$') && duration(self) >= duration('1ms') && duration(self) <= duration('24h')",message="operation is no duration from 1ms to 24h; write for example 30s"
	Operation *metav1.Duration `json:"operation,omitempty"`
	// drain is how long requests in flight may finish when a slot or a pod stops.
	// +optional
	// +kubebuilder:default="30s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ns|us|µs|ms|s|m|h))+$') && duration(self) >= duration('1ms') && duration(self) <= duration('10m')",message="drain is no duration from 1ms to 10m; write for example 30s"
	Drain *metav1.Duration `json:"drain,omitempty"`
}

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

	// conditions: Ready, Available, Injected, ConfigSynced, Promoted; Reconciling and Stalled only while true.
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
	// proven: a worker of it has been ready in a pod. A stable revision that never was has nothing to keep, and is
	// replaced without a canary.
	// +optional
	Proven bool `json:"proven,omitempty"`
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
	// outdated of the injected have a slot with an older image than its revision wants.
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
	// ConditionReconciling: on the way.
	ConditionReconciling = "Reconciling"
	// ConditionStalled: it can't get further without a change.
	ConditionStalled = "Stalled"
)

// WorkerPool keeps a pool of Python workers inside each pod that bears its label.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=workerpools,shortName=wp,categories=all
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.spec.poolVersion`
// +kubebuilder:printcolumn:name="Stable",type=string,JSONPath=`.status.stable.version`
// +kubebuilder:printcolumn:name="Weight",type=string,JSONPath=`.status.weight.summary`
// +kubebuilder:printcolumn:name="Pods",type=string,JSONPath=`.status.pods.summary`
// +kubebuilder:printcolumn:name="Workers",type=string,JSONPath=`.status.workers.summary`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Err%",type=string,priority=1,JSONPath=`.status.versions[0].errorRate`
// +kubebuilder:printcolumn:name="P95",type=string,priority=1,JSONPath=`.status.versions[0].p95`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 63",message="the name is longer than 63 characters, and pods couldn't name it in their label pool.dspex.dev/pool; choose a shorter one"
type WorkerPool struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`
	// +required
	Spec WorkerPoolSpec `json:"spec"`
	// +optional
	Status WorkerPoolStatus `json:"status,omitzero"`
}

// WorkerPoolList is a list of WorkerPools.
//
// +kubebuilder:object:root=true
type WorkerPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []WorkerPool `json:"items"`
}
