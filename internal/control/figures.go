package control

import (
	"regexp"
	"time"

	"github.com/dspex/workerpool-operator/internal/analysis"
	"github.com/dspex/workerpool-operator/internal/control/controlpb"
	"github.com/dspex/workerpool-operator/internal/histogram"
)

// The window over which figures are kept, and its grain. A pool's figures cost at most maxRevisions × grains
// histograms (about 5 KiB each), and only those in which there was traffic.
const (
	window = time.Minute
	grain  = 5 * time.Second
	grains = int(window / grain)
)

// figures of a pool by revision. The fleet's mu guards them.
type figures map[string]*ring

// ring holds the last minute of a revision in grains.
type ring struct {
	version string
	last    time.Time // when something was counted
	cells   [grains]cell
}

// cell is one grain.
type cell struct {
	number  int64 // of the grain since the epoch of time
	counts  analysis.Counts
	latency *histogram.Histogram // nil: no traffic
	service serviceTime
	cpu     time.Duration
}

// serviceTime sums up how long workers were busy with requests.
type serviceTime struct {
	sum      time.Duration
	requests uint64 // that reached a worker
}

func (s serviceTime) add(o serviceTime) serviceTime {
	return serviceTime{s.sum + o.sum, s.requests + o.requests}
}

// mean is 0 when no request reached a worker.
func (s serviceTime) mean() time.Duration {
	if s.requests == 0 {
		return 0
	}
	return s.sum / time.Duration(s.requests)
}

// totals are what a router process has counted of a revision since it started.
type totals struct {
	counts  analysis.Counts
	matched analysis.Counts   // of counts, without what can't be the canary's
	latency map[uint32]uint64 // by bucket, those of internal/histogram only
	service serviceTime
}

func totalsOf(r *controlpb.RevisionCounters) totals {
	all := countsOf(r)
	t := totals{
		counts: all, matched: growth(all, countsOf(r.GetUnmatched())), latency: map[uint32]uint64{}, service: serviceOf(r.GetService()),
	}
	counts := r.GetLatency().GetCounts()
	for i, b := range r.GetLatency().GetBuckets() {
		if i < len(counts) && b < histogram.Buckets {
			t.latency[b] = counts[i]
		}
	}
	return t
}

// serviceOf sums up a histogram of service times. A sum that no clock can have run to is a router's error.
func serviceOf(h *controlpb.Histogram) serviceTime {
	var s serviceTime
	for _, n := range h.GetCounts()[:min(len(h.GetCounts()), histogram.Buckets)] {
		s.requests += n
	}
	const longest = uint64(1<<63-1) / uint64(time.Microsecond)
	if h.GetSumUs() <= longest {
		s.sum = time.Duration(h.GetSumUs()) * time.Microsecond
	}
	return s
}

// hash is how internal/revision names a revision.
var hash = regexp.MustCompile(`^[0-9a-f]{10}$`)

// countable tells whether counters are of something that a pool can have: they go into the status, and what its schema
// doesn't take would keep every later status from being written.
func countable(r *controlpb.RevisionCounters) bool {
	return hash.MatchString(r.GetRevision()) && (r.GetVersion() == "v1" || r.GetVersion() == "v2")
}

// count adds what is new in a report to the pool's figures and to what was seen of the pod. The first report of a router process that this leader
// sees is where counting starts: what it did before, another leader counted.
func (p *podState) count(f *figures, reports []*controlpb.RevisionCounters, now time.Time) {
	next := make(map[string]totals, maxRevisions)
	for _, r := range reports[:min(len(reports), maxRevisions)] {
		if !countable(r) {
			continue
		}
		name := r.GetRevision()
		next[name] = totalsOf(r)
		if p.baseline {
			p.seen.see(name, growth(next[name].matched, p.totals[name].matched))
			f.add(name, r.GetVersion(), next[name], p.totals[name], now)
		}
	}
	p.seen.keep(next)
	p.totals, p.baseline = next, true
}

// add counts the difference of two reports of the same router process; before may be zero.
func (f *figures) add(name, version string, t, before totals, now time.Time) {
	if t.counts.Requests <= before.counts.Requests {
		return
	}
	c := f.ring(name, version, now).cell(now)
	c.counts = c.counts.Add(growth(t.counts, before.counts))
	if t.service.sum > before.service.sum && t.service.requests > before.service.requests {
		c.service = c.service.add(serviceTime{t.service.sum - before.service.sum, t.service.requests - before.service.requests})
	}
	for b, n := range t.latency {
		c.latency.AddBucket(int(b), grown(n, before.latency[b]))
	}
}

// ring returns a revision's ring; a pool keeps the maxRevisions that were busy last.
func (f *figures) ring(name, version string, now time.Time) *ring {
	found, ok := (*f)[name]
	if !ok {
		found = &ring{version: version}
		(*f)[name] = found
	}
	found.last = now
	if len(*f) > maxRevisions {
		f.evict()
	}
	return found
}

func (f *figures) evict() {
	var oldest string
	for revision, r := range *f {
		if oldest == "" || r.last.Before((*f)[oldest].last) {
			oldest = revision
		}
	}
	delete(*f, oldest)
}

// cell returns the grain that now falls into, emptied if it held an older one.
func (r *ring) cell(now time.Time) *cell {
	number := now.UnixNano() / int64(grain)
	c := &r.cells[number%int64(grains)]
	if c.number != number || c.latency == nil {
		*c = cell{number: number, latency: &histogram.Histogram{}}
	}
	return c
}

// view sums up the last minute; revisions without traffic are left out.
func (f *figures) view(now time.Time) map[string]Figures {
	oldest := now.UnixNano()/int64(grain) - int64(grains)
	out := map[string]Figures{}
	for revision, r := range *f {
		sum, latency, service := Figures{Version: r.version}, histogram.Histogram{}, serviceTime{}
		for i := range r.cells {
			c := &r.cells[i]
			if c.latency == nil || c.number <= oldest {
				continue
			}
			sum.Counts = sum.Add(c.counts)
			service = service.add(c.service)
			sum.CPU += c.cpu
			latency.Add(c.latency)
		}
		if sum.Requests == 0 {
			continue
		}
		sum.P50, sum.P95, sum.P99 = latency.Quantile(0.5), latency.Quantile(0.95), latency.Quantile(0.99)
		sum.Service, sum.Busy = service.mean(), service.sum
		out[revision] = sum
	}
	return out
}
