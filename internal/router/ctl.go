package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/router/trip"
)

// ControlSocket is the name, within the state folder, of the socket for people in the router's own container. That folder
// is mounted nowhere else and the socket is the router's user's alone: no application may trip its canary.
const ControlSocket = "ctl.sock"

// TripPath takes a trip by hand: POST, with its reason as the body.
const TripPath = "/v1/trip"

// maxReason bounds what a person says, in bytes.
const maxReason = 500

// TripAnswer says what a trip by hand has done.
type TripAnswer struct {
	Pool   string     `json:"pool"`
	Canary ServedBy   `json:"canary"`
	Stable ServedBy   `json:"stable"`
	Before float64    `json:"weightBefore"` // percent
	Trip   TripStatus `json:"trip"`
	// Already: it had tripped before, and that trip holds.
	Already bool `json:"already"`
	// Unkept is why the trip isn't on disk, so that a restart of the router would end it; the router tries again.
	Unkept string `json:"unkept,omitempty"`
}

// ServedBy names a slot and what it serves.
type ServedBy struct {
	Slot     string       `json:"slot"`
	Version  pool.Version `json:"version"`
	Revision string       `json:"revision"`
}

func servedBy(t *target) ServedBy {
	return ServedBy{Slot: t.slot.Name(), Version: t.version, Revision: t.revision}
}

// serveControl serves people until ctx ends. A router that can't do so serves the application all the same.
func (r *Router) serveControl(ctx context.Context) {
	if r.cfg.StateDir == "" {
		return
	}
	path := filepath.Join(r.cfg.StateDir, ControlSocket)
	listener, err := listenUnix(ctx, path, 0o600)
	if err != nil {
		r.log.Error("poold ctl can't reach this router", "socket", path, "error", err)
		return
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+statusPath, func(w http.ResponseWriter, req *http.Request) {
		x := newExchange(w, req)
		x.answer(http.StatusOK, r.status())
	})
	mux.HandleFunc("POST "+TripPath, r.serveTrip)
	mux.HandleFunc("POST "+ResetPath, r.serveReset)
	server := &http.Server{
		Handler: mux, ReadTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(r.log.Handler(), slog.LevelDebug),
	}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		r.log.Error("poold ctl can't reach this router any more", "socket", path, "error", err)
	}
}

func (r *Router) serveTrip(w http.ResponseWriter, req *http.Request) {
	x := newExchange(w, req)
	reason, _ := io.ReadAll(io.LimitReader(req.Body, maxReason)) // a reason that is cut short stops no trip
	answer, err := r.TripByHand(string(reason))
	if err != nil {
		r.writeError(&x, r.named(pool.NewError(pool.RequestError, NothingToTrip, "%v", err)))
		return
	}
	x.answer(http.StatusOK, answer)
}

// TripByHand takes the canary off this pod's traffic because a person says so. When it returns, the trip is in force, and
// on disk unless the answer says why not.
func (r *Router) TripByHand(reason string) (*TripAnswer, error) {
	message := "poold ctl trip"
	if reason = oneLine(reason); reason != "" {
		message += ": " + reason
	}
	before, after, err := r.trip(nil, trip.ByHand, message, time.Now())
	if err != nil {
		return nil, fmt.Errorf("nothing to trip in this pod of %s: %w", r.cfg.Pool, err)
	}
	unkept := ""
	if err := r.keepTrip(); err != nil {
		unkept = err.Error()
	}
	return &TripAnswer{
		Pool: r.cfg.Pool, Canary: servedBy(before.canary), Stable: servedBy(before.stable), Before: percent(before.weight),
		Trip: *tripStatus(after.trip), Already: before == after, Unkept: unkept,
	}, nil
}

// oneLine makes a bounded line of a person's words.
func oneLine(text string) string {
	return strings.TrimSpace(strings.Map(func(ch rune) rune {
		if unicode.IsControl(ch) {
			return ' '
		}
		return ch
	}, head(text, maxReason)))
}
