package status

import (
	"strconv"
	"time"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
)

// enoughLoad is how long requests must have come for their rate to be a load: what comes in a shorter time is a burst that
// the queue is there for, and is taken to be all that came in that time.
const enoughLoad = 10 * time.Second

// stillExceeded is the share of the capacity below which an exceeded one counts as enough again, so that a load beside
// it isn't a change of state with every write.
const stillExceeded = 0.9

// serialCapacity compares what a v1 stable could serve alone with the load: it runs one request at a time in each pod.
// nil where there is no such stable beside a canary, or where none of its requests reached a worker.
func serialCapacity(in *Input) *v1alpha1.SerialCapacity {
	a := &in.Decision.Assignment
	service := in.Figures[a.Stable.Revision].Service
	if a.Canary == nil || a.Stable.Version != v1alpha1.PoolV1 || service <= 0 {
		return nil
	}
	served, span := uint64(0), enoughLoad
	for _, f := range in.Figures {
		served, span = served+f.served(), max(span, f.Span) // one that began later served nothing before
	}
	capacity := float64(len(in.live())) / service.Seconds()
	load := float64(served) / span.Seconds()
	limit := capacity
	if before := in.Pool.Status.SerialCapacity; before != nil && before.Exceeded {
		limit *= stillExceeded
	}
	return &v1alpha1.SerialCapacity{RequestsPerSecond: rate(capacity), Load: rate(load), Exceeded: load > limit}
}

// rate keeps three significant digits.
func rate(perSecond float64) string {
	text := strconv.FormatFloat(perSecond, 'g', 3, 64)
	if rounded, err := strconv.ParseFloat(text, 64); err == nil {
		return strconv.FormatFloat(rounded, 'f', -1, 64)
	}
	return text
}
