package status

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/rollout"
)

// progress is what kstatus wants to know of a pool that isn't ready.
type progress int

const (
	settled progress = iota // as it should be, or with nothing to do
	moving                  // on the way
	stuck                   // can't get further without a change
)

// maxMessage bounds a condition's message, which the API bounds at 32 KiB.
const maxMessage = 5 << 10

// summarise is Ready: the first of these that has something to say. What needs a human comes before what needs time.
func summarise(in *Input) (finding, progress) {
	if in.Problem != "" {
		return no(ReasonBlocked, "%s", in.Problem), stuck
	}
	if f, failing := bootFailed(in); failing {
		return f, stuck
	}
	if f := injected(in); f.reason == ReasonPodsNotInjected {
		return f, stuck
	}
	if len(in.Pods) == 0 && !in.blocked() && in.Decision.State != rollout.AnalysisFailed {
		return noPods(in)
	}
	if f, found := containersStuck(in); found {
		return f, stuck
	}
	synced := configSynced(in)
	switch synced.reason {
	case ReasonResourcesInsufficient, ReasonPodsOutdated:
		return synced, stuck
	case ReasonPodsRestarting:
		return synced, moving
	}
	if f := available(in); f.reason == ReasonPodsStarting && len(in.Pods) > 0 {
		return f, moving
	}
	if in.blocked() {
		return readyAfterRollback(in), stuck
	}
	if s := in.Decision.State; s == rollout.AnalysisFailed || s == rollout.PodsTripped { // bad workers are what it is about
		return standing(in)
	}
	switch f := synced; f.reason {
	case ReasonConfigurationRefused, ReasonPodsUnreachable: // routers try again by themselves
		return f, moving
	case ReasonUnacknowledged:
		if in.Decision.Applied == in.Decision.Desired {
			return f, moving
		}
	}
	for _, placed := range in.placed() {
		if f, found := slotsHung(in, placed); found {
			return f, moving
		}
	}
	if f, starting := startingWorkers(in); starting {
		return f, moving
	}
	return rolledOut(in)
}

// bootFailed tells of a slot whose workers don't start, with the traceback. In a container that wasn't made for the revision
// that is no wonder, and the container is what there is to say.
func bootFailed(in *Input) (finding, bool) {
	for _, placed := range in.placed() {
		failing := in.where(func(p *Pod) bool { return p.Live && p.Connected && p.Suits(placed) && p.FailsToBoot(placed) })
		if len(failing) == 0 {
			continue
		}
		w := first(failing).Workers[placed.Slot]
		message := fmt.Sprintf("workers of %s (%s) don't start in %d of %d pods (%s%s): %s",
			placed.Version, placed.Revision, len(failing), len(in.live()), named(failing), partly(failing, placed.Slot), w.BootMessage)
		if placed == in.Decision.Assignment.Canary {
			message = fmt.Sprintf("%s; %s (%s) serves on", message, in.Decision.Assignment.Stable.Version, in.Decision.Assignment.Stable.Revision)
		}
		if w.BootTraceback != "" {
			message += "\n" + w.BootTraceback
		}
		return no(ReasonWorkerBootFailed, "%s", strings.ToValidUTF8(message[:min(len(message), maxMessage)], "")), true
	}
	return finding{}, false
}

// partly says how many workers serve where others don't start; empty: none does.
func partly(failing []*Pod, slot string) string {
	serving, desired := 0, 0
	for _, p := range failing {
		serving += p.Workers[slot].Serving
		desired += p.Workers[slot].Desired
	}
	if serving == 0 {
		return ""
	}
	return fmt.Sprintf("; %d of %d serve there", serving, desired)
}

// insufficient tells of pods whose limits don't allow for all workers: which, how many fit, and the way out.
func insufficient(in *Input) (finding, bool) {
	capped := func(p *Pod) *Workers {
		for _, placed := range in.placed() {
			if w := p.Workers[placed.Slot]; w.Capped {
				return &w
			}
		}
		return nil
	}
	pods := in.where(func(p *Pod) bool { return p.Live && p.Connected && capped(p) != nil })
	if len(pods) == 0 {
		return finding{}, false
	}
	wanted, lower := in.Pool.Spec.Size, "spec.size"
	if overflow := in.Pool.Spec.Overflow; overflow > 0 && in.Pool.Spec.PoolVersion == v1alpha1.PoolV2 {
		wanted, lower = wanted+overflow, "spec.size or spec.overflow"
	}
	return no(ReasonResourcesInsufficient,
		"%d of %d pods (%s) have room for %d workers per slot, not %d: their containers' limits are of the size at which they were made; lower %s, or run: %s",
		len(pods), len(in.live()), named(pods), capped(first(pods)).Max, wanted, lower, remedy(in.Pool.Namespace, pods)), true
}

// startingWorkers tells of slots that lack workers.
func startingWorkers(in *Input) (finding, bool) {
	for _, placed := range in.placed() {
		starting := in.where(func(p *Pod) bool { return p.Live && !p.Runs(placed) })
		if len(starting) > 0 {
			return no(ReasonWaitingForWorkers, "workers of %s (%s) aren't ready in %d of %d pods (%s)%s",
				placed.Version, placed.Revision, len(starting), len(in.live()), named(starting), gettingOn(starting, placed)), true
		}
	}
	return finding{}, false
}

// gettingOn says how the starts of the first pod get on that has something to say; empty: they began moments ago.
func gettingOn(pods []*Pod, placed *v1alpha1.SlotRevision) string {
	telling := slices.DeleteFunc(slices.Clone(pods), func(p *Pod) bool {
		return !p.Connected || p.Slots[placed.Slot].Revision != placed.Revision || p.Workers[placed.Slot].Startup == Startup{}
	})
	if len(telling) == 0 {
		return ""
	}
	p := first(telling)
	s, text := p.Workers[placed.Slot].Startup, ""
	if !s.Since.IsZero() {
		text = fmt.Sprintf("; starting in %s since %s, for %s at most (spec.timeouts.start)", p.Name, since(s.Since), s.Limit)
	}
	if s.Pace != "" {
		text += fmt.Sprintf("; %s: %s", p.Name, s.Pace)
	}
	return text
}
