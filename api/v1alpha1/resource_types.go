package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// WorkerResources are the requests and limits of one worker.
//
// +kubebuilder:validation:XValidation:rule="!has(self.requests) || !has(self.limits) || self.requests.all(r, !(r in self.limits) || !isQuantity(string(self.requests[r])) || !isQuantity(string(self.limits[r])) || quantity(string(self.requests[r])).compareTo(quantity(string(self.limits[r]))) <= 0)",message="a request is above its limit; lower the request or raise the limit"
type WorkerResources struct {
	// requests of one worker. A request without a value is its limit.
	// +optional
	// +kubebuilder:validation:MaxProperties=3
	// +kubebuilder:validation:XValidation:rule="self.all(r, r in ['cpu', 'memory', 'ephemeral-storage'])",message="only cpu, memory and ephemeral-storage are given to workers and to the router; remove the others"
	// +kubebuilder:validation:XValidation:rule="self.all(r, isQuantity(string(self[r])) && size(string(self[r])) <= 32)",message="a quantity is malformed; write for example cpu: 250m or memory: 256Mi"
	// +kubebuilder:validation:XValidation:rule="!('cpu' in self) || !isQuantity(string(self['cpu'])) || (quantity(string(self['cpu'])).compareTo(quantity('1m')) >= 0 && quantity(string(self['cpu'])).compareTo(quantity('1k')) <= 0)",messageExpression="'cpu ' + string(self['cpu']) + ' is out of range, which is from 1m to 1k; write for example 250m'"
	// +kubebuilder:validation:XValidation:rule="!('memory' in self) || !isQuantity(string(self['memory'])) || (quantity(string(self['memory'])).compareTo(quantity('1Mi')) >= 0 && quantity(string(self['memory'])).compareTo(quantity('16Ti')) <= 0)",messageExpression="'memory ' + string(self['memory']) + ' is out of range, which is from 1Mi to 16Ti; write for example 256Mi'"
	// +kubebuilder:validation:XValidation:rule="!('ephemeral-storage' in self) || !isQuantity(string(self['ephemeral-storage'])) || (quantity(string(self['ephemeral-storage'])).compareTo(quantity('1Mi')) >= 0 && quantity(string(self['ephemeral-storage'])).compareTo(quantity('16Ti')) <= 0)",messageExpression="'ephemeral-storage ' + string(self['ephemeral-storage']) + ' is out of range, which is from 1Mi to 16Ti; write for example 1Gi'"
	Requests corev1.ResourceList `json:"requests,omitempty"`
	// limits of one worker.
	// +optional
	// +kubebuilder:validation:MaxProperties=3
	// +kubebuilder:validation:XValidation:rule="self.all(r, r in ['cpu', 'memory', 'ephemeral-storage'])",message="only cpu, memory and ephemeral-storage are given to workers and to the router; remove the others"
	// +kubebuilder:validation:XValidation:rule="self.all(r, isQuantity(string(self[r])) && size(string(self[r])) <= 32)",message="a quantity is malformed; write for example cpu: 250m or memory: 256Mi"
	// +kubebuilder:validation:XValidation:rule="!('cpu' in self) || !isQuantity(string(self['cpu'])) || (quantity(string(self['cpu'])).compareTo(quantity('1m')) >= 0 && quantity(string(self['cpu'])).compareTo(quantity('1k')) <= 0)",messageExpression="'cpu ' + string(self['cpu']) + ' is out of range, which is from 1m to 1k; write for example 250m'"
	// +kubebuilder:validation:XValidation:rule="!('memory' in self) || !isQuantity(string(self['memory'])) || (quantity(string(self['memory'])).compareTo(quantity('16Mi')) >= 0 && quantity(string(self['memory'])).compareTo(quantity('16Ti')) <= 0)",messageExpression="'memory ' + string(self['memory']) + ' is out of range, which is from 16Mi to 16Ti; write for example 256Mi'"
	// +kubebuilder:validation:XValidation:rule="!('ephemeral-storage' in self) || !isQuantity(string(self['ephemeral-storage'])) || (quantity(string(self['ephemeral-storage'])).compareTo(quantity('1Mi')) >= 0 && quantity(string(self['ephemeral-storage'])).compareTo(quantity('16Ti')) <= 0)",messageExpression="'ephemeral-storage ' + string(self['ephemeral-storage']) + ' is out of range, which is from 1Mi to 16Ti; write for example 1Gi'"
	Limits corev1.ResourceList `json:"limits,omitempty"`
}

// Router is the sidecar that takes the application's requests.
type Router struct {
	// resources of its container, where the defaults (docs/reference.md) don't suit the namespace's policies or the load.
	// The install container has the same; as it ends before anything else starts, it adds nothing to the pod.
	// +optional
	Resources *RouterResources `json:"resources,omitempty"`
}

