package rollout_test

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/analysis"
	"github.com/dspex/workerpool-operator/internal/rollout"
)

var start = time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)

// fleet plays the pods, their traffic and the status through a story: it does as told unless the story says otherwise.
type fleet struct {
	spec *v1alpha1.WorkerPoolSpec
	now  time.Time
	told *rollout.Told
	pods []rollout.Pod

	// What the status keeps.
	stable, canary *v1alpha1.SlotRevision
	applied        rollout.Weight
	rollout        *v1alpha1.RolloutStatus
	blocked        string
	hold           *v1alpha1.HoldStatus
	handled        v1alpha1.HandledTokens
	rollbacks      []*v1alpha1.RollbackStatus

	known  []rollout.Unrecorded   // rollbacks that the pods were told of
	tokens v1alpha1.HandledTokens // annotations
	deaf   map[string]bool        // pods that acknowledge nothing
	away   map[string]bool        // pods without a stream
	silent map[string]bool        // pods whose figures don't come
	broken map[string]bool        // revisions whose workers don't start
	trips  map[string]trip        // by pod
	slow   bool                   // workers that are newly told don't get ready
	traffic

	text    strings.Builder
	timed   bool
	printed string
	problem error // the first rule of a decision that was broken
}

// trip is a router's, under the trip token that it had.
type trip struct {
	rollout.Trip
	token string
}

func newFleet(pods ...string) *fleet {
	f := &fleet{
		now: start, deaf: map[string]bool{}, away: map[string]bool{}, silent: map[string]bool{},
		broken: map[string]bool{}, trips: map[string]trip{},
	}
	f.join(pods...)
	return f
}

func (f *fleet) join(pods ...string) {
	for _, name := range pods {
		f.pods = append(f.pods, rollout.Pod{Name: name, Slots: map[string]rollout.Slot{}})
	}
}

// then does something and lets the operator decide until nothing changes any more.
func (f *fleet) then(title string, do func()) {
	fmt.Fprintf(&f.text, "%s\n", title)
	do()
	for last, n := "", 0; n < 20; n++ {
		f.obey()
		d := f.decide(nil)
		line := f.line(&d)
		f.take(&d)
		if line == last {
			return
		}
		f.print(line, f.details(&d, nil))
		last = line
	}
	f.text.WriteString("    (it never comes to rest)\n")
}

func (f *fleet) print(line, details string) {
	f.printed = line
	if f.timed {
		line = fmt.Sprintf("%7s  %s", f.now.Sub(start), line)
	}
	fmt.Fprintf(&f.text, "    %s%s\n", line, details)
}

// tell adds what a story comes to.
func (f *fleet) tell(format string, args ...any) { fmt.Fprintf(&f.text, format+"\n", args...) }

// wait lets time pass: each second brings its requests and what is decided then. Only what changes is told.
func (f *fleet) wait(title string, d time.Duration) {
	fmt.Fprintf(&f.text, "%s\n", title)
	for range int(d / time.Second) {
		f.second()
	}
}

// second is one of them. It returns what was decided.
func (f *fleet) second() (decided []rollout.Decision) {
	f.now = f.now.Add(time.Second)
	f.serve()
	for range 5 {
		f.obey()
		findings := f.look()
		d := f.decide(findings)
		line, details := f.line(&d), f.details(&d, findings)
		f.take(&d)
		decided = append(decided, d)
		if line != f.printed || details != "" {
			f.print(line, details)
		}
		if d.Action == rollout.None {
			break
		}
	}
	return decided
}

func (f *fleet) input() rollout.Input {
	return rollout.Input{
		Spec: f.spec, Stable: f.stable, Canary: f.canary, Applied: f.applied, Told: f.told, Pods: f.pods,
		Now: f.now, Rollout: f.rollout, Blocked: f.blocked, Hold: f.hold, Handled: f.handled, Tokens: f.tokens,
		Unrecorded: rollout.Newest(f.known, f.last(), f.handled.Retry, f.now),
	}
}

