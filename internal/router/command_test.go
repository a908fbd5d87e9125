package router

import (
	"bytes"
	"net"
	"os/exec"
	"strings"
	"testing"
)

func TestProbesSayWhyNot(t *testing.T) {
	binary, err := poold()
	if err != nil {
		t.Fatal(err)
	}
	nowhere := shortDir(t) + "/pool.sock"
	silent := shortDir(t) + "/pool.sock"
	l, err := net.Listen("unix", silent)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for name, test := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no router":     {[]string{"router", "--socket", nowhere}, 1, "router: it doesn't answer"},
		"silent router": {[]string{"router", "--socket", silent}, 1, "router: it doesn't answer"},
		"no slot":       {[]string{"pool", "--socket", nowhere}, 1, "pool: the supervisor doesn't listen"},
		"slot listens":  {[]string{"pool", "--socket", silent}, 0, ""},
		"no kind":       {nil, 2, "usage: poold probe router|pool"},
		"other kind":    {[]string{"app"}, 2, "usage: poold probe router|pool"},
	} {
		t.Run(name, func(t *testing.T) {
			probe := exec.Command(binary, append([]string{"probe"}, test.args...)...)
			out, err := probe.CombinedOutput()
			if code := probe.ProcessState.ExitCode(); code != test.code || !strings.Contains(string(out), test.want) {
				t.Errorf("exit code %d (%v), output %q; want %d with %q", code, err, out, test.code, test.want)
			}
			if lines := bytes.Count(bytes.TrimSpace(out), []byte("\n")); test.code == 1 && lines > 0 {
				t.Errorf("more than one line: %s", out)
			}
		})
	}
}

func TestRouterRefusesWhatCanNotWork(t *testing.T) {
	binary, err := poold()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no pool":         {nil, 2, "--pool is required"},
		"nothing":         {[]string{"--pool", "x"}, 2, "there is nothing to serve"},
		"payload":         {[]string{"--pool", "x", "--control-address", "op:1", "--max-payload", "99999999"}, 2, "--max-payload 99999999"},
		"bootstrap file":  {[]string{"--pool", "x", "--bootstrap-file", "/nowhere"}, 2, "--bootstrap-file: open /nowhere"},
		"argument":        {[]string{"--pool", "x", "y"}, 2, `unexpected argument "y"`},
		"socket's folder": {[]string{"--pool", "x", "--control-address", "op:1", "--socket", "/nowhere/s"}, 1, "listen on /nowhere/s"},
		"listens to all": {[]string{"--pool", "x", "--control-address", "op:1", "--socket", shortDir(t) + "/s", "--listen", "0.0.0.0:0"},
			1, "only loopback"},
		"help": {[]string{"-h"}, 0, "WORKERPOOL_BOOTSTRAP"},
	} {
		t.Run(name, func(t *testing.T) {
			router := exec.Command(binary, append([]string{"router"}, test.args...)...)
			out, _ := router.CombinedOutput()
			if code := router.ProcessState.ExitCode(); code != test.code || !strings.Contains(string(out), test.want) {
				t.Errorf("exit code %d, output %s; want %d with %q", code, out, test.code, test.want)
			}
		})
	}
}
