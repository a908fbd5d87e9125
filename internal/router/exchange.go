package router

import (
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// exchange is one request of the API, and the way to its answer.
type exchange struct {
	w        http.ResponseWriter
	req      *http.Request
	control  *http.ResponseController
	start    time.Time
	id       string // of the path
	query    url.Values
	unread   bool // the request's body, or a part of it
	answered bool
}

func newExchange(w http.ResponseWriter, req *http.Request) exchange {
	return exchange{w: w, req: req, control: http.NewResponseController(w), start: time.Now(), unread: req.ContentLength != 0}
}

func (x *exchange) answer(status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // a context that JSON has no form for
		status, body = http.StatusInternalServerError,
			[]byte(`{"error":{"category":"system_error","type":"internal","message":"the answer can't be encoded","context":{}}}`)
	}
	x.write(status, append(body, '\n'))
}

var jsonType = []string{"application/json"}

// write ends a request. A caller that doesn't read its answer loses the connection.
func (x *exchange) write(status int, body []byte) {
	header := x.w.Header()
	if header["Content-Type"] == nil {
		header["Content-Type"] = jsonType
	}
	header["Content-Length"] = []string{strconv.Itoa(len(body))}
	x.begin(status)
	_, _ = x.w.Write(body) // an error means that the caller is gone
}

// done answers that there is nothing to say.
func (x *exchange) done() { x.begin(http.StatusNoContent) }

func (x *exchange) begin(status int) {
	if x.unread {
		x.readRest()
	}
	x.answered = true
	_ = x.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	x.w.WriteHeader(status)
}

// restTimeout is how long the rest of a small body is waited for, that nobody wants, so that the connection can be used
// again. By then it has mostly come, with the headers.
const restTimeout = 20 * time.Millisecond

// past is a deadline that ends what waits.
var past = time.Unix(1, 0)

// readRest reads what is left of a body that nobody wants, or abandons it when that is much, or doesn't come. Left alone,
// net/http would wait for it before it answers.
func (x *exchange) readRest() {
	x.unread = false
	if x.req.ContentLength > smallBody || x.req.Header["Expect"] != nil { // a caller that asks first needn't send it
		x.abandon()
		return
	}
	_ = x.control.SetReadDeadline(time.Now().Add(restTimeout))
	if _, err := io.CopyN(io.Discard, x.req.Body, smallBody+1); !errors.Is(err, io.EOF) {
		x.abandon()
		return
	}
	_ = x.control.SetReadDeadline(time.Time{})
}

// abandon gives up a request's body. The connection ends after the answer, when its caller has had time to read that.
func (x *exchange) abandon() {
	x.unread = false
	x.w.Header()["Connection"] = []string{"close"}
	if c := connOf(x.req.Context()); c != nil {
		c.unread.Store(true)
	}
	_ = x.control.SetReadDeadline(past)
}

// left reports whether the caller has closed its connection, while nothing is read from that.
func (x *exchange) left() bool {
	c := connOf(x.req.Context())
	return c != nil && c.left()
}

// writeError answers with the four parts. Whatever isn't a *pool.Error is a bug of ours.
func (r *Router) writeError(x *exchange, err error) {
	var e *pool.Error
	if !errors.As(err, &e) {
		r.log.Error("request failed with an untyped error", "error", err)
		e = pool.NewError(pool.SystemError, pool.Internal, "%v", err)
	}
	if wait := retryAfter(e); wait > 0 {
		x.w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
		e = e.With("retry_after_ms", wait.Milliseconds())
	}
	x.answer(statusOf(e), map[string]any{"error": e})
}
