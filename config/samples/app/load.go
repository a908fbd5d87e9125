package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxCallers  = 1024
	exampleLoad = `{"callers":8,"command":"sleep","args":{"ms":10}}`
)

// Load says what the callers do. It ends at the first of Count and Seconds, or when another one replaces it; a load
// begins only after every request of the one before it has ended, so that a Count is exact for the pool too.
type Load struct {
	Callers int             `json:"callers"` // each with one request at a time; 1 to 1024
	Command string          `json:"command"`
	Args    json.RawMessage `json:"args"`              // an object; absent: {}
	Turns   []Turn          `json:"turns,omitempty"`   // instead of command and args: requests in this order, again and again
	Rate    float64         `json:"rate,omitempty"`    // requests per second of all callers together; 0: closed loop
	Count   int64           `json:"count,omitempty"`   // exactly so many requests; 0: no such limit
	Seconds float64         `json:"seconds,omitempty"` // for so long; 0: no such limit
	Version string          `json:"version,omitempty"` // ask for v1 or v2; absent: the pool's weight decides
	Wait    bool            `json:"wait,omitempty"`    // answer when it has ended
}

// A Turn is a request of one kind.
type Turn struct {
	Command string          `json:"command"`
	Args    json.RawMessage `json:"args"` // an object; absent: {}
}

func (t *Turn) complete() error {
	if len(t.Args) == 0 {
		t.Args = json.RawMessage("{}")
	}
	switch {
	case t.Command == "":
		return errors.New("command is missing: the name of one of the pool's commands, for example " + exampleLoad)
	case !json.Valid(t.Args):
		return fmt.Errorf("args isn't JSON: %s", t.Args)
	}
	return nil
}

func (l *Load) complete() error {
	if len(l.Turns) == 0 {
		l.Turns = []Turn{{Command: l.Command, Args: l.Args}}
	}
	for i := range l.Turns {
		if err := l.Turns[i].complete(); err != nil {
			return err
		}
	}
	switch {
	case l.Callers < 1 || l.Callers > maxCallers:
		return fmt.Errorf("callers is %d: from 1 to %d, for example %s", l.Callers, maxCallers, exampleLoad)
	case l.Wait && l.Count == 0 && l.Seconds == 0:
		return errors.New("wait needs count or seconds: this load has no end")
	}
	return nil
}

// A session is one load being made.
type session struct {
	load   Load
	begun  time.Time
	tally  *tally
	issued atomic.Int64
	cancel context.CancelFunc // no further request; those in flight end by themselves
	ended  chan struct{}
	took   time.Duration // set before ended is closed
}

func (s *session) figures() LoadFigures {
	select {
	case <-s.ended:
		return LoadFigures{Figures: s.tally.figures(s.took), Load: s.load}
	default:
		return LoadFigures{Figures: s.tally.figures(time.Since(s.begun)), Load: s.load, Running: true}
	}
}

// driver makes one load at a time.
type driver struct {
	client *http.Client
	begun  time.Time
	total  *tally
	second atomic.Pointer[tally] // of the running second

	changing sync.Mutex // held while one load is replaced by another
	current  atomic.Pointer[session]
}

func newDriver(client *http.Client) *driver {
	d := &driver{client: client, begun: time.Now(), total: newTally()}
	d.second.Store(newTally())
	return d
}

// replace ends the current load, waits for its requests in flight, and begins the next.
func (d *driver) replace(load Load) (*session, error) {
	if err := load.complete(); err != nil {
		return nil, err
	}
	d.changing.Lock()
	defer d.changing.Unlock()
	d.end()
	ctx, cancel := context.WithCancel(context.Background())
	if load.Seconds > 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(load.Seconds*float64(time.Second)))
	}
	next := &session{load: load, begun: time.Now(), tally: newTally(), cancel: cancel, ended: make(chan struct{})}
	d.current.Store(next)
	go d.drive(ctx, next)
	return next, nil
}

// stop ends the current load and returns its figures.
func (d *driver) stop() LoadFigures {
	d.changing.Lock()
	defer d.changing.Unlock()
	return d.end()
}

