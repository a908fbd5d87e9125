// Package pooltest is the contract that every pool.Pool keeps, as a suite of tests with real Python processes, and
// with scripted workers where thousands of operations or an exact order are needed.
package pooltest

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// Factory makes the pool under test.
type Factory func(ctx context.Context, name string, launch crew.Launch, limits pool.Limits, log *slog.Logger) pool.Pool

// name of every pool under test.
const name = "tested"

// patience is how long the suite waits for what must happen; nothing takes so long by design.
const patience = 20 * time.Second

// settings of a bench that differ where a pool is expected to fail.
type settings struct {
	patience time.Duration // with a pool whose workers are up; what a broken one never does is waited for so long
	up       func()        // called when they are
	forked   bool          // workers come from a zygote
	shared   bool          // workers serve several requests at the same time
}

// bench is what one test has: a pool of its own, and the proof at the end that nothing of it is left.
type bench struct {
	testing.TB
	settings
	version pool.Version
	factory Factory
	host    *worker.Host
	logs    *logCounter
	zygote  *worker.Zygote // nil: workers are spawned
	// unforkable says that the story keeps the zygote from forking.
	unforkable bool
	spec       worker.Spec
	limits     pool.Limits
}

// newBench fails the test when it ends with one goroutine, file descriptor or process more than it began with.
func newBench(t testing.TB, version pool.Version, factory Factory, set settings) *bench {
	spec := Spec(t)
	leaks := goleak.IgnoreCurrent()
	fds := openFDs(t)
	logs := &logCounter{}
	host, err := worker.NewHost(slog.New(logs))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		await(t, patience, "children gone", func() bool { return len(children(t)) == 0 })
		if err := host.Close(); err != nil {
			t.Error(err)
		}
		goleak.VerifyNone(t, leaks)
		await(t, patience, "file descriptors closed", func() bool { return openFDs(t) <= fds })
	})
	b := &bench{
		TB: t, settings: set, version: version, factory: factory, host: host, logs: logs,
		spec: spec,
		limits: pool.Limits{
			Size: 1, QueueLimit: 100, Checkout: set.patience, Operation: set.patience, Drain: set.patience,
		},
	}
	if set.shared {
		b.spec.Concurrency = 2 // at least, so that they are made so; a pool gives them one at a time unless a test says otherwise
	}
	if set.forked {
		b.zygote = worker.NewZygote(host, &b.spec, slog.New(logs))
		t.Cleanup(func() {
			b.zygote.Close()
			if refused := b.zygote.Refused(); refused != "" && !b.unforkable {
				t.Errorf("workers weren't forked: %s", refused)
			}
		})
	}
	return b
}

// interpreter is the real python3: on a developer's PATH it may be a slow shell script that finds it. Asking it is
// possible only while no Host is open.
var interpreter = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("python3", "-c", "import sys; print(sys.executable)").Output()
	return strings.TrimSpace(string(out)), err
})

// Spec makes real workers of the suite's fixture module. Call it before a Host is opened.
func Spec(t testing.TB) worker.Spec {
	t.Helper()
	python, err := interpreter()
	if err != nil {
		t.Fatalf("no Python for the tests: %v", err)
	}
	_, file, _, _ := runtime.Caller(0)
	here := filepath.Dir(file)
	return worker.Spec{
		Pool: name, Slot: "a", Python: python, Marker: filepath.Join(t.TempDir(), "a.sock"), Module: "fixture",
		PythonDir: filepath.Join(here, "..", "..", "..", "python"), WorkingDir: filepath.Join(here, "testdata"),
		Env: append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1"), InitTimeout: patience,
	}
}

// start makes a pool of real workers that is closed at the test's end.
func (b *bench) start() *subject { return b.startWith(b.launch) }

func (b *bench) launch() (crew.Worker, error) {
	start := func() (*worker.Worker, error) { return worker.Launch(b.host, &b.spec) }
	if b.zygote != nil {
		start = b.zygote.Launch
	}
	w, err := start()
	if err != nil {
		return nil, err
	}
	if b.shared {
		return worker.NewShared(w), nil
	}
	return w, nil
}

func (b *bench) startWith(launch crew.Launch) *subject {
	s := &subject{bench: b, Pool: b.factory(b.Context(), name, launch, b.limits, slog.New(b.logs))}
	b.Cleanup(func() { s.end() })
	return s
}

// ready starts a pool and waits until all its workers can serve.
func (b *bench) ready() *subject {
	b.Helper()
	s := b.start()
	s.awaitUp(b.limits.Size)
	return s
}

