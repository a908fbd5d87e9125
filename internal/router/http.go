package router

import (
	"context"
	"log"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
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
	// writeTimeout bounds how long a reply may take to be read.
	writeTimeout = 30 * time.Second
	// maxBudget is the longest deadline that a caller may ask for; the pool's own limits are far below.
	maxBudget = 24 * time.Hour
)

// ServeHTTP is the application's API.
func (r *Router) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	whole := newExchange(w, req)
	x := &whole
	defer r.recovered(x)
	_ = x.control.SetWriteDeadline(time.Time{}) // of the connection's last reply
	name, isCommand := strings.CutPrefix(req.URL.Path, commandsPath)
	switch {
	case isCommand && req.Method == http.MethodPost:
		r.serveCommand(x, name)
	case isCommand:
		r.refuseMethod(x, http.MethodPost)
	default:
		r.serveRoute(x)
	}
}

func (r *Router) refuseMethod(x *exchange, allow string) {
	x.w.Header().Set("Allow", allow)
	r.writeError(x, pool.NewError(pool.RequestError, MethodNotAllowed,
		"%s isn't possible at %q; use %s", x.req.Method, head(x.req.URL.Path, maxShownPath), allow))
}

func (r *Router) serveCommand(x *exchange, name string) {
	if x.req.URL.RawQuery != "" {
		if _, err := readQuery(x.req, nil); err != nil {
			r.writeError(x, err)
			return
		}
	}
	c := call{session: x.req.Header.Get(headerSession), start: x.start}
	c.command, c.batch = strings.CutSuffix(name, batchSuffix)
	r.serveCall(x, &c)
}

// serveCall runs a command, or a program, with the body as its arguments.
func (r *Router) serveCall(x *exchange, c *call) {
	release, err := r.read(c, x)
	if err != nil {
		r.writeError(x, err)
		return
	}
	defer release() // also when something panics
	if c.session != "" && c.program == "" {
		r.records.touch(c.session)
	}
	reply, to, err := r.do(x.req.Context(), *c)
	release() // before the reply is written: its reader may be slow
	if to != nil {
		x.w.Header()[headerVersion] = []string{string(to.version)}
		x.w.Header()[headerRevision] = []string{to.revision}
	}
	if err != nil {
		r.writeError(x, err)
		return
	}
	x.write(http.StatusOK, reply.Payload)
}

// read fills the call from the request, and says what is wrong with that. The caller must call release when the
// payload is of no more use; again does nothing.
func (r *Router) read(c *call, x *exchange) (release func(), err error) {
	header := x.req.Header
	if err := checkCommand(c.command); err != nil {
		return nil, err
	}
	if err := readVersion(c, header.Get(headerVersion)); err != nil {
		return nil, err
	}
	if err := readDeadline(c, header.Get(headerDeadline)); err != nil {
		return nil, err
	}
	if err := readIdempotent(c, header.Get(headerIdempotent)); err != nil {
		return nil, err
	}
	if err := store.CheckSession(c.session); err != nil {
		return nil, err
	}
	if err := readAffinity(c, header.Get(headerAffinity)); err != nil {
		return nil, err
	}
	in := intake{x: x, c: c, most: r.cfg.MaxPayload}
	in.arriveBy, in.roomBy = bodyBounds(c, r.table.Load())
	return r.receive(&in)
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
		ConnContext: func(ctx context.Context, nc net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, nc)
		},
		ConnState: func(nc net.Conn, state http.ConnState) { nc.(*conn).note(state) },
		ErrorLog:  log.New(serverLog{&r.faults}, "", 0),
	}
}
