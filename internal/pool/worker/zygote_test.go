package worker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool/pooltest"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

const patience = 20 * time.Second

// nursery is a Zygote of the module forkable, and what its log says.
type nursery struct {
	testing.TB
	host   *worker.Host
	spec   worker.Spec
	zygote *worker.Zygote
	log    *lines
}

func newNursery(t testing.TB, env ...string) *nursery {
	t.Helper()
	n := &nursery{TB: t, spec: pooltest.Spec(t), log: &lines{}}
	log := slog.New(slog.NewTextHandler(n.log, nil))
	host, err := worker.NewHost(log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := host.Close(); err != nil {
			t.Error(err)
		}
	})
	here, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	n.host, n.spec.Module, n.spec.WorkingDir = host, "forkable", here
	n.spec.Env = append(n.spec.Env, env...)
	n.zygote = worker.NewZygote(host, &n.spec, log)
	t.Cleanup(n.zygote.Close)
	return n
}

// worker returns one that is ready and is ended with the test.
func (n *nursery) worker() *child {
	n.Helper()
	w, err := n.zygote.Launch()
	if err != nil {
		n.Fatal(err)
	}
	n.Cleanup(func() {
		w.Kill(worker.ReasonClosed)
		<-w.Gone()
	})
	if err := w.Ready(n.Context()); err != nil {
		n.Fatal(err)
	}
	return &child{n, w}
}

// workers returns n of them, started side by side.
func (n *nursery) workers(count int) []*child {
	n.Helper()
	all := make([]*child, count)
	for i := range all {
		all[i] = n.worker()
	}
	return all
}

func (n *nursery) await(what string, done func() bool) {
	n.Helper()
	for until := time.Now().Add(patience); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			n.Fatalf("waited %s for: %s; the log:\n%s", patience, what, n.log)
		}
	}
}

type child struct {
	*nursery
	*worker.Worker
}

// call runs a command, whose result is decoded into result.
func (c *child) call(command string, arguments map[string]any, result any) {
	c.Helper()
	payload, err := json.Marshal(arguments)
	if err != nil {
		c.Fatal(err)
	}
	if arguments == nil {
		payload = []byte("{}")
	}
	out := c.RoundTrip(c.Context(), worker.Call{Command: command, Payload: payload, Deadline: time.Now().Add(patience)})
	if out.Err != nil {
		c.Fatalf("%s: %v", command, out.Err)
	}
	if result == nil {
		return
	}
	if err := json.Unmarshal(out.Payload, result); err != nil {
		c.Fatalf("%s answered %s: %v", command, out.Payload, err)
	}
}

type identity struct {
	PID, Parent, Group int
	ID, Variable, OOM  string
	Happened           []string
}

func (c *child) who() (i identity) {
	c.Helper()
	c.call("who", nil, &i)
	return i
}

// forked tells whether the import happened in another process.
func (i identity) forked() bool {
	return len(i.Happened) > 0 && !strings.HasPrefix(i.Happened[0], "preload in "+strconv.Itoa(i.PID)+" ")
}

// lines is a log that can be read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lines) count(text string) int { return strings.Count(l.String(), text) }

func alive(pid int) bool {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, rest, _ := strings.Cut(string(data), ") ")
	return err == nil && !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

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
	var errs []error
	for range 2 {
		_, err := n.zygote.Launch()
		errs = append(errs, err)
	}
	spawned, err := worker.Launch(n.host, &n.spec)
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range errs {
		var boot, same *worker.BootError
		if !errors.As(got, &boot) || !errors.As(spawned.Ready(t.Context()), &same) {
			t.Fatalf("forked: %v; want a BootError", got)
		}
		if *boot != *same {
			t.Errorf("forked: %+v; spawned: %+v; want them equal", *boot, *same)
		}
		break
	}
	if errs[0].Error() != errs[1].Error() {
		t.Errorf("two tries failed with %v and %v", errs[0], errs[1])
	}
}

