package analysis

import "time"

// Verdict is what a look says about the canary.
type Verdict string

// Verdicts. They are complete.
const (
	// Pass: enough samples, and nothing speaks against going on.
	Pass Verdict = "Pass"
	// Fail: the canary is worse than allowed, beyond the level's doubt.
	Fail Verdict = "Fail"
	// Insufficient: neither can be said; hold.
	Insufficient Verdict = "Insufficient"
)

// Reason says why, as a state.
type Reason string

// Reasons.
const (
	Healthy             Reason = "Healthy"             // Pass
	ErrorRateExceeded   Reason = "ErrorRateExceeded"   // Fail
	TimeoutRateExceeded Reason = "TimeoutRateExceeded" // Fail
	BetweenLooks        Reason = "BetweenLooks"        // Insufficient: no look is due
	NoComparison        Reason = "NoComparison"        // Insufficient: in no pod did both revisions serve
	InsufficientSamples Reason = "InsufficientSamples" // Insufficient: fewer than MinSamples
	// Undecided (Insufficient): the canary is worse than allowed, by no more than chance may do. More samples decide.
	Undecided Reason = "Undecided"
)

// Thresholds are what a canary may cost.
type Thresholds struct {
	// MinSamples is how many executed requests each side needs; less than 1 counts as 1. With fewer on the stable's
	// side alone the canary can fail but not pass: a test of few samples is weak, not wrong.
	MinSamples uint64
	// MaxErrorRateIncrease and MaxTimeoutRateIncrease over the stable's rate are fractions: 0.01 allows the canary
	// 3 % where the stable has 2 %. From 0 to 1.
	MaxErrorRateIncrease   float64
	MaxTimeoutRateIncrease float64
}

// Input is everything that a verdict is made of.
type Input struct {
	// CanaryName and StableName are how the evidence calls them: "v2" and "v1", or with their revisions when both
	// run the same version.
	CanaryName, StableName string
	// Pods hold what was counted in Span, during which the canary's weight didn't change.
	Pods       []Pod
	Span       time.Duration
	Thresholds Thresholds
	Grid       Grid
	Progress   Progress
	Now        time.Time
}

// Result is a verdict with what it rests on.
type Result struct {
	Verdict Verdict
	Reason  Reason
	// Samples are the executed requests that were compared.
	CanarySamples, StableSamples uint64
	// Evidence holds what was tested, the worst first; empty when nothing was.
	Evidence []Evidence
	// Progress to remember for the next look.
	Progress Progress
}

// metrics are what is compared; each gets an equal part of Alpha.
var metrics = []struct {
	name     string
	verb     string // "v2 failed 61 of 412 requests"
	exceeded Reason
	bad      func(Counts) uint64
	allowed  func(Thresholds) float64
}{
	{
		name: "error rate", verb: "failed", exceeded: ErrorRateExceeded,
		bad: Counts.Failed, allowed: func(t Thresholds) float64 { return t.MaxErrorRateIncrease },
	},
	{
		name: "timeout rate", verb: "timed out in", exceeded: TimeoutRateExceeded,
		bad: Counts.TimedOut, allowed: func(t Thresholds) float64 { return t.MaxTimeoutRateIncrease },
	},
}

// Decide makes the look that is due: the fixed-grid test of this package's comment. A test that is valid at any time
// takes and gives the same.
func Decide(in Input) Result {
	if !in.Grid.Due(in.Progress, in.Now) {
		return Result{Verdict: Insufficient, Reason: BetweenLooks, Progress: in.Progress}
	}
	look := in.Grid.Number(in.Now)
	canary, stable, compared := pooled(in.Pods)
	r := Result{
		Verdict: Insufficient, Reason: NoComparison,
		CanarySamples: canary.Executed(), StableSamples: stable.Executed(),
		Progress: Progress{Looked: look, Tested: in.Progress.Tested},
	}
	if compared == 0 {
		return r
	}
	if r.CanarySamples < in.Thresholds.MinSamples {
		r.Reason = InsufficientSamples
		return r
	}
	r.Evidence = in.test(canary, stable, compared, look)
	r.Progress.Tested = look
	r.Verdict, r.Reason = in.conclude(r)
	return r
}

// test compares both sides in every metric, and sorts the worst first.
func (in *Input) test(canary, stable Counts, compared, look int) []Evidence {
	bound := level(in.Progress, look)
	var out []Evidence
	for _, m := range metrics {
		e := Evidence{
			Metric: m.name, verb: m.verb, exceeded: m.exceeded,
			Canary: Proportion{Name: in.CanaryName, Bad: m.bad(canary), Requests: canary.Executed()},
			Stable: Proportion{Name: in.StableName, Bad: m.bad(stable), Requests: stable.Executed()},
			Pods:   compared, Span: in.Span, Allowed: m.allowed(in.Thresholds), Bound: bound, Look: look,
		}
		e.P, e.Test = excess(e.Canary, e.Stable, e.Allowed, bound)
		out = append(out, e)
	}
	sortWorstFirst(out)
	return out
}

// conclude turns evidence into a verdict.
func (in *Input) conclude(r Result) (Verdict, Reason) {
	for _, e := range r.Evidence {
		if e.Exceeded() {
			return Fail, e.exceeded
		}
	}
	if r.StableSamples < in.Thresholds.MinSamples {
		return Insufficient, InsufficientSamples
	}
	for _, e := range r.Evidence {
		if e.Canary.Rate()-e.Stable.Rate() > e.Allowed {
			return Insufficient, Undecided
		}
	}
	return Pass, Healthy
}
