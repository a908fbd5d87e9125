package v1alpha1

// EnvFromSource is a ConfigMap or a Secret whose keys become variables, as in a container's envFrom.
//
// +kubebuilder:validation:XValidation:rule="has(self.configMapRef) != has(self.secretRef)",message="an entry has exactly one of configMapRef and secretRef; write for example secretRef: {name: llm-keys}, and another entry for another object"
type EnvFromSource struct {
	// prefix goes before each key.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^([A-Za-z_][A-Za-z0-9_]*)?$')",message="prefix can't begin a variable's name: letters, digits and underscores, no digit first"
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('WORKERPOOL_')",message="names that begin with WORKERPOOL_ are the pool's own; choose another prefix"
	Prefix string `json:"prefix,omitempty"`
	// configMapRef names a ConfigMap in the pods' namespace.
	// +optional
	ConfigMapRef *EnvFromRef `json:"configMapRef,omitempty"`
	// secretRef names a Secret in the pods' namespace.
	// +optional
	SecretRef *EnvFromRef `json:"secretRef,omitempty"`
}

// EnvFromRef names an object in the pods' namespace.
type EnvFromRef struct {
	// name of the object.
	// +required
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="name is no object's name (lower-case letters, digits, hyphens, dots); write for example llm-keys"
	Name string `json:"name"`
	// optional: the slots start without the object. Else pods wait in Init until it is there.
	// +optional
	Optional bool `json:"optional,omitempty"`
}

// VolumeMount mounts a volume of the pod in both slots.
type VolumeMount struct {
	// name of a volume of the pod.
	// +required
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="name is no volume's name (lower-case letters, digits, hyphens); write the name of a volume of the pod template"
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('workerpool-')",message="volumes whose names begin with workerpool- are the pool's own; name a volume of the pod template"
	Name string `json:"name"`
	// mountPath is where the slots see it: an absolute path that hides nothing of what the pool itself needs.
	// +required
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.matches('^(/[^/:[:cntrl:]]+)+$') && !self.matches('/[.][.]?(/|$)')",message="mountPath is no absolute path (without colon, . and .., and with no slash at its end); write for example /models"
	// +kubebuilder:validation:XValidation:rule="!(self in ['/tmp', '/dev']) && !['/run/workerpool', '/var/run/workerpool', '/opt/workerpool', '/run/secrets/kubernetes.io/serviceaccount', '/var/run/secrets/kubernetes.io/serviceaccount', '/proc', '/sys'].exists(own, own == self || own.startsWith(self + '/') || self.startsWith(own + '/'))",message="mountPath would hide what the pool needs itself (/run/workerpool, /opt/workerpool, /tmp, /dev, /proc, /sys, the service account's folder); choose another folder, for example /models"
	MountPath string `json:"mountPath"`
	// subPath is the folder of the volume that is mounted; default: its root.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.matches('^([^/[:cntrl:]][^[:cntrl:]]*)?$') && !self.matches('(^|/)[.][.](/|$)')",message="subPath is no path inside the volume; write it without a slash at its beginning and without .., for example models/small"
	SubPath string `json:"subPath,omitempty"`
	// readOnly: workers can't write to it.
	// +optional
	ReadOnly bool `json:"readOnly,omitempty"`
}
