package router

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
	"github.com/dspex/workerpool-operator/internal/router/slottest"
)

func TestO51_DrainFinishesWhatIsRunning(t *testing.T) {
	entered, finish := make(chan struct{}), make(chan struct{})
	r := newRig(t, snapshot(0), map[string]slottest.Handler{
		"slow": func(context.Context, slottest.Call) (string, error) {
			close(entered)
			<-finish
			return `"done"`, nil
		},
	})
	answered := make(chan *answer)
	go func() { answered <- r.post("slow", "{}") }()
	<-entered
	r.stop()
	r.until(func() bool { // it listens no more
		conn, err := net.Dial("unix", r.config.Socket)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	close(finish)
	if a := <-answered; a.code != 200 || a.body != `"done"` {
		t.Errorf("the request in flight got %d %s", a.code, a.body)
	}
	if err := <-r.done; err != nil {
		t.Errorf("the router ended with %v", err)
	}
	if got := r.revisionFigures("r1").Requests; got != 1 {
		t.Errorf("%d requests counted, want 1", got)
	}
}

func TestO51_DrainIsBounded(t *testing.T) {
	entered, left := make(chan struct{}), make(chan struct{})
	r := newRig(t, changed(snapshot(0), func(s *controlpb.Snapshot) { s.Limits.DrainMs = 50 }), map[string]slottest.Handler{
		"hang": func(ctx context.Context, _ slottest.Call) (string, error) {
			close(entered)
			<-ctx.Done()
			close(left)
			return "", errors.New("cancelled")
		},
	})
	go func() {
		conn, err := net.Dial("unix", r.config.Socket)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = conn.Write([]byte("POST /v1/commands/hang HTTP/1.1\r\nHost: pool\r\nContent-Length: 2\r\n\r\n{}"))
		_, _ = conn.Read(make([]byte, 1)) // until the router closes
	}()
	<-entered
	r.stop()
	if err := <-r.done; err == nil || !strings.Contains(err.Error(), "still running after 50ms") {
		t.Errorf("the router ended with %v", err)
	}
	<-left // the slot was told
}
