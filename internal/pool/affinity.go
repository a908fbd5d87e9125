package pool

// Affinity names the worker that a request wants to be served by: the one that served its key last, which may still
// have something of it in its process. Any worker can serve any request all the same; the zero value asks for none.
type Affinity struct {
	Key  string // required with a mode
	Mode AffinityMode
}

// AffinityMode says what happens when the key's worker isn't free. A key without one (it is new, or its worker has
// ended, or it wasn't used for long) is served by any worker in every mode, which is the key's then.
type AffinityMode string

// Modes of affinity, as callers write them.
const (
	AffinityNone      AffinityMode = ""
	AffinityHint      AffinityMode = "hint"       // another one serves, and is the key's then
	AffinityStrict    AffinityMode = "strict"     // wait for it, within the request's time; should it end, for any
	AffinityStrictNow AffinityMode = "strict-now" // NewWorkerBusy at once
)

// Known reports whether m is one of the modes.
func (m AffinityMode) Known() bool {
	switch m {
	case AffinityNone, AffinityHint, AffinityStrict, AffinityStrictNow:
		return true
	}
	return false
}
