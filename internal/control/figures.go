package control

import (
	"time"

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
	number                     int64 // of the grain since the epoch of time
	requests, errors, timeouts uint64
	latency                    *histogram.Histogram // nil: no traffic
}

// count adds what is new in a report to the pool's figures. The first report of a router process that this leader
// sees is where counting starts: what it did before, another leader counted.
func (p *podState) count(f *figures, reports []*controlpb.RevisionCounters, now time.Time) {
	totals := make(map[string]*controlpb.RevisionCounters, len(reports))
	for _, r := range reports[:min(len(reports), maxRevisions)] {
		totals[r.GetRevision()] = r
		if p.baseline {
			f.add(r, p.totals[r.GetRevision()], now)
		}
	}
	p.totals, p.baseline = totals, true
}

// add counts the difference of two reports of the same router process; before may be nil.
func (f *figures) add(r, before *controlpb.RevisionCounters, now time.Time) {
	if r.GetRequests() <= before.GetRequests() {
		return
	}
	c := f.ring(r, now).cell(now)
	c.requests += r.GetRequests() - before.GetRequests()
	c.errors += grown(r.GetErrors(), before.GetErrors()) + grown(r.GetInfrastructure(), before.GetInfrastructure())
	c.timeouts += grown(r.GetTimeouts(), before.GetTimeouts())
	addLatency(c.latency, r.GetLatency(), before.GetLatency())
}

// grown is how much a counter grew; one that shrank is a router's error and counts nothing.
func grown(now, before uint64) uint64 {
	if now < before {
		return 0
	}
	return now - before
}

// addLatency adds what is in h and wasn't in before. Both are sparse, with the same kind of buckets.
func addLatency(sum *histogram.Histogram, h, before *controlpb.Histogram) {
	known := make(map[uint32]uint64, len(before.GetBuckets()))
	for i, b := range before.GetBuckets() {
		if i < len(before.GetCounts()) {
			known[b] = before.GetCounts()[i]
		}
	}
	for i, b := range h.GetBuckets() {
		if i < len(h.GetCounts()) {
			sum.AddBucket(int(b), grown(h.GetCounts()[i], known[b]))
		}
	}
}

// ring returns a revision's ring; a pool keeps the maxRevisions that were busy last.
func (f *figures) ring(r *controlpb.RevisionCounters, now time.Time) *ring {
	found, ok := (*f)[r.GetRevision()]
	if !ok {
		found = &ring{version: r.GetVersion()}
		(*f)[r.GetRevision()] = found
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
		sum, latency := Figures{Version: r.version}, histogram.Histogram{}
		for i := range r.cells {
			c := &r.cells[i]
			if c.latency == nil || c.number <= oldest {
				continue
			}
			sum.Requests += c.requests
			sum.Errors += c.errors
			sum.Timeouts += c.timeouts
			latency.Add(c.latency)
		}
		if sum.Requests == 0 {
			continue
		}
		sum.P50, sum.P95, sum.P99 = latency.Quantile(0.5), latency.Quantile(0.95), latency.Quantile(0.99)
		out[revision] = sum
	}
	return out
}
