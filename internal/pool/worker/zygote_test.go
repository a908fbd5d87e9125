package worker_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

func TestP5_AForkedWorkerEchoesItsIDAndMode(t *testing.T) {
	n := newNursery(t)
	for _, w := range n.workers(3) {
		got := w.who()
		want := identity{
			PID: w.PID(), Parent: os.Getpid(), Group: w.PID(), ID: w.ID(), Variable: w.ID(), OOM: "900", Happened: got.Happened,
		}
		if got.PID != want.PID || got.Parent != want.Parent || got.Group != want.Group || got.ID != want.ID ||
			got.Variable != want.Variable || got.OOM != want.OOM || !got.forked() {
			t.Errorf("a forked worker is %+v; want %+v, its module imported elsewhere", got, want)
		}
	}
}

func TestP114_AnInterpreterBehindAScriptForks(t *testing.T) {
	n := newNursery(t)
	script := filepath.Join(t.TempDir(), "python")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"+n.spec.Python+" \"$@\"\nexit $?\n"), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	n.spec.Python = script
	if got := n.worker().who(); !got.forked() || got.Parent != os.Getpid() {
		t.Errorf("the worker is %+v; want it forked, and a child of this process", got)
	}
}

func TestP106_HooksRunWhereTheySay(t *testing.T) {
	for name, launch := range map[string]func(*nursery) (*worker.Worker, error){
		"forked":  func(n *nursery) (*worker.Worker, error) { return n.zygote.Launch() },
		"spawned": func(n *nursery) (*worker.Worker, error) { return worker.Launch(n.host, &n.spec) },
	} {
		t.Run(name, func(t *testing.T) {
			n := newNursery(t)
			for range 2 {
				w, err := launch(n)
				if err != nil {
					t.Fatal(err)
				}
				if err := w.Ready(t.Context()); err != nil {
					t.Fatal(err)
				}
				c := &child{n, w}
				preloaded := w.PID()
				if name == "forked" {
					preloaded = n.zygote.PID()
				}
				i := c.who()
				pid := strconv.Itoa(w.PID())
				if len(i.Happened) != 2 || !strings.HasPrefix(i.Happened[0], "preload in "+strconv.Itoa(preloaded)) ||
					i.Happened[1] != "worker_start in "+pid+" as '"+w.ID()+"'" {
					t.Errorf("happened: %v; want preload in %d, then worker_start in %s", i.Happened, preloaded, pid)
				}
				w.Retire(worker.ReasonRetired)
				<-w.Gone()
				n.await("worker_stop, then atexit, once each", func() bool {
					stop, exit := strings.Index(n.log.String(), "worker_stop in "+pid), strings.Index(n.log.String(), "atexit in "+pid)
					return 0 < stop && stop < exit
				})
				if w.Exit().Code != 0 || w.Exit().Signal != 0 {
					t.Errorf("a retired worker %s", w.Exit())
				}
			}
		})
	}
}

func TestP106_AFailingHookIsABootFailure(t *testing.T) {
	for name, env := range map[string]string{"preload": "FORKABLE_LEAVE=broken hook", "worker_start": "FORKABLE_START_FAILS=1"} {
		t.Run(name, func(t *testing.T) {
			n := newNursery(t, env)
			w, err := n.zygote.Launch()
			if err == nil {
				err = w.Ready(t.Context())
			}
			var boot *worker.BootError
			if !errors.As(err, &boot) || !strings.Contains(boot.Message, name+" hook") || !strings.Contains(boot.Traceback, "raise RuntimeError") {
				t.Errorf("failed with %v; want a BootError with the hook's name and line", err)
			}
		})
	}
}

func TestP6_AnImportThatFailsInTheZygoteIsAWorkersBootFailure(t *testing.T) {
	n := newNursery(t, "FORKABLE_FAIL=1")
	spawned, err := worker.Launch(n.host, &n.spec)
	if err != nil {
		t.Fatal(err)
	}
	var want *worker.BootError
	if !errors.As(spawned.Ready(t.Context()), &want) {
		t.Fatal("the module could be imported")
	}
	for range 2 {
		var got *worker.BootError
		if _, err := n.zygote.Launch(); !errors.As(err, &got) || *got != *want {
			t.Errorf("forked: %v; want what a spawned worker says: %v", err, want)
		}
	}
}

