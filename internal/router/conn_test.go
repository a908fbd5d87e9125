package router

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/router/slottest"
)

// TestHalfClosedCallerGetsItsAnswer: one that sends nothing more, as nc does at the end of its input, waits for it.
func TestHalfClosedCallerGetsItsAnswer(t *testing.T) {
	inside, finish := make(chan struct{}, 1), make(chan struct{})
	r := newRig(t, snapshot(0), map[string]slottest.Handler{
		"x": func(ctx context.Context, _ slottest.Call) (string, error) {
			inside <- struct{}{}
			select {
			case <-finish:
				return `"done"`, nil
			case <-ctx.Done():
				<-finish
				return "", pool.NewError(pool.RequestError, pool.Cancelled, "the caller was thought to be gone")
			}
		},
	})
	for name, test := range map[string]struct {
		head []string
		body string
	}{
		"length told": {[]string{"POST /v1/commands/x HTTP/1.1", "Content-Length: 2"}, "{}"},
		"chunked":     {[]string{"POST /v1/commands/x HTTP/1.1", "Transfer-Encoding: chunked"}, "2\r\n{}\r\n0\r\n\r\n"},
		"no body":     {[]string{"POST /v1/commands/x HTTP/1.1"}, ""},
		"HTTP/1.0":    {[]string{"POST /v1/commands/x HTTP/1.0", "Content-Length: 2"}, "{}"},
	} {
		t.Run(name, func(t *testing.T) {
			c := r.dial()
			c.says(test.head, test.body)
			if err := c.Conn.(*net.UnixConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			<-inside
			r.until(func() bool { return r.sawTheEnd() }) // a caller that is taken for gone is so now
			finish <- struct{}{}
			if code, body := c.hears(); code != 200 || body != `"done"` {
				t.Errorf("%d %s", code, body)
			}
			if _, err := c.r.ReadByte(); !errors.Is(err, io.EOF) {
				t.Errorf("after the answer: %v, want the end", err)
			}
		})
	}
	t.Run("and when it leaves after that, its request is cancelled", func(*testing.T) {
		c := r.dial()
		c.says([]string{"POST /v1/commands/x HTTP/1.1", "Content-Length: 2"}, "{}")
		_ = c.Conn.(*net.UnixConn).CloseWrite()
		<-inside
		before := r.revisionFigures("r1").CallerErrors
		_ = c.Close()
		r.until(func() bool { return r.revisionFigures("r1").CallerErrors == before+1 })
		close(finish)
	})
}

// TestHalfClosedOnThePort: TCP says the same when a caller closes its sending half and when it leaves.
func TestHalfClosedOnThePort(t *testing.T) {
	inside, finish := make(chan context.Context, 1), make(chan struct{})
	r := New(Config{Logger: slog.New(slog.DiscardHandler)})
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		nl, err := listenLoopback(t.Context(), address)
		if err != nil && address != "127.0.0.1:0" {
			continue // a machine may have no IPv6
		}
		if err != nil {
			t.Fatal(err)
		}
		server := r.newServer(t.Context())
		server.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			inside <- req.Context()
			select {
			case <-finish:
			case <-req.Context().Done():
				w.WriteHeader(statusClientClosed)
			}
		})
		served := make(chan error, 1)
		l := newListener(nl, 10)
		go func() { served <- server.Serve(l) }()
		dial := func() *client {
			nc, err := net.Dial("tcp", nl.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = nc.Close() })
			return &client{Conn: nc, t: t, r: bufio.NewReader(nc)}
		}
		t.Run(address+" gets its answer", func(t *testing.T) {
			c := dial()
			c.says([]string{"GET / HTTP/1.1"}, "")
			_ = c.Conn.(*net.TCPConn).CloseWrite()
			ctx := <-inside
			select {
			case <-ctx.Done():
				t.Error("the caller was thought to be gone")
			case <-time.After(5 * leastLook):
				finish <- struct{}{}
			}
			if code, _ := c.hears(); code != 200 {
				t.Errorf("%d", code)
			}
		})
		t.Run(address+" and is noticed when it leaves", func(*testing.T) {
			for _, halfFirst := range []bool{true, false} {
				c := dial()
				c.says([]string{"GET / HTTP/1.1"}, "")
				ctx := <-inside
				if halfFirst {
					_ = c.Conn.(*net.TCPConn).CloseWrite()
				}
				_ = c.Close()
				<-ctx.Done()
			}
		})
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}
	if peerHolds(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2}) {
		t.Error("somebody has a connection that isn't there")
	}
}

