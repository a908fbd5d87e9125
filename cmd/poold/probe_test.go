package main

import (
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// TestProbeRouter: the kubelet shows the reason, so it must read well whatever is wrong.
func TestProbeRouter(t *testing.T) {
	for name, test := range map[string]struct {
		code int
		body string
		want string // part of the error; "": none
	}{
		"serves":           {200, `{"configured":true}`, ""},
		"not configured":   {200, `{"configured":false}`, "no configuration is in force yet"},
		"another status":   {503, `{"configured":true}`, "it answers with HTTP 503 Service Unavailable"},
		"not JSON":         {200, "<html>", "its status can't be read: invalid character"},
		"status, not JSON": {500, "<html>", "it answers with HTTP 500 Internal Server Error"},
	} {
		t.Run(name, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "s")
			l, err := net.Listen("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(test.code)
				_, _ = w.Write([]byte(test.body))
			})}
			done := make(chan struct{})
			go func() { defer close(done); _ = server.Serve(l) }()
			defer func() { _ = server.Close(); <-done }()
			err = probeRouter(t.Context(), socket)
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "%!w")):
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
