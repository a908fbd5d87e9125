package worker

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

func TestAddMemory(t *testing.T) {
	u := Usage{PSS: 1 << 10, USS: 1 << 10, Swap: 1 << 10}
	u.addMemory([]byte(`55d0-7ffe ---p 00000000 00:00 0                          [rollup]
Rss:              175000 kB
Pss:               60000 kB
Pss_Anon:          50000 kB
Shared_Clean:     100000 kB
Private_Clean:      3000 kB
Private_Dirty:     20000 kB
Swap:                 10 kB
SwapPss:               5 kB
Private_Hugetlb:    2048 kB
Locked:                0 kB
`))
	if want := (Usage{PSS: 60001 << 10, USS: 25049 << 10, Swap: 11 << 10}); u != want {
		t.Errorf("%+v, want %+v", u, want)
	}
	if got, want := u.Own(), uint64(25060<<10); got != want {
		t.Errorf("%d bytes of its own, want %d: what it shares isn't", got, want)
	}
}

func TestReadStat(t *testing.T) {
	dir := t.TempDir()
	text := "42 (a) S 1 (b) R 7 41 41 0 -1 4194304 100 0 0 0 150 25 10 5 20 0 1 0 12345 1000 200\n"
	if err := os.WriteFile(filepath.Join(dir, "stat"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, ok := readStat(dir); !ok || s.group != 41 || s.cpu != 1900*time.Millisecond {
		t.Errorf("%+v, %v; want group 41 and 1.9 s", s, ok)
	}
	if _, ok := readStat(filepath.Join(dir, "gone")); ok {
		t.Error("a process that is gone has figures")
	}
}

// TestP86_P98_ForkSharesMemory has two processes of a group that share most of what each shows as resident.
func TestP86_P98_ForkSharesMemory(t *testing.T) {
	const size = 64 << 20
	script := `
import gc, os, sys
kept = bytearray(b"x") * ` + strconv.Itoa(size) + `
pid = os.fork()
if pid == 0:
    os.write(1, b"r\n")
sys.stdin.read()
`
	cmd := exec.Command("python3", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = in.Close()
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	}()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	pids := (&Groups{}).of(cmd.Process.Pid)
	var group Usage
	for _, pid := range pids {
		group.add(pid)
	}
	if rss := ResidentMemory(cmd.Process.Pid); len(pids) != 2 || rss < size {
		t.Fatalf("processes %v, %d MB resident in the first; want 2, more than %d", pids, rss>>20, size>>20)
	}
	if group.PSS < size || group.PSS > 2*size || group.USS > size/2 || group.USS == 0 || group.FDs < 6 || group.CPU <= 0 {
		t.Errorf("%+v; want the %d MB once as PSS, hardly any as USS, at least 3 files each, and CPU time", group, size>>20)
	}
}
