package control

import (
	"regexp"
	"time"

	"github.com/dspex/workerpool-operator/internal/analysis"
	"github.com/dspex/workerpool-operator/internal/control/controlpb"
	"github.com/dspex/workerpool-operator/internal/histogram"
)

// figures of a pool by revision. The fleet's mu guards them.
type figures map[string]*ring

// ring holds the last minute of a revision in grains.
type ring struct {
	version string
	began   time.Time // since when requests are counted, with none missing for a whole window
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

// since is what was added after before; nothing when that is more, which is a router's error.
func (s serviceTime) since(before serviceTime) serviceTime {
	if s.sum <= before.sum || s.requests <= before.requests {
		return serviceTime{}
	}
	return serviceTime{s.sum - before.sum, s.requests - before.requests}
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
func (p *podState) count(f *figures, reports []*controlpb.RevisionCounters, in period) {
	next := make(map[string]totals, maxRevisions)
	for _, r := range reports[:min(len(reports), maxRevisions)] {
		if !countable(r) {
			continue
		}
		name := r.GetRevision()
		next[name] = totalsOf(r)
		if p.baseline {
			p.seen.see(name, growth(next[name].matched, p.totals[name].matched))
			f.add(name, r.GetVersion(), next[name], p.totals[name], in)
		}
	}
	p.seen.keep(next)
	p.totals, p.baseline = next, true
}

// add counts the difference of two reports of the same router process; before may be zero.
func (f *figures) add(name, version string, t, before totals, in period) {
	if t.counts.Requests <= before.counts.Requests {
		return
	}
	counts, service := growth(t.counts, before.counts), t.service.since(before.service)
	r := f.ring(name, version, in)
	for _, part := range in.portions() {
		c := r.cell(part.number)
		c.counts = c.counts.Add(part.ofCounts(counts))
		c.service = c.service.add(serviceTime{part.ofTime(service.sum), part.of(service.requests)})
		for b, n := range t.latency {
			c.latency.AddBucket(int(b), part.of(grown(n, before.latency[b])))
		}
	}
}

// ring returns a revision's ring; a pool keeps the maxRevisions that were busy last. A ring begins anew when nothing in it
// is of the window any more, or when the clock went back.
func (f *figures) ring(name, version string, in period) *ring {
	found, ok := (*f)[name]
	if !ok {
		found = &ring{}
		(*f)[name] = found
	}
	if number(found.last) <= number(in.to)-int64(grains) || ahead(found.last, in.to) {
		*found = ring{version: version, began: in.from}
	}
	found.last = in.to
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

// cell returns the grain of that number, emptied if it held an older one.
func (r *ring) cell(number int64) *cell {
	c := &r.cells[number%int64(grains)]
	if c.number != number || c.latency == nil {
		*c = cell{number: number, latency: &histogram.Histogram{}}
	}
	return c
}

// view sums up the last minute, as the last report left it; revisions without traffic are left out.
func (f *figures) view(reported, now time.Time) map[string]Figures {
	oldest := number(now) - int64(grains)
	out := map[string]Figures{}
	for revision, r := range *f {
		sum, latency, service := Figures{Version: r.version, Span: covered(r.began, reported, now)}, histogram.Histogram{}, serviceTime{}
		for i := range r.cells {
			c := &r.cells[i]
			if c.latency == nil || c.number <= oldest || ahead(begins(c.number), now) {
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
