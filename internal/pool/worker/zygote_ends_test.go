package worker_test

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

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

func TestP105_AThreadsEndKillsNoForkedWorker(t *testing.T) {
	n := newNursery(t)
	threads, release := make(chan int), make(chan struct{})
	const count = 8 // threads that are there when the worker is orphaned, and end while it lives
	for range count {
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
			threads <- syscall.Gettid()
			<-release
		}()
	}
	ids := make([]int, count)
	for i := range ids {
		ids[i] = <-threads
	}
	w := n.worker()
	close(release)
	for _, id := range ids {
		n.await("the end of a thread", func() bool {
			_, err := os.Stat("/proc/self/task/" + strconv.Itoa(id))
			return err != nil || id == os.Getpid() // Go keeps the first thread
		})
	}
	if got := w.who(); got.PID != w.PID() {
		t.Errorf("worker %d answered as %+v", w.PID(), got)
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
		if e := w.Exit(); e.Code != 0 || e.Signal != 0 {
			t.Errorf("%s %s", w.ID(), e)
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
		go w.RoundTrip(context.Background(), worker.Call{ // it never ends
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
