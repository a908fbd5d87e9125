package worker

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// scratch is a guarded folder, and processes that write to it.
type scratch struct {
	*testing.T
	dir   string
	host  *Host
	guard *filesGuard
}

func newScratch(t *testing.T, limit uint64) *scratch {
	t.Helper()
	s := &scratch{T: t, dir: t.TempDir(), host: openHost(t)}
	s.guard = &filesGuard{host: s.host, limit: limit, folders: []string{s.dir}, entries: mostEntries, baseline: map[*process]uint64{}}
	t.Cleanup(func() {
		for _, p := range s.host.processes() {
			p.signalGroup(syscall.SIGKILL)
			<-p.done
		}
	})
	return s
}

// runs starts a shell in the folder and returns once it has done what the script says; then it sleeps.
func (s *scratch) runs(script string) *process {
	s.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		s.Fatal(err)
	}
	defer read.Close()
	p, err := s.host.start([]string{"/bin/sh", "-c", script + "; exec 9>&-; sleep 1000"}, &syscall.ProcAttr{
		Dir: s.dir, Env: os.Environ(), Sys: &syscall.SysProcAttr{Setpgid: true},
		Files: []uintptr{0, 1, 2, 3: 0, 4: 0, 5: 0, 6: 0, 7: 0, 8: 0, 9: write.Fd()},
	})
	_ = write.Close()
	if err != nil {
		s.Fatal(err)
	}
	_, _ = read.Read(make([]byte, 1)) // ends when the shell closes its end
	return p
}

func (s *scratch) write(name string, bytes int) {
	s.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), make([]byte, bytes), 0o600); err != nil {
		s.Fatal(err)
	}
}

func (s *scratch) has(name string) bool {
	_, err := os.Stat(filepath.Join(s.dir, name))
	return err == nil
}

func (p *process) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// P76: the process that holds most of the files ends, with its reason; what it leaves is removed, and nobody else's is.
func TestP76_WhoFillsTmpEnds(t *testing.T) {
	for name, script := range map[string]string{
		"a file":                  "exec 3>big; head -c 3000000 /dev/zero >&3",
		"a file without a name":   "exec 3>big; rm big; head -c 3000000 /dev/zero >&3",
		"a file of its child":     "(exec 3>big; head -c 3000000 /dev/zero >&3; exec 9>&-; sleep 1000) & while [ $(stat -c %s big 2>/dev/null || echo 0) != 3000000 ]; do :; done",
		"several, in a folder":    "mkdir d; exec 3>d/1 4>d/2; head -c 1500000 /dev/zero >&3; head -c 1500000 /dev/zero >&4",
		"behind a link to itself": "ln -s . loop; exec 3>big; head -c 3000000 /dev/zero >&3",
	} {
		t.Run(name, func(t *testing.T) {
			s := newScratch(t, 2<<20)
			other := s.runs("exec 3>lock; echo 1 >&3")
			if s.guard.look(time.Now()); !other.alive() {
				t.Fatal("a process was ended although there was room")
			}
			guilty := s.runs(script)
			s.guard.look(time.Now())
			<-guilty.done
			if o := guilty.exit.Overfill; o == nil || o.Used < 3000000 || o.Own < 2900000 || o.Limit != 2<<20 || guilty.exit.Reason() != "tmp" {
				t.Errorf("the process ended with %+v, of %+v", guilty.exit, o)
			}
			s.guard.look(time.Now())
			if s.has("big") || s.has("d/1") && s.has("d/2") {
				t.Error("its files are still there")
			}
			if !s.has("lock") || !other.alive() {
				t.Error("another process lost its file, or its life")
			}
		})
	}
}

// What processes have left that are gone is removed, and nobody ends for it.
func TestP76_NobodyEndsForFilesThatNobodyHas(t *testing.T) {
	s := newScratch(t, 2<<20)
	s.write("small", 1000)
	worker := s.runs("exec 3>lock; echo 1 >&3")
	s.guard.look(time.Now())
	for i := range 3 {
		s.write(fmt.Sprint("left", i), 1<<20)
	}
	s.guard.look(time.Now())
	if !worker.alive() || !s.has("lock") || !s.has("small") {
		t.Error("a process was ended, or a small file removed")
	}
	if found := walk([]string{s.dir}, mostEntries); found.bytes > 1<<20+64<<10 {
		t.Errorf("%d bytes are left, want half of the limit", found.bytes)
	}
}

// However small files are, too many are too many: looking at them has its price.
func TestP76_TooManyFiles(t *testing.T) {
	s := newScratch(t, 1<<30)
	s.guard.entries = 40
	for i := range 50 {
		s.write(fmt.Sprint("f", i), 1)
	}
	for range 3 {
		s.guard.look(time.Now())
	}
	left, err := os.ReadDir(s.dir)
	if err != nil || len(left) > 40 || len(left) == 0 {
		t.Errorf("%d files are left, %v; want at most 40, and not none", len(left), err)
	}
}

// A volume that is mounted below isn't the folder's: the user's own data is neither counted nor removed.
func TestP76_WhatIsMountedBelowIsLeftAlone(t *testing.T) {
	s := newScratch(t, 1<<20)
	mounted := filepath.Join(s.dir, "models")
	if err := os.Mkdir(mounted, 0o755); err != nil {
		t.Fatal(err)
	}
	source := t.TempDir()
	if err := os.WriteFile(filepath.Join(source, "weights"), make([]byte, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount(source, mounted, "", syscall.MS_BIND, ""); err != nil {
		t.Skipf("mounting takes more rights than this test has: %v", err)
	}
	defer func() { _ = syscall.Unmount(mounted, 0) }()
	s.guard.look(time.Now())
	if !s.has("models/weights") {
		t.Error("a file of a mounted volume was removed")
	}
	if found := walk([]string{s.dir}, mostEntries); found.bytes >= 1<<20 {
		t.Errorf("%d bytes are counted, with those of the mounted volume", found.bytes)
	}
}

// The caller is told what happened, with figures and the field that bounds it.
func TestP76_ErrorOfAWorkerThatFilledTmp(t *testing.T) {
	w := &Worker{id: "a-00001", spec: &Spec{Pool: "summarizer"}}
	e := w.overfillError(Overfill{Own: 900 << 20, Used: 1100 << 20, Limit: 1 << 30}, "render", 1)
	for _, want := range []string{"pool summarizer was ended during command render", "900 MiB in files below /tmp", "1100 MiB of 1024", "spec.worker.tmp.sizeLimit"} {
		if !strings.Contains(e.Message, want) {
			t.Errorf("message %q lacks %q", e.Message, want)
		}
	}
	if e.Type != pool.PortExited || !e.Sent || e.Context["tmp_bytes"] != uint64(1100<<20) || e.Context["limit_bytes"] != uint64(1<<30) {
		t.Errorf("%s, sent %v, %v", e.Type, e.Sent, e.Context)
	}
	boot := (&Spec{Module: "m"}).endedEarly(Exit{Overfill: &Overfill{Used: 2 << 30, Limit: 1 << 30}}, "")
	if !strings.Contains(boot.Message, "2048 MiB of at most 1024") || !strings.Contains(boot.Message, "spec.worker.tmp.sizeLimit") {
		t.Errorf("at import: %q", boot.Message)
	}
}