// TestRefusalReachesACallerThatIsStillSending: most send all they have before they read.
func TestRefusalReachesACallerThatIsStillSending(t *testing.T) {
	r := newRig(t, snapshot(0), nil)
	r.cfg.MaxPayload = 256 << 10
	large := strings.Repeat("x", 8<<20)
	for name, test := range map[string]struct {
		head []string
		code int
	}{
		"413":               {[]string{"POST /v1/commands/x HTTP/1.1"}, 413},
		"404":               {[]string{"POST /nowhere HTTP/1.1"}, 404},
		"404 of a command":  {[]string{"POST /v1/commands/a+b HTTP/1.1"}, 404},
		"405":               {[]string{"PUT /v1/commands/x HTTP/1.1"}, 405},
		"400 by a header":   {[]string{"POST /v1/commands/x HTTP/1.1", "Workerpool-Version: v9"}, 400},
		"400 by the query":  {[]string{"POST /v1/commands/x?a=b HTTP/1.1"}, 400},
		"413 of a record":   {[]string{"POST /v1/sessions HTTP/1.1"}, 413},
		"404 of a program":  {[]string{"POST /v1/programs/none/execute HTTP/1.1"}, 404},
		"a GET with a body": {[]string{"GET /v1/status HTTP/1.1"}, 200},
		"417":               {[]string{"POST /v1/commands/x HTTP/1.1", "Expect: a-miracle"}, 417},
		"431":               {[]string{"POST /v1/commands/x HTTP/1.1", "X: " + strings.Repeat("x", 80<<10)}, 431},
	} {
		for kind, send := range map[string]func(*client){
			"length told": func(c *client) { c.says(append(test.head, "Content-Length: 8388608"), large) },
			"chunked": func(c *client) {
				c.says(append(test.head, "Transfer-Encoding: chunked"), "800000\r\n"+large+"\r\n0\r\n\r\n")
			},
		} {
			t.Run(name+", "+kind, func(t *testing.T) {
				t.Parallel()
				c := r.dial()
				send(c)
				if code, body := c.hears(); code != test.code {
					t.Errorf("%d %.200s", code, body)
				}
			})
		}
	}
}

// TestRefusalWaitsForNoBody: what isn't wanted isn't waited for, and a small one that came leaves the connection usable.
func TestRefusalWaitsForNoBody(t *testing.T) {
	r := newRig(t, snapshot(0), nil)
	for name, head := range map[string][]string{
		"length told":         {"POST /nowhere HTTP/1.1", "Content-Length: 100"},
		"chunked":             {"POST /nowhere HTTP/1.1", "Transfer-Encoding: chunked"},
		"large":               {"POST /nowhere HTTP/1.1", "Content-Length: 10000000"},
		"that asks first":     {"POST /nowhere HTTP/1.1", "Content-Length: 100", "Expect: 100-continue"},
		"that nothing wanted": {"DELETE /v1/sessions/none HTTP/1.1", "Content-Length: 100"},
	} {
		t.Run(name, func(t *testing.T) {
			c := r.dial()
			c.says(head, "")
			if code, body := c.hears(); code != 404 && code != 204 {
				t.Errorf("%d %s", code, body)
			}
			if _, err := c.r.ReadByte(); err == nil {
				t.Error("more came after the answer")
			}
		})
	}
	c := r.dial()
	for range 3 {
		c.says([]string{"POST /nowhere HTTP/1.1", "Content-Length: 4"}, "body")
		if code, _ := c.hears(); code != 404 {
			t.Errorf("on one connection: %d", code)
		}
	}
	c.says([]string{"POST /v1/commands/x HTTP/1.1", "Content-Length: 2"}, "{}")
	if code, _ := c.hears(); code != http.StatusOK {
		t.Errorf("then a call: %d", code)
	}
}

// TestIdleConnectionsMakeWay: for new ones, when there are as many as are held: those that have been without a request, or
// are sending its head, for longest.
func TestIdleConnectionsMakeWay(t *testing.T) {
	scripted, inside, finish := holding()
	r := newRig(t, snapshot(0), scripted)
	r.client.CloseIdleConnections()
	l := r.listeners[0]
	r.until(func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.held) == 0 })
	l.mu.Lock()
	l.limit = 3
	l.mu.Unlock()
	busy, idle, head := r.dial(), r.dial(), r.dial()
	busy.says([]string{"POST /v1/commands/hold HTTP/1.1"}, "")
	<-inside
	idle.says([]string{"GET /v1/health HTTP/1.1"}, "")
	idle.hears()
	if _, err := io.WriteString(head, "POST /v1/commands/x HT"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		c := r.dial()
		c.says([]string{"POST /v1/commands/hold HTTP/1.1"}, "")
		<-inside
		defer c.hears()
	}
	for name, c := range map[string]*client{"idle": idle, "head": head} {
		if _, err := c.r.ReadByte(); err == nil {
			t.Errorf("%s: more came", name)
		}
	}
	close(finish)
	if code, _ := busy.hears(); code != 200 {
		t.Errorf("the one with a request: %d", code)
	}
}
