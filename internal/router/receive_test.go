package router

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/router/slottest"
)

// chunked is a body whose length isn't told.
func chunked(text string) io.Reader { return io.MultiReader(strings.NewReader(text)) }

// client is a connection whose bytes a test writes itself.
type client struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func (r *rig) dial() *client {
	r.t.Helper()
	nc, err := net.Dial("unix", r.config.Socket)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(30 * time.Second))
	return &client{Conn: nc, t: r.t, r: bufio.NewReader(nc)}
}

// says writes lines of a head, and what follows it.
func (c *client) says(head []string, body string) {
	c.t.Helper()
	if _, err := io.WriteString(c, strings.Join(head, "\r\n")+"\r\nHost: pool\r\n\r\n"+body); err != nil {
		c.t.Errorf("sending: %v", err)
	}
}

// hears reads an answer whole.
func (c *client) hears() (code int, body string) {
	c.t.Helper()
	response, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Errorf("no answer: %v", err)
		return 0, ""
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Errorf("the answer isn't whole: %v", err)
	}
	return response.StatusCode, string(text)
}

// holding scripts commands whose handler waits until finish is closed, and tells inside of each.
func holding() (scripted map[string]slottest.Handler, inside chan struct{}, finish chan struct{}) {
	inside, finish = make(chan struct{}, 100), make(chan struct{})
	return map[string]slottest.Handler{
		"hold": func(context.Context, slottest.Call) (string, error) {
			inside <- struct{}{}
			<-finish
			return "{}", nil
		},
	}, inside, finish
}

// withRoomFor makes the largest body, and the room, smaller.
func (r *rig) withRoomFor(largest int) {
	r.cfg.MaxPayload, r.bodies = largest, newRoom(int64(largest))
}

// TestBodiesOfUntoldLengthRunTogether: what they could have come to is nobody's any more once they are there.
func TestBodiesOfUntoldLengthRunTogether(t *testing.T) {
	scripted, inside, finish := holding()
	r := newRig(t, snapshot(0), scripted)
	answers := make(chan *answer)
	for range 10 {
		go func() { answers <- r.send(http.MethodPost, "/v1/commands/hold", chunked(strings.Repeat("x", 100_000))) }()
	}
	for range 10 {
		<-inside
	}
	close(finish)
	for range 10 {
		if a := <-answers; a.code != 200 {
			t.Errorf("%d %s", a.code, a.body)
		}
	}
	r.hasAllRoom()
}

// TestPromisesOfBytesTakeNoRoom: what a caller says that it will send is nothing before it comes.
func TestPromisesOfBytesTakeNoRoom(t *testing.T) {
	r := newRig(t, snapshot(0), nil)
	for _, promise := range []string{"Transfer-Encoding: chunked", "Content-Length: 16000000"} {
		for range 2 * bodiesAtOnce {
			r.dial().says([]string{"POST /v1/commands/x HTTP/1.1", promise}, "")
		}
	}
	for _, body := range []io.Reader{strings.NewReader(strings.Repeat("x", r.cfg.MaxPayload)), chunked(strings.Repeat("x", 100_000))} {
		if a := r.send(http.MethodPost, "/v1/commands/x", body); a.code != 200 {
			t.Errorf("%d %s", a.code, a.body)
		}
	}
	r.hasAllRoom()
}

// TestSlowSendersMakeWay: they are told so, and the one that waited is served.
func TestSlowSendersMakeWay(t *testing.T) {
	r := newRig(t, snapshot(0), nil)
	r.withRoomFor(256 << 10)
	var slow []*client
	for range bodiesAtOnce {
		c := r.dial()
		c.says([]string{"POST /v1/commands/slow HTTP/1.1", "Content-Length: 262144"}, strings.Repeat("x", 200<<10))
		slow = append(slow, c)
	}
	r.until(func() bool {
		r.bodies.mu.Lock()
		defer r.bodies.mu.Unlock()
		return r.bodies.open.free() == 0 && r.bodies.reserved.free() == 0
	})
	if a := r.post("x", strings.Repeat("x", 100<<10)); a.code != 200 {
		t.Errorf("the one that waited: %d %s", a.code, a.body)
	}
	evicted := make(chan string, bodiesAtOnce)
	for _, c := range slow {
		go func() {
			if response, err := http.ReadResponse(c.r, nil); err == nil {
				text, _ := io.ReadAll(response.Body)
				_ = response.Body.Close()
				evicted <- fmt.Sprint(response.StatusCode, " ", string(text))
			}
		}()
	}
	if told := <-evicted; !strings.HasPrefix(told, "408") || !strings.Contains(told, "body_timeout") || !strings.Contains(told, "another waited for room; send it faster") {
		t.Errorf("a slow one is told %s", told)
	}
	for _, c := range slow {
		_ = c.Close()
	}
	r.until(func() bool { r.bodies.mu.Lock(); defer r.bodies.mu.Unlock(); return len(r.bodies.arriving) == 0 })
	r.hasAllRoom()
}

