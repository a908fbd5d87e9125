package router

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
)

// sample is the module that the workers of these tests serve.
const sample = `
import os, time
from poolworker import CallerError, UpstreamError, command, context

@command
def echo(text: str): return text

@command
def sleep(ms: float):
    time.sleep(ms / 1000)
    return os.getpid()

@command
def work(text: str):
    if os.environ.get("CRASH"): os._exit(7)
    return text

@command
def fail(text: str): raise ValueError(text)

@command
def pid(): return os.getpid()

@command
def show(items: list, ms: float = 0, **rest):
    time.sleep(ms / 1000)
    seen = {"pid": os.getpid(), "items": list(items), "rest": rest}
    items.append("spoilt by the call before")
    return seen

@command
def asks(): return context()._asdict()

@command
def blame(whom: str, text: str):
    raise {"caller": CallerError, "upstream": UpstreamError}[whom](text)
`

// buildDir holds the binary that poold builds; TestMain removes it.
var buildDir = filepath.Join(os.TempDir(), fmt.Sprintf("poold-test-%d", os.Getpid()))

// poold builds the binary once for all tests of this process.
var poold = sync.OnceValues(func() (string, error) {
	path := filepath.Join(buildDir, "poold")
	build := exec.Command("go", "build", "-o", path, "github.com/dspex/workerpool-operator/cmd/poold")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return path, nil
})

// podProcesses is a pod of real processes: two slots and a router, as their containers would run them.
type podProcesses struct {
	*rig  // its client; there is no router in this process
	dir   string
	poold string
	procs map[string]*process
	// wrapper, if any, is the command line that runs the router.
	wrapper []string
}

type process struct {
	*exec.Cmd
	ended chan struct{}
	err   error // valid once ended is closed
}

// newPod installs poold, starts slots and router, and waits until the workers are up.
func newPod(t *testing.T, bootstrap *controlpb.Snapshot) *podProcesses {
	t.Helper()
	return newPodWith(t, bootstrap, func(*podProcesses) {})
}

// newPodWith is newPod with a change before the router starts.
func newPodWith(t *testing.T, bootstrap *controlpb.Snapshot, change func(*podProcesses)) *podProcesses {
	t.Helper()
	p := newSlots(t, bootstrap)
	change(p)
	p.startRouter()
	p.awaitWorkers(bootstrap)
	return p
}