// last is the last rollback that was recorded.
func (f *fleet) last() *v1alpha1.RollbackStatus {
	if len(f.rollbacks) == 0 {
		return nil
	}
	return f.rollbacks[len(f.rollbacks)-1]
}

// act tells the routers what takes traffic off, before anything is written.
func (f *fleet) act(d *rollout.Decision) {
	if f.told == nil || revisionOf(d.Assignment.Canary) != revisionOf(f.told.Assignment.Canary) || d.Weight >= f.told.Weight {
		return
	}
	lowered := *d
	lowered.Assignment, lowered.Idle = f.told.Assignment, false
	f.tellRouters(&lowered, false)
	if d.Rollback != nil {
		f.known = append(f.known, rollout.Unrecorded{RollbackStatus: *d.Rollback, Token: f.handled.Retry})
	}
}

// decide asks, and holds the answer against what every decision must keep to.
func (f *fleet) decide(findings *analysis.Result) rollout.Decision {
	in := f.input()
	in.Findings = findings
	untouched := copied(in)
	d := rollout.Decide(in)
	if err := broken(&untouched, &in, &d); err != nil && f.problem == nil {
		f.problem = fmt.Errorf("at %s: %w", f.now.Sub(start), err)
	}
	return d
}

// take is what the reconciler does with a decision: the status is written, then the routers are told.
func (f *fleet) take(d *rollout.Decision) {
	again := f.handled.Retry != d.Handled.Retry // the routers' trip token
	f.write(d)
	f.tellRouters(d, again)
}

func (f *fleet) write(d *rollout.Decision) {
	stable := d.Assignment.Stable
	f.stable, f.canary, f.applied = &stable, d.Assignment.Canary.DeepCopy(), d.Applied
	f.rollout, f.blocked, f.hold, f.handled = d.Rollout.DeepCopy(), d.Blocked, d.Hold.DeepCopy(), d.Handled
	if d.Rollback != nil {
		f.rollbacks = append(f.rollbacks, d.Rollback)
	}
}

func (f *fleet) tellRouters(d *rollout.Decision, again bool) {
	told := rollout.Told{Assignment: d.Assignment, Weight: d.Weight}
	if d.Idle {
		told.Assignment.Canary = nil
	}
	if again || f.told == nil || describe(f.told.Assignment) != describe(told.Assignment) ||
		f.told.Assignment.Stable.Revision != told.Assignment.Stable.Revision ||
		revisionOf(f.told.Assignment.Canary) != revisionOf(told.Assignment.Canary) || f.told.Weight != told.Weight {
		for i := range f.pods {
			f.pods[i].Acknowledged = false
		}
	}
	f.told = &told
}

func revisionOf(r *v1alpha1.SlotRevision) string {
	if r == nil {
		return ""
	}
	return r.Revision
}

// obey is what the pods do with what they were told.
func (f *fleet) obey() {
	for i := range f.pods {
		p := &f.pods[i]
		p.Connected = !f.away[p.Name]
		p.Stale = p.Connected && f.silent[p.Name]
		if f.told == nil || f.away[p.Name] || f.deaf[p.Name] {
			continue
		}
		p.Acknowledged = true
		for _, name := range []string{"a", "b"} {
			f.runSlot(p, name)
		}
		p.Tripped = nil
		if t, is := f.trips[p.Name]; is && t.token == f.handled.Retry && t.Revision == revisionOf(f.told.Assignment.Canary) {
			p.Tripped = &t.Trip
		} else {
			delete(f.trips, p.Name)
		}
	}
}

func (f *fleet) runSlot(p *rollout.Pod, name string) {
	in := f.told.Assignment.In(name)
	switch {
	case in == nil:
		delete(p.Slots, name)
	case p.Slots[name].Revision == in.Revision && p.Slots[name].Up:
	case f.broken[in.Revision]:
		p.Slots[name] = rollout.Slot{Revision: in.Revision, BootFailing: true}
	case f.slow:
		p.Slots[name] = rollout.Slot{Revision: in.Revision}
	default:
		p.Slots[name] = rollout.Slot{Revision: in.Revision, Serving: 4, Up: true}
	}
}

