package main

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/pooltest"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
	"github.com/dspex/workerpool-operator/internal/slot"
	"github.com/dspex/workerpool-operator/internal/slot/slotproto"
)

const patience = 20 * time.Second

// supervisor is a running `poold pool`.
type supervisor struct {
	*testing.T
	cmd    *exec.Cmd
	spec   worker.Spec
	log    *os.File
	conn   net.Conn
	reader *frame.Reader
	writer *frame.Writer
}

// startPool starts `poold pool`, below the program and arguments in wrap, and connects to its control side.
func startPool(t *testing.T, wrap ...string) *supervisor {
	t.Helper()
	s := &supervisor{T: t, spec: pooltest.Spec(t)}
	argv := append(wrap, os.Args[0], "pool", "--name", "a", "--socket", s.spec.Marker, "--python-dir", s.spec.PythonDir)
	s.cmd = exec.Command(argv[0], argv[1:]...)
	s.cmd.Env = append(os.Environ(), asPoold+"=1")
	s.cmd.Dir = s.spec.WorkingDir
	var err error
	if s.log, err = os.Create(filepath.Join(t.TempDir(), "log")); err != nil {
		t.Fatal(err)
	}
	s.cmd.Stderr = s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		_ = s.log.Close()
		if t.Failed() {
			text, _ := os.ReadFile(s.log.Name())
			t.Logf("its log:\n%s", text)
		}
	})
	s.connect()
	return s
}

func (s *supervisor) connect() {
	s.Helper()
	s.await("socket", func() bool {
		var err error
		s.conn, err = net.Dial("unix", s.spec.Marker)
		return err == nil
	})
	s.Cleanup(func() { _ = s.conn.Close() })
	_ = s.conn.SetDeadline(time.Now().Add(2 * patience))
	s.reader, s.writer = frame.NewReader(s.conn, 0), frame.NewWriter(s.conn)
	s.send(frame.Hello, slotproto.Hello{Role: slotproto.Control, Instance: "test", Protocol: slotproto.Protocol})
	s.status(func(slotproto.Status) bool { return true })
}

func (s *supervisor) send(kind frame.Kind, v any) {
	s.Helper()
	payload, err := json.Marshal(v)
	if err != nil {
		s.Fatal(err)
	}
	if err := s.writer.Write(&frame.Frame{Kind: kind, ID: 1, Payload: payload}); err != nil {
		s.Fatal(err)
	}
}

func (s *supervisor) configure(size int) slotproto.Status {
	s.Helper()
	s.send(frame.Configure, slotproto.Config{
		Pool: "tested", Revision: "r", Version: pool.V2, Worker: &slotproto.Worker{Python: s.spec.Python, Module: "fixture"},
		Size: size, Checkout: patience, Op: patience, Drain: patience,
	})
	return s.status(func(st slotproto.Status) bool { return st.Ready == size })
}

// status reads Status frames until one is as wanted. Those that were under way when it was called don't count.
func (s *supervisor) status(wanted func(slotproto.Status) bool) slotproto.Status {
	s.Helper()
	s.send(frame.Ping, nil)
	for fresh := false; ; {
		var f frame.Frame
		if err := s.reader.Read(&f); err != nil {
			s.Fatal(err)
		}
		fresh = fresh || f.Kind == frame.Pong
		var st slotproto.Status
		if fresh && f.Kind == frame.Status && json.Unmarshal(f.Payload, &st) == nil && wanted(st) {
			return st
		}
	}
}

func (s *supervisor) await(what string, done func() bool) {
	s.Helper()
	for until := time.Now().Add(patience); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			s.Fatalf("waited %s for: %s", patience, what)
		}
	}
}

// workers counts the live processes that bear this slot's mark, wherever they hang.
func (s *supervisor) workers() (n int) {
	marker, err := slot.Marker("a", s.spec.Marker)
	if err != nil {
		s.Fatal(err)
	}
	paths, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		s.Fatal(err)
	}
	for _, path := range paths {
		if data, err := os.ReadFile(path); err == nil && strings.Contains(string(data), "WORKERPOOL_SLOT="+marker+"\x00") {
			n++
		}
	}
	return n
}

func TestP11_KilledSupervisorLeavesNoPython(t *testing.T) {
	s := startPool(t)
	s.configure(3)
	if n := s.workers(); n != 3 {
		t.Fatalf("%d workers, want 3", n)
	}
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	s.await("no worker", func() bool { return s.workers() == 0 })
	if took := time.Since(killed); took > 2*time.Second {
		t.Errorf("Python lived on for %s", took)
	}
}

func TestP9_SigtermEndsEverythingAndExitsWithZero(t *testing.T) {
	s := startPool(t)
	s.configure(2)
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("ended with %v, want status 0", err)
	}
	if n := s.workers(); n != 0 {
		t.Errorf("%d workers are left", n)
	}
}

