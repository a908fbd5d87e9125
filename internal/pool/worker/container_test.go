package worker_test

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/cgroup"
	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/pooltest"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// container is a control group with a limit, and workers in it: what happens in it the kernel does.
type container struct {
	*nursery
	dir    string
	memory cgroup.Memory
}

const containerLimit = 192 << 20

// newContainer skips the test where no group can be made: that takes root, and a hierarchy that isn't read-only.
func newContainer(t *testing.T) *container {
	t.Helper()
	c := &container{nursery: newNursery(t)}
	c.spec = pooltest.Spec(t)
	parent := "/sys/fs/cgroup/memory"
	limit := "memory.limit_in_bytes"
	if _, err := os.Stat(filepath.Join(parent, limit)); err != nil {
		parent, limit = "/sys/fs/cgroup", "memory.max"
	}
	c.dir = filepath.Join(parent, "workerpool-test-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(c.dir, 0o750); err != nil {
		t.Skipf("no control group of the test's own: %v", err)
	}
	t.Cleanup(func() { c.await("control group removed", func() bool { return os.Remove(c.dir) == nil }) })
	if err := os.WriteFile(filepath.Join(c.dir, limit), []byte(strconv.Itoa(containerLimit)), 0o600); err != nil {
		t.Skipf("no memory limit for a control group: %v", err)
	}
	c.memory = cgroup.At(c.dir)
	return c
}

// spawn returns a worker that is ready and in the container.
func (c *container) spawn() *child {
	c.Helper()
	w, err := worker.Launch(c.host, &c.spec)
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() {
		w.Kill(worker.ReasonClosed)
		<-w.Gone()
	})
	c.enter(w.PID())
	if err := w.Ready(c.Context()); err != nil {
		c.Fatal(err)
	}
	return &child{c.nursery, w}
}

// stranger runs in the container until the test ends, and is no worker. The Host reaps it.
func (c *container) stranger(python string) {
	c.Helper()
	cmd := exec.Command(c.spec.Python, "-c", python)
	if err := cmd.Start(); err != nil {
		c.Fatal(err)
	}
	pid := cmd.Process.Pid
	c.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Process.Release()
		c.await("the stranger gone", func() bool { return !alive(pid) })
	})
	c.enter(pid)
}

func (c *container) enter(pid int) {
	c.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o600); err != nil {
		c.Fatal(err)
	}
}

// fails runs a command that must fail.
func (c *child) fails(command string, arguments string) *pool.Error {
	c.Helper()
	out := c.RoundTrip(c.Context(), worker.Call{Command: command, Payload: []byte(arguments), Deadline: time.Now().Add(patience)})
	if out.Err == nil {
		c.Fatalf("%s succeeded", command)
	}
	return out.Err
}

func TestP76_GuardEndsTheLargest(t *testing.T) {
	c := newContainer(t)
	small, large, idle := c.spawn(), c.spawn(), c.spawn()
	idle.call("grow", map[string]any{"mb": 60}, nil)
	if !c.host.GuardMemory(c.memory) {
		t.Fatal("the limit isn't guarded")
	}
	err := large.fails("leak", `{"mb": 4, "ms": 10}`)
	if err.Type != pool.PortExited || !err.Sent || err.Context["oom"] != true || !large.Exit().OOM && large.Exit().Reason() != "memory" {
		t.Errorf("the caller gets %v, context %v, sent %v; exit %q", err, err.Context, err.Sent, large.Exit().Reason())
	}
	for _, part := range []string{large.ID(), "MiB", "in use of 192", "spec.worker.resources.limits.memory"} {
		if !strings.Contains(err.Message, part) {
			t.Errorf("the error lacks %q: %s", part, err.Message)
		}
	}
	if own, _ := err.Context["memory_bytes"].(uint64); own < 60<<20 || own > containerLimit {
		t.Errorf("the error tells of %d bytes", own)
	}
	for _, sibling := range []*child{small, idle} {
		sibling.call("echo", map[string]any{"value": 1}, nil)
	}
	if n, _ := c.memory.Kills(); n != 0 {
		t.Errorf("the kernel has killed %d processes: the guard came too late", n)
	}
	if c.log.count("about to run out of memory") != 1 {
		t.Errorf("not one process ended:\n%s", c.log)
	}
	second := idle.fails("leak", `{"mb": 4, "ms": 10}`) // and what comes back is counted
	if second.Context["oom"] != true {
		t.Errorf("the second one ends with %v", second)
	}
}

