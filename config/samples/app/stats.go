package main

import (
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Stats is what GET /stats answers.
type Stats struct {
	Total Figures      `json:"total"` // since the program started
	Load  *LoadFigures `json:"load,omitempty"`
}

// LoadFigures are those of one load.
type LoadFigures struct {
	Figures
	Load    Load `json:"load"`
	Running bool `json:"running"`
}

// Figures count requests that ended.
type Figures struct {
	Requests uint64 `json:"requests"`
	Lost     uint64 `json:"lost"` // got no response, or one with a status of 500 or more
	// Versions counts by the version that served; "none" got no answer from a worker.
	Versions map[string]VersionFigures `json:"versions"`
	Errors   map[string]uint64         `json:"errors"` // by type; no_response: the connection failed
	Seconds  float64                   `json:"seconds"`
	Now      time.Time                 `json:"now"` // by the clock that VersionFigures' times are of
}

// VersionFigures are those of one version.
type VersionFigures struct {
	Requests   uint64    `json:"requests"`
	Errors     uint64    `json:"errors"`
	P50        float64   `json:"p50ms"`
	P95        float64   `json:"p95ms"`
	FirstError time.Time `json:"firstError,omitzero"` // when the first bad reply came; absent: none
	LastReply  time.Time `json:"lastReply,omitzero"`  // when the last reply came, good or bad
}

// outcome is how one request ended.
type outcome struct {
	status  int    // 0: no response
	version string // that served; empty: none
	problem string // type of the error; empty: none
	latency time.Duration
	at      time.Time // of its end
}

func (o outcome) lost() bool { return o.status == 0 || o.status >= http.StatusInternalServerError }

// tally counts outcomes. It is safe for concurrent use.
type tally struct {
	mu       sync.Mutex // guards all below
	requests uint64
	lost     uint64
	versions map[string]*versionTally
	errors   map[string]uint64
}

type versionTally struct {
	requests, errors      uint64
	latencies             latencies
	firstError, lastReply time.Time
}

func newTally() *tally {
	return &tally{versions: map[string]*versionTally{}, errors: map[string]uint64{}}
}

func (t *tally) add(o outcome) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.requests++
	if o.lost() {
		t.lost++
	}
	if o.version == "" {
		o.version = "none"
	}
	v := t.versions[o.version]
	if v == nil {
		v = &versionTally{}
		t.versions[o.version] = v
	}
	v.requests++
	v.latencies.add(o.latency)
	if o.at.After(v.lastReply) {
		v.lastReply = o.at
	}
	if o.problem != "" {
		if v.errors == 0 || o.at.Before(v.firstError) {
			v.firstError = o.at
		}
		v.errors++
		t.errors[o.problem]++
	}
}

func (t *tally) figures(took time.Duration) Figures {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := Figures{
		Requests: t.requests, Lost: t.lost, Errors: maps.Clone(t.errors),
		Versions: map[string]VersionFigures{}, Seconds: took.Seconds(), Now: time.Now(),
	}
	for version, v := range t.versions {
		f.Versions[version] = VersionFigures{
			Requests: v.requests, Errors: v.errors,
			P50: v.latencies.quantile(0.50), P95: v.latencies.quantile(0.95),
			FirstError: v.firstError, LastReply: v.lastReply,
		}
	}
	return f
}

// line is one second's figures for people; empty when nothing ended in it.
func (t *tally) line() string {
	f := t.figures(time.Second)
	var parts []string
	for _, version := range slices.Sorted(maps.Keys(f.Versions)) {
		v := f.Versions[version]
		parts = append(parts, fmt.Sprintf("%s %5d req/s  p50 %4.0f ms  p95 %4.0f ms  errors %d",
			version, v.Requests, v.P50, v.P95, v.Errors))
	}
	for _, problem := range slices.Sorted(maps.Keys(f.Errors)) {
		parts = append(parts, fmt.Sprintf("%s: %d", problem, f.Errors[problem]))
	}
	return strings.Join(parts, "   ")
}

// latencies is a histogram of microseconds whose buckets are 4.4 % wide, up to about 18 minutes.
type latencies [30 * perOctave]uint64

const perOctave = 16

func (l *latencies) add(d time.Duration) {
	bucket := int(math.Log2(float64(max(d.Microseconds(), 1))) * perOctave)
	l[min(bucket, len(l)-1)]++
}

// quantile returns the middle of the bucket that holds it, in milliseconds with two decimals; 0 without values.
func (l *latencies) quantile(q float64) float64 {
	var all uint64
	for _, n := range l {
		all += n
	}
	rank := uint64(math.Ceil(q * float64(all)))
	var seen uint64
	for bucket, n := range l {
		if seen += n; n > 0 && seen >= rank {
			micros := math.Exp2((float64(bucket) + 0.5) / perOctave)
			return math.Round(micros/10) / 100
		}
	}
	return 0
}