// TestWaitsForABodyEndInTheRequestsOwnTime, and say which that was.
func TestWaitsForABodyEndInTheRequestsOwnTime(t *testing.T) {
	scripted, inside, finish := holding()
	r := newRig(t, changed(snapshot(0), func(s *controlpb.Snapshot) { s.Limits.CheckoutMs, s.Limits.OperationMs = 1000, 1000 }), scripted)
	r.withRoomFor(256 << 10)
	large := strings.Repeat("x", 256<<10)
	done := make(chan struct{})
	for range bodiesAtOnce {
		go func() { r.post("hold", large); done <- struct{}{} }()
	}
	for range bodiesAtOnce {
		<-inside
	}
	for name, test := range map[string]struct {
		deadline  string
		code      int
		errorType pool.Type
		message   string
	}{
		"the pool's checkout":   {"", 503, pool.QueueFull, "for room for the body of x (timeouts.checkout), as the router holds large bodies up to its limit of 1048576 bytes; retry later, or send a reference"},
		"the caller's deadline": {"500ms", 504, pool.DeadlineExceeded, "for room for the body of x (Workerpool-Deadline: 500ms)"},
	} {
		t.Run("for room: "+name, func(t *testing.T) {
			var header []string
			if test.deadline != "" {
				header = []string{"Workerpool-Deadline", test.deadline}
			}
			a := r.post("x", large, header...)
			if a.code != test.code || a.failure.Type != string(test.errorType) || !strings.Contains(a.failure.Message, test.message) {
				t.Errorf("%d %s", a.code, a.body)
			}
		})
	}
	close(finish)
	for range bodiesAtOnce {
		<-done
	}
	for name, test := range map[string]struct {
		head []string
		code int
		says string
	}{
		"the pool's limits":     {nil, 408, `after 2000ms (timeouts.checkout and timeouts.operation), 3 bytes of it had; send it faster`},
		"the caller's deadline": {[]string{"Workerpool-Deadline: 500ms"}, 504, `after 500ms (Workerpool-Deadline: 500ms), 3 bytes of it had; send it faster, or give it more time`},
	} {
		t.Run("for its bytes: "+name, func(t *testing.T) {
			c := r.dial()
			c.says(append([]string{"POST /v1/commands/x HTTP/1.1", "Content-Length: 10"}, test.head...), "abc")
			if code, body := c.hears(); code != test.code || !strings.Contains(body, test.says) {
				t.Errorf("%d %s", code, body)
			}
		})
	}
	r.hasAllRoom()
}

// TestOneThatLeavesWaitsForNoRoom: its place is the next one's.
func TestOneThatLeavesWaitsForNoRoom(t *testing.T) {
	scripted, inside, finish := holding()
	r := newRig(t, snapshot(0), scripted)
	r.withRoomFor(256 << 10)
	large := strings.Repeat("x", 256<<10)
	done := make(chan struct{})
	for range bodiesAtOnce {
		go func() { r.post("hold", large); done <- struct{}{} }()
	}
	for range bodiesAtOnce {
		<-inside
	}
	waiting := func() int { r.bodies.mu.Lock(); defer r.bodies.mu.Unlock(); return len(r.bodies.queue) }
	c := r.dial()
	c.says([]string{"POST /v1/commands/x HTTP/1.1", "Content-Length: 262144"}, strings.Repeat("x", 70<<10))
	r.until(func() bool { return waiting() == 1 })
	_ = c.Close()
	r.until(func() bool { return waiting() == 0 })
	close(finish)
	for range bodiesAtOnce {
		<-done
	}
	r.hasAllRoom()
}

func TestBodiesArriveWhole(t *testing.T) {
	r := newRig(t, snapshot(0), map[string]slottest.Handler{"echo": slottest.Echo})
	r.withRoomFor(1 << 20)
	for _, size := range []int{1, firstRead - 1, firstRead, firstRead + 1, smallBody, smallBody + 1, 4 * smallBody, 4*smallBody + 1, 1 << 20} {
		text := make([]byte, size)
		for i := range text {
			text[i] = 'a' + byte(i*i%23)
		}
		for _, body := range []io.Reader{strings.NewReader(string(text)), chunked(string(text))} {
			if a := r.send(http.MethodPost, "/v1/commands/echo", body); a.body != string(text) {
				t.Errorf("%d bytes: %d, %d bytes", size, a.code, len(a.body))
			}
		}
	}
	r.hasAllRoom()
	for name, head := range map[string]string{"told": "Content-Length: 10", "chunked": "Transfer-Encoding: chunked"} {
		c := r.dial()
		c.says([]string{"POST /v1/commands/echo HTTP/1.1", head}, "5\r\nhel")
		_ = c.Conn.(*net.UnixConn).CloseWrite()
		if code, body := c.hears(); code != 400 || !strings.Contains(body, "ended early") {
			t.Errorf("%s: one that ends early: %d %s", name, code, body)
		}
	}
}
