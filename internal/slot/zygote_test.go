package slot_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/slot/slotproto"
)

// TestP8_AChangeOfRevisionWithZygotesShowsNoBootFailure: what cleans up after one pool's zygote must not hit the next one's.
func TestP8_AChangeOfRevisionWithZygotesShowsNoBootFailure(t *testing.T) {
	r := newRig(t, nil)
	control := r.connect(slotproto.Control, "i")
	cfg := r.config(func(c *slotproto.Config) { c.Worker.Preload = slotproto.PreloadZygote })
	for revision := range 4 {
		cfg.Revision = "r" + strconv.Itoa(revision)
		if err := control.configure(cfg); err != nil {
			t.Fatal(err)
		}
		control.await("the switch to "+cfg.Revision, func(s slotproto.Status) bool {
			if s.Boot != nil || s.ForkRefused != "" || s.Exits["boot"] > 0 || s.Crashed > 0 {
				t.Fatalf("on the way to %s: boot %+v, fork refused %q, exits %v, %d crashed", cfg.Revision, s.Boot, s.ForkRefused, s.Exits, s.Crashed)
			}
			return s.Revision == cfg.Revision && s.Ready == 1 && s.Spawned-s.Destroyed == 1
		})
	}
}

// TestP78_NoProcessOutlivesItsPool: neither a change of revision nor the slot's end leaves what a worker started and cut all
// ties with.
func TestP78_NoProcessOutlivesItsPool(t *testing.T) {
	folder, err := filepath.Abs("../pool/worker/testdata")
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, nil)
	control := r.connect(slotproto.Control, "i")
	cfg := r.config(func(c *slotproto.Config) {
		c.Worker.Module, c.Worker.WorkingDir, c.Worker.Preload = "detaching", folder, slotproto.PreloadZygote
		c.Worker.Concurrency = 2
	})
	leave := func() (pid int) {
		path := filepath.Join(t.TempDir(), "pid")
		if _, err := r.connect(slotproto.Data, "i").call("detach", args{"way": "daemon", "path": path}); err != nil {
			t.Fatal(err)
		}
		data, _ := os.ReadFile(path)
		pid, _ = strconv.Atoi(string(data))
		if pid == 0 || !lives(pid) {
			t.Fatal("no process was left: the test would show nothing")
		}
		return pid
	}
	gone := func(when string, pid int) {
		for until := time.Now().Add(patience); lives(pid); time.Sleep(time.Millisecond) {
			if time.Now().After(until) {
				t.Fatalf("process %d lives %s", pid, when)
			}
		}
	}
	if err := control.configure(cfg); err != nil {
		t.Fatal(err)
	}
	control.awaitReady(1)
	first := leave()
	cfg.Revision = "r2"
	if err := control.configure(cfg); err != nil {
		t.Fatal(err)
	}
	control.await("the switch", func(s slotproto.Status) bool { return s.Revision == "r2" && s.Ready == 1 })
	second := leave()
	gone("after its revision", first)
	r.end()
	gone("after its slot", second)
}

// lives is false for zombies.
func lives(pid int) bool {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, rest, _ := strings.Cut(string(data), ") ")
	return err == nil && !strings.HasPrefix(rest, "Z") && syscall.Kill(pid, 0) == nil
}
