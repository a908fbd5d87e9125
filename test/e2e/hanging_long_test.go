//go:build e2e && long

package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
)

// The API server hangs for longer than a leader may lead without it, just after a canary that fails everything got 30 %. The
// leader takes it off the traffic all the same, and the next one has that from the routers, and records it.
func TestLongO26_O37_TheAPIServerHangs(t *testing.T) {
	if cluster.Existing() {
		t.Skip("only a local cluster's API server is stopped")
	}
	const hanging = 25 * time.Second
	w := newWorld(t)
	apps, pods := w.canary(4)
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) {
		s.PoolVersion = v1alpha1.PoolV2
		s.Canary = &v1alpha1.Canary{Weight: new(intstr.FromInt32(30))}
		s.Analysis.MinSamples = new(int32(300)) // so that it is found out some seconds later
		env("FAIL_RATE", "1")(s)
	})
	server := process(t, "kube-apiserver")
	w.await("main", "at 30 %", func(p *v1alpha1.WorkerPool) bool { return p.Status.Weight.Applied == "30" })
	resume := func() { _ = syscall.Kill(server, syscall.SIGCONT) }
	t.Cleanup(resume)
	w.must(syscall.Kill(server, syscall.SIGSTOP))
	stopped := time.Now()
	time.Sleep(hanging) // nothing can be asked meanwhile
	resume()
	woke := time.Now()
	pool := w.rolledBack("main", "ErrorRateExceeded")
	recorded := time.Since(woke)
	w.offTraffic(apps)
	last, figures := pool.Status.LastRollback, w.end(apps)
	if last.Time.After(woke.Add(-hanging / 2)) {
		t.Errorf("decided at %s, want it well before the server answered again at %s", last.Time, woke)
	}
	t.Logf("of %d requests %d failed; it was taken off %.0f s after the server hung, and recorded %.1f s after it answered again",
		figures.Requests, figures.Versions["v2"].Errors, last.Time.Sub(stopped).Seconds(), recorded.Seconds())
	w.unchanged("main", pods)
}

// process finds the one of that name which the local cluster runs.
func process(t *testing.T, name string) int {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range lines {
		text, err := os.ReadFile(path)
		program, _, _ := strings.Cut(string(text), "\x00")
		if err != nil || !strings.HasPrefix(program, "/run/cluster/") || filepath.Base(program) != name {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			return pid
		}
	}
	t.Fatalf("the local cluster runs no %s on this machine", name)
	return 0
}