// newLivePod is newPod with the router in this process, so that snapshots can be applied.
func newLivePod(t *testing.T, bootstrap *controlpb.Snapshot) *podProcesses {
	t.Helper()
	p := newSlots(t, bootstrap)
	text, err := protojson.Marshal(bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	p.config = Config{
		Pool: "summarizer", Instance: "test", SlotsDir: p.dir + "/slots", Socket: p.dir + "/app.sock", StateDir: p.dir + "/state",
		Bootstrap: text,
	}
	p.start()
	p.awaitWorkers(bootstrap)
	return p
}

// newSlots is newPod without the router.
func newSlots(t *testing.T, bootstrap *controlpb.Snapshot) *podProcesses {
	t.Helper()
	if testing.Short() {
		t.Skip("starts real processes")
	}
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("needs python3")
	}
	binary, err := poold()
	if err != nil {
		t.Fatal(err)
	}
	p := &podProcesses{rig: &rig{t: t, logs: &logBuffer{}}, dir: shortDir(t), procs: map[string]*process{}}
	for _, folder := range []string{"bin", "slots/a", "slots/b", "state", "work"} {
		if err := os.MkdirAll(filepath.Join(p.dir, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	text, err := protojson.Marshal(bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(
		os.WriteFile(p.dir+"/work/sample.py", []byte(sample), 0o644), os.WriteFile(p.dir+"/bootstrap.json", text, 0o644),
	); err != nil {
		t.Fatal(err)
	}
	p.connect()
	p.poold = binary
	if out, err := exec.Command(binary, "install", "--to", p.dir+"/bin").CombinedOutput(); err != nil {
		t.Fatalf("install: %v: %s", err, out)
	}
	p.poold = p.dir + "/bin/poold"
	p.startSlot("a")
	p.startSlot("b")
	return p
}

// connect gives the rig a client of the router's socket.
func (p *podProcesses) connect() {
	transport := &http.Transport{
		MaxIdleConnsPerHost: 64,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", p.dir+"/app.sock")
		},
	}
	p.client = &http.Client{Transport: transport}
	p.t.Cleanup(transport.CloseIdleConnections)
}

func (p *podProcesses) startSlot(name string) {
	p.spawn(name, []string{p.poold}, "pool", "--name", name, "--socket", p.dir+"/slots/"+name+"/pool.sock", "--python-dir", p.dir+"/bin/python")
	p.until(func() bool { return p.probe("pool", p.dir+"/slots/"+name+"/pool.sock") == nil })
}

func (p *podProcesses) startRouter() {
	p.spawn("router", append(p.wrapper, p.poold), "router", "--pool", "summarizer", "--socket", p.dir+"/app.sock", "--listen", "",
		"--slots-dir", p.dir+"/slots", "--state-dir", p.dir+"/state", "--bootstrap-file", p.dir+"/bootstrap.json")
	p.until(func() bool { return p.probe("router", p.dir+"/app.sock") == nil })
}

// probe runs `poold probe`; its error holds the reason that it prints.
func (p *podProcesses) probe(kind, socket string) error {
	out, err := exec.Command(p.poold, "probe", kind, "--socket", socket).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// spawn starts a poold that ends with the test.
func (p *podProcesses) spawn(name string, program []string, args ...string) {
	p.t.Helper()
	args = append(program[1:len(program):len(program)], args...)
	proc := &process{Cmd: exec.Command(program[0], args...), ended: make(chan struct{})}
	proc.Dir = p.dir + "/work"
	proc.Stderr = io.MultiWriter(p.logs, p.t.Output())
	if err := proc.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() { proc.err = proc.Wait(); close(proc.ended) }()
	p.procs[name] = proc
	p.t.Cleanup(func() { _ = p.end(name, syscall.SIGTERM) })
}

// end sends a signal and waits for the end, which it returns.
func (p *podProcesses) end(name string, signal syscall.Signal) error {
	p.t.Helper()
	proc := p.procs[name]
	_ = proc.Process.Signal(signal)
	select {
	case <-proc.ended:
	case <-time.After(20 * time.Second):
		_ = proc.Process.Kill()
		p.t.Errorf("%s hadn't ended 20s after %v", name, signal)
		<-proc.ended
	}
	return proc.err
}

// openFiles counts a process's file descriptors.
func (p *podProcesses) openFiles(name string) int {
	p.t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.procs[name].Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	return len(entries)
}

// state reads the router's status.
func (p *podProcesses) state() Status {
	p.t.Helper()
	a := p.send(http.MethodGet, "/v1/status", http.NoBody)
	var st Status
	if err := json.Unmarshal([]byte(a.body), &st); err != nil {
		p.t.Fatalf("status %d %s: %v", a.code, a.body, err)
	}
	return st
}

func (p *podProcesses) slot(name string) SlotStatus {
	for _, s := range p.state().Slots {
		if s.Name == name {
			return s
		}
	}
	return SlotStatus{}
}

// awaitWorkers waits until the slots have the workers that s says, of the revision that it says.
func (p *podProcesses) awaitWorkers(s *controlpb.Snapshot) {
	p.t.Helper()
	for _, slot := range s.GetSlots() {
		p.until(func() bool {
			now := p.slot(slot.GetName())
			return now.Ready == int(slot.GetSize()) && now.Revision == slot.GetRevision().GetHash()
		})
	}
}

// pythons returns the pids of the workers that there are.
func (p *podProcesses) pythons() []int {
	var pids []int
	for _, s := range p.state().Slots {
		for _, w := range s.Workers {
			pids = append(pids, w.PID)
		}
	}
	return pids
}

// samples is snapshot with this file's module and two workers in each slot.
func samples(weight uint32) *controlpb.Snapshot {
	return changed(snapshot(weight), func(s *controlpb.Snapshot) {
		for _, slot := range s.Slots {
			slot.Size, slot.Revision.Module, slot.Revision.Env = 2, "sample", nil
		}
	})
}
