package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// filled returns a closed store's file: many small sessions, a few with large data, programs in both.
func filled(t testing.TB) (b *bench, file []byte) {
	b = newBench(t)
	for i := range 60 {
		id := fmt.Sprintf("s%02d", i)
		b.create(id, "p")
		b.create("", id)
		if i%10 == 0 {
			data := fmt.Sprintf(`{"text": %q}`, strings.Repeat(id, 5000))
			must[Session](t)(b.UpdateSession(id, []byte(data), nil))
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(b.file())
	if err != nil {
		t.Fatal(err)
	}
	return b, file
}

// opens the store on other bytes; the store must open, work, and say whether anything was damaged.
func (b *bench) openOn(file []byte) (damaged bool) {
	b.t.Helper()
	if err := os.WriteFile(b.file(), file, 0o600); err != nil {
		b.t.Fatal(err)
	}
	if err := removeAll(b.file() + tornSuffix); err != nil {
		b.t.Fatal(err)
	}
	b.log.Reset()
	b.Store = nil
	b.reopen()
	_, err := os.Stat(b.file() + tornSuffix)
	damaged = err == nil
	if logged := strings.Contains(b.log.String(), "was damaged"); logged != damaged {
		b.t.Fatalf("a damaged file is kept: %v, logged: %v: %s", damaged, logged, b.log)
	}
	b.works()
	return damaged
}

// works makes every kind of change, and reads all that is there.
func (b *bench) works() {
	b.t.Helper()
	for i := range 60 {
		id := fmt.Sprintf("s%02d", i)
		if s, err := b.Session(id); err == nil && len(s.Data) > 2 {
			var data struct{ Text string }
			if err := json.Unmarshal(s.Data, &data); err != nil || data.Text != strings.Repeat(id, 5000) {
				b.t.Fatalf("session %s came back with other data", id)
			}
		} else if err != nil {
			refused(b.t, err, pool.SessionNotFound)
		}
		if p, err := b.UseProgram(id, "p"); err == nil && (p.Session != id || string(p.Inputs) != `{"words":50}`) {
			b.t.Fatalf("program of session %s came back as %+v", id, p)
		}
	}
	must[Session](b.t)(b.UpdateSession("after", []byte(`{"a": 1}`), nil))
	if err := b.EndSession("s30"); err != nil {
		b.t.Fatal(err)
	}
	before := b.Stats()
	b.reopen()
	if after := b.Stats(); after.Sessions != before.Sessions || after.Programs != before.Programs || after.Bytes != before.Bytes {
		b.t.Fatalf("%+v, before %+v", after, before)
	}
}

func TestTornFile(t *testing.T) {
	b, file := filled(t)
	page := os.Getpagesize()
	for name, c := range map[string]struct {
		file    []byte
		damaged bool
		least   int // sessions that are kept; the pages' order is bbolt's, so not which
	}{
		"whole":            {file, false, 60},
		"empty":            {nil, false, 0},
		"one byte":         {file[:1], true, 0},
		"half a page":      {file[:page/2], true, 0},
		"roots alone":      {file[:2*page], true, 0},
		"the end is gone":  {file[:len(file)/2], true, 0}, // of which free pages may be a part
		"no bbolt file":    {bytes.Repeat([]byte("sessions"), 10_000), true, 0},
		"zeros":            {make([]byte, len(file)), true, 0},
		"newest root torn": {overwrite(file, newestRoot(t, file), 64), true, 59},
		"both roots torn":  {overwrite(overwrite(file, 0, 64), page, 64), true, 0},
		"more than was":    {append(bytes.Clone(file), make([]byte, 10*page)...), false, 60},
		"a value is other": {replace(t, file, "s20s20", "s21s20"), true, 59},
		"a key is other":   {replace(t, file, "s33\x00p", "s34\x00p"), true, 60},
	} {
		t.Run(name, func(t *testing.T) {
			inner := *b
			inner.t = t
			if damaged := inner.openOn(c.file); damaged != c.damaged {
				t.Errorf("damaged: %v, want %v; %s", damaged, c.damaged, inner.log)
			}
			defer inner.Close()
			// works ended one of the 60, and made one
			if got := inner.Stats(); got.Sessions < c.least {
				t.Errorf("%+v, want at least %d sessions", got, c.least)
			}
		})
	}
}

func overwrite(file []byte, at, length int) []byte {
	out := bytes.Clone(file)
	clear(out[at : at+length])
	return out
}

func newestRoot(t *testing.T, file []byte) int {
	t.Helper()
	roots := metas(bytes.NewReader(file))
	if len(roots) != 2 {
		t.Fatalf("%d roots", len(roots))
	}
	return int(roots[0].txid%2) * os.Getpagesize()
}

func replace(t *testing.T, file []byte, text, by string) []byte {
	t.Helper()
	out := bytes.ReplaceAll(file, []byte(text), []byte(by))
	if bytes.Equal(out, file) {
		t.Fatalf("%q isn't in the file", text)
	}
	return out
}

// Any damage: the store opens, never crashes, never hangs, and what it returns is what was stored.
func TestDamageAnywhere(t *testing.T) {
	b, file := filled(t)
	dice := rand.New(rand.NewPCG(70, 1))
	found := 0
	for range 150 {
		torn := bytes.Clone(file)
		for range 1 + dice.IntN(4) {
			at := dice.IntN(len(torn))
			if dice.IntN(2) == 0 { // where a page tells what it is
				at = min(len(torn)-1, at/os.Getpagesize()*os.Getpagesize()+dice.IntN(200))
			}
			switch dice.IntN(4) {
			case 0:
				torn[at] ^= 1 << dice.IntN(8)
			case 1:
				clear(torn[at:min(len(torn), at+dice.IntN(5000))])
			case 2: // a page as it was at another place
				page := os.Getpagesize()
				from := dice.IntN(len(torn)/page+1) * page
				copy(torn[at/page*page:], torn[from:min(len(torn), from+page)])
			case 3:
				torn = torn[:at+1]
			}
		}
		if b.openOn(torn) {
			found++
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d of 150 files were found damaged", found)
	if found < 50 {
		t.Error("most damage goes unnoticed")
	}
}

// A damaged file that can't be replaced stays where it is, for another try.
func TestReplacementFails(t *testing.T) {
	b, file := filled(t)
	torn := replace(t, file, "s20s20", "s21s20")
	if err := os.WriteFile(b.file(), torn, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(b.file()+newSuffix, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.file()+newSuffix+"/in-the-way", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(b.opts)
	refused(t, err, pool.StoreUnavailable)
	if now, err := os.ReadFile(b.file()); err != nil || !bytes.Equal(now, torn) {
		t.Fatalf("the damaged file changed: %v", err)
	}
	if err := os.RemoveAll(b.file() + newSuffix); err != nil {
		t.Fatal(err)
	}
	b.Store = nil
	b.reopen()
	if got := b.Stats().Sessions; got != 60 { // the one that was damaged has a program, and lost its data
		t.Errorf("%d sessions, want 60", got)
	}
	if !strings.Contains(b.log.String(), "sessionsWithoutTheirData=1 ") {
		t.Errorf("%s", b.log)
	}
}

// The scan against bbolt's own opinion of whole files, whatever is in them.
func FuzzScan(f *testing.F) {
	b := newBench(f)
	b.create("x", "p")
	must[Session](f)(b.UpdateSession("x", []byte(`{"a": 1}`), nil))
	if err := b.Close(); err != nil {
		f.Fatal(err)
	}
	file, err := os.ReadFile(b.file())
	if err != nil {
		f.Fatal(err)
	}
	_, large := filled(f)
	for at := uint32(0); at < 64; at++ {
		f.Add(file, at*uint32(len(file))/64+at, byte(at+1))
	}
	f.Add(large, uint32(5000), byte(1))
	f.Add(file[:9000], uint32(17), byte(255))
	f.Add([]byte("no file"), uint32(0), byte(0))
	f.Fuzz(func(t *testing.T, file []byte, at uint32, flip byte) {
		if len(file) > 0 {
			file = bytes.Clone(file)
			file[int(at)%len(file)] ^= flip
		}
		roots := metas(bytes.NewReader(file))
		if len(roots) == 0 {
			return
		}
		records := 0
		err := scan(bytes.NewReader(file), int64(len(file)), roots[0], func(_, k, v []byte) error {
			records++
			return intact(k, v)
		})
		if err != nil {
			return
		}
		path := t.TempDir() + "/f"
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := bolt.Open(path, 0o600, &bolt.Options{NoFreelistSync: true, NoSync: true})
		if err != nil {
			t.Fatalf("a file without damage: %v", err)
		}
		defer db.Close()
		err = db.View(func(tx *bolt.Tx) error {
			for err := range tx.Check() {
				t.Errorf("bbolt found: %v", err)
			}
			return tx.ForEach(func(_ []byte, b *bolt.Bucket) error {
				return b.ForEach(func(_, _ []byte) error { records--; return nil })
			})
		})
		if err != nil || records != 0 {
			t.Fatalf("bbolt has %d records less: %v", records, err)
		}
	})
}
