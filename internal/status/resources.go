package status

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
)

// killMatters is how long the end of a container for lack of memory is told. The pod remembers it for as long as it lives.
const killMatters = 30 * time.Minute

// resourcesHealthy: every slot's workers answer, and no slot's container was killed lately for lack of memory.
func resourcesHealthy(in *Input) finding {
	for _, placed := range in.placed() {
		if f, found := slotsHung(in, placed); found {
			return f
		}
		if f, found := hung(in, placed); found {
			return f
		}
	}
	if f, found := outOfMemory(in); found {
		return f
	}
	live := in.live()
	if len(live) == 0 {
		f := available(in)
		return unknown(f.reason, "%s", f.message)
	}
	if unheard := in.unreachable(); len(unheard) == len(live) {
		return unknown(ReasonPodsUnreachable, "no router can be reached; how workers are isn't known")
	}
	for _, placed := range in.placed() {
		if f, found := unforked(in, placed); found {
			return f
		}
	}
	return yes(ReasonHealthy, "workers answer, and no slot ran out of memory within %s", killMatters)
}

// hung tells of slots whose workers don't answer, though there are processes.
func hung(in *Input, placed *v1alpha1.SlotRevision) (finding, bool) {
	why := func(p *Pod) string {
		if p.Slots[placed.Slot].Revision != placed.Revision {
			return ""
		}
		return p.Workers[placed.Slot].Unhealthy
	}
	pods := in.where(func(p *Pod) bool { return p.Live && p.Connected && why(p) != "" })
	if len(pods) == 0 {
		return finding{}, false
	}
	return no(ReasonWorkersHung, "workers of %s (%s) hang in %d of %d pods (%s): %s",
		placed.Version, placed.Revision, len(pods), len(in.live()), named(pods), why(first(pods))), true
}

// slotsHung tells of slots that say nothing to their routers, which send them no requests. Of what runs in such a slot only
// the configuration is known.
func slotsHung(in *Input, placed *v1alpha1.SlotRevision) (finding, bool) {
	pods := in.where(func(p *Pod) bool { return p.Live && p.Connected && p.Workers[placed.Slot].Hangs != "" })
	if len(pods) == 0 {
		return finding{}, false
	}
	return no(ReasonSlotsHung, "slot %s with %s (%s) hangs in %d of %d pods (%s) and gets no requests: %s",
		placed.Slot, placed.Version, placed.Revision, len(pods), len(in.live()), named(pods), first(pods).Workers[placed.Slot].Hangs), true
}

// unforked tells of slots that spawn workers though the pool wants them forked. They serve all the same, with a start that
// takes longer and memory that isn't shared.
func unforked(in *Input, placed *v1alpha1.SlotRevision) (finding, bool) {
	why := func(p *Pod) string {
		if p.Slots[placed.Slot].Revision != placed.Revision {
			return ""
		}
		return p.Workers[placed.Slot].ForkRefused
	}
	pods := in.where(func(p *Pod) bool { return p.Live && p.Connected && why(p) != "" })
	if len(pods) == 0 {
		return finding{}, false
	}
	return yes(ReasonForksRefused, "workers of %s (%s) answer, and are spawned instead of forked in %d of %d pods (%s), each with an import and memory of its own: %s",
		placed.Version, placed.Revision, len(pods), len(in.live()), named(pods), why(first(pods))), true
}

// outOfMemory tells of slots whose containers were killed lately, with all of their workers.
func outOfMemory(in *Input) (finding, bool) {
	type end struct {
		pod, slot string
		Kill
	}
	var ends []end
	pods := in.where(func(p *Pod) bool {
		found := false
		for slot, k := range p.Kills {
			if p.Live && in.Now.Sub(k.At) < killMatters {
				ends, found = append(ends, end{p.Name, slot, k}), true
			}
		}
		return found
	})
	if len(pods) == 0 {
		return finding{}, false
	}
	last := slices.MaxFunc(ends, func(a, b end) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(b.pod, a.pod), cmp.Compare(b.slot, a.slot))
	})
	container := fmt.Sprintf("container pool-%s of pod %s", last.slot, last.pod)
	return no(ReasonOutOfMemory, "slots ran out of memory in %d of %d pods (%s); the last was %s at %s, which has been restarted %d times: "+
		"raise spec.worker.resources.limits.memory or lower spec.size or spec.overflow, and restart the pods",
		len(pods), len(in.live()), named(pods), container, last.At.UTC().Format(time.RFC3339), last.Restarts), true
}
