//go:build integration

package apiserver

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Hang makes the server answer nothing, with all its connections as they are, until wake is called or the test ends.
func (s *Server) Hang(t *testing.T) (wake func()) {
	t.Helper()
	pid, err := childNamed("kube-apiserver")
	if err != nil {
		t.Fatal(err)
	}
	signal := func(what syscall.Signal) {
		if err := syscall.Kill(pid, what); err != nil {
			t.Errorf("the API server: %v", err)
		}
	}
	wake = func() { signal(syscall.SIGCONT) }
	t.Cleanup(wake)
	signal(syscall.SIGSTOP)
	return wake
}

// childNamed finds a child of this process by its program's name.
func childNamed(name string) (int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(text), "("+name+") ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == strconv.Itoa(os.Getpid()) {
			return strconv.Atoi(filepath.Base(filepath.Dir(path)))
		}
	}
	return 0, fmt.Errorf("this process has no child %s", name)
}
