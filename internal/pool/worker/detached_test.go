package worker_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// ways of detaching.py to cut a process's ties with its worker.
var ways = []string{"clean_environment", "own_session", "daemon", "grandchild_of_a_shell"}

// detaching makes a nursery's module one whose handlers leave processes behind.
func detaching(n *nursery) *nursery {
	n.spec.Module = "detaching"
	return n
}

// spawned returns a ready worker that isn't forked.
func (n *nursery) spawned() *child {
	n.Helper()
	w, err := worker.Launch(n.host, &n.spec)
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

// leave has the worker leave a process behind, in whatever way its command ends, and returns that.
func (c *child) leave(command, way string) (pid int) {
	c.Helper()
	path := filepath.Join(c.TempDir(), "pid")
	payload, _ := json.Marshal(map[string]any{"way": way, "path": path})
	deadline := time.Now().Add(patience)
	if command == "detach_and_hang" {
		ctx, cancel := context.WithCancel(c.Context())
		defer cancel()
		go func() {
			defer cancel()
			for !exists(path) && ctx.Err() == nil {
				time.Sleep(time.Millisecond)
			}
		}()
		out := c.RoundTrip(ctx, worker.Call{Command: command, Payload: payload, Deadline: deadline})
		c.Discard(out.Discard)
	} else {
		c.RoundTrip(c.Context(), worker.Call{Command: command, Payload: payload, Deadline: deadline})
	}
	data, _ := os.ReadFile(path)
	if pid, _ = strconv.Atoi(string(data)); pid == 0 {
		c.Fatalf("%s by %s left no process: the test would show nothing; the log:\n%s", command, way, c.log)
	}
	return pid
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestP78_NoProcessOutlivesItsWorkerWhateverItDid(t *testing.T) {
	all := detaching(newNursery(t))
	for name, tc := range map[string]struct {
		launch func(*nursery) *child
		ways   []string
	}{"spawned": {(*nursery).spawned, ways[2:3]}, "forked": {(*nursery).worker, ways}} {
		launch := tc.launch
		for _, way := range tc.ways {
			t.Run(name+"/"+way, func(t *testing.T) {
				n := all.beside(t)
				sibling := launch(n)
				stays := sibling.leave("detach", way)
				for command, end := range map[string]func(*child){
					"detach":           func(c *child) { c.Retire(worker.ReasonRecycled) },
					"detach_and_crash": func(*child) {},
					"detach_and_hang":  func(*child) {},
				} {
					w := launch(n)
					gone := w.leave(command, way)
					end(w)
					<-w.Gone()
					n.await("the end of what "+command+" left", func() bool { return !alive(gone) })
				}
				if !alive(stays) {
					t.Error("a process of a worker that lives was killed")
				}
				sibling.Kill(worker.ReasonClosed)
				<-sibling.Gone()
				n.await("the end of the sibling's", func() bool { return !alive(stays) })
			})
		}
	}
}

// TestP78_WhatIsntThePoolsStays has processes beside a worker that aren't its own when it ends: of the same user, of another
// slot, and an orphan that this process was given.
func TestP78_WhatIsntThePoolsStays(t *testing.T) {
	n := detaching(newNursery(t))
	path := filepath.Join(t.TempDir(), "orphan")
	orphaned := exec.Command("sh", "-c", "setsid sh -c 'echo $$ >"+path+".new; mv "+path+".new "+path+"; sleep 600' & exit 0")
	if err := orphaned.Start(); err != nil {
		t.Fatal(err)
	}
	n.await("the orphan", func() bool { return exists(path) })
	data, _ := os.ReadFile(path)
	orphan, _ := strconv.Atoi(strings.TrimSpace(string(data)))
	spec := n.spec
	n.spec.Marker += "-other"
	stranger := n.spawned()
	others := stranger.leave("detach", "daemon")
	n.spec = spec
	w := n.spawned()
	w.leave("detach", "daemon")
	w.Kill(worker.ReasonClosed)
	<-w.Gone()
	for pid, whose := range map[int]string{orphan: "an orphan of nobody's", others: "a process of another slot", stranger.PID(): "another slot's worker"} {
		if !alive(pid) {
			t.Errorf("%s was killed", whose)
		}
	}
	kill(orphan)
	n.await("the orphan's end", func() bool { return !alive(orphan) })
}

func kill(pid int) {
	if p, err := os.FindProcess(pid); err == nil {
		_ = p.Kill()
	}
}

func TestP82_DetachedProcessesOfAnEarlierSupervisorAreKilled(t *testing.T) {
	if folder := os.Getenv("DETACHING_SUPERVISOR"); folder != "" {
		n := detaching(newNursery(t))
		n.spec.Marker = os.Getenv("DETACHING_MARKER")
		left := fmt.Sprint(n.spawned().leave("detach", "daemon"), " ", n.worker().leave("detach", "own_session"))
		_ = os.WriteFile(folder+"/pids.new", []byte(left), 0o600)
		_ = os.Rename(folder+"/pids.new", folder+"/pids")
		select {}
	}
	folder, marker := t.TempDir(), "a-"+t.Name()+strconv.Itoa(os.Getpid())
	host, err := worker.NewHost(slog.New(slog.NewTextHandler(io.Discard, nil))) // so that orphans come here
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	self, err := os.StartProcess(os.Args[0], []string{os.Args[0], "-test.run", "^" + t.Name() + "$"}, &os.ProcAttr{
		Env: append(os.Environ(), "DETACHING_SUPERVISOR="+folder, "DETACHING_MARKER="+marker),
	})
	if err != nil {
		t.Fatal(err)
	}
	n := &nursery{TB: t, log: &lines{}}
	n.await("what the supervisor's workers left", func() bool { return exists(folder + "/pids") })
	_ = self.Kill()
	n.await("the supervisor's end", func() bool { return !alive(self.Pid) })
	data, _ := os.ReadFile(folder + "/pids")
	pids := strings.Fields(string(data))
	if got := host.KillLeftovers(marker + "x"); got != 0 {
		t.Errorf("%d leftovers of a slot that has none", got)
	}
	if got := host.KillLeftovers(marker); got < len(pids) {
		t.Errorf("found %d leftovers, at least %d were left", got, len(pids))
	}
	for _, text := range pids {
		pid, _ := strconv.Atoi(text)
		n.await("the end of "+text, func() bool { return !alive(pid) })
	}
}
