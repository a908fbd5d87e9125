package worker

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// orphan makes one that runs the script, and returns its pid. Its parent ends once it is out of the parent's
// group, and the script begins after that.
func (h *Host) orphan(t *testing.T, script string) (pid int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pid")
	<-h.shell(t, "setsid sh -c 'echo $$ > "+file+"; while [ -d /proc/$0 ]; do :; done; "+script+"' $$ & while [ ! -s "+file+" ]; do :; done").done
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, _ = strconv.Atoi(strings.TrimSpace(string(data)))
	return pid
}

func TestP104_AnOrphansStatusIsKeptForItsAdoption(t *testing.T) {
	h := openHost(t)
	release := h.expectOrphan()
	pid := h.orphan(t, "exit 7")
	await(t, "the orphan reaped", func() bool {
		h.starting.Lock()
		defer h.starting.Unlock()
		_, kept := h.orphans[pid]
		return kept
	})
	p, err := h.adopt(pid)
	if err != nil {
		t.Fatal(err)
	}
	<-p.done
	if p.exit.Code != 7 || p.signal(0) {
		t.Errorf("an orphan that had ended %s, and can be signalled", p.exit)
	}
	release()
	if len(h.orphans) > 0 {
		t.Errorf("statuses of %v are kept for nobody", h.orphans)
	}
}

func TestP104_ALiveOrphanIsWaitedFor(t *testing.T) {
	h := openHost(t)
	defer h.expectOrphan()()
	p, err := h.adopt(h.orphan(t, "exec sleep 600"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.adopt(p.pid); err == nil {
		t.Error("it was adopted twice")
	}
	p.signalGroup(9)
	<-p.done
	if p.exit.Signal != 9 {
		t.Errorf("it %s", p.exit)
	}
}

func TestP81_NoStrangerIsAdopted(t *testing.T) {
	h := openHost(t)
	for _, pid := range []int{-1, 0, 1, os.Getpid(), os.Getppid()} {
		if _, err := h.adopt(pid); err == nil {
			t.Errorf("process %d was adopted", pid)
		}
	}
}

func TestP104_ZygotesAreStartedAgainWithBackOff(t *testing.T) {
	start := time.Unix(1000, 0)
	soon, late := start.Add(time.Second), start.Add(zygoteProven)
	for name, tc := range map[string]struct {
		record zygoteRecord
		at     time.Time
		wait   time.Duration
	}{
		"first death":           {zygoteRecord{}, soon, 500 * time.Millisecond},
		"third in a row":        {zygoteRecord{deaths: 2}, soon, 2 * time.Second},
		"hundredth in a row":    {zygoteRecord{deaths: 99}, soon, 30 * time.Second},
		"after it had lived on": {zygoteRecord{deaths: 99}, late, 500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			r := tc.record
			r.died(start, tc.at)
			if wait := r.notBefore.Sub(tc.at); wait != tc.wait {
				t.Errorf("waits %s, want %s", wait, tc.wait)
			}
			if r.mayStart(tc.at.Add(tc.wait-1)) || !r.mayStart(tc.at.Add(tc.wait)) {
				t.Error("it may not be started exactly then")
			}
		})
	}
	if refused := (zygoteRecord{refused: "a thread"}); refused.mayStart(late) {
		t.Error("it may be started though forks aren't safe")
	}
}