func TestP84_UnrelatedSignalsAreIgnored(t *testing.T) {
	s := startPool(t)
	before := s.configure(1)
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE, syscall.SIGALRM} {
		if err := s.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	after := s.configure(2)
	if after.Workers[0].PID != before.Workers[0].PID {
		t.Error("the worker was replaced")
	}
}

// TestP79_AsPIDOne runs the supervisor as the first process of a pid namespace, as in a container.
func TestP79_AsPIDOne(t *testing.T) {
	if err := exec.Command("unshare", "--pid", "--fork", "--mount-proc", "true").Run(); err != nil {
		t.Skipf("no pid namespace for the test here: %v", err)
	}
	s := startPool(t, "unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
	first := s.configure(2).Workers[0]
	if first.PID > 200 { // threads take pids too
		t.Fatalf("worker has pid %d: that is no new namespace", first.PID)
	}
	data := s.dataConnection()
	const orphans = 20
	for range orphans {
		data.call("orphan")
	}
	s.await("orphans reaped", func() bool {
		var zombies int
		if err := json.Unmarshal(data.call("zombies"), &zombies); err != nil {
			t.Fatal(err)
		}
		return zombies == 0
	})
}

type dataConnection struct {
	*supervisor
	id uint64
}

func (s *supervisor) dataConnection() *dataConnection {
	s.Helper()
	conn, err := net.Dial("unix", s.spec.Marker)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(2 * patience))
	d := *s
	d.conn, d.reader, d.writer = conn, frame.NewReader(conn, 0), frame.NewWriter(conn)
	d.send(frame.Hello, slotproto.Hello{Role: slotproto.Data, Instance: "test", Protocol: slotproto.Protocol})
	var f frame.Frame
	if err := d.reader.Read(&f); err != nil {
		s.Fatal(err)
	}
	return &dataConnection{supervisor: &d}
}

func (d *dataConnection) call(command string) []byte {
	d.Helper()
	d.id++
	f := frame.Frame{Kind: frame.Request, ID: d.id, Meta: []byte(command), Payload: []byte("{}")}
	err := d.writer.Write(&f)
	if err := errors.Join(err, d.reader.Read(&f)); err != nil {
		d.Fatal(err)
	}
	if f.Kind != frame.Result {
		d.Fatalf("%s: %s", command, f.Payload)
	}
	return append([]byte(nil), f.Payload...)
}

// TestP76_AContainerLivesThroughALeak runs the supervisor in a control group with a limit, as a container is.
func TestP76_AContainerLivesThroughALeak(t *testing.T) {
	parent, limit := "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
	if _, err := os.Stat(filepath.Join(parent, limit)); err != nil {
		parent, limit = "/sys/fs/cgroup", "memory.max"
	}
	group := filepath.Join(parent, "workerpool-poold-test-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(group, 0o750); err != nil {
		t.Skipf("no control group of the test's own: %v", err)
	}
	t.Cleanup(func() {
		for until := time.Now().Add(patience); os.Remove(group) != nil && time.Now().Before(until); time.Sleep(time.Millisecond) {
		}
	})
	if err := os.WriteFile(filepath.Join(group, limit), []byte("268435456"), 0o600); err != nil {
		t.Skipf("no memory limit for a control group: %v", err)
	}
	s := startPool(t, "/bin/sh", "-c", "echo $$ > "+group+`/cgroup.procs && exec "$0" "$@"`)
	s.configure(2)
	data := s.dataConnection()
	e := data.fails("leak", `{"mb": 4, "ms": 10}`)
	if e.Type != pool.PortExited || e.Context["oom"] != true || !strings.Contains(e.Message, "of 256; ") {
		t.Errorf("a leak ends with %v, context %v; want the memory of its container", e, e.Context)
	}
	st := s.status(func(st slotproto.Status) bool { return st.Ready == 2 })
	if st.Exits["memory"] != 1 || st.Crashed != 1 || st.Spawned != 3 {
		t.Errorf("exits %v, crashed %d, spawned %d; want one for its memory, 1, 3", st.Exits, st.Crashed, st.Spawned)
	}
	data.call("pid")
}

// fails calls what must fail.
func (d *dataConnection) fails(command, arguments string) (e pool.Error) {
	d.Helper()
	d.id++
	f := frame.Frame{Kind: frame.Request, ID: d.id, Meta: []byte(command), Payload: []byte(arguments)}
	err := d.writer.Write(&f)
	if err := errors.Join(err, d.reader.Read(&f)); err != nil {
		d.Fatal(err)
	}
	if f.Kind != frame.Error || json.Unmarshal(f.Payload, &e) != nil {
		d.Fatalf("%s: kind %d, %s", command, f.Kind, f.Payload)
	}
	return e
}
