package status

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/revision"
	"github.com/dspex/workerpool-operator/internal/rollout"
)

// Of is the status of a pool.
func Of(in Input) v1alpha1.WorkerPoolStatus {
	s := *in.Pool.Status.DeepCopy()
	s.ObservedGeneration = in.Pool.Generation
	if in.Problem == "" {
		s.Stable = in.Decision.Assignment.Stable.DeepCopy()
		s.Canary = in.Decision.Assignment.Canary.DeepCopy()
		s.Rollout = in.Decision.Rollout.DeepCopy()
		s.BlockedRevision = in.Decision.Blocked
		s.Hold = in.Decision.Hold.DeepCopy()
		s.Handled = in.Decision.Handled
		if r := in.Decision.Rollback; r != nil {
			s.LastRollback = r.DeepCopy()
		}
		s.SerialCapacity = serialCapacity(&in)
		s.Weight = weight(&in)
		s.Pods = pods(&in)
		s.Workers = workers(&in)
		s.Versions = versions(&in)
		s.Shown = shown(&in, s.Versions)
	}
	setConditions(&in, &s)
	return s
}

func weight(in *Input) v1alpha1.WeightStatus {
	applied, desired := in.Decision.Applied.String(), in.Decision.Desired.String()
	return v1alpha1.WeightStatus{
		Desired:  desired,
		Applied:  applied,
		Observed: observed(in),
		Summary:  summary(applied, desired),
	}
}

// summary is one value, or the way from one to the other.
func summary(from, to string) string {
	if from == to {
		return from
	}
	return from + "→" + to
}

// observed is the canary's measured share; empty without a canary or without traffic.
func observed(in *Input) string {
	c := in.Decision.Assignment.Canary
	if c == nil {
		return ""
	}
	canary := in.Figures[c.Revision].Requests
	return percent(canary, canary+in.Figures[in.Decision.Assignment.Stable.Revision].Requests)
}

// percent of a part with up to two decimals; empty when there is no whole.
func percent(part, whole uint64) string {
	if whole == 0 {
		return ""
	}
	return rollout.Weight(math.Round(float64(part) / float64(whole) * float64(rollout.Full))).String()
}

func pods(in *Input) v1alpha1.PodsStatus {
	matched := len(in.Pods)
	acknowledged := len(in.live()) - len(in.unacknowledged())
	return v1alpha1.PodsStatus{
		Matched:      int32(matched),
		Injected:     int32(matched - len(in.notInjected())),
		Acknowledged: int32(acknowledged),
		Outdated:     int32(len(in.outdated())),
		Unreachable:  int32(len(in.unreachable())),
		Summary:      fmt.Sprintf("%d/%d", acknowledged, matched),
	}
}

func workers(in *Input) v1alpha1.WorkersStatus {
	var w v1alpha1.WorkersStatus
	for _, p := range in.live() {
		if !p.Connected && !p.rejoining() {
			continue
		}
		w.Busy += int32(p.Busy)
		for _, slot := range p.Workers {
			w.Desired += int32(slot.Desired)
		}
		for _, slot := range p.Slots {
			w.Ready += int32(slot.Serving)
		}
	}
	w.Summary = fmt.Sprintf("%d/%d", w.Ready, w.Desired)
	return w
}

// versions lists the stable's figures, then the canary's, then those of revisions that served within the last minute.
func versions(in *Input) []v1alpha1.VersionStatus {
	var out []v1alpha1.VersionStatus
	for hash, f := range in.Figures {
		out = append(out, v1alpha1.VersionStatus{
			Version:     v1alpha1.PoolVersion(f.Version),
			Revision:    hash,
			Requests:    int64(f.Requests),
			ErrorRate:   percent(f.Failed(), f.Executed()),
			TimeoutRate: percent(f.TimedOut(), f.Executed()),
			P50:         rounded(f.P50), P95: rounded(f.P95), P99: rounded(f.P99),
			Throughput: rate(f.perSecond(float64(f.served()))), Utilization: f.utilization(),
			Spawned: int64(f.Spawned), Destroyed: int64(f.Destroyed), Crashed: int64(f.Crashed),
			Memory: mebibytes(f.Memory), CPU: f.cores(), OpenFDs: int64(f.OpenFDs),
		})
	}
	slices.SortFunc(out, func(a, b v1alpha1.VersionStatus) int {
		return cmp.Or(cmp.Compare(in.rank(a.Revision), in.rank(b.Revision)), cmp.Compare(a.Revision, b.Revision))
	})
	return out
}

// hashShown is how much of a revision's hash tells it from another, in kubectl get.
const hashShown = 4

// shown has the figures of the canary while there is one: how that does is what one looks for.
func shown(in *Input, versions []v1alpha1.VersionStatus) v1alpha1.ShownStatus {
	stable, wanted := &in.Decision.Assignment.Stable, revision.Of(&in.Pool.Spec)
	s := v1alpha1.ShownStatus{Version: string(wanted.PoolVersion), Stable: string(stable.Version)}
	if wanted.PoolVersion == stable.Version && wanted.Hash() != stable.Revision {
		s.Version, s.Stable = short(wanted.PoolVersion, wanted.Hash()), short(stable.Version, stable.Revision)
	}
	watched := stable
	if c := in.Decision.Assignment.Canary; c != nil {
		watched = c
	}
	for i := range versions {
		if v := &versions[i]; v.Revision == watched.Revision {
			s.ErrorRate, s.P95 = v.ErrorRate, v.P95
		}
	}
	return s
}

func short(version v1alpha1.PoolVersion, hash string) string {
	return fmt.Sprintf("%s@%s", version, hash[:min(hashShown, len(hash))])
}

func (in *Input) rank(hash string) int {
	a := &in.Decision.Assignment
	switch {
	case hash == a.Stable.Revision:
		return 0
	case a.Canary != nil && hash == a.Canary.Revision:
		return 1
	}
	return 2
}

// rounded keeps three significant digits: more is noise, and makes every write a change.
func rounded(d time.Duration) *metav1.Duration {
	if d <= 0 {
		return &metav1.Duration{}
	}
	us := float64(d.Microseconds())
	text := strconv.FormatFloat(us, 'g', 3, 64)
	if us, err := strconv.ParseFloat(text, 64); err == nil {
		return &metav1.Duration{Duration: time.Duration(us) * time.Microsecond}
	}
	return &metav1.Duration{Duration: d}
}
