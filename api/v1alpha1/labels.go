package v1alpha1

// What pods and pools are marked with.
const (
	// PoolLabel on a pod names its WorkerPool, in the pod's namespace: the opt-in, set by the user.
	PoolLabel = "pool.dspex.dev/pool"
	// InjectedAnnotation on a pod is the UID of the WorkerPool that it was injected for, set at injection.
	// Identity checks use it, so that a pool that was deleted and made anew doesn't inherit pods.
	InjectedAnnotation = "pool.dspex.dev/injected-pool-uid"
	// ImagesAnnotation on a pod holds the images of its slots at injection, as JSON {"a": image, "b": image}.
	ImagesAnnotation = "pool.dspex.dev/slot-images"
	// EnvFromAnnotation on a pod names the objects that its slots have variables from since injection, as JSON
	// {"a": "secret/llm-keys", "b": …}; absent: none.
	EnvFromAnnotation = "pool.dspex.dev/slot-env-from"
	// MountsAnnotation on a pod holds the worker.volumeMounts that its slots have since injection, as JSON; absent: none.
	MountsAnnotation = "pool.dspex.dev/slot-volume-mounts"
	// LeaderLabel is "true" on the operator pod that leads; the control Service selects it.
	LeaderLabel = "pool.dspex.dev/leader"
	// ManagedByLabel marks the objects that the operator writes, so that it can watch only these.
	ManagedByLabel = "app.kubernetes.io/managed-by"
	// ManagedBy is that label's value.
	ManagedBy = "workerpool-operator"
)

// AnnotationPrefix begins the annotations of a pool that are the operator's.
const AnnotationPrefix = "pool.dspex.dev/"

// What people tell a rollout by: annotations of the pool. Each holds a token of their choice, and another token than the
// last one is acted upon, once.
const (
	RetryAnnotation   = AnnotationPrefix + "retry"
	PromoteAnnotation = AnnotationPrefix + "promote"
	AbortAnnotation   = AnnotationPrefix + "abort"
	PauseAnnotation   = AnnotationPrefix + "pause"
	ResumeAnnotation  = AnnotationPrefix + "resume"
)

// MaxToken is the longest token that is acted upon, in bytes.
const MaxToken = 256
