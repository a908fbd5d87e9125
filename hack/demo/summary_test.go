package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// asPromised is what a good run measures.
func asPromised() figures {
	return figures{
		v1: 98, v2: 392, shares: []share{{"app-1", 100, 1000}, {"app-2", 101, 1000}}, toTenth: 2200 * time.Millisecond, toAll: 400 * time.Millisecond,
		requests: 123456, containers: 8, operator: 41e6, router: 17e6, slot: 12e6, worker: 11e6,
	}
}

func TestSummary(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(*figures)
		want  string // named in the error; empty: all promises hold
	}{
		"all as promised":       {func(*figures) {}, ""},
		"v2 hardly faster":      {func(f *figures) { f.v2 = 3.4 * f.v1 }, "v2 serves in parallel"},
		"v1 never measured":     {func(f *figures) { f.v1 = 0 }, "v2 serves in parallel"},
		"share two off":         {func(f *figures) { f.shares[1].v2 = 102 }, "10 % means 10 %"},
		"share of another size": {func(f *figures) { f.shares[0].of = 999 }, "10 % means 10 %"},
		"no share measured":     {func(f *figures) { f.shares = nil }, "10 % means 10 %"},
		"a request lost":        {func(f *figures) { f.lost = 1 }, "no request lost"},
		"no traffic at all":     {func(f *figures) { f.requests = 0 }, "no request lost"},
		"a container restarted": {func(f *figures) { f.changed = []string{"app-1/pool-a"} }, "no container restarted"},
		"much memory":           {func(f *figures) { f.operator = 900e6 }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			measured := asPromised()
			tc.spoil(&measured)
			err := newScreen(&bytes.Buffer{}).summary(measured.promises())
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("summary says %v, want no complaint", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("summary says %v, want it to name %q", err, tc.want)
			}
		})
	}
}

func TestScreenFits100Columns(t *testing.T) {
	var out bytes.Buffer
	s := newScreen(&out)
	s.command("kubectl", "-n", "demo", "apply", "-f", "config/samples/demo/1-v1.yaml", "-f", "config/samples/demo/app.yaml")
	if err := s.summary(asPromised().promises()); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 100 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}
