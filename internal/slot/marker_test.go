package slot_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dspex/workerpool-operator/internal/slot"
)

func TestP82_MarkerIsThisSlotsOfThisPod(t *testing.T) {
	socket := tempSocket(t)
	first, err := slot.Marker("a", socket)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := slot.Marker("a", socket); err != nil || again != first {
		t.Errorf("after a restart: %q, %v; want %q", again, err, first)
	}
	if other, err := slot.Marker("a", tempSocket(t)); err != nil || other == first {
		t.Errorf("another pod's slot has the marker %q too (%v)", other, err)
	}
	if !strings.HasPrefix(first, "a-") {
		t.Errorf("marker %q doesn't name its slot", first)
	}
	info, err := os.Stat(socket + ".id")
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Errorf("mode %v, want 0600", mode)
	}
}

func TestP82_MarkerThatIsDamagedIsReplaced(t *testing.T) {
	socket := tempSocket(t)
	if err := os.WriteFile(socket+".id", []byte("12"), 0o600); err != nil {
		t.Fatal(err)
	}
	first, err := slot.Marker("a", socket)
	if err != nil || first == "a-12" {
		t.Fatalf("marker %q, %v", first, err)
	}
	if again, err := slot.Marker("a", socket); err != nil || again != first {
		t.Errorf("after a restart: %q, %v; want %q", again, err, first)
	}
}

func TestP82_MarkerThatCannotBeKeptIsUniqueAllTheSame(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "missing", "s.sock")
	first, err := slot.Marker("a", socket)
	if err == nil {
		t.Fatal("no error although the id can't be kept")
	}
	if again, _ := slot.Marker("a", socket); again == first || len(first) != len("a-")+32 {
		t.Errorf("markers %q, %q; want two that differ", first, again)
	}
}
