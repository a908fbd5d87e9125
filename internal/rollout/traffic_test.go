package rollout_test

import (
	"time"

	"github.com/dspex/workerpool-operator/internal/analysis"
	"github.com/dspex/workerpool-operator/internal/rollout"
)

// traffic is what the pods serve: each so many requests a second, split by the weight, of which each revision fails its
// part. It is counted, not drawn, so that a story is always the same.
type traffic struct {
	perSecond int                // of each pod
	failing   map[string]float64 // share of failures by revision
	counts    map[string]analysis.Pod
	left      map[string]float64 // what isn't a whole request yet, by pod and revision
	since     time.Time          // from which counts are
	weight    rollout.Weight     // that they are of
	progress  analysis.Progress
	looks     time.Time // from which they are numbered
	lost      bool      // the progress, with its leader
	found     analysis.Reason
	rhythm    *rhythm // nil: requests are all alike
}

// fails makes a share of a revision's requests fail.
func (t *traffic) fails(revision string, share float64) {
	if t.failing == nil {
		t.failing = map[string]float64{}
	}
	t.failing[revision] = share
}

func (t *traffic) forgetLooks() { t.lost = true }

// serve is a second of it. A pod that has tripped sends its stable everything.
func (f *fleet) serve() {
	if f.told == nil || f.canary == nil || f.perSecond == 0 {
		return
	}
	if f.counts == nil {
		f.counts, f.left = map[string]analysis.Pod{}, map[string]float64{}
	}
	for i := range f.pods {
		p := &f.pods[i]
		share := float64(f.told.Weight) / float64(rollout.Full)
		if t := p.Tripped; t != nil && !t.ReportOnly {
			share = 0
		}
		if f.away[p.Name] || f.silent[p.Name] {
			continue
		}
		c := f.counts[p.Name]
		if f.rhythm != nil {
			more := f.rhythm.requests(p.Name, f.perSecond, rollout.Weight(share*float64(rollout.Full)), f.canary.Revision, f.stable.Revision)
			f.counts[p.Name] = analysis.Pod{Canary: c.Canary.Add(more.Canary), Stable: c.Stable.Add(more.Stable)}
			continue
		}
		canary := f.whole(p.Name+"/canary", share*float64(f.perSecond))
		c.Canary = c.Canary.Add(f.ended(p.Name, f.canary.Revision, canary))
		c.Stable = c.Stable.Add(f.ended(p.Name, f.stable.Revision, uint64(f.perSecond)-canary))
		f.counts[p.Name] = c
	}
}

func (f *fleet) ended(pod, revision string, requests uint64) analysis.Counts {
	return analysis.Counts{Requests: requests, Errors: f.whole(pod+"/"+revision, f.failing[revision]*float64(requests))}
}

// whole takes the whole part of what has come together.
func (f *fleet) whole(of string, n float64) uint64 {
	f.left[of] += n
	whole := uint64(f.left[of] + 1e-9)
	f.left[of] -= float64(whole)
	return whole
}

// count begins anew with another weight, and once more when every pod has it.
func (f *fleet) count() {
	from := f.since
	switch all := f.rollout.WeightSince; {
	case all != nil:
		from = all.Time
	case f.weight != f.told.Weight:
		from = f.now
	}
	f.weight = f.told.Weight
	if !from.Equal(f.since) {
		f.since, f.counts, f.left = from, map[string]analysis.Pod{}, map[string]float64{}
	}
}

// look is what the reconciler does for a decision: the look that is due.
func (f *fleet) look() *analysis.Result {
	grid, runs := rollout.Looks(f.rollout)
	if !runs || f.told == nil {
		return nil
	}
	switch {
	case f.lost:
		f.progress = grid.Unknown(f.now)
	case !grid.Start.Equal(f.looks):
		f.progress = analysis.Progress{}
	}
	f.looks, f.lost = grid.Start, false
	f.count()
	in := analysis.Input{
		CanaryName: "v2", StableName: "v1", Span: f.now.Sub(f.since), Thresholds: rollout.Thresholds(f.spec, f.rollout),
		Grid: grid, Progress: f.progress, Now: f.now,
	}
	for i := range f.pods {
		in.Pods = append(in.Pods, f.counts[f.pods[i].Name])
	}
	r := analysis.Decide(in)
	if r.Reason == analysis.BetweenLooks {
		return nil
	}
	f.progress = r.Progress
	return &r
}
