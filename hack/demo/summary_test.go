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
		failing: fault{
			reason: "ErrorRateExceeded", inPod: 12400 * time.Millisecond, inFleet: 13100 * time.Millisecond,
			v2: 412, v2Failed: 124, v1: 12345, of: 400,
		},
		crashing: fault{reason: "PodsTripped", inPod: 38 * time.Millisecond, inFleet: 1100 * time.Millisecond, v2: 7, v2Failed: 7, v1: 1234, of: 400},
		stored:   40,
	}
}

func TestSummary(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(*figures)
		want  string // named in the error; empty: all promises hold
	}{
		"all as promised":          {func(*figures) {}, ""},
		"v2 hardly faster":         {func(f *figures) { f.v2 = 3.4 * f.v1 }, "v2 serves in parallel"},
		"v1 never measured":        {func(f *figures) { f.v1 = 0 }, "v2 serves in parallel"},
		"share two off":            {func(f *figures) { f.shares[1].v2 = 102 }, "10 % means 10 %"},
		"share of another size":    {func(f *figures) { f.shares[0].of = 999 }, "10 % means 10 %"},
		"no share measured":        {func(f *figures) { f.shares = nil }, "10 % means 10 %"},
		"a request lost":           {func(f *figures) { f.lost = 1 }, "no request lost"},
		"no traffic at all":        {func(f *figures) { f.requests = 0 }, "no request lost"},
		"failing v2 never left":    {func(f *figures) { f.failing.reason = "" }, "a failing v2 goes back"},
		"another reason":           {func(f *figures) { f.failing.reason = "PodsTripped" }, "a failing v2 goes back"},
		"failing v2 never failed":  {func(f *figures) { f.failing.v2Failed = 0 }, "a failing v2 goes back"},
		"failing v2 still served":  {func(f *figures) { f.failing.afterwards = 1 }, "a failing v2 goes back"},
		"afterwards not looked at": {func(f *figures) { f.failing.of = 200 }, "a failing v2 goes back"},
		"the fleet was asked":      {func(f *figures) { f.crashing.reason = "ErrorRateExceeded" }, "a crashing v2: the pods trip"},
		"an error of v1's":         {func(f *figures) { f.failing.v1Failed = 1 }, "no v1 error meanwhile"},
		"another error of v1's":    {func(f *figures) { f.crashing.v1Failed = 1 }, "no v1 error meanwhile"},
		"v1 had no requests":       {func(f *figures) { f.failing.v1, f.crashing.v1 = 0, 0 }, "no v1 error meanwhile"},
		"a session lost":           {func(f *figures) { f.lostRecords = []string{"/v1/sessions/demo-1 in app-1 isn't what it was"} }, "no session or program lost"},
		"sessions not looked at":   {func(f *figures) { f.stored = 0 }, "no session or program lost"},
		"a container restarted":    {func(f *figures) { f.changed = []string{"app-1/pool-a"} }, "no container restarted"},
		"much memory":              {func(f *figures) { f.operator = 900e6 }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			measured := asPromised()
			tc.spoil(&measured)
			err := newScreen(&bytes.Buffer{}, "demo").summary(measured.promises())
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
	s := newScreen(&out, "demo")
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
