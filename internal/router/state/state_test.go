package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
)

// valid returns a snapshot with a canary at 10 %.
func valid() *controlpb.Snapshot {
	slot := func(name, hash, version string) *controlpb.Slot {
		return &controlpb.Slot{Name: name, Size: 4, Revision: &controlpb.Revision{
			Hash: hash, Version: version, Module: "summarizer.commands",
			Env: []*controlpb.EnvVar{{Name: "MODE", Value: "fast"}},
		}}
	}
	return &controlpb.Snapshot{
		Epoch: 7, Sequence: 3, Slots: []*controlpb.Slot{slot("a", "r1", "v1"), slot("b", "r2", "v2")},
		Stable: "a", Canary: "b", CanaryWeight: 1000, Limits: &controlpb.Limits{QueueLimit: 10, CheckoutMs: 5000},
	}
}

func TestO44_OrderOfSnapshots(t *testing.T) {
	for name, test := range map[string]struct {
		next, inForce Position
		fine          bool
	}{
		"first":                       {Position{7, 1}, Position{}, true},
		"same again":                  {Position{7, 3}, Position{7, 3}, true},
		"next in its epoch":           {Position{7, 4}, Position{7, 3}, true},
		"older in its epoch":          {Position{7, 2}, Position{7, 3}, false},
		"new leader starts at 1":      {Position{8, 1}, Position{7, 300}, true},
		"old leader is far ahead":     {Position{7, 301}, Position{8, 1}, false},
		"a leader without an epoch":   {Position{0, 5}, Position{}, false},
		"epochs skip, as leases do":   {Position{90000, 1}, Position{7, 3}, true},
		"sequence 0 of the new epoch": {Position{8, 0}, Position{7, 3}, true},
	} {
		t.Run(name, func(t *testing.T) {
			err := CheckOrder(test.next, test.inForce)
			if (err == nil) != test.fine || (err != nil && !errors.Is(err, ErrRefused)) {
				t.Errorf("%v after %v: %v", test.next, test.inForce, err)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	if err := Validate(valid()); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		spoil func(*controlpb.Snapshot)
		want  string // part of the message; empty: it is fine
	}{
		"idle slot":             {func(s *controlpb.Snapshot) { s.Slots[1].Revision, s.Canary, s.CanaryWeight = nil, "", 0 }, ""},
		"canary at full weight": {func(s *controlpb.Snapshot) { s.CanaryWeight = 10_000 }, ""},
		"one slot":              {func(s *controlpb.Snapshot) { s.Slots = s.Slots[:1] }, "wanted exactly a and b"},
		"two of a":              {func(s *controlpb.Snapshot) { s.Slots[1].Name = "a" }, "wanted exactly a and b"},
		"no stable":             {func(s *controlpb.Snapshot) { s.Stable = "" }, `stable is slot ""`},
		"idle stable":           {func(s *controlpb.Snapshot) { s.Slots[0].Revision = nil }, `stable is slot "a"`},
		"idle canary":           {func(s *controlpb.Snapshot) { s.Slots[1].Revision = nil }, `canary is slot "b"`},
		"canary is the stable":  {func(s *controlpb.Snapshot) { s.Canary = "a" }, `canary is slot "a"`},
		"unknown canary":        {func(s *controlpb.Snapshot) { s.Canary = "c" }, `canary is slot "c"`},
		"weight, no canary":     {func(s *controlpb.Snapshot) { s.Canary = "" }, "no canary"},
		"weight over 100 %":     {func(s *controlpb.Snapshot) { s.CanaryWeight = 10_001 }, "at most 10000"},
		"unknown version":       {func(s *controlpb.Snapshot) { s.Slots[1].Revision.Version = "v3" }, `"v3" is neither v1 nor v2`},
		"size 0":                {func(s *controlpb.Snapshot) { s.Slots[0].Size = 0 }, "slot a: size is 0"},
		"match":                 {matching("summarize"), ""},
		"match of nothing":      {matching(), "names nothing"},
		"match of a nobody":     {matching(""), "a name of 0 bytes among the commands"},
		"match of a long name":  {matching(strings.Repeat("n", 257)), "a name of 257 bytes"},
		"match of too many":     {matching(make([]string, 101)...), "101 commands, at most 100"},
		"too many programs": {func(s *controlpb.Snapshot) {
			s.Match = &controlpb.Match{Programs: make([]string, 101)}
		}, "101 programs, at most 100"},
		"unknown stickiness": {func(s *controlpb.Snapshot) { s.Stickiness = 7 }, "stickiness 7"},
		"sticky sessions":    {func(s *controlpb.Snapshot) { s.Stickiness = controlpb.Stickiness_STICKINESS_SESSION }, ""},
		"token": {func(s *controlpb.Snapshot) {
			s.Trip = &controlpb.TripRule{Token: strings.Repeat("t", 257)}
		}, "trip token has 257 bytes"},
		"no module": {func(s *controlpb.Snapshot) { s.Slots[0].Revision.Module = "" }, "no hash or no module"},
	} {
		t.Run(name, func(t *testing.T) {
			s := valid()
			test.spoil(s)
			err := Validate(s)
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want a refusal with %q", err, test.want)
			}
		})
	}
}

func matching(commands ...string) func(*controlpb.Snapshot) {
	return func(s *controlpb.Snapshot) { s.Match = &controlpb.Match{Commands: commands} }
}

func TestParseBootstrap(t *testing.T) {
	const good = `{"slots":[{"name":"a","revision":{"hash":"r1","version":"v1","module":"m"},"size":4},{"name":"b"}],` +
		`"stable":"a","limits":{"queueLimit":10,"checkoutMs":"5000"},"fieldOfALaterOperator":1}`
	s, err := ParseBootstrap([]byte(good))
	if err != nil || s.GetSlots()[0].GetSize() != 4 || s.GetLimits().GetCheckoutMs() != 5000 {
		t.Fatalf("%v, %v", s, err)
	}
	for name, text := range map[string]string{
		"empty":     "",
		"no JSON":   "{",
		"epoch":     `{"epoch":"3",` + good[1:],
		"no stable": `{"slots":[{"name":"a"},{"name":"b"}]}`,
	} {
		if _, err := ParseBootstrap([]byte(text)); err == nil || !strings.Contains(err.Error(), "bootstrap") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestO42_StoreKeepsTheLastSnapshot(t *testing.T) {
	dir := t.TempDir()
	if s, err := NewStore(dir).Load(); s != nil || err != nil {
		t.Fatalf("an empty folder holds %v, %v", s, err)
	}
	want := valid()
	for want.Sequence = range uint64(5) {
		if err := NewStore(dir).Save(want); err != nil {
			t.Fatal(err)
		}
	}
	got, err := NewStore(dir).Load()
	if diff := cmp.Diff(want, got, protocmp.Transform()); err != nil || diff != "" {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("the folder holds %v, %v", entries, err)
	}
	if info, err := entries[0].Info(); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v: the workers' environment is in it", info.Mode(), err)
	}
}

func TestLoadRemovesWhatCrashedSavesLeft(t *testing.T) {
	dir := t.TempDir()
	if err := NewStore(dir).Save(valid()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"snapshot.123.tmp", "snapshot.456.tmp", "somebody-elses"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("half a snap"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if s, err := NewStore(dir).Load(); s == nil || err != nil {
		t.Errorf("%v, %v", s, err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	want := []string{filepath.Join(dir, "snapshot"), filepath.Join(dir, "somebody-elses")}
	if diff := cmp.Diff(want, names); err != nil || diff != "" {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
}

func TestStoreRefusesWhatIsTornOrCorrupt(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, fileName)
	if err := NewStore(dir).Save(valid()); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	spoilt := map[string][]byte{"empty": {}, "another layout": append([]byte("workerpool-snapshot 2\n"), whole[len(magic):]...)}
	for n := 1; n < len(whole); n += 7 {
		spoilt[fmt.Sprint("torn at ", n)] = whole[:n]
		flipped := append([]byte(nil), whole...)
		flipped[n] ^= 0x40
		spoilt[fmt.Sprint("bit flipped at ", n)] = flipped
	}
	for name, text := range spoilt {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := NewStore(dir).Load(); err == nil || s != nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
}

func TestStoreWithoutAFolderKeepsNothing(t *testing.T) {
	st := NewStore("")
	if err := st.Save(valid()); err != nil {
		t.Fatal(err)
	}
	if s, err := st.Load(); s != nil || err != nil {
		t.Errorf("%v, %v", s, err)
	}
}

func TestStoreSaysWhereItCouldNotKeep(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	if err := NewStore(missing).Save(valid()); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("got %v", err)
	}
}

// FuzzDecode: whatever is on disk, a router starts.
func FuzzDecode(f *testing.F) {
	body, err := proto.Marshal(valid())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(append([]byte(nil), magic...), body...))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, text []byte) {
		if s, err := decode(text); err == nil && Validate(s) != nil {
			t.Errorf("decoded a snapshot that isn't valid: %v", s)
		}
	})
}
