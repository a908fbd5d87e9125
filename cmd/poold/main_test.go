package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// asPoold makes this test binary behave as poold: tests start it as a process.
const asPoold = "POOLD_TEST_AS_POOLD"

func TestMain(m *testing.M) {
	if os.Getenv(asPoold) != "" {
		os.Exit(dispatch(os.Args[1:], os.Stderr))
	}
	os.Exit(m.Run())
}

func TestUsage(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"nothing":         {nil, "usage: poold COMMAND"},
		"unknown command": {[]string{"serve"}, `unknown command "serve"`},
	} {
		t.Run(name, func(t *testing.T) {
			var stderr bytes.Buffer
			if code := dispatch(tc.args, &stderr); code != 2 || !strings.Contains(stderr.String(), tc.want) {
				t.Errorf("code %d, %q; want 2, %q", code, stderr.String(), tc.want)
			}
			for name := range commands {
				if !strings.Contains(stderr.String(), name) {
					t.Errorf("usage doesn't list %s", name)
				}
			}
		})
	}
}

func TestPoolFlags(t *testing.T) {
	good := []string{"--name", "a", "--socket", "s.sock"}
	for name, tc := range map[string]struct {
		args []string
		code int
		ok   bool
	}{
		"enough":           {good, 0, true},
		"no name":          {[]string{"--socket", "s.sock"}, 2, false},
		"no socket":        {[]string{"--name", "a"}, 2, false},
		"an argument":      {append(good[:4:4], "now"), 2, false},
		"unknown flag":     {append(good[:4:4], "--fast"), 2, false},
		"negative workers": {append(good[:4:4], "--max-workers", "-1"), 2, false},
		"no payload":       {append(good[:4:4], "--max-payload", "0"), 2, false},
		"help":             {[]string{"-h"}, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			opt, code := poolOptions(tc.args)
			if code != tc.code || (opt != nil) != tc.ok {
				t.Errorf("options %v, code %d; want code %d", opt, code, tc.code)
			}
			if opt != nil && !strings.HasPrefix(opt.Socket, "/") {
				t.Errorf("socket %q isn't absolute", opt.Socket)
			}
		})
	}
}
