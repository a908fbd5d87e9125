package router

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/store"
)

// Headers of the application's API.
const (
	headerDeadline = "Workerpool-Deadline" // request: remaining time, "1.5s", "250ms", or seconds
	headerVersion  = "Workerpool-Version"  // request: v1 or v2, for tests; reply: which one served
	headerRevision = "Workerpool-Revision" // reply
	headerSession  = "Workerpool-Session"  // request: id of the session that it belongs to
	headerAffinity = "Workerpool-Affinity" // request: hint, strict or strict-now: the worker that served the session last
	// headerIdempotent is "true" in a request that may run more than once.
	headerIdempotent = "Workerpool-Idempotent"
)

const (
	commandsPath = "/v1/commands/"
	batchSuffix  = "/batch"
	statusPath   = "/v1/status"

	maxCommandLength = 128 // bytes
	// bodyTimeout bounds how long a request's body may take to arrive, writeTimeout how long a reply to be read.
	bodyTimeout  = 30 * time.Second
	writeTimeout = 30 * time.Second
	// maxBudget is the longest deadline that a caller may ask for; the pool's own limits are far below.
	maxBudget = 24 * time.Hour
)

// ServeHTTP is the application's API.
func (r *Router) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Time{}) // of the connection's last reply
	name, isCommand := strings.CutPrefix(req.URL.Path, commandsPath)
	switch {
	case isCommand && req.Method == http.MethodPost:
		r.serveCommand(w, req, control, name)
	case isCommand:
		r.refuseMethod(w, control, req, http.MethodPost)
	default:
		r.serveRoute(w, req, control)
	}
}

func (r *Router) refuseMethod(w http.ResponseWriter, control *http.ResponseController, req *http.Request, allow string) {
	w.Header().Set("Allow", allow)
	r.writeError(w, control, pool.NewError(pool.RequestError, MethodNotAllowed,
		"%s isn't possible at %q; use %s", req.Method, req.URL.Path, allow))
}

func (r *Router) serveCommand(w http.ResponseWriter, req *http.Request, control *http.ResponseController, name string) {
	if req.URL.RawQuery != "" {
		if _, err := readQuery(req, nil); err != nil {
			r.writeError(w, control, err)
			return
		}
	}
	c := call{session: req.Header.Get(headerSession), start: time.Now()}
	c.command, c.batch = strings.CutSuffix(name, batchSuffix)
	r.serveCall(w, req, control, &c)
}

// serveCall runs a command, or a program, with the body as its arguments.
func (r *Router) serveCall(w http.ResponseWriter, req *http.Request, control *http.ResponseController, c *call) {
	release, err := r.read(c, w, req, control)
	if err != nil {
		r.writeError(w, control, err)
		return
	}
	defer release() // also when something panics
	if c.session != "" && c.program == "" {
		r.records.touch(c.session)
	}
	reply, to, err := r.do(req.Context(), *c)
	release() // before the reply is written: its reader may be slow
	if to != nil {
		w.Header()[headerVersion] = []string{string(to.version)}
		w.Header()[headerRevision] = []string{to.revision}
	}
	if err != nil {
		r.writeError(w, control, err)
		return
	}
	writeBody(w, control, http.StatusOK, reply.Payload)
}

// read fills the call from the request, and says what is wrong with that. The caller must call release when the
// payload is of no more use; again does nothing.
func (r *Router) read(c *call, w http.ResponseWriter, req *http.Request, control *http.ResponseController) (release func(), err error) {
	if err := checkCommand(c.command); err != nil {
		return nil, err
	}
	if err := readVersion(c, req.Header.Get(headerVersion)); err != nil {
		return nil, err
	}
	if err := readDeadline(c, req.Header.Get(headerDeadline)); err != nil {
		return nil, err
	}
	if err := readIdempotent(c, req.Header.Get(headerIdempotent)); err != nil {
		return nil, err
	}
	if err := store.CheckSession(c.session); err != nil {
		return nil, err
	}
	if err := readAffinity(c, req.Header.Get(headerAffinity)); err != nil {
		return nil, err
	}
	return r.receive(c, w, req, control)
}