func TestP7_InitTimeoutOfTheZygote(t *testing.T) {
	n := newNursery(t, "FORKABLE_SLEEP=600")
	n.spec.InitTimeout = 500 * time.Millisecond
	_, err := n.zygote.Launch()
	if !errors.As(err, new(*worker.BootError)) || !strings.Contains(err.Error(), "500ms") {
		t.Errorf("Launch: %v; want the timeout", err)
	}
	if pid := n.zygote.PID(); pid != 0 {
		t.Errorf("the zygote %d is still in use", pid)
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

func TestP104_ADeadZygoteKillsNoWorkerAndIsStartedAgain(t *testing.T) {
	n := newNursery(t)
	before := n.workers(2)
	first := n.zygote.PID()
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	n.await("its death noted", func() bool { return n.log.count("zygote ended") == 1 })
	between := n.worker()
	if between.who().forked() {
		t.Error("a worker was forked within the back-off")
	}
	for _, w := range before {
		if got := w.who(); got.PID != w.PID() || !got.forked() {
			t.Errorf("a worker that outlived its zygote is %+v", got)
		}
	}
	var again *child
	n.await("a zygote after the back-off", func() bool {
		again = n.worker()
		return again.who().forked()
	})
	if second := n.zygote.PID(); second == 0 || second == first {
		t.Errorf("the zygote is %d, was %d", second, first)
	}
}

func TestP104_AForkedWorkersStatusReachesTheSupervisor(t *testing.T) {
	n := newNursery(t)
	for _, w := range n.workers(3) {
		out := w.RoundTrip(t.Context(), worker.Call{Command: "end", Payload: []byte(`{"code": 7}`), Deadline: time.Now().Add(patience)})
		if out.Discard != worker.ReasonExited {
			t.Fatalf("ended with %v, discard %q", out.Err, out.Discard)
		}
		<-w.Gone()
		if w.Exit().Code != 7 {
			t.Errorf("a worker %s; want status 7", w.Exit())
		}
	}
	w := n.worker()
	if err := syscall.Kill(w.PID(), syscall.SIGSEGV); err != nil {
		t.Fatal(err)
	}
	<-w.Gone()
	if w.Exit().Signal != syscall.SIGSEGV {
		t.Errorf("a worker %s; want SIGSEGV", w.Exit())
	}
}

func TestP104_EndOfInputReachesEverySibling(t *testing.T) {
	n := newNursery(t)
	n.spec.Grace = patience
	workers := n.workers(4)
	holder := map[string]string{}
	for pipe := range openFiles(t, n.zygote.PID()) {
		holder[pipe] = "the zygote"
	}
	for _, w := range workers {
		own := 0
		for file := range openFiles(t, w.PID()) {
			switch other := holder[file]; {
			case other == "":
				holder[file] = w.ID()
				if strings.HasPrefix(file, "pipe:") {
					own++
				}
			case strings.HasPrefix(file, "socket:") || other != "the zygote": // that has inherited others from this test
				t.Errorf("%s and %s both hold %s", other, w.ID(), file)
			}
		}
		if own < 3 {
			t.Errorf("%s holds %d pipes of its own: the zygote has kept its pipes", w.ID(), own)
		}
	}
	for _, w := range workers {
		w.Retire(worker.ReasonRetired)
		<-w.Gone()
		if w.Exit() != (worker.Exit{}) {
			t.Errorf("%s %s", w.ID(), w.Exit())
		}
	}
}

// openFiles are the pipes and sockets of a process.
func openFiles(t *testing.T, pid int) map[string]bool {
	t.Helper()
	paths, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/fd/*")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files of process %d: %v", pid, err)
	}
	files := map[string]bool{}
	for _, path := range paths {
		target, _ := os.Readlink(path)
		if strings.HasPrefix(target, "pipe:") || strings.HasPrefix(target, "socket:") {
			files[target] = true
		}
	}
	return files
}

func TestP78_AStrayOfAForkedWorkerIsFound(t *testing.T) {
	n := newNursery(t)
	first, second := n.worker(), n.worker()
	stray := func(w *child) (pid int) {
		path := filepath.Join(t.TempDir(), "stray")
		w.call("stray", map[string]any{"path": path}, nil)
		n.await("the stray", func() bool {
			data, _ := os.ReadFile(path)
			pid, _ = strconv.Atoi(string(data))
			return pid != 0
		})
		return pid
	}
	gone, stays := stray(first), stray(second)
	first.Kill(worker.ReasonClosed)
	<-first.Gone()
	n.await("the stray's end", func() bool { return !alive(gone) })
	if !alive(stays) {
		t.Error("the stray of another worker was killed")
	}
}

func TestP11_ForkedWorkersDieWithTheirSupervisor(t *testing.T) {
	if os.Getenv("FORKABLE_SUPERVISOR") != "" {
		n := newNursery(t)
		w := n.worker()
		go w.RoundTrip(context.Background(), worker.Call{ //nolint:errcheck // it never ends
			Command: "spin", Payload: []byte(`{"path": "` + os.Getenv("FORKABLE_SUPERVISOR") + `/spins"}`), Deadline: time.Now().Add(time.Hour),
		})
		n.await("a busy worker", func() bool { _, err := os.Stat(os.Getenv("FORKABLE_SUPERVISOR") + "/spins"); return err == nil })
		report := os.Getenv("FORKABLE_SUPERVISOR") + "/pids"
		_ = os.WriteFile(report+".new", []byte(strconv.Itoa(w.PID())+" "+strconv.Itoa(n.zygote.PID())), 0o600)
		_ = os.Rename(report+".new", report)
		select {}
	}
	folder := t.TempDir()
	self, err := os.StartProcess(os.Args[0], []string{os.Args[0], "-test.run", "^" + t.Name() + "$"}, &os.ProcAttr{
		Env: append(os.Environ(), "FORKABLE_SUPERVISOR="+folder),
	})
	if err != nil {
		t.Fatal(err)
	}
	n := &nursery{TB: t, log: &lines{}}
	var pids []string
	n.await("the supervisor's worker", func() bool {
		data, _ := os.ReadFile(folder + "/pids")
		pids = strings.Fields(string(data))
		return len(pids) == 2
	})
	_ = self.Kill()
	_, _ = self.Wait()
	for _, text := range pids {
		pid, _ := strconv.Atoi(text)
		n.await("the end of "+text, func() bool { return !alive(pid) })
	}
}
