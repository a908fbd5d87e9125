package router

import (
	"bytes"
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
	"strings"
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
from poolworker import command

@command
def echo(text: str): return text

@command
def sleep(ms: float):
    time.sleep(ms / 1000)
    return os.getpid()

@command
def fail(text: str): raise ValueError(text)
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
}

type process struct {
	*exec.Cmd
	ended chan struct{}
	err   error // valid once ended is closed
}

// newPod installs poold, starts slots and router, and waits until the workers are up.
func newPod(t *testing.T, bootstrap *controlpb.Snapshot) *podProcesses {
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
	p.startRouter()
	p.awaitWorkers(bootstrap)
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
	p.spawn(name, "pool", "--name", name, "--socket", p.dir+"/slots/"+name+"/pool.sock", "--python-dir", p.dir+"/bin/python")
	p.until(func() bool { return p.probe("pool", p.dir+"/slots/"+name+"/pool.sock") == nil })
}

func (p *podProcesses) startRouter() {
	p.spawn("router", "router", "--pool", "summarizer", "--socket", p.dir+"/app.sock", "--listen", "",
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
func (p *podProcesses) spawn(name string, args ...string) {
	p.t.Helper()
	proc := &process{Cmd: exec.Command(p.poold, args...), ended: make(chan struct{})}
	proc.Dir = p.dir + "/work"
	proc.Stderr = io.MultiWriter(p.logs, p.t.Output())
	if err := proc.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() { proc.err = proc.Wait(); close(proc.ended) }()
	p.procs[name] = proc
	p.t.Cleanup(func() { p.end(name, syscall.SIGTERM) })
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

// awaitWorkers waits until the slots have the workers that s says.
func (p *podProcesses) awaitWorkers(s *controlpb.Snapshot) {
	p.t.Helper()
	for _, slot := range s.GetSlots() {
		p.until(func() bool { return p.slot(slot.GetName()).Ready == int(slot.GetSize()) })
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

func TestPodOfProcesses(t *testing.T) {
	p := newPod(t, samples(1000))
	pids := p.pythons()
	if len(pids) != 4 {
		t.Errorf("workers %v, want 2 in each slot", pids)
	}
	for _, version := range []string{"v1", "v2"} {
		a := p.post("echo", `{"text": "héllo"}`, "Workerpool-Version", version)
		if a.code != 200 || a.body != `"héllo"` && a.body != `"h\u00e9llo"` || a.header.Get("Workerpool-Version") != version {
			t.Errorf("%s: %d %s", version, a.code, a.body)
		}
	}
	for name, test := range map[string]struct {
		command, body string
		header        []string
		code          int
		errorType     string
	}{
		"P44 the handler raises":    {"fail", `{"text": "no"}`, nil, 500, "python_error"},
		"P47 unknown command":       {"nope", `{}`, nil, 404, "unknown_command"},
		"P35 no JSON":               {"echo", `{`, nil, 400, "invalid_payload"},
		"not the arguments":         {"echo", `{"txet": ""}`, nil, 400, "invalid_payload"},
		"P27 longer than it may":    {"sleep", `{"ms": 5000}`, []string{"Workerpool-Deadline", "100ms"}, 504, "command_timeout"},
		"P26 already past deadline": {"echo", `{"text": ""}`, []string{"Workerpool-Deadline", "0s"}, 504, "deadline_exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			a := p.post(test.command, test.body, test.header...)
			if a.code != test.code || a.failure.Type != test.errorType {
				t.Errorf("%d %s, want %d %s", a.code, a.body, test.code, test.errorType)
			}
		})
	}
	if st := p.state(); st.RSS > 25<<20 {
		t.Errorf("the router holds %d MB, at most 25", st.RSS>>20)
	}
	pids = append(pids, p.pythons()...)
	for _, name := range []string{"router", "b", "a"} { // as the kubelet ends sidecars
		if err := p.end(name, syscall.SIGTERM); err != nil {
			t.Errorf("%s ended with %v", name, err)
		}
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, 0); err == nil {
			t.Errorf("worker %d outlived its slot", pid)
		}
	}
}

func TestO15_ShareIsExactWithRealWorkers(t *testing.T) {
	p := newPod(t, samples(1000))
	var mu sync.Mutex
	byVersion := map[string]int{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 125 {
				a := p.post("echo", `{"text": "x"}`)
				if a.code != 200 {
					t.Errorf("lost a request: %d %s", a.code, a.body)
				}
				mu.Lock()
				byVersion[a.header.Get("Workerpool-Version")]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if byVersion["v2"] != 100 || byVersion["v1"] != 900 {
		t.Errorf("of 1000 requests %v, want 100 by v2", byVersion)
	}
}

// TestP14_SleepsRunInParallelThroughTheRouter: V2 is about N times V1, one operation at a time.
func TestP14_SleepsRunInParallelThroughTheRouter(t *testing.T) {
	p := newPod(t, samples(0))
	took := map[string]time.Duration{}
	for _, version := range []string{"v1", "v2"} {
		start := time.Now()
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 5 {
					if a := p.post("sleep", `{"ms": 40}`, "Workerpool-Version", version); a.code != 200 {
						t.Errorf("%s: %d %s", version, a.code, a.body)
					}
				}
			})
		}
		wg.Wait()
		took[version] = time.Since(start)
	}
	if took["v1"] < 800*time.Millisecond || took["v1"] < took["v2"]*3/2 {
		t.Errorf("20 sleeps of 40ms: %v; V1 must take 800ms, and V2's two workers about half", took)
	}
}

func TestO28_SlotIsKilledUnderTraffic(t *testing.T) {
	p := newPod(t, samples(5000))
	traffic, stop := context.WithCancel(t.Context())
	var mu sync.Mutex
	failures := map[string]int{}
	served := 0
	const callers = 4
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for traffic.Err() == nil {
				a := p.post("sleep", `{"ms": 2}`)
				mu.Lock()
				if a.code == 200 {
					served++
				} else {
					failures[a.failure.Type]++
				}
				mu.Unlock()
			}
		})
	}
	_ = p.end("b", syscall.SIGKILL) // the canary's container is out of memory
	p.startSlot("b")
	p.until(func() bool { return p.slot("b").Ready+p.slot("b").Busy == 2 })
	stop()
	wg.Wait()
	lost := 0
	for kind, n := range failures {
		lost += n
		if kind != "port_exited" {
			t.Errorf("%d failures of type %s; only what was running may fail", n, kind)
		}
	}
	if lost > callers || served == 0 {
		t.Errorf("%d requests failed (%v), %d were served; at most the %d in flight may fail", lost, failures, served, callers)
	}
	if st := p.slot("a"); st.Crashed+st.Destroyed > 0 {
		t.Errorf("the stable slot noticed: %+v", st)
	}
}

