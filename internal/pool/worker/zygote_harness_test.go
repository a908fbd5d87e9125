package worker_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
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

// beside returns a nursery of the same host, so that tests can run side by side.
func (n *nursery) beside(t testing.TB, env ...string) *nursery {
	t.Helper()
	other := &nursery{TB: t, host: n.host, spec: n.spec, log: &lines{}}
	other.spec.Env = append(slices.Clone(n.spec.Env), env...)
	other.zygote = worker.NewZygote(n.host, &other.spec, slog.New(slog.NewTextHandler(other.log, nil)))
	t.Cleanup(other.zygote.Close)
	return other
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

// workers returns so many of them.
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

// call runs a command, whose result is decoded into result. It may be called by any goroutine.
func (c *child) call(command string, arguments map[string]any, result any) {
	c.Helper()
	payload, err := json.Marshal(arguments)
	if err != nil {
		c.Error(err)
		return
	}
	if arguments == nil {
		payload = []byte("{}")
	}
	out := c.RoundTrip(c.Context(), worker.Call{Command: command, Payload: payload, Deadline: time.Now().Add(patience)})
	if out.Err != nil {
		c.Errorf("%s: %v", command, out.Err)
		return
	}
	if result == nil {
		return
	}
	if err := json.Unmarshal(out.Payload, result); err != nil {
		c.Errorf("%s answered %s: %v", command, out.Payload, err)
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
