//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"testing"
)

// The demo's promises are this test's: it exits non-zero when one didn't hold. It runs first and alone, because it
// measures throughput.
func TestP14_P91_O15_O18_O67_O78_Demo(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "run", "./hack/demo")
	cmd.Dir, cmd.Stdout, cmd.Stderr = cluster.Path(), os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("the demo: %v", err)
	}
}
