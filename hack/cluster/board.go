package main

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// A snapshot is all that the node tells about itself. Clients get one when they connect to the node's socket and one
// after each change; the end of the stream means that the node has ended.
type snapshot struct {
	Phase      string // what the start is at
	Ready      bool
	Failed     string // why the start failed
	Components []componentState
}

type componentState struct {
	Name    string
	PID     int // inside the node
	Started time.Time
	Exited  time.Time // zero while it runs
	Exit    string    // how it ended
}

// problem is the first thing that is wrong, and the component whose log tells more; empty when all is well.
func (s snapshot) problem() (what, component string) {
	for _, c := range s.Components {
		if !c.Exited.IsZero() {
			return fmt.Sprintf("%s died at %s (%s)", c.Name, c.Exited.Format(time.TimeOnly), c.Exit), c.Name
		}
	}
	if s.Failed != "" {
		return s.Failed, nodeLog
	}
	return "", ""
}

// A board holds the current snapshot and wakes those who wait for the next.
type board struct {
	mu      sync.Mutex
	current snapshot
	changed chan struct{} // closed, and replaced, at each change
}

func newBoard() *board { return &board{changed: make(chan struct{})} }

func (b *board) update(change func(*snapshot)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.current.Components = slices.Clone(b.current.Components) // readers keep the slice that they were given
	change(&b.current)
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *board) read() (snapshot, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.current, b.changed
}

// serve answers each connection with the stream of snapshots.
func (b *board) serve(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go b.stream(conn)
	}
}

func (b *board) stream(conn net.Conn) {
	defer conn.Close()
	out := json.NewEncoder(conn)
	for {
		s, changed := b.read()
		if err := out.Encode(s); err != nil {
			return
		}
		<-changed
	}
}

// A watch is a client's end of the stream.
type watch struct {
	conn net.Conn
	in   *json.Decoder
}

// dialBoard fails when no node listens.
func dialBoard(socket string) (*watch, error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	return &watch{conn: conn, in: json.NewDecoder(conn)}, nil
}

// next waits for the next snapshot; an error means that the node has ended.
func (w *watch) next() (s snapshot, err error) {
	err = w.in.Decode(&s)
	return s, err
}

func (w *watch) close() { _ = w.conn.Close() }
