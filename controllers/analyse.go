package controllers

import (
	"context"
	"maps"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/analysis"
	"github.com/dspex/workerpool-operator/internal/rollout"
	"github.com/dspex/workerpool-operator/internal/status"
)

// defaultWindow is the API's, for a spec that didn't pass through the API server.
const defaultWindow = 5 * time.Minute

// analyse compares the canary with the stable when a look is due, and plans the next one.
func (r *WorkerPoolReconciler) analyse(_ context.Context, p *pass) error {
	if of, grid, underWay := p.compared(); underWay {
		p.look(of, grid, r.Fleet.Seen(p.key, of.canary, of.stable))
	}
	return nil
}

// look makes the look that is due, if one is. counted is what the fleet has seen of every pod until now.
func (p *pass) look(of compared, grid analysis.Grid, counted map[types.UID]analysis.Pod) {
	c := &p.memory.comparison
	c.follow(of, grid, p.now)
	pods, span := c.count(p.sharing(counted, of.canary), p.counting(), window(&p.pool.Spec.Analysis), p.now)
	p.sooner(grid.Next(p.now).Sub(p.now))
	if !grid.Due(c.progress, p.now) {
		return
	}
	canary, stable := status.Names(&p.memory.told.Assignment)
	result := analysis.Decide(analysis.Input{
		CanaryName: canary, StableName: stable, Pods: pods, Span: span,
		Thresholds: rollout.Thresholds(&p.pool.Spec, p.pool.Status.Rollout),
		Grid:       grid, Progress: c.progress, Now: p.now,
	})
	p.findings = &result
}

// compared tells what there is to compare, and when to look: a canary that the routers were told to give a share, once
// it had it in a pod.
func (p *pass) compared() (of compared, grid analysis.Grid, underWay bool) {
	told, is := p.memory.told, p.pool.Status.Rollout
	grid, underWay = rollout.Looks(is)
	if !underWay || told == nil || told.Weight == 0 || told.Assignment.Canary == nil || told.Assignment.Canary.Revision != is.Revision {
		return compared{}, analysis.Grid{}, false
	}
	return compared{
		canary: is.Revision, stable: told.Assignment.Stable.Revision, weight: told.Weight, since: grid.Start.Unix(),
	}, grid, true
}

// sharing leaves out the pods whose routers took the canary off their traffic: what their stables serve from then on has
// nothing beside it from the same time.
func (p *pass) sharing(counted map[types.UID]analysis.Pod, canary string) map[types.UID]analysis.Pod {
	out := maps.Clone(counted)
	for i := range p.pods {
		if t := p.pods[i].Tripped; t != nil && !t.ReportOnly && t.Revision == canary {
			delete(out, p.pods[i].UID)
		}
	}
	return out
}

// counting tells of the live pods which have in force what the routers were told last, and have reported since.
func (p *pass) counting() func(types.UID) bool {
	does := map[types.UID]bool{}
	for i := range p.pods {
		if uid := p.pods[i].UID; p.pods[i].Live && p.reporting[uid] {
			does[uid] = true
		}
	}
	return func(uid types.UID) bool { return does[uid] }
}

// looks are what the status tells of the analysis, the look of this pass included: of this try of this canary alone.
func (p *pass) looks() status.Looks {
	c := p.memory.comparison
	if p.findings != nil {
		c.looked(p.findings)
	}
	looks := status.Looks{Needed: rollout.Thresholds(&p.pool.Spec, p.pool.Status.Rollout).MinSamples}
	if grid, runs := rollout.Looks(p.decision.Rollout); runs && p.decision.Rollout.Revision == c.of.canary && grid.Start.Unix() == c.of.since {
		looks.Last, looks.Failed = c.last, c.failed
	}
	return looks
}

func window(a *v1alpha1.Analysis) time.Duration {
	if a.Window == nil || a.Window.Duration <= 0 {
		return defaultWindow
	}
	return a.Window.Duration
}
