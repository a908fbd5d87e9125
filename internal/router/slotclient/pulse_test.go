package slotclient

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/router/slottest"
)

// quick is a configured client that takes a slot to hang after so long.
func quick(t *testing.T, slot *slottest.Slot, quiet time.Duration) *Client {
	t.Helper()
	c := New(Options{Name: "a", Socket: slot.Socket, Instance: "test", Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	c.quiet = quiet
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { c.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	accept(t, c, serving)
	until(t, c, func() bool { return c.Ready("r1") && c.Serving() })
	return c
}

// held is a slot with a request in it, which ends with the handler.
func held(t *testing.T) (slot *slottest.Slot, entered, finish chan struct{}) {
	entered, finish = make(chan struct{}), make(chan struct{})
	return slottest.New(t, t.TempDir(), "a", func(ctx context.Context, call slottest.Call) (string, error) {
		if call.Command != "held" {
			return call.Payload, nil
		}
		close(entered)
		select {
		case <-finish:
		case <-ctx.Done():
		}
		return call.Payload, nil
	}), entered, finish
}

func TestASlotThatHangsGetsNoRequestsUntilItAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		hang func(*slottest.Slot, bool)
		says string
	}{
		"control connection": {(*slottest.Slot).Quiet, "has said nothing for"},
		"data path":          {(*slottest.Slot).Unanswering, "answers nothing on new connections"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			slot, entered, finish := held(t)
			c := quick(t, slot, 2*time.Second)
			answer := make(chan error, 1)
			go func() {
				r := request("held", `"kept"`)
				r.Deadline = time.Now().Add(time.Minute)
				reply, err := c.Do(t.Context(), r)
				if err == nil && string(reply.Payload) != `"kept"` {
					err = errors.New(string(reply.Payload))
				}
				answer <- err
			}()
			<-entered
			tc.hang(slot, true)
			until(t, c, func() bool { return !c.Serving() })
			if st := c.State(); st.Reachable || !strings.Contains(st.Hangs, tc.says) || st.Problem != st.Hangs || st.Status.Revision != "r1" {
				t.Errorf("its state is %+v; want it hanging, as it %s", st, tc.says)
			}
			if _, err := c.Do(t.Context(), request("x", "{}")); !errors.Is(err, ErrUnreachable) {
				t.Errorf("a request meanwhile: %v; want that it never left", err)
			}
			tc.hang(slot, false)
			until(t, c, c.Serving)
			if st := c.State(); st.Hangs != "" || !st.Reachable {
				t.Errorf("afterwards its state is %+v", st)
			}
			close(finish)
			if err := <-answer; err != nil {
				t.Errorf("the request that it had: %v", err)
			}
			if _, err := c.Do(t.Context(), request("x", "{}")); err != nil {
				t.Errorf("a request afterwards: %v", err)
			}
		})
	}
}

// TestWhatALostSlotHasEnds: nobody waits for an answer that can't come any more.
func TestWhatALostSlotHasEnds(t *testing.T) {
	t.Parallel()
	slot, entered, finish := held(t)
	defer close(finish)
	c := quick(t, slot, 1500*time.Millisecond) // the slot reports each second
	go func() { <-entered; slot.Quiet(true) }()
	r := request("held", "{}")
	r.Deadline = time.Now().Add(time.Hour)
	_, err := c.Do(t.Context(), r)
	var e *pool.Error
	if !errors.As(err, &e) || e.Type != pool.PortExited || !e.Sent || !strings.Contains(e.Message, "hangs") {
		t.Errorf("got %v; want port_exited, sent, as the slot hangs", err)
	}
	if c.mu.Lock(); len(c.busy) != 0 {
		t.Errorf("%d connections are held", len(c.busy))
	}
	c.mu.Unlock()
}
