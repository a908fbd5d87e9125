package agent

import (
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
)

func TestReportsEachSecondAndAtChanges(t *testing.T) {
	s := newScene(t)
	run(t, s.agent)
	stream := s.next()
	stream.send(at(1, 1))
	first := stream.awaitReport().GetRouterRssBytes()
	start := time.Now()
	for i := range uint64(3) {
		if next := stream.awaitReport().GetRouterRssBytes(); next != first+i+1 {
			t.Errorf("report %d after %d", next, first+i)
		}
	}
	if took := time.Since(start); took < reportInterval {
		t.Errorf("three reports within %v of nothing new", took)
	}
	start = time.Now()
	for i := range 6 {
		s.pod.change(i % 2)
		stream.awaitReport()
	}
	if took := time.Since(start); took > 4*reportInterval {
		t.Errorf("six changes, one after the other, were reported within %v: no sooner than without", took)
	}
}

// TestTripsAreReportedAtOnce: the fleet's decision waits for these, and they are rare.
func TestTripsAreReportedAtOnce(t *testing.T) {
	s := newScene(t)
	run(t, s.agent)
	stream := s.next()
	stream.send(at(1, 1))
	stream.awaitReport()
	const trips = 30
	start := time.Now()
	for range trips {
		s.pod.trip()
		stream.awaitReport()
	}
	if took := time.Since(start); took > trips*newsInterval/2 {
		t.Errorf("%d trips, one after the other, were reported within %v: no sooner than any change", trips, took)
	}
}

func TestTheLastReportArrives(t *testing.T) {
	s := newScene(t)
	stop := run(t, s.agent)
	stream := s.next()
	stream.send(at(1, 1))
	stream.awaitAck(1, 1)
	stop()
	<-stream.gone
	var last *controlpb.Report
	for len(stream.in) > 0 {
		if r := (<-stream.in).GetReport(); r != nil {
			last = r
		}
	}
	if last.GetRouterRssBytes() != s.pod.reports {
		t.Errorf("the last report that came is %v, the last that was made is number %d", last, s.pod.reports)
	}
}
