package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
// +kubebuilder:validation:XValidation:rule="(self.size + (has(self.overflow) ? self.overflow : 0)) * (has(self.worker.concurrency) ? self.worker.concurrency : 1) <= 1000",fieldPath=".worker.concurrency",message="size and overflow, times worker.concurrency, are more than 1000 requests per pod at the same time; lower one of them"
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

	// timeouts bound each request, and the start of each worker.
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

	// analysis compares a new revision with the stable one while both serve.
	// +optional
	// +kubebuilder:default={}
	Analysis Analysis `json:"analysis,omitzero"`

	// rollback says what follows when the analysis fails.
	// +optional
	// +kubebuilder:default={}
	Rollback Rollback `json:"rollback,omitzero"`

	// router is the sidecar that takes the application's requests. A change waits for new pods.
	// +optional
	Router *Router `json:"router,omitempty"`

	// paused holds: nothing is started, raised or promoted. Lowering a weight and rolling back go on.
	// +optional
	Paused bool `json:"paused,omitempty"`
}

// Worker says how a worker process is made. Everything but volumeMounts, resources, tmp, start and recycle is part of
// the revision.
type Worker struct {
	// image holds Python (3.9 or later) and the user's packages. Default: the operator's own worker image.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="self == '' || self.matches('^((localhost|[A-Za-z0-9-]+([.][A-Za-z0-9-]+)+|[A-Za-z0-9-]+:[0-9]+|[[][0-9A-Fa-f:]+[]])(:[0-9]+)?/)?[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*(/[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@[A-Za-z][A-Za-z0-9+._-]*:[0-9A-Fa-f]{32,128})?$')",message="image is no image reference (registry, lower-case path, tag or digest); write for example registry.example.com/team/worker:1.4, or leave it out for the operator's own"
	Image string `json:"image,omitempty"`

	// python is the interpreter, a path in the image or a name on its PATH. Default: $VIRTUAL_ENV/bin/python,
	// python3, python, the first that exists.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="self.matches('^[^[:cntrl:]]*$')",message="python has control characters; write a path in the image or a name on its PATH, for example python3.12"
	Python string `json:"python,omitempty"`

	// workingDir is the workers' current folder, and the first that modules are imported from: a path in the image,
	// absolute or from its WORKDIR. Default: the image's WORKDIR.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="self.matches('^[^[:cntrl:]]*$')",message="workingDir has control characters; write a path in the image, for example /app"
	WorkingDir string `json:"workingDir,omitempty"`

	// module is the Python module with the commands, importable from workingDir or the image's packages.
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

	// envFrom are Secrets and ConfigMaps of the pods' namespace whose keys are variables of the worker processes: the
	// kubelet reads them when a slot's container starts, the operator never does. Of two with the same key the later one
	// holds, and env before both; keys that begin with WORKERPOOL_ are left out. A change waits for new pods.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	EnvFrom []EnvFromSource `json:"envFrom,omitempty"`

	// volumeMounts mount volumes of the pod in both slots, so that workers see them. They aren't part of the revision. A
	// change waits for new pods.
	// +optional
	// +listType=map
	// +listMapKey=mountPath
	// +kubebuilder:validation:MaxItems=16
	VolumeMounts []VolumeMount `json:"volumeMounts,omitempty"`

	// preload says how workers come to their imports. Zygote: each slot has one process that imports the module, and
	// forks every worker from it, which starts in milliseconds and shares its memory. What a fork would share or lose
	// (threads, child processes, open connections of the import) makes the slot start its workers without it, and its
	// log says why. None, the default: every worker imports the module itself.
	// +optional
	Preload Preload `json:"preload,omitempty"`

	// concurrency is how many requests one worker serves at the same time, 1 by default; for handlers that wait for
	// others, such as a language model. Async handlers run on one event loop, all others in threads, which a timeout
	// can't interrupt. Inactive under v1, which runs one operation at a time.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=64
	Concurrency int32 `json:"concurrency,omitempty"`

	// resources of one worker. A slot's container gets the supervisor's and (size + overflow) times these;
	// absent: no limits for the slots, and small requests where the application has some.
	// +optional
	Resources *WorkerResources `json:"resources,omitempty"`

	// tmp is what the workers of a slot have for files below /tmp. A change waits for new pods.
	// +optional
	Tmp *Tmp `json:"tmp,omitempty"`

	// start says when workers are started: Eager (default) at once, all of them; Lazy when a request waits for one, at
	// most size of them. It changes in place, without a new revision. A Lazy revision gets its weight without a worker
	// having been started.
	// +optional
	Start WorkerStart `json:"start,omitempty"`

	// recycle says when a worker is replaced although nothing is wrong with it. It changes in place, without a
	// new revision.
	// +optional
	Recycle *Recycle `json:"recycle,omitempty"`
}

