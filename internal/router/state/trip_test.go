package state

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/workerpool-operator/internal/router/trip"
)

func TestStoreKeepsTheTrip(t *testing.T) {
	dir := t.TempDir()
	store := NewStore(dir)
	if got, err := store.LoadTrip(); got != nil || err != nil {
		t.Fatalf("an empty folder holds %v, %v", got, err)
	}
	if err := store.SaveTrip(nil); err != nil {
		t.Fatalf("forgetting none: %v", err)
	}
	want := &trip.Trip{
		Revision: "r2", Token: "again", Reason: trip.ByHand, Message: "wrong answers", At: time.Unix(1_800_000_000, 0).UTC(),
	}
	if err := store.SaveTrip(want); err != nil {
		t.Fatal(err)
	}
	if err := store.Save(valid()); err != nil { // the two don't disturb each other
		t.Fatal(err)
	}
	got, err := NewStore(dir).LoadTrip()
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	info, err := os.Stat(filepath.Join(dir, tripFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := store.SaveTrip(nil); err != nil {
		t.Fatal(err)
	}
	if got, err := store.LoadTrip(); got != nil || err != nil {
		t.Errorf("a trip that is over comes back: %v, %v", got, err)
	}
}

func TestTripThatCanNotBeRead(t *testing.T) {
	dir := t.TempDir()
	if err := NewStore(dir).SaveTrip(&trip.Trip{Revision: "r2"}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, tripFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		text []byte
		want string
	}{
		"torn":         {whole[:len(whole)-2], "torn or corrupt"},
		"empty":        {nil, "don't begin like a trip"},
		"no JSON":      {seal(tripMagic, []byte("{")), "can't be read"},
		"of no canary": {seal(tripMagic, []byte("{}")), "about no revision"},
	} {
		if err := os.WriteFile(path, test.text, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := NewStore(dir).LoadTrip()
		if got != nil || err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, %v; want an error with %q", name, got, err, test.want)
		}
	}
}