// RouterResources are requests and limits; what is left out keeps its default.
//
// +kubebuilder:validation:XValidation:rule="!has(self.requests) || !has(self.limits) || self.requests.all(r, !(r in self.limits) || !isQuantity(string(self.requests[r])) || !isQuantity(string(self.limits[r])) || quantity(string(self.requests[r])).compareTo(quantity(string(self.limits[r]))) <= 0)",message="a request is above its limit; lower the request or raise the limit"
type RouterResources struct {
	// requests of the container. In a Guaranteed pod cpu and memory are requested as they are limited.
	// +optional
	// +kubebuilder:validation:MaxProperties=3
	// +kubebuilder:validation:XValidation:rule="self.all(r, r in ['cpu', 'memory', 'ephemeral-storage'])",message="only cpu, memory and ephemeral-storage are given to workers and to the router; remove the others"
	// +kubebuilder:validation:XValidation:rule="self.all(r, isQuantity(string(self[r])) && size(string(self[r])) <= 32)",message="a quantity is malformed; write for example cpu: 250m or memory: 256Mi"
	// +kubebuilder:validation:XValidation:rule="!('cpu' in self) || !isQuantity(string(self['cpu'])) || (quantity(string(self['cpu'])).compareTo(quantity('1m')) >= 0 && quantity(string(self['cpu'])).compareTo(quantity('1k')) <= 0)",messageExpression="'cpu ' + string(self['cpu']) + ' is out of range, which is from 1m to 1k; write for example 250m'"
	// +kubebuilder:validation:XValidation:rule="!('memory' in self) || !isQuantity(string(self['memory'])) || (quantity(string(self['memory'])).compareTo(quantity('1Mi')) >= 0 && quantity(string(self['memory'])).compareTo(quantity('16Ti')) <= 0)",messageExpression="'memory ' + string(self['memory']) + ' is out of range, which is from 1Mi to 16Ti; write for example 256Mi'"
	// +kubebuilder:validation:XValidation:rule="!('ephemeral-storage' in self) || !isQuantity(string(self['ephemeral-storage'])) || (quantity(string(self['ephemeral-storage'])).compareTo(quantity('1Mi')) >= 0 && quantity(string(self['ephemeral-storage'])).compareTo(quantity('16Ti')) <= 0)",messageExpression="'ephemeral-storage ' + string(self['ephemeral-storage']) + ' is out of range, which is from 1Mi to 16Ti; write for example 1Gi'"
	Requests corev1.ResourceList `json:"requests,omitempty"`
	// limits of the container.
	// +optional
	// +kubebuilder:validation:MaxProperties=3
	// +kubebuilder:validation:XValidation:rule="self.all(r, r in ['cpu', 'memory', 'ephemeral-storage'])",message="only cpu, memory and ephemeral-storage are given to workers and to the router; remove the others"
	// +kubebuilder:validation:XValidation:rule="self.all(r, isQuantity(string(self[r])) && size(string(self[r])) <= 32)",message="a quantity is malformed; write for example cpu: 250m or memory: 256Mi"
	// +kubebuilder:validation:XValidation:rule="!('cpu' in self) || !isQuantity(string(self['cpu'])) || (quantity(string(self['cpu'])).compareTo(quantity('1m')) >= 0 && quantity(string(self['cpu'])).compareTo(quantity('1k')) <= 0)",messageExpression="'cpu ' + string(self['cpu']) + ' is out of range, which is from 1m to 1k; write for example 250m'"
	// +kubebuilder:validation:XValidation:rule="!('memory' in self) || !isQuantity(string(self['memory'])) || (quantity(string(self['memory'])).compareTo(quantity('128Mi')) >= 0 && quantity(string(self['memory'])).compareTo(quantity('16Ti')) <= 0)",messageExpression="'memory ' + string(self['memory']) + ' is out of range, which is from 128Mi to 16Ti; write for example 256Mi'"
	// +kubebuilder:validation:XValidation:rule="!('ephemeral-storage' in self) || !isQuantity(string(self['ephemeral-storage'])) || (quantity(string(self['ephemeral-storage'])).compareTo(quantity('1Mi')) >= 0 && quantity(string(self['ephemeral-storage'])).compareTo(quantity('16Ti')) <= 0)",messageExpression="'ephemeral-storage ' + string(self['ephemeral-storage']) + ' is out of range, which is from 1Mi to 16Ti; write for example 1Gi'"
	Limits corev1.ResourceList `json:"limits,omitempty"`
}

// Tmp bounds what the workers of a slot have in files.
//
// +kubebuilder:validation:XValidation:rule="!has(self.medium) || self.medium != 'Memory' || has(self.sizeLimit)",message="medium Memory has no sizeLimit; set one, as it is taken from the memory of the slots"
type Tmp struct {
	// sizeLimit is what the workers of a slot may have below /tmp together, from 16Mi to 16Ti; default 1Gi. On disk, where
	// worker.resources.limits.ephemeral-storage gives all of them less, that holds, and a worker that has most of it when
	// there is more is ended, with an error that names this field.
	// +optional
	// +kubebuilder:validation:XValidation:rule="isQuantity(string(self)) && size(string(self)) <= 32 && quantity(string(self)).compareTo(quantity('16Mi')) >= 0 && quantity(string(self)).compareTo(quantity('16Ti')) <= 0",message="sizeLimit is no quantity from 16Mi to 16Ti; write for example 2Gi"
	SizeLimit *resource.Quantity `json:"sizeLimit,omitempty"`
	// medium Disk, the default, is the node's disk. In Memory a write beyond sizeLimit fails (ENOSPC), and what is there
	// counts as memory of the slot: its container's limit, if it has one, is raised by sizeLimit.
	// +optional
	Medium TmpMedium `json:"medium,omitempty"`
}

// TmpMedium names where files are kept.
//
// +kubebuilder:validation:Enum=Disk;Memory
type TmpMedium string

// The two media.
const (
	TmpDisk   TmpMedium = "Disk"
	TmpMemory TmpMedium = "Memory"
)
