package main

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// The supervisor waits for any child at all: one test uses it for all that is to be shown.
func TestSupervisor(t *testing.T) {
	b := newBoard()
	s := newSupervisor(b, t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()

	t.Run("a command succeeds", func(t *testing.T) {
		if err := s.run(ctx, exec.Command("true")); err != nil {
			t.Error(err)
		}
	})
	t.Run("a command's failure tells what it printed", func(t *testing.T) {
		err := s.run(ctx, exec.Command("sh", "-c", "echo no such bridge >&2; exit 3"))
		if err == nil || !strings.Contains(err.Error(), "no such bridge") || !strings.Contains(err.Error(), "exit code 3") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a command ends with its context", func(t *testing.T) {
		gone := errors.New("etcd died")
		ctx, cancel := context.WithCancelCause(ctx)
		cancel(gone)
		if err := s.run(ctx, exec.Command("sleep", "60")); !errors.Is(err, gone) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a component's death is recorded, and ends the wait for others", func(t *testing.T) {
		alive, stop := s.died(ctx)
		defer stop()
		dying := component{name: "etcd", path: "/bin/sh", args: []string{"-c", "kill -KILL $$"}}
		if err := s.startComponent(dying); err != nil {
			t.Fatal(err)
		}
		<-alive.Done()
		if cause := context.Cause(alive); cause == nil || !strings.Contains(cause.Error(), "etcd died") {
			t.Errorf("the wait ended for %v", cause)
		}
		now, _ := b.read()
		if what, _ := now.problem(); !strings.Contains(what, "killed by SIGKILL") {
			t.Errorf("recorded %q", what)
		}
	})
	t.Run("a program that isn't there", func(t *testing.T) {
		err := s.startComponent(component{name: "kubelet", path: "/nowhere/kubelet"})
		if err == nil || !strings.Contains(err.Error(), "start kubelet") {
			t.Errorf("got %v", err)
		}
	})
}
