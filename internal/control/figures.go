package control

import (
	"regexp"
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

// totals are what a router process has counted of a revision since it started.
type totals struct {
	requests, errors, infrastructure, timeouts uint64
	latency                                    map[uint32]uint64 // by bucket, those of internal/histogram only
}

func totalsOf(r *controlpb.RevisionCounters) totals {
	t := totals{
		requests: r.GetRequests(), errors: r.GetErrors(), infrastructure: r.GetInfrastructure(), timeouts: r.GetTimeouts(),
		latency: map[uint32]uint64{},
	}
	counts := r.GetLatency().GetCounts()
	for i, b := range r.GetLatency().GetBuckets() {
		if i < len(counts) && b < histogram.Buckets {
			t.latency[b] = counts[i]
		}
	}
	return t
}

// hash is how internal/revision names a revision.
var hash = regexp.MustCompile(`^[0-9a-f]{10}$`)

// countable tells whether counters are of something that a pool can have: they go into the status, and what its schema
// doesn't take would keep every later status from being written.
func countable(r *controlpb.RevisionCounters) bool {
	return hash.MatchString(r.GetRevision()) && (r.GetVersion() == "v1" || r.GetVersion() == "v2")
}

// count adds what is new in a report to the pool's figures. The first report of a router process that this leader
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
			f.add(name, r.GetVersion(), next[name], p.totals[name], now)
		}
	}
	p.totals, p.baseline = next, true
}

// add counts the difference of two reports of the same router process; before may be zero.
func (f *figures) add(name, version string, t, before totals, now time.Time) {
	if t.requests <= before.requests {
		return
	}
	c := f.ring(name, version, now).cell(now)
	c.requests += t.requests - before.requests
	c.errors += grown(t.errors, before.errors) + grown(t.infrastructure, before.infrastructure)
	c.timeouts += grown(t.timeouts, before.timeouts)
	for b, n := range t.latency {
		c.latency.AddBucket(int(b), grown(n, before.latency[b]))
	}
}

// grown is how much a counter grew; one that shrank is a router's error and counts nothing.
func grown(now, before uint64) uint64 {
	if now < before {
		return 0
	}
	return now - before
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