// subject is the pool under test.
type subject struct {
	*bench
	pool.Pool
}

func (s *subject) end() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.Context()), patience)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		s.Errorf("Close: %v", err)
	}
}

// Close ends the zygote first, as a slot does.
func (s *subject) Close(ctx context.Context) error {
	if s.zygote != nil {
		s.zygote.Close()
	}
	return s.Pool.Close(ctx)
}

func (s *subject) awaitReady(n int) {
	s.Helper()
	s.await("ready workers", func(st pool.Stats) bool { return st.Ready == n && st.Starting == 0 && st.Busy == 0 })
}

// awaitUp waits for a pool's first workers: on a busy machine their starts take longer than anything that follows.
func (s *subject) awaitUp(n int) {
	s.Helper()
	await(s, patience, "first workers", func() bool { return s.Stats().Ready == n })
	s.up()
}

// await polls Stats: a pool's Changed doesn't tell of every figure.
func (s *subject) await(what string, done func(pool.Stats) bool) {
	s.Helper()
	s.until(what, func() bool { return done(s.Stats()) })
}

// until polls whatever has no event.
func (b *bench) until(what string, done func() bool) {
	b.Helper()
	await(b, b.patience, what, done)
}

func await(t testing.TB, patience time.Duration, what string, done func() bool) {
	t.Helper()
	for until := time.Now().Add(patience); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("waited %s for: %s", patience, what)
		}
	}
}

type args map[string]any

// call runs a command and returns its result.
func (s *subject) call(command string, a args) (any, *pool.Error) {
	return s.callAs(s.Context(), command, a, time.Time{})
}

func (s *subject) callAs(ctx context.Context, command string, a args, deadline time.Time) (any, *pool.Error) {
	return s.request(ctx, pool.Request{Command: command, Deadline: deadline}, a)
}

func (s *subject) request(ctx context.Context, req pool.Request, a args) (any, *pool.Error) {
	if a == nil {
		a = args{}
	}
	payload, err := json.Marshal(a)
	if err != nil {
		s.Error(err)
	}
	req.Payload = payload
	reply, err := s.Do(ctx, req)
	if err != nil {
		return nil, s.fourParts(err)
	}
	var v any
	if err := json.Unmarshal(reply.Payload, &v); err != nil {
		s.Errorf("reply %q: %v", reply.Payload, err)
	}
	return v, nil
}

// must runs a command that has to succeed.
func (s *subject) must(command string, a args) any {
	s.Helper()
	v, err := s.call(command, a)
	if err != nil {
		s.Fatalf("%s: %v", command, err)
	}
	return v
}

// pid asks a worker who it is.
func (s *subject) pid() int {
	s.Helper()
	pid, ok := s.must("pid", nil).(float64)
	if !ok {
		s.Fatal("the worker has no pid")
	}
	return int(pid)
}

// wants checks category and type of a failure.
func (s *subject) wants(err *pool.Error, c pool.Category, t pool.Type) {
	s.Helper()
	if err == nil {
		s.Fatalf("succeeded; want %s/%s", c, t)
	}
	if err.Category != c || err.Type != t {
		s.Fatalf("failed with %v; want %s/%s", err, c, t)
	}
}

// fourParts checks what P45 asks of every failure of the whole suite.
func (s *subject) fourParts(err error) *pool.Error {
	e, ok := err.(*pool.Error) //nolint:errorlint // the contract: Do returns a *pool.Error itself
	if !ok {
		s.Fatalf("failed with a %T, not a *pool.Error: %v", err, err)
	}
	if e.Category == "" || e.Type == "" || e.Message == "" || e.Context["pool"] != name {
		s.Errorf("one of the four parts is missing: %+v", e)
	}
	return e
}

// children returns the pids of this process's children, zombies too.
func children(t testing.TB) (pids []int) {
	t.Helper()
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		data, _ := os.ReadFile(task)
		for _, field := range strings.Fields(string(data)) {
			pid, _ := strconv.Atoi(field)
			pids = append(pids, pid)
		}
	}
	return pids
}

func openFDs(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// workers returns the pids of children that serve, or will.
func (b *bench) workers() []int {
	b.Helper()
	return slices.DeleteFunc(children(b), func(pid int) bool { return b.zygote != nil && pid == b.zygote.PID() })
}

// alive tells whether a process exists and isn't a zombie.
func alive(pid int) bool {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}
