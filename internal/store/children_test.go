package store

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// children are what this test's binary does when it is started with STORE_TEST_CHILD: its exit status.
var children = map[string]func() int{"writer": writer, "full-disk": fullDisk}

func child(t *testing.T, role, dir string) *exec.Cmd {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0])
	c.Env = append(os.Environ(), "STORE_TEST_CHILD="+role, "STORE_TEST_DIR="+dir)
	c.Stderr = os.Stderr
	return c
}

func childOptions(dir string) Options {
	return Options{Dir: dir, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Now: time.Now}
}

const writers = 4

// writer makes changes from several goroutines until it is killed, and says which are done.
func writer() int {
	s, err := Open(childOptions(os.Getenv("STORE_TEST_DIR")))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for {
				id := newID()
				text := strings.Repeat(id, rand.IntN(400))
				if _, err := s.UpdateSession(id, fmt.Appendf(nil, `{"text": %q}`, text), nil); err != nil {
					fmt.Println(err)
					return
				}
				if _, err := s.CreateProgram(NewProgram{ID: "p", Session: id, Command: "c"}); err != nil {
					fmt.Println(err)
					return
				}
				fmt.Println(id, len(text)) // one write: whole lines arrive
				if rand.IntN(3) == 0 {
					if err := s.EndSession(id); err != nil {
						fmt.Println(err)
						return
					}
					fmt.Println(id, "ended")
				}
			}
		})
	}
	all.Wait()
	return 1
}

// P70: what the router said is done is there after it was killed at any moment, and nothing is half there.
func TestP70_KillNine(t *testing.T) {
	b := newBench(t)
	done := map[string]string{} // session → length of its text, or "ended"
	unsaid := map[string]bool{}
	for round := range 6 {
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		collect(t, b.opts.Dir, 100+50*round, done)
		b.Store = nil
		b.reopen()
		if b.log.Len() > 0 {
			t.Fatalf("round %d: %s", round, b.log)
		}
		for id, length := range done {
			checkKept(t, b, id, length, unsaid)
		}
		if most := writers * (round + 1); len(unsaid) > most {
			t.Fatalf("%d sessions are gone, and at most %d were being ended when their writer was killed", len(unsaid), most)
		}
	}
	t.Logf("%d sessions answered for in 6 rounds; %+v", len(done), b.Stats())
}

// collect lets a child write until it has answered for some changes, kills it, and reads what it said.
func collect(t *testing.T, dir string, answers int, done map[string]string) {
	t.Helper()
	c := child(t, "writer", dir)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for n := 0; lines.Scan(); n++ {
		if n == answers {
			if err := c.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		id, what, ok := strings.Cut(lines.Text(), " ")
		if !ok || len(id) != 26 {
			t.Fatalf("the child says: %s", lines.Text())
		}
		done[id] = what
	}
	_, _ = io.Copy(io.Discard, out)
	var ended *exec.ExitError
	if err := c.Wait(); !errors.As(err, &ended) || ended.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the child ended by itself: %v", err)
	}
}

// checkKept looks for a session as it was answered for. One that was about to be ended may be gone.
func checkKept(t *testing.T, b *bench, id, length string, unsaid map[string]bool) {
	t.Helper()
	s, err := b.Session(id)
	if length == "ended" {
		refused(t, err, pool.SessionNotFound)
		return
	}
	if err != nil {
		refused(t, err, pool.SessionNotFound)
		if _, err := b.Program(id, "p"); err == nil {
			t.Fatalf("of session %s a program is left", id)
		}
		unsaid[id] = true
		return
	}
	var data struct{ Text string }
	if err := json.Unmarshal(s.Data, &data); err != nil || fmt.Sprint(len(data.Text)) != length {
		t.Fatalf("session %s has %d bytes of text, want %s (%v)", id, len(data.Text), length, err)
	}
	if _, err := b.Program(id, "p"); err != nil {
		t.Fatal(err)
	}
}

// A full disk, on a small tmpfs in a mount namespace of the child's own.
func TestFullDisk(t *testing.T) {
	c := child(t, "full-disk", t.TempDir())
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := c.Output()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		t.Skipf("no user namespaces here: %v", err)
	}
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("%v", err)
	}
}

func fullDisk() int {
	dir := os.Getenv("STORE_TEST_DIR")
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=2m"); err != nil {
		fmt.Fprintln(os.Stderr, "mount:", err)
		return 1
	}
	if err := fillAndRecover(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// fillAndRecover writes until the disk is full; then everything is still there and used, things can be removed, and
// with room again added.
func fillAndRecover(dir string) error {
	s, err := Open(childOptions(dir))
	if err != nil {
		return err
	}
	add := func(id string) error {
		_, err := s.CreateProgram(NewProgram{
			ID: "p", Session: id, Command: "c", Inputs: fmt.Appendf(nil, `{"text": %q}`, strings.Repeat(id, 2000)),
		})
		return err
	}
	first, rest := filepath.Join(dir, "first"), filepath.Join(dir, "rest") // somebody else's
	if err := os.WriteFile(first, make([]byte, 256<<10), 0o600); err != nil {
		return err
	}
	n := 0
	for ; err == nil && n < 1000; n++ {
		err = add(fmt.Sprintf("s%03d", n))
	}
	n--
	if err := wantFull(err, "disk"); err != nil {
		return err
	}
	fmt.Printf("full after %d sessions: %v\n", n, err)
	// not a byte is left
	if err := fill(rest); err != nil {
		return err
	}
	check := func() error {
		for i := range n {
			id := fmt.Sprintf("s%03d", i)
			p, err := s.UseProgram(id, "p")
			if err != nil {
				return fmt.Errorf("on the full disk: %w", err)
			}
			if len(p.Inputs) < 8000 {
				return fmt.Errorf("%s has inputs of %d bytes", id, len(p.Inputs))
			}
			if _, err := s.Touch(id); err != nil {
				return err
			}
		}
		return nil
	}
	if err := check(); err != nil {
		return err
	}
	err = nil
	for ; err == nil && n < 1000; n++ { // what still fits into pages that the file has free
		err = add(fmt.Sprintf("s%03d", n))
	}
	n--
	if err := wantFull(err, "disk"); err != nil {
		return err
	}
	// a change copies the pages that it changes: even removing takes some, which the file has free or not
	last := fmt.Sprintf("s%03d", n-1)
	if err := s.EndSession(last); err == nil {
		n--
	} else if err := wantFull(err, "disk"); err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	if s, err = Open(childOptions(dir)); err != nil {
		return fmt.Errorf("open on the full disk: %w", err)
	}
	if err := check(); err != nil {
		return err
	}
	fmt.Printf("%+v\n", s.Stats())
	if err := removeAll(first, rest); err != nil {
		return err
	}
	if err := errors.Join(add("one-more"), s.EndSession("s000")); err != nil {
		return fmt.Errorf("with room again: %w", err)
	}
	if got := s.Stats(); got.Sessions != n {
		return fmt.Errorf("%+v, want %d sessions", got, n)
	}
	return s.Close()
}

func wantFull(err error, word string) error {
	var e *pool.Error
	if !errors.As(err, &e) || e.Type != pool.StoreFull || !strings.Contains(e.Message, word) {
		return fmt.Errorf("want store_full because of the %s, got %w", word, err)
	}
	return nil
}

// fill takes what is left of a disk.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	for err == nil {
		_, err = f.Write(make([]byte, 512))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		return err
	}
	return f.Close()
}