// receive reads the call's payload, when there is room for it. The caller must call release as after read.
func (r *Router) receive(c *call, w http.ResponseWriter, req *http.Request, control *http.ResponseController) (release func(), err error) {
	if req.ContentLength > int64(r.cfg.MaxPayload) {
		return nil, r.tooLarge(c, w)
	}
	held, err := r.reserve(req.Context(), c, req.ContentLength)
	if err != nil {
		return nil, err
	}
	err = r.readBody(c, w, req, control)
	if held > 0 && len(c.payload) <= smallBody { // also when it wasn't read
		r.bodies.Release(held)
		held = 0
	}
	if err != nil {
		return nil, err
	}
	if held == 0 {
		return func() {}, nil
	}
	return sync.OnceFunc(func() { r.bodies.Release(held) }), nil
}

const (
	// bodiesAtOnce is how many bodies of the largest size may be in memory at the same time; each is there twice
	// while it is sent.
	bodiesAtOnce = 4
	// smallBody needs no reservation, in bytes: the queue limit bounds them well enough.
	smallBody = 64 << 10
)

// reserve waits until there is room for a body of that length (negative: not told), and returns how many bytes are
// held for it: several of 16 MiB at once must not be the end of the router, and with it of every request in the pod.
func (r *Router) reserve(ctx context.Context, c *call, length int64) (held int64, err error) {
	if length < 0 {
		length = int64(r.cfg.MaxPayload)
	}
	if length <= smallBody {
		return 0, nil
	}
	limit := waitFor(c.budget, bodyTimeout)
	waiting, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	switch err := r.bodies.Acquire(waiting, length); {
	case err == nil:
		return length, nil
	case ctx.Err() != nil:
		return 0, gaveUp(c)
	case limit == c.budget:
		return 0, r.noRoomInTime(c)
	}
	return 0, r.noRoom(c)
}

// checkCommand bounds what becomes part of frames, logs and errors. Python names may hold any letter.
func checkCommand(name string) error {
	legal := name != "" && len(name) <= maxCommandLength && utf8.ValidString(name)
	for _, ch := range name {
		legal = legal && (unicode.IsLetter(ch) || unicode.IsDigit(ch) || strings.ContainsRune("_-.", ch))
	}
	if legal {
		return nil
	}
	shown := strings.ToValidUTF8(name[:min(len(name), maxCommandLength)], "?")
	return pool.NewError(pool.RequestError, pool.UnknownCommand,
		"%q can't be a command's name: 1 to %d bytes of letters, digits, _, - and .", shown, maxCommandLength)
}

func readVersion(c *call, value string) error {
	c.version = pool.Version(value)
	if value == "" || c.version == pool.V1 || c.version == pool.V2 {
		return nil
	}
	return invalidHeader(headerVersion, value, "use v1 or v2, or leave it out")
}

func readIdempotent(c *call, value string) error {
	c.idempotent = value == "true"
	if value == "" || c.idempotent {
		return nil
	}
	return invalidHeader(headerIdempotent, value, "use true if the command may run more than once, or leave it out")
}

// readDeadline takes a Go duration or a number of seconds. One that has run out is the caller's deadline met, not
// its mistake.
func readDeadline(c *call, value string) error {
	if value == "" {
		return nil
	}
	budget, err := time.ParseDuration(value)
	if seconds, notSeconds := strconv.ParseFloat(value, 64); notSeconds == nil {
		err = nil
		if math.IsNaN(seconds) || math.Abs(seconds) > maxBudget.Seconds() {
			err = strconv.ErrRange
		}
		budget = time.Duration(seconds * float64(time.Second))
	}
	switch {
	case err != nil || budget > maxBudget:
		return invalidHeader(headerDeadline, value, `use a duration like "1.5s" or "250ms", or seconds, at most 24h`)
	case budget <= 0:
		return pastDeadline(c, value)
	}
	c.budget = budget
	return nil
}