// WorkerStart says when workers are started.
//
// +kubebuilder:validation:Enum=Eager;Lazy
type WorkerStart string

// The two ways.
const (
	// StartEager starts all workers at once.
	StartEager WorkerStart = "Eager"
	// StartLazy starts a worker when a request waits for one.
	StartLazy WorkerStart = "Lazy"
)

// Recycle says when a worker is replaced although nothing is wrong with it; absent: never. No request fails for it: a
// busy worker ends after its request. Of size workers one at a time is replaced; with overflow (v2) its substitute
// starts first.
type Recycle struct {
	// maxRequests is how many requests a worker serves at most. It goes up to a fifth earlier, each by another part,
	// when it can be spared; after the last one it goes in any case.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000000
	MaxRequests int32 `json:"maxRequests,omitempty"`
	// maxAge of a worker since it was ready, up to a fifth less, from 1s to 720h.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ns|us|µs|ms|s|m|h))+$') && duration(self) >= duration('1s') && duration(self) <= duration('720h')",message="maxAge is no duration from 1s to 720h; write for example 12h"
	MaxAge *metav1.Duration `json:"maxAge,omitempty"`
	// maxIdle is how long a worker may be without a request, up to a fifth less, from 1s to 720h.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ns|us|µs|ms|s|m|h))+$') && duration(self) >= duration('1s') && duration(self) <= duration('720h')",message="maxIdle is no duration from 1s to 720h; write for example 30m"
	MaxIdle *metav1.Duration `json:"maxIdle,omitempty"`
	// maxMemory is what a worker's process group may have for itself, private memory and swap, after a request. What
	// it shares with other processes doesn't count. From 1Mi to 16Ti.
	// +optional
	// +kubebuilder:validation:XValidation:rule="isQuantity(string(self)) && size(string(self)) <= 32 && quantity(string(self)).compareTo(quantity('1Mi')) >= 0 && quantity(string(self)).compareTo(quantity('16Ti')) <= 0",message="maxMemory is no quantity from 1Mi to 16Ti; write for example 512Mi"
	MaxMemory *resource.Quantity `json:"maxMemory,omitempty"`
}

// Preload names how workers come to their imports.
//
// +kubebuilder:validation:Enum=Zygote;None
type Preload string

// Values of Preload.
const (
	PreloadZygote Preload = "Zygote"
	PreloadNone   Preload = "None"
)

// EnvVar is a literal variable.
type EnvVar struct {
	// name of the variable.
	// +required
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z_][A-Za-z0-9_]*$')",message="name is no variable name: letters, digits and underscores, no digit first"
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('WORKERPOOL_')",message="names that begin with WORKERPOOL_ are the pool's own; choose another name"
	Name string `json:"name"`
	// value of the variable. Tabs and line ends are the only control characters that may be in it.
	// +optional
	// +kubebuilder:validation:MaxLength=16384
	// +kubebuilder:validation:XValidation:rule="self.matches('^([^[:cntrl:]]|[\\t\\n\\r])*$')",message="value has control characters other than tabs and line ends, which a variable can't hold or a log can't show; remove them, or encode the value (base64)"
	Value string `json:"value,omitempty"`
}

// Timeouts bound each request, and the start of each worker; each is from 1ms to 24h, drain to 10m, start from 1s to 1h.
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
	// start is how long a worker may take from its process to ready, the import of its module and its @worker_start
	// hooks included; then it is ended and started again. It changes in place, without a new revision: a start that is
	// under way keeps the limit that it began with.
	// +optional
	// +kubebuilder:default="2m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ns|us|µs|ms|s|m|h))+$') && duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="start is no duration from 1s to 1h; write for example 5m"
	Start *metav1.Duration `json:"start,omitempty"`
}

// WorkerPool keeps a pool of Python workers inside each pod that bears its label.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=workerpools,shortName=wp,categories=all
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.status.shown.version`
// +kubebuilder:printcolumn:name="Stable",type=string,JSONPath=`.status.shown.stable`
// +kubebuilder:printcolumn:name="Weight",type=string,JSONPath=`.status.weight.summary`
// +kubebuilder:printcolumn:name="Pods",type=string,JSONPath=`.status.pods.summary`
// +kubebuilder:printcolumn:name="Workers",type=string,JSONPath=`.status.workers.summary`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Err%",type=string,priority=1,JSONPath=`.status.shown.errorRate`
// +kubebuilder:printcolumn:name="P95",type=string,priority=1,JSONPath=`.status.shown.p95`
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
