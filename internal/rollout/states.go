package rollout

// State names where a rollout stands.
type State string

// States. Promoted and CanaryPinned are ends; RolledBack and AnalysisFailed want a human; all others are on the way, or
// stuck until a fact changes.
const (
	// Promoted: the spec's revision is the stable one and serves alone.
	Promoted State = "Promoted"
	// CanaryPinned: the canary has the weight that the spec wants, below 100, in every live pod. It holds.
	CanaryPinned State = "CanaryPinned"
	// CanaryDropping: a canary that the spec no longer wants is taken off the traffic before its slot is used again.
	CanaryDropping State = "CanaryDropping"
	// CanaryProgressing: the routers were told a new weight and not all have acknowledged it.
	CanaryProgressing State = "CanaryProgressing"
	// StepInProgress: every live pod has acknowledged the step's weight, and the step's time runs.
	StepInProgress State = "StepInProgress"
	// InsufficientSamples: the step's time is over, and the analysis can't say yet that the canary is good enough.
	InsufficientSamples State = "InsufficientSamples"
	// WaitingForWorkers: the canary's workers aren't ready in every live pod.
	WaitingForWorkers State = "WaitingForWorkers"
	// WaitingForPods: no pod is there in which the canary could get a share.
	WaitingForPods State = "NoPods"
	// Unacknowledged: a live pod is unreachable, or hasn't the configuration in force; weights aren't raised.
	Unacknowledged State = "Unacknowledged"
	// MetricsUnavailable: a live pod's figures don't come; weights aren't raised, and nothing is rolled back for that.
	MetricsUnavailable State = "MetricsUnavailable"
	// WorkerBootFailed: the canary's workers don't start; weights aren't raised and the stable serves on.
	WorkerBootFailed State = "WorkerBootFailed"
	// PodsOutdated: a pod's slot has another image or other variables than the canary wants, or other volumes than the
	// spec; the canary isn't started.
	PodsOutdated State = "PodsOutdated"
	// PodsTripped: a live pod's router took the canary off its own traffic; weights aren't raised.
	PodsTripped State = "PodsTripped"
	// Paused: spec.paused or a pause token keeps the rollout from going on.
	Paused State = "Paused"
	// AnalysisFailed: what would be a rollback is held by rollback.policy Pause, for a human to abort or resume.
	AnalysisFailed State = "AnalysisFailed"
	// RolledBack: the spec's revision is blocked, and has no traffic or is being taken off it.
	RolledBack State = "RolledBack"
)

// Action is what a decision newly does.
type Action string

// Actions. Most decisions do nothing new; none does two things.
const (
	None          Action = ""
	StableSet     Action = "StableSet"     // the first revision serves
	CanaryStarted Action = "CanaryStarted" // a slot is given the canary
	WeightChanged Action = "WeightChanged"
	StepAdvanced  Action = "StepAdvanced"   // to the next step's weight, or after the last to 100
	CanaryDropped Action = "CanaryDropped"  // its slot is idle
	Promotion     Action = "Promoted"       // the canary is the stable, the other slot idles
	Rollback      Action = "RolledBack"     // Decision.Rollback says why
	Holding       Action = "AnalysisFailed" // Decision.Hold says why, by rollback.policy Pause

	// What tokens ask for.
	Abort   Action = "Aborted" // a rollback by hand
	Pause   Action = "Paused"
	Retry   Action = "Retried"
	Resume  Action = "Resumed"
	Promote Action = "PromoteRequested" // what is left of the steps, or of a pinned weight, is skipped
)

// Notes' reasons.
const (
	NoteWouldRollBack    = "WouldRollBack"    // rollback.policy DryRun
	NoteNothingToAbort   = "NothingToAbort"   // there is no canary
	NoteNothingToPause   = "NothingToPause"   // it is held already
	NoteNothingToRetry   = "NothingToRetry"   // nothing is blocked, held or under way
	NoteNothingToResume  = "NothingToResume"  // nothing is held
	NoteNothingToPromote = "NothingToPromote" // there is no canary
)