func (d *driver) end() LoadFigures {
	current := d.current.Load()
	if current == nil {
		return LoadFigures{Figures: newTally().figures(0)}
	}
	current.cancel()
	<-current.ended
	return current.figures()
}

// finish ends the load within the grace period and says what was lost in all.
func (d *driver) finish() error {
	stopped := make(chan struct{})
	go func() { d.stop(); close(stopped) }()
	select {
	case <-stopped:
	case <-time.After(grace):
		return fmt.Errorf("requests in flight didn't end within %s", grace)
	}
	all := d.total.figures(time.Since(d.begun))
	fmt.Fprintf(os.Stdout, "end: %d requests, %d lost\n", all.Requests, all.Lost)
	if all.Lost > 0 {
		return fmt.Errorf("%d of %d requests were lost", all.Lost, all.Requests)
	}
	return nil
}

func (d *driver) drive(ctx context.Context, s *session) {
	var callers sync.WaitGroup
	for range s.load.Callers {
		callers.Go(func() {
			for {
				turn := s.next(ctx)
				if turn == nil {
					return
				}
				d.call(s, turn)
			}
		})
	}
	callers.Wait()
	s.cancel()
	s.took = time.Since(s.begun)
	close(s.ended)
}

// next returns what a caller asks next, nil for nothing more, and waits until it may when there is a rate.
func (s *session) next(ctx context.Context) *Turn {
	if ctx.Err() != nil {
		return nil
	}
	n := s.issued.Add(1)
	if s.load.Count > 0 && n > s.load.Count {
		return nil
	}
	turn := &s.load.Turns[(n-1)%int64(len(s.load.Turns))]
	if s.load.Rate <= 0 {
		return turn
	}
	due := s.begun.Add(time.Duration(float64(n-1) / s.load.Rate * float64(time.Second)))
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-timer.C:
		return turn
	case <-ctx.Done():
		return nil
	}
}

// call makes one request and counts it. It isn't bound to the load's context: a request that was begun ends.
func (d *driver) call(s *session, turn *Turn) {
	begun := time.Now()
	o := d.request(turn, s.load.Version)
	o.at = time.Now()
	o.latency = o.at.Sub(begun)
	for _, t := range []*tally{d.total, d.second.Load(), s.tally} {
		t.add(o)
	}
	if o.status == 0 {
		time.Sleep(50 * time.Millisecond) // nobody listens: don't burn the core that would change that
	}
}

func (d *driver) request(turn *Turn, version string) outcome {
	request, err := http.NewRequest(http.MethodPost, "http://pool/v1/commands/"+turn.Command, bytes.NewReader(turn.Args))
	if err != nil {
		return outcome{problem: "no_request"}
	}
	request.Header.Set("Content-Type", "application/json")
	if version != "" {
		request.Header.Set("Workerpool-Version", version)
	}
	response, err := d.client.Do(request)
	if err != nil {
		return outcome{problem: "no_response"}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return outcome{problem: "no_response"}
	}
	o := outcome{status: response.StatusCode, version: response.Header.Get("Workerpool-Version")}
	if o.status >= http.StatusBadRequest {
		o.problem = problemIn(body)
	}
	return o
}

// problemIn reads the type of the error that the pool answered with.
func problemIn(body []byte) string {
	var answer struct {
		Error struct {
			Type string `json:"type"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &answer) != nil || answer.Error.Type == "" {
		return "unnamed"
	}
	return answer.Error.Type
}

// print writes a line for each second that had requests.
func (d *driver) print(ctx context.Context, w io.Writer) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			if line := d.second.Swap(newTally()).line(); line != "" {
				fmt.Fprintln(w, now.UTC().Format(time.TimeOnly), line)
			}
		}
	}
}

func (d *driver) stats() Stats {
	s := Stats{Total: d.total.figures(time.Since(d.begun))}
	if current := d.current.Load(); current != nil {
		f := current.figures()
		s.Load = &f
	}
	return s
}