// What takes the memory is no worker: to end all of them would help nobody.
func TestP76_WorkersThatTakeNothingLive(t *testing.T) {
	c := newContainer(t)
	w := c.spawn()
	c.stranger("import time; kept = bytearray(b'x') * (172 << 20); time.sleep(600)")
	c.await("the stranger's memory", func() bool {
		used, _ := c.memory.Usage()
		return used > 174<<20
	})
	if !c.host.GuardMemory(c.memory) {
		t.Fatal("the limit isn't guarded")
	}
	c.await("the guard's word", func() bool { return c.log.count("workers have little of it") == 1 })
	time.Sleep(100 * time.Millisecond) // ten looks
	w.call("echo", map[string]any{"value": 1}, nil)
}

func TestP76_WithoutALimitNothingRuns(t *testing.T) {
	dir := t.TempDir()
	for file, text := range map[string]string{"memory.events": "oom_kill 0\n", "memory.max": "max\n", "memory.current": "9\n"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n := newNursery(t)
	if n.host.GuardMemory(cgroup.At(dir)) || n.host.GuardMemory(cgroup.Memory{}) {
		t.Error("a guard without a limit")
	}
}

// The kernel kills one process of the container: that is told apart from any other SIGKILL, and no sibling goes with it.
func TestP76_KernelsKillIsReported(t *testing.T) {
	c := newContainer(t)
	c.host.CountKillsIn(c.memory)
	sibling, victim := c.spawn(), c.spawn()
	err := victim.fails("grow", `{"mb": 1000}`)
	if err.Type != pool.PortExited || err.Context["oom"] != true || err.Context["signal"] != "SIGKILL" || victim.Exit().Reason() != "oom" {
		t.Errorf("the caller gets %v, context %v, exit %q; want an out-of-memory kill", err, err.Context, victim.Exit().Reason())
	}
	sibling.call("echo", map[string]any{"value": 1}, nil)
}

func TestP76_AllocationBeyondTheBoundIsAnException(t *testing.T) {
	for name, launch := range map[string]func(*nursery) (*worker.Worker, error){
		"spawned": func(n *nursery) (*worker.Worker, error) { return worker.Launch(n.host, &n.spec) },
		"forked":  func(n *nursery) (*worker.Worker, error) { return n.zygote.Launch() },
	} {
		t.Run(name, func(t *testing.T) {
			n := newNursery(t)
			n.spec.Memory = 64 << 20
			n.spec.Module, n.spec.WorkingDir = "fixture", pooltest.Spec(t).WorkingDir
			w, err := launch(n)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				w.Kill(worker.ReasonClosed)
				<-w.Gone()
			})
			if err := w.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			c := &child{n, w}
			c.call("grow_once", map[string]any{"mb": 60}, nil)
			if err := c.fails("grow_once", `{"mb": 200}`); err.Type != pool.PythonError || !strings.HasPrefix(err.Message, "MemoryError") {
				t.Errorf("beyond its bound it fails with %v; want python_error of a MemoryError", err)
			}
			c.call("grow_once", map[string]any{"mb": 60}, nil) // and lives
		})
	}
}

// Workers, forked or not, and what they are forked from have a higher score than the supervisor.
func TestP76_WorkersComeBeforeTheSupervisor(t *testing.T) {
	n := newNursery(t)
	forked := n.worker()
	spawned, err := worker.Launch(n.host, &n.spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		spawned.Kill(worker.ReasonClosed)
		<-spawned.Gone()
	})
	own := score(t, os.Getpid())
	for name, pid := range map[string]int{"forked": forked.PID(), "spawned": spawned.PID(), "zygote": n.zygote.PID()} {
		n.await(name+" preferred", func() bool { return score(t, pid) > own })
	}
}

func score(t *testing.T, pid int) int {
	t.Helper()
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/oom_score_adj")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A zygote, too, can be what takes most: it is told as the reason why workers don't start.
func TestP76_GuardEndsAZygoteThatImportsTooMuch(t *testing.T) {
	c := newContainer(t)
	c.spec.Env = append(c.spec.Env, "FIXTURE_IMPORT_LEAK=4")
	zygote := worker.NewZygote(c.host, &c.spec, slog.New(slog.NewTextHandler(c.log, nil)))
	defer zygote.Close()
	failed := make(chan error, 1)
	go func() {
		_, err := zygote.Launch()
		failed <- err
	}()
	c.await("zygote started", func() bool { return zygote.PID() != 0 })
	c.enter(zygote.PID())
	if !c.host.GuardMemory(c.memory) {
		t.Fatal("the limit isn't guarded")
	}
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "limits.memory") {
		t.Errorf("Launch: %v; want the memory, and the way out", err)
	}
}
