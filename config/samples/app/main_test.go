package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// pool answers commands the way a router does, and counts what it saw.
type pool struct {
	seen, inFlight, most atomic.Int64
}

func (p *pool) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := p.seen.Add(1)
	p.most.Store(max(p.most.Load(), p.inFlight.Add(1)))
	defer p.inFlight.Add(-1)
	time.Sleep(time.Millisecond)
	switch {
	case strings.HasSuffix(r.URL.Path, "/broken"):
		w.WriteHeader(http.StatusBadGateway)
		fmt.Fprint(w, `{"error":{"type":"port_exited"}}`)
	case strings.HasSuffix(r.URL.Path, "/silent"):
		panic(http.ErrAbortHandler)
	case strings.HasSuffix(r.URL.Path, "/refused"):
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error":{"type":"invalid_payload"}}`)
	default:
		w.Header().Set("Workerpool-Version", []string{"v2", "v1"}[min(n%10, 1)])
		fmt.Fprint(w, `{}`)
	}
}

func newTestDriver(t *testing.T) (*driver, *pool) {
	t.Helper()
	p := &pool{}
	socket := filepath.Join(t.TempDir(), "pool.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(p)
	server.Listener = listener
	server.Start()
	transport := dialing(socket)
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
		goleak.VerifyNone(t)
	})
	return newDriver(&http.Client{Transport: transport}), p
}

// run makes a load with an end and returns its figures.
func (d *driver) run(t *testing.T, load Load) LoadFigures {
	t.Helper()
	s, err := d.replace(load)
	if err != nil {
		t.Fatal(err)
	}
	<-s.ended
	return s.figures()
}

func TestCountIsExact(t *testing.T) {
	d, pool := newTestDriver(t)
	got := d.run(t, Load{Callers: 8, Command: "echo", Count: 500})
	if got.Requests != 500 || pool.seen.Load() != 500 || got.Running {
		t.Errorf("made %d, the pool saw %d, running %v; want exactly 500 and an end", got.Requests, pool.seen.Load(), got.Running)
	}
	if got.Versions["v2"].Requests != 50 || got.Versions["v1"].Requests != 450 {
		t.Errorf("by version %+v, want 50 by v2 of 500", got.Versions)
	}
	if most := pool.most.Load(); most > 8 {
		t.Errorf("%d at once, want at most as many as callers", most)
	}
}

func TestReplacingALoadLosesNothing(t *testing.T) {
	d, pool := newTestDriver(t)
	if _, err := d.replace(Load{Callers: 4, Command: "echo"}); err != nil {
		t.Fatal(err)
	}
	next := d.run(t, Load{Callers: 2, Command: "echo", Count: 20})
	if next.Requests != 20 {
		t.Errorf("the second load made %d requests, want its own 20", next.Requests)
	}
	if total := d.stats().Total; int64(total.Requests) != pool.seen.Load() || total.Lost != 0 {
		t.Errorf("counted %d, %d lost; the pool saw %d", total.Requests, total.Lost, pool.seen.Load())
	}
}

func TestOutcomes(t *testing.T) {
	for command, want := range map[string]struct {
		problem string
		lost    uint64
	}{
		"broken":  {"port_exited", 10},
		"silent":  {"no_response", 10},
		"refused": {"invalid_payload", 0},
	} {
		t.Run(command, func(t *testing.T) {
			d, _ := newTestDriver(t)
			got := d.run(t, Load{Callers: 5, Command: command, Count: 10})
			if got.Errors[want.problem] != 10 || got.Lost != want.lost {
				t.Errorf("errors %v, lost %d; want 10 of %s, %d lost", got.Errors, got.Lost, want.problem, want.lost)
			}
		})
	}
}

// Replies end in any order; what counts is when they ended.
func TestFirstErrorAndLastReply(t *testing.T) {
	begun := time.Now()
	at := func(ms int) time.Time { return begun.Add(time.Duration(ms) * time.Millisecond) }
	counted := newTally()
	for _, o := range []outcome{
		{status: 200, version: "v2", at: at(1)},
		{status: 500, version: "v2", problem: "python_error", at: at(5)},
		{status: 500, version: "v2", problem: "python_error", at: at(4)},
		{status: 200, version: "v2", at: at(9)},
		{status: 200, version: "v2", at: at(8)},
		{status: 200, version: "v1", at: at(20)},
	} {
		counted.add(o)
	}
	f := counted.figures(time.Second)
	if v2 := f.Versions["v2"]; !v2.FirstError.Equal(at(4)) || !v2.LastReply.Equal(at(9)) {
		t.Errorf("v2: first error %v, last reply %v, want 4 ms and 9 ms after %v", v2.FirstError, v2.LastReply, begun)
	}
	if v1 := f.Versions["v1"]; !v1.FirstError.IsZero() || !v1.LastReply.Equal(at(20)) || f.Now.Before(begun) {
		t.Errorf("v1: first error %v, last reply %v, now %v", v1.FirstError, v1.LastReply, f.Now)
	}
}

func TestRate(t *testing.T) {
	d, _ := newTestDriver(t)
	got := d.run(t, Load{Callers: 8, Command: "echo", Count: 20, Rate: 200})
	if got.Seconds < 0.095 {
		t.Errorf("20 requests at 200 a second took %.3f s, want at least 0.095", got.Seconds)
	}
}

func TestLoadsThatMakeNoSense(t *testing.T) {
	for name, load := range map[string]Load{
		"no callers":   {Command: "echo"},
		"no command":   {Callers: 1},
		"args no JSON": {Callers: 1, Command: "echo", Args: []byte("{")},
		"endless wait": {Callers: 1, Command: "echo", Wait: true},
	} {
		t.Run(name, func(t *testing.T) {
			d, pool := newTestDriver(t)
			if _, err := d.replace(load); err == nil || pool.seen.Load() > 0 {
				t.Errorf("error %v after %d requests, want a refusal and none", err, pool.seen.Load())
			}
		})
	}
}

func TestQuantiles(t *testing.T) {
	var l latencies
	for ms := range 100 {
		l.add(time.Duration(ms+1) * time.Millisecond)
	}
	for q, want := range map[float64]float64{0.5: 50, 0.95: 95, 1: 100} {
		if got := l.quantile(q); got < want*0.95 || got > want*1.05 {
			t.Errorf("quantile(%v) = %v ms, want %v within 5 %%", q, got, want)
		}
	}
}

func TestTurnsComeInTheirOrder(t *testing.T) {
	d, _ := newTestDriver(t)
	s, err := d.replace(Load{Callers: 1, Count: 30, Turns: []Turn{{Command: "echo"}, {Command: "broken"}, {Command: "refused"}}})
	if err != nil {
		t.Fatal(err)
	}
	<-s.ended
	if f := s.figures(); f.Requests != 30 || f.Errors["port_exited"] != 10 || f.Errors["invalid_payload"] != 10 {
		t.Errorf("%+v, want ten of each", f.Figures)
	}
	if _, err := d.replace(Load{Callers: 1, Turns: []Turn{{Command: "echo"}, {}}}); err == nil {
		t.Error("a turn without a command is taken")
	}
}
