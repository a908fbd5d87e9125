package main

import (
	"bufio"
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
	Restarts   int    // how often dead components were started again
	Components []componentState
}

type componentState struct {
	Name    string
	PID     int // inside the node
	Started time.Time
	Exited  time.Time // zero while it runs
	Exit    string    // how it ended
}

// dead returns the names of the components that have ended, in the order in which they are to be started.
func (s snapshot) dead() (names []string) {
	for _, name := range componentNames {
		if slices.ContainsFunc(s.Components, func(c componentState) bool { return c.Name == name && !c.Exited.IsZero() }) {
			names = append(names, name)
		}
	}
	return names
}

// withoutDead is the snapshot that has forgotten the components that have ended.
func (s snapshot) withoutDead() snapshot {
	s.Components = slices.DeleteFunc(slices.Clone(s.Components), func(c componentState) bool { return !c.Exited.IsZero() })
	return s
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

// A board holds the current snapshot, wakes those who wait for the next, and passes on that dead components are to be
// started again.
type board struct {
	mu       sync.Mutex
	current  snapshot
	changed  chan struct{} // closed, and replaced, at each change
	restarts chan struct{} // holds a request that the node hasn't seen yet
}

func newBoard() *board { return &board{changed: make(chan struct{}), restarts: make(chan struct{}, 1)} }

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
	go b.listen(conn)
	out := json.NewEncoder(conn)
	for {
		s, changed := b.read()
		if err := out.Encode(s); err != nil {
			return
		}
		<-changed
	}
}

// listen passes on what a client asks for, until its connection ends.
func (b *board) listen(conn net.Conn) {
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		if lines.Text() == restartRequest {
			select {
			case b.restarts <- struct{}{}:
			default:
			}
		}
	}
}

// restartRequest is the line by which a client has dead components started again.
const restartRequest = "restart"

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

// restart has dead components started again, and returns the first snapshot in which that has begun.
func (w *watch) restart(before snapshot) (snapshot, error) {
	if _, err := fmt.Fprintln(w.conn, restartRequest); err != nil {
		return snapshot{}, err
	}
	for {
		now, err := w.next()
		if err != nil || now.Restarts > before.Restarts {
			return now, err
		}
	}
}

func (w *watch) close() { _ = w.conn.Close() }
