package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Canary says how a new revision gets its share: pinned, or in steps.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.weight) && has(self.steps))",message="set weight or steps, not both"
// +kubebuilder:validation:XValidation:rule="has(self.weight) || has(self.steps)",message="set weight or steps; without a canary, leave canary out"
type Canary struct {
	// weight is the share of requests that go to the new revision, in percent: 10, "10" or "0.25%", from 0 to
	// 100 in steps of 0.01. Below 100 it holds; 100 promotes.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self >= 0 && self <= 100 : self.matches('^(100([.]0{1,2})?|[0-9]{1,2}([.][0-9]{1,2})?)%?$')",message="weight is no percentage from 0 to 100 with at most two decimals; write for example 10 or 0.25%"
	Weight *intstr.IntOrString `json:"weight,omitempty"`

	// steps are walked through in their order, each until its duration has passed and the analysis has found nothing
	// against the new revision; after the last one it is promoted. Their weights rise.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=20
	// +kubebuilder:validation:XValidation:rule="[self.map(s, type(s.weight) == int ? double(s.weight) : (s.weight.matches('^[0-9]{1,2}([.][0-9]{1,2})?%?$') ? double(s.weight.replace('%', '')) : 0.0))].all(w, w.isSorted() && w.all(x, w.indexOf(x) == w.lastIndexOf(x)))",message="the weights of the steps don't rise; sort them, and give each weight once"
	Steps []Step `json:"steps,omitempty"`

	// match keeps the canary to some requests; absent: all may go there.
	// +optional
	Match *Match `json:"match,omitempty"`

	// stickiness Session keeps all requests of a session on one revision within a step, apart from a rollback.
	// Requests without a session count one by one either way.
	// +optional
	// +kubebuilder:default=Request
	Stickiness Stickiness `json:"stickiness,omitempty"`
}

// Step is a share that the new revision gets for a time.
type Step struct {
	// weight in percent, above 0 and below 100: 5, "5" or "0.25%". After the last step all requests go to the new
	// revision, without a step for it.
	// +required
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self > 0 && self < 100 : self.matches('^[0-9]{1,2}([.][0-9]{1,2})?%?$') && !self.matches('^0{1,2}([.]0{1,2})?%?$')",message="weight of a step is no percentage above 0 and below 100 with at most two decimals; write for example 5 or 0.25%, and leave a step of 100 out: it follows by itself"
	Weight intstr.IntOrString `json:"weight"`
	// duration that the step lasts at least, from 1s to 720h, counted from when every pod has acknowledged its weight.
	// +required
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ns|us|µs|ms|s|m|h))+$') && duration(self) >= duration('1s') && duration(self) <= duration('720h')",message="duration of a step is no duration from 1s to 720h; write for example 2m"
	Duration metav1.Duration `json:"duration"`
	// minSamples overrides analysis.minSamples in this step.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	MinSamples *int32 `json:"minSamples,omitempty"`
}

// Match names requests. A request matches by its command, or by the program that it executes.
//
// +kubebuilder:validation:XValidation:rule="has(self.commands) || has(self.programs)",message="set commands, programs or both; to match everything, leave match out"
type Match struct {
	// commands of the user's module, called directly.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=128
	// +kubebuilder:validation:items:XValidation:rule="self.matches('^[^[:cntrl:]]+$')",message="a command's name has control characters; write it as in @command"
	Commands []string `json:"commands,omitempty"`
	// programs by id, executed.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=256
	// +kubebuilder:validation:items:XValidation:rule="self.matches('^[^[:cntrl:][:space:]]+$')",message="a program's id has spaces or control characters, which none has; write it as it was created"
	Programs []string `json:"programs,omitempty"`
}

// Stickiness says what keeps to one revision.
//
// +kubebuilder:validation:Enum=Request;Session
type Stickiness string

// What can stick.
const (
	StickinessRequest Stickiness = "Request"
	StickinessSession Stickiness = "Session"
)

// Analysis says how the new revision is compared with the stable one, over the same pods and time. Errors that a
// handler blames on its caller or on a service that it calls don't count.
type Analysis struct {
	// window is the longest time back that counts speak for, from 10s to 24h.
	// +optional
	// +kubebuilder:default="5m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ns|us|µs|ms|s|m|h))+$') && duration(self) >= duration('10s') && duration(self) <= duration('24h')",message="window is no duration from 10s to 24h; write for example 5m"
	Window *metav1.Duration `json:"window,omitempty"`
	// minSamples is the number of executed requests that each revision needs before anything is said.
	// +optional
	// +kubebuilder:default=100
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	MinSamples *int32 `json:"minSamples,omitempty"`
	// maxErrorRateIncrease over the stable's error rate, in percentage points: 1 allows 3 % where the stable has 2 %.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self >= 0 && self <= 100 : self.matches('^(100([.]0{1,2})?|[0-9]{1,2}([.][0-9]{1,2})?)%?$')",message="maxErrorRateIncrease is no number of percentage points from 0 to 100 with at most two decimals; write for example 1 or 0.5%"
	MaxErrorRateIncrease *intstr.IntOrString `json:"maxErrorRateIncrease,omitempty"`
	// maxTimeoutRateIncrease over the stable's timeout rate, likewise.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self >= 0 && self <= 100 : self.matches('^(100([.]0{1,2})?|[0-9]{1,2}([.][0-9]{1,2})?)%?$')",message="maxTimeoutRateIncrease is no number of percentage points from 0 to 100 with at most two decimals; write for example 1 or 0.5%"
	MaxTimeoutRateIncrease *intstr.IntOrString `json:"maxTimeoutRateIncrease,omitempty"`
}

// Rollback says what follows when the new revision is found worse than allowed.
type Rollback struct {
	// policy Automatic takes it off the traffic, and it isn't tried again before a retry token or another revision.
	// Pause holds it where it is, for a human to abort or resume. DryRun says what Automatic would do, and goes on; the
	// pods' own trips, too, are only said.
	// +optional
	// +kubebuilder:default=Automatic
	Policy RollbackPolicy `json:"policy,omitempty"`
}

// RollbackPolicy names what follows.
//
// +kubebuilder:validation:Enum=Automatic;Pause;DryRun
type RollbackPolicy string

// Policies.
const (
	RollbackAutomatic RollbackPolicy = "Automatic"
	RollbackPause     RollbackPolicy = "Pause"
	RollbackDryRun    RollbackPolicy = "DryRun"
)
