package main

import (
	"net"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// serveBoard serves the board on a socket of its own.
func serveBoard(t *testing.T, b *board) (socket string, stop func()) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	go b.serve(l)
	return socket, func() { _ = l.Close() }
}

func TestAWatchSeesEachChange(t *testing.T) {
	b := newBoard()
	socket, stop := serveBoard(t, b)
	defer stop()
	w, err := dialBoard(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	if s, err := w.next(); err != nil || s.Ready {
		t.Fatalf("first snapshot: %+v, %v", s, err)
	}
	b.update(func(s *snapshot) { s.Ready = true })
	if s, err := w.next(); err != nil || !s.Ready {
		t.Fatalf("second snapshot: %+v, %v", s, err)
	}
}

func TestNoNodeListens(t *testing.T) {
	if _, err := dialBoard(filepath.Join(t.TempDir(), "s")); err == nil {
		t.Error("connected to nothing")
	}
}

func TestUpdateLeavesEarlierSnapshotsAlone(t *testing.T) {
	b := newBoard()
	b.update(func(s *snapshot) { s.Components = []componentState{{Name: "etcd"}} })
	before, _ := b.read()
	b.update(func(s *snapshot) { s.Components[0].Exit = "exit code 1" })
	if before.Components[0].Exit != "" {
		t.Error("a snapshot changed after it was read")
	}
}

func TestProblem(t *testing.T) {
	running := componentState{Name: "etcd"}
	dead := componentState{Name: "kubelet", Exited: time.Now(), Exit: "killed by SIGKILL"}
	for name, c := range map[string]struct {
		snapshot  snapshot
		component string
	}{
		"all run":            {snapshot{Components: []componentState{running}}, ""},
		"one died":           {snapshot{Ready: true, Components: []componentState{running, dead}}, "kubelet"},
		"the start failed":   {snapshot{Failed: "no bridge"}, nodeLog},
		"the cause comes up": {snapshot{Failed: "gave up", Components: []componentState{dead}}, "kubelet"},
	} {
		what, component := c.snapshot.problem()
		if component != c.component || (what == "") != (c.component == "") {
			t.Errorf("%s: got %q of %q, want one of %q", name, what, component, c.component)
		}
	}
}

// TestARestartIsAskedFor: the snapshot that comes back is of after the request, not one that was on its way.
func TestARestartIsAskedFor(t *testing.T) {
	b := newBoard()
	killed := componentState{Name: "kubelet", Exited: time.Now(), Exit: "killed by SIGKILL"}
	b.update(func(s *snapshot) { s.Ready, s.Components = true, []componentState{{Name: "etcd"}, killed} })
	socket, stop := serveBoard(t, b)
	defer stop()
	w, err := dialBoard(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	before, err := w.next()
	if err != nil || !slices.Equal(before.dead(), []string{"kubelet"}) {
		t.Fatalf("dead %v, %v; want the kubelet", before.dead(), err)
	}
	b.update(func(s *snapshot) { s.Phase = "old news" })
	go func() {
		<-b.restarts
		b.update(func(s *snapshot) {
			*s = s.withoutDead()
			s.Restarts++
		})
	}()
	now, err := w.restart(before)
	if what, _ := now.problem(); err != nil || what != "" || len(now.Components) != 1 {
		t.Errorf("after the restart began: %+v, %v; want etcd alone and no problem", now, err)
	}
}