// readAffinity needs a session of somebody's own: everyone's would all go to one worker.
func readAffinity(c *call, value string) error {
	c.affinity = pool.AffinityMode(value)
	switch {
	case value == "":
		return nil
	case !c.affinity.Known():
		return invalidHeader(headerAffinity, value, "use hint, strict or strict-now, or leave it out")
	case c.session == "" || c.session == store.Anonymous:
		return invalidHeader(headerAffinity, value, "the request has no session of its own; name one with "+headerSession+", or leave it out")
	}
	return nil
}

func invalidHeader(name, value, wayOut string) *pool.Error {
	shown := strings.ToValidUTF8(value[:min(len(value), 100)], "?")
	return pool.NewError(pool.RequestError, InvalidHeader, "header %s is %q: %s", name, shown, wayOut).
		With("header", name).With("value", shown)
}

// readBody reads the whole body, whose content is the worker's business. None means no arguments.
func (r *Router) readBody(c *call, w http.ResponseWriter, req *http.Request, control *http.ResponseController) error {
	until := bodyTimeout
	if c.budget > 0 {
		until = min(until, c.budget)
	}
	started := time.Now()
	_ = control.SetReadDeadline(started.Add(until))
	body, err := readAll(http.MaxBytesReader(w, req.Body, int64(r.cfg.MaxPayload)), req.ContentLength)
	_ = control.SetReadDeadline(time.Time{}) // from here on, reading only notices that the caller went away
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return r.tooLarge(c, w)
	case err != nil && time.Since(started) >= until:
		w.Header().Set("Connection", "close")
		return pool.NewError(pool.TimeoutError, pool.DeadlineExceeded,
			"the body of %s hadn't arrived after %s", c.command, pool.Millis(until))
	case err != nil:
		w.Header().Set("Connection", "close")
		return pool.NewError(pool.RequestError, pool.InvalidPayload, "the body of %s ended early", c.command)
	case len(body) == 0:
		body = []byte("{}")
	}
	c.payload = body
	return nil
}

// readAll reads r to its end into one allocation when the length is known.
func readAll(r io.Reader, length int64) ([]byte, error) {
	if length < 0 {
		return io.ReadAll(r)
	}
	body := make([]byte, length)
	_, err := io.ReadFull(r, body)
	return body, err
}

func (r *Router) tooLarge(c *call, w http.ResponseWriter) *pool.Error {
	w.Header().Set("Connection", "close")
	return r.named(pool.NewError(pool.RequestError, pool.FrameTooLarge,
		"the body of %s is over %d bytes; send less, or a reference to the data", c.command, r.cfg.MaxPayload)).
		With("limit", r.cfg.MaxPayload)
}

// writeError answers with the four parts. Whatever isn't a *pool.Error is a bug of ours.
func (r *Router) writeError(w http.ResponseWriter, control *http.ResponseController, err error) {
	var e *pool.Error
	if !errors.As(err, &e) {
		r.log.Error("request failed with an untyped error", "error", err)
		e = pool.NewError(pool.SystemError, pool.Internal, "%v", err)
	}
	if wait := retryAfter(e); wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
		e = e.With("retry_after_ms", wait.Milliseconds())
	}
	writeJSON(w, control, statusOf(e), map[string]any{"error": e})
}

func writeJSON(w http.ResponseWriter, control *http.ResponseController, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // a context that JSON has no form for
		status, body = http.StatusInternalServerError,
			[]byte(`{"error":{"category":"system_error","type":"internal","message":"the answer can't be encoded","context":{}}}`)
	}
	writeBody(w, control, status, append(body, '\n'))
}

var jsonType = []string{"application/json"}

// writeBody ends a request. A caller that doesn't read its answer loses the connection.
func writeBody(w http.ResponseWriter, control *http.ResponseController, status int, body []byte) {
	header := w.Header()
	header["Content-Type"] = jsonType
	header["Content-Length"] = []string{strconv.Itoa(len(body))}
	_ = control.SetWriteDeadline(time.Now().Add(writeTimeout))
	w.WriteHeader(status)
	_, _ = w.Write(body) // an error means that the caller is gone
}

// newServer returns the HTTP server of the API. Each of its connections ends when ctx does.
func (r *Router) newServer(ctx context.Context) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:           r,
		Protocols:         protocols,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       5 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		BaseContext:       func(_ net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(r.log.Handler(), slog.LevelDebug),
	}
}