func TestO48_RouterRestartsAndServesAgain(t *testing.T) {
	p := newPod(t, samples(0))
	before := p.pythons()
	_ = p.end("router", syscall.SIGKILL)
	p.client.CloseIdleConnections()
	p.startRouter()
	if a := p.post("echo", `{"text": "again"}`); a.code != 200 {
		t.Errorf("%d %s", a.code, a.body)
	}
	if after := p.pythons(); fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("workers %v became %v: a router's restart must leave them alone", before, after)
	}
}

func TestProbesSayWhyNot(t *testing.T) {
	binary, err := poold()
	if err != nil {
		t.Fatal(err)
	}
	nowhere := shortDir(t) + "/pool.sock"
	silent := shortDir(t) + "/pool.sock"
	l, err := net.Listen("unix", silent)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for name, test := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no router":     {[]string{"router", "--socket", nowhere}, 1, "router: it doesn't answer"},
		"silent router": {[]string{"router", "--socket", silent}, 1, "router: it doesn't answer"},
		"no slot":       {[]string{"pool", "--socket", nowhere}, 1, "pool: the supervisor doesn't listen"},
		"slot listens":  {[]string{"pool", "--socket", silent}, 0, ""},
		"no kind":       {nil, 2, "usage: poold probe router|pool"},
		"other kind":    {[]string{"app"}, 2, "usage: poold probe router|pool"},
	} {
		t.Run(name, func(t *testing.T) {
			probe := exec.Command(binary, append([]string{"probe"}, test.args...)...)
			out, err := probe.CombinedOutput()
			if code := probe.ProcessState.ExitCode(); code != test.code || !strings.Contains(string(out), test.want) {
				t.Errorf("exit code %d (%v), output %q; want %d with %q", code, err, out, test.code, test.want)
			}
			if lines := bytes.Count(bytes.TrimSpace(out), []byte("\n")); test.code == 1 && lines > 0 {
				t.Errorf("more than one line: %s", out)
			}
		})
	}
}

func TestRouterRefusesWhatCanNotWork(t *testing.T) {
	binary, err := poold()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no pool":         {nil, 2, "--pool is required"},
		"nothing":         {[]string{"--pool", "x"}, 2, "there is nothing to serve"},
		"payload":         {[]string{"--pool", "x", "--control-address", "op:1", "--max-payload", "99999999"}, 2, "--max-payload 99999999"},
		"bootstrap file":  {[]string{"--pool", "x", "--bootstrap-file", "/nowhere"}, 2, "--bootstrap-file: open /nowhere"},
		"argument":        {[]string{"--pool", "x", "y"}, 2, `unexpected argument "y"`},
		"socket's folder": {[]string{"--pool", "x", "--control-address", "op:1", "--socket", "/nowhere/s"}, 1, "listen on /nowhere/s"},
		"listens to all": {[]string{"--pool", "x", "--control-address", "op:1", "--socket", shortDir(t) + "/s", "--listen", "0.0.0.0:0"},
			1, "only loopback"},
		"help": {[]string{"-h"}, 0, "WORKERPOOL_BOOTSTRAP"},
	} {
		t.Run(name, func(t *testing.T) {
			router := exec.Command(binary, append([]string{"router"}, test.args...)...)
			out, _ := router.CombinedOutput()
			if code := router.ProcessState.ExitCode(); code != test.code || !strings.Contains(string(out), test.want) {
				t.Errorf("exit code %d, output %s; want %d with %q", code, out, test.code, test.want)
			}
		})
	}
}