func TestP7_InitTimeoutOfTheZygote(t *testing.T) {
	n := newNursery(t, "FORKABLE_SLEEP=600")
	n.spec.InitTimeout = 500 * time.Millisecond
	_, err := n.zygote.Launch()
	var boot *worker.BootError
	if !errors.As(err, &boot) || !strings.Contains(err.Error(), "500ms") || boot.Crowd != "" {
		t.Errorf("Launch: %+v; want the timeout, of one import however many workers wait for it", err)
	}
	if pid := n.zygote.PID(); pid != 0 {
		t.Errorf("the zygote %d is still in use", pid)
	}
	longer := n.spec
	longer.InitTimeout = 600 * time.Millisecond
	n.zygote.Use(&longer)
	if _, err := n.zygote.Launch(); err == nil || !strings.Contains(err.Error(), "600ms") {
		t.Errorf("Launch: %v; want the new limit", err)
	}
}

func TestP10_CloseEndsTheWaitForAnImport(t *testing.T) {
	n := newNursery(t, "FORKABLE_SLEEP=600")
	done := make(chan error)
	go func() {
		w, err := n.zygote.Launch()
		if err == nil {
			w.Kill(worker.ReasonClosed)
			<-w.Gone()
		}
		done <- err
	}()
	n.await("the zygote", func() bool { return n.zygote.PID() != 0 })
	n.zygote.Close()
	if err := <-done; err != nil {
		t.Errorf("Launch during Close: %v; want a spawned worker", err)
	}
}

func TestP101_NoForkedWorkerGetsAnothersAnswer(t *testing.T) {
	for name, tc := range map[string]struct {
		env    []string
		forked bool
	}{
		"connection closed after the warm-up": {nil, true},
		"connection left open":                {[]string{"FORKABLE_KEEP=1"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			server := newEchoServer(t)
			n := newNursery(t, append(tc.env, "FORKABLE_SERVER="+server.address())...)
			workers := n.workers(4)
			var all sync.WaitGroup
			for _, w := range workers {
				all.Go(func() {
					for i := range 40 {
						question := w.ID() + "/" + strconv.Itoa(i)
						var answer string
						w.call("asked", map[string]any{"text": question}, &answer)
						if answer != "re "+question {
							t.Errorf("%s was answered %q", question, answer)
						}
					}
				})
			}
			all.Wait()
			for _, w := range workers {
				if w.who().forked() != tc.forked {
					t.Errorf("forked: %v, want %v", !tc.forked, tc.forked)
				}
			}
			if refused := n.zygote.Refused(); strings.Contains(refused, "connected socket to "+server.address()) == tc.forked {
				t.Errorf("refused: %q", refused)
			}
		})
	}
}

func TestP102_WhatAForkWouldShareIsNamed(t *testing.T) {
	for leave, names := range map[string]string{
		"thread":        "thread pump",
		"native thread": "isn't Python's own",
		"child":         "(sleep)",
		"socketpair":    "unnamed unix socket",
		"ending thread": "",
		"listener":      "",
		"patched":       "",
	} {
		t.Run(leave, func(t *testing.T) {
			n := newNursery(t, "FORKABLE_LEAVE="+leave)
			for _, w := range n.workers(2) {
				if forked := w.who().forked(); forked != (names == "") {
					t.Errorf("forked: %v", forked)
				}
			}
			if refused := n.zygote.Refused(); !strings.Contains(refused, names) || (refused == "") != (names == "") {
				t.Errorf("refused because of %q; want %q in it", refused, names)
			}
			if names != "" {
				n.await("one line about it", func() bool { return n.log.count("can't be forked") == 1 })
				n.await("the zygote's end", func() bool { return n.zygote.PID() == 0 })
			}
		})
	}
}

func TestP103_ForkedWorkersDrawOtherNumbers(t *testing.T) {
	n := newNursery(t)
	seen := map[string]string{}
	for _, w := range n.workers(4) {
		for range 3 {
			var numbers []string
			w.call("numbers", nil, &numbers)
			for _, number := range numbers {
				if other := seen[number]; other != "" {
					t.Errorf("%s and %s have both drawn %s", other, w.ID(), number)
				}
				seen[number] = w.ID()
			}
		}
	}
}

func TestP103_ForkedWorkersLogAsThemselves(t *testing.T) {
	n := newNursery(t)
	for _, w := range n.workers(2) {
		w.call("log", map[string]any{"text": "hello"}, nil)
		pid := strconv.Itoa(w.PID())
		for _, want := range []string{`msg="printed ` + pid + ` hello" worker=` + w.ID(), `msg="logged ` + pid + ` hello" worker=` + w.ID()} {
			n.await(want, func() bool { return n.log.count(want) == 1 })
		}
	}
	n.zygote.Close()
	n.await("what the import has printed", func() bool { return n.log.count(`msg="half a line" worker=a-zygote`) == 1 })
	if got := n.log.count("half a line"); got != 1 {
		t.Errorf("what the import has printed is in the log %d times", got)
	}
}