// trip makes the routers of pods take the canary off their traffic.
func (f *fleet) trip(t rollout.Trip, pods ...string) {
	t.Revision = revisionOf(f.canary)
	for _, name := range pods {
		f.trips[name] = trip{t, f.handled.Retry}
	}
}

// newLeader starts from the status.
func (f *fleet) newLeader() {
	f.told = nil
	f.forgetLooks()
}

// line tells a decision.
func (f *fleet) line(d *rollout.Decision) string {
	slots := map[string]string{"a": "-", "b": "-"}
	for name := range slots {
		if in := d.Assignment.In(name); in != nil && (!d.Idle || in != d.Assignment.Canary) {
			slots[name] = string(in.Version)
		}
	}
	role := "stable " + d.Assignment.Stable.Slot
	if d.Assignment.Canary != nil {
		role += ", canary " + d.Assignment.Canary.Slot
	}
	text := fmt.Sprintf("a=%-2s b=%-2s %-18s %3s→%-3s told %-5s %-17s", slots["a"], slots["b"], role, d.Applied, d.Desired, d.Weight, d.State)
	if f.timed {
		text = fmt.Sprintf("%-9s %3s %4s→%-4s told %-4s %-19s", strings.TrimSuffix(describe(d.Assignment), " -"), stepOf(d), d.Applied, d.Desired, d.Weight, d.State)
	}
	if d.Action != rollout.None {
		text += " " + string(d.Action)
	}
	if len(d.Blockers) > 0 {
		text += " waits for " + strings.Join(d.Blockers, ", ")
	}
	return strings.TrimRight(text, " ")
}

func stepOf(d *rollout.Decision) string {
	if d.Rollout == nil {
		return ""
	}
	return d.Rollout.Summary
}

// details are a decision's further lines: what a look found, when that was more than was known, and why.
func (f *fleet) details(d *rollout.Decision, findings *analysis.Result) string {
	var text strings.Builder
	if findings != nil && findings.Reason != f.found {
		f.found = findings.Reason
		fmt.Fprintf(&text, "\n             look %d: %s (%s), n=%d/%d", findings.Progress.Looked, findings.Verdict, findings.Reason,
			findings.CanarySamples, findings.StableSamples)
	}
	if b := d.Rollback; b != nil {
		fmt.Fprintf(&text, "\n             %s → %s at %s %%: %s", b.From, b.To, b.Weight, b.Reason)
		for _, line := range b.Evidence {
			fmt.Fprintf(&text, "\n             %s", line)
		}
	}
	if d.Action == rollout.Holding {
		fmt.Fprintf(&text, "\n             %s", d.Hold.Message)
	}
	for _, n := range d.Notes {
		fmt.Fprintf(&text, "\n             %s: %s", n.Reason, n.Message)
	}
	return text.String()
}

func (f *fleet) apply(version v1alpha1.PoolVersion, weight, module string) func() {
	return func() { f.spec = spec(version, weight, module) }
}

func (f *fleet) applySteps(module string, steps ...string) func() {
	return func() { f.spec = stepped(module, steps...) }
}

// stepped is a v2 spec with steps such as "5 for 30s".
func stepped(module string, steps ...string) *v1alpha1.WorkerPoolSpec {
	s := spec("v2", "", module)
	s.Canary = &v1alpha1.Canary{}
	for _, step := range steps {
		weight, duration, _ := strings.Cut(step, " for ")
		d, err := time.ParseDuration(duration)
		if err != nil {
			panic(err)
		}
		s.Canary.Steps = append(s.Canary.Steps, v1alpha1.Step{
			Weight: intstr.FromString(weight), Duration: metav1.Duration{Duration: d},
		})
	}
	return s
}
