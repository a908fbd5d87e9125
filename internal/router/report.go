package router

import (
	"bytes"
	"os"
	"strconv"
	"time"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
	"github.com/dspex/workerpool-operator/internal/histogram"
	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/router/trip"
)

// Report returns what the operator is told each second: cumulative counters, and the slots as they are.
func (r *Router) Report() *controlpb.Report {
	report := &controlpb.Report{RouterRssBytes: residentBytes()}
	if t := r.table.Load(); t != nil {
		report.Epoch, report.Sequence = t.snapshot.GetEpoch(), t.snapshot.GetSequence()
		report.Trip = tripReport(t.trip)
	}
	for _, f := range r.ledger.figures() {
		report.Revisions = append(report.Revisions, revisionCounters(&f))
	}
	for _, name := range slotNames {
		report.Slots = append(report.Slots, r.slotState(name))
	}
	return report
}

func revisionCounters(f *figures) *controlpb.RevisionCounters {
	return &controlpb.RevisionCounters{
		Revision: f.revision, Version: string(f.version), Requests: f.requests(),
		Errors: f.ends[failed], Timeouts: f.ends[timedOut], Infrastructure: f.ends[infrastructure],
		Shed: unstarted(&f.ends), CallerErrors: f.ends[callerError], UpstreamErrors: f.ends[upstreamError],
		Latency: sparse(&f.latency), Service: sparse(&f.service), Unmatched: endsOf(&f.apart),
	}
}

// endsOf are some of a revision's ends; nil: none.
func endsOf(ends *[outcomes]uint64) *controlpb.Ends {
	requests := total(ends)
	if requests == 0 {
		return nil
	}
	return &controlpb.Ends{
		Requests: requests, Errors: ends[failed], Timeouts: ends[timedOut], Infrastructure: ends[infrastructure],
		Shed: unstarted(ends), CallerErrors: ends[callerError], UpstreamErrors: ends[upstreamError],
	}
}

func sparse(h *histogram.Histogram) *controlpb.Histogram {
	out := &controlpb.Histogram{SumUs: h.SumUS}
	for i, n := range h.Counts {
		if n > 0 {
			out.Buckets = append(out.Buckets, uint32(i))
			out.Counts = append(out.Counts, n)
		}
	}
	return out
}

// What a report carries of a boot failure, in bytes.
const (
	maxMessage   = 1 << 10
	maxTraceback = 4 << 10
)

func (r *Router) slotState(name string) *controlpb.SlotState {
	known := r.slots[name].State()
	st := known.Status
	out := &controlpb.SlotState{
		Name: name, Reachable: known.Reachable, Revision: st.Revision, Version: string(st.Version),
		Desired: uint32(st.Desired), Starting: uint32(st.Starting), Ready: uint32(st.Ready), Busy: uint32(st.Busy),
		Overflow: uint32(st.Overflow), Queued: uint32(st.Queued), MaxWorkers: uint32(st.MaxWorkers), Capped: st.Capped,
		Unstarted: uint32(st.Unstarted),
		RssBytes:  st.RSS, Spawned: st.Spawned, Destroyed: st.Destroyed, Crashed: st.Crashed,
	}
	for _, w := range st.Revisions {
		out.Revisions = append(out.Revisions, &controlpb.RevisionWorkers{
			Revision: w.Revision, Live: uint32(w.Live), Places: uint32(w.Places), Spawned: w.Spawned, Destroyed: w.Destroyed, Crashed: w.Crashed,
			CpuMs: uint64(w.CPU * 1000), MemoryBytes: w.Memory, OpenFds: uint64(w.FDs),
		})
	}
	if u := st.Unhealthy; u != nil {
		out.Unhealthy = head(u.Message, maxMessage)
	}
	out.Startup = startupReport(st.Startup, time.Now())
	out.Hangs, out.ForkRefused = head(known.Hangs, maxMessage), head(st.ForkRefused, maxMessage)
	if b := st.Boot; b != nil {
		out.Boot = &controlpb.BootFailure{
			Reason: b.Reason, Message: head(b.Message, maxMessage),
			Traceback: head(b.Traceback, maxTraceback), Attempts: uint32(b.Attempts),
		}
	}
	return out
}

// longStart is how long a worker must have been starting for the operator to hear of it: each change of that is news.
const longStart = 5 * time.Second

func startupReport(s *pool.Startup, now time.Time) *controlpb.Startup {
	if s == nil {
		return nil
	}
	out := &controlpb.Startup{LimitMs: uint64(s.Limit.Milliseconds()), Pace: head(s.Pace, maxMessage)}
	if !s.Since.IsZero() && now.Sub(s.Since) >= longStart {
		out.SinceUnixMs = uint64(s.Since.UnixMilli())
	}
	if out.GetSinceUnixMs() == 0 && out.GetPace() == "" {
		return nil
	}
	return out
}

func tripReport(t *trip.Trip) *controlpb.Trip {
	if t == nil {
		return nil
	}
	return &controlpb.Trip{
		Revision: t.Revision, Reason: string(t.Reason), Message: head(t.Message, maxMessage),
		ByHand: t.Reason == trip.ByHand, ReportOnly: t.ReportOnly, AtUnixMs: uint64(t.At.UnixMilli()),
	}
}

// head returns at most n bytes of valid UTF-8: gRPC refuses anything else.
func head(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return string(bytes.ToValidUTF8([]byte(s), []byte("?")))
}

// residentBytes returns this process's resident memory, 0 where the kernel doesn't tell.
func residentBytes() uint64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseUint(string(fields[1]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * uint64(os.Getpagesize())
}
