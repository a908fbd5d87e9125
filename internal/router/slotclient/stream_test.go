package slotclient

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/router/slottest"
)

// streaming answers each call with a script, which reads what the router sends meanwhile with next. A Hello is not sent, but
// ends the connection.
func streaming(t *testing.T, play func(call slottest.Call, send func(frame.Frame), next func() (frame.Frame, error))) *Client {
	t.Helper()
	slot := slottest.New(t, t.TempDir(), "a", slottest.Echo)
	slot.Raw(func(conn net.Conn, call slottest.Call) {
		w, r := frame.NewWriter(conn), frame.NewReader(conn, 0)
		play(call, func(f frame.Frame) {
			if f.Kind == frame.Hello {
				_ = conn.Close()
			}
			f.ID += call.ID
			_ = w.Write(&f)
		}, func() (f frame.Frame, err error) {
			err = r.Read(&f)
			return f, err
		})
	})
	return configured(t, slot)
}

func chunk(payload string) frame.Frame {
	return frame.Frame{Kind: frame.Chunk, Payload: []byte(payload)}
}

// stream is a request whose items are taken with take.
func stream(take func(ctx context.Context, n int, item string) error) (Request, *[]string) {
	req, got := request("items", "{}"), &[]string{}
	req.Stream = func(ctx context.Context, item []byte) error {
		*got = append(*got, string(item))
		if take == nil {
			return nil
		}
		return take(ctx, len(*got), string(item))
	}
	return req, got
}

func TestP109_CreditIsGivenForWhatIsTaken(t *testing.T) {
	calls := make(chan slottest.Call, 2)
	c := streaming(t, func(call slottest.Call, send func(frame.Frame), next func() (frame.Frame, error)) {
		calls <- call
		for range frame.StreamWindow {
			send(chunk(`"1"`))
		}
		for given := 0; given < frame.StreamWindow; {
			f, err := next()
			n, _ := f.Credit()
			if err != nil || f.Kind != frame.Credit || f.ID != call.ID || n == 0 {
				t.Errorf("got %+v, %v; want a Credit", f, err)
				break
			}
			given += n
		}
		send(frame.Frame{Kind: frame.Result, Budget: time.Second, Payload: []byte("16")})
	})
	for range 2 { // the second on the same connection
		req, got := stream(nil)
		reply, err := c.Do(t.Context(), req)
		if err != nil || len(*got) != 16 || string(reply.Payload) != "16" || reply.Service != time.Second {
			t.Errorf("%d items, then %s, %v after %s", len(*got), reply.Payload, err, reply.Service)
		}
		<-calls
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.idle) != 1 {
		t.Errorf("%d connections are kept; want the one that both streams had", len(c.idle))
	}
}

func TestP109_WhatEndsAStreamOfTheRouter(t *testing.T) {
	left := errors.New("the client has left")
	e := pool.NewError(pool.CommunicationError, pool.PythonError, "ValueError: enough")
	failed := frame.Frame{Kind: frame.Error, Flags: frame.FlagSent, Payload: encoded(t, e)}
	hangUp := frame.Frame{Kind: frame.Hello}
	for name, tc := range map[string]struct {
		then  []frame.Frame // after three items
		take  func(ctx context.Context, n int, item string) error
		want  pool.Type
		says  string
		items int
	}{
		"an error of the handler":   {then: []frame.Frame{failed}, want: pool.PythonError, says: "enough", items: 3},
		"an item of another":        {then: []frame.Frame{{Kind: frame.Chunk, ID: 1, Payload: []byte("1")}}, want: pool.ResponseMismatch, items: 3},
		"a frame that is none":      {then: []frame.Frame{{Kind: frame.Pong}}, want: pool.DecodeError, items: 3},
		"the slot ends":             {then: []frame.Frame{hangUp}, want: pool.PortExited, says: "which may have had an effect", items: 3},
		"the reader can't take it":  {take: func(_ context.Context, n int, _ string) error { return []error{nil, nil, left}[n] }, want: pool.Cancelled, items: 2},
		"the reader is too slow":    {take: func(ctx context.Context, _ int, _ string) error { <-ctx.Done(); return ctx.Err() }, want: pool.CommandTimeout, says: "hadn't all been taken", items: 1},
		"too slow, and wouldn't go": {take: func(ctx context.Context, _ int, _ string) error { <-ctx.Done(); return nil }, want: pool.CommandTimeout, says: "hadn't all been taken", items: 1},
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan struct{})
			c := streaming(t, func(_ slottest.Call, send func(frame.Frame), next func() (frame.Frame, error)) {
				defer close(ended)
				for range 3 {
					send(chunk("1"))
				}
				for _, f := range tc.then {
					send(f)
				}
				if tc.take != nil {
					_, err := next() // the router hangs up
					if err == nil {
						t.Error("the router said something instead of its end")
					}
				}
			})
			req, got := stream(tc.take)
			req.Deadline = time.Now().Add(300 * time.Millisecond)
			_, err := c.Do(t.Context(), req)
			var failure *pool.Error
			if !errors.As(err, &failure) || failure.Type != tc.want || !failure.Sent || !strings.Contains(failure.Message, tc.says) {
				t.Errorf("got %v; want %s, sent, that says %q", err, tc.want, tc.says)
			}
			if len(*got) != tc.items {
				t.Errorf("%d items; want %d", len(*got), tc.items)
			}
			<-ended
		})
	}
}

func TestP109_ACallerThatLeavesItsStream(t *testing.T) {
	ended := make(chan error, 1)
	c := streaming(t, func(_ slottest.Call, send func(frame.Frame), next func() (frame.Frame, error)) {
		send(chunk("1"))
		_, err := next()
		ended <- err
	})
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := stream(func(context.Context, int, string) error { cancel(); return nil })
	_, err := c.Do(ctx, req)
	var failure *pool.Error
	if !errors.As(err, &failure) || failure.Type != pool.Cancelled || !failure.Sent {
		t.Errorf("got %v; want cancelled, sent", err)
	}
	if <-ended == nil {
		t.Error("the slot isn't told")
	}
}

func encoded(t *testing.T, e *pool.Error) []byte {
	t.Helper()
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
