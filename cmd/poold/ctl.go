package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/router"
)

// controlSocket is where the router in a pod serves people; only its own container sees it.
const controlSocket = "/run/workerpool/state/" + router.ControlSocket

// ctlTimeout bounds one question: the router answers at once, and writes one small file.
const ctlTimeout = 10 * time.Second

const ctlUsage = "usage: poold ctl trip [--reason TEXT] | reset [--slot a|b] | status      (in the router's container; no operator is needed)\n" +
	"  trip:   takes the canary off this pod's traffic until the WorkerPool gets another retry token\n" +
	"  reset:  replaces the workers of a slot, or of all that serve, one after the other; no request fails for it\n" +
	"  status: what serves here, with which weight, and whether it tripped\n" +
	"exit codes: 0; 1 there is nothing to trip or to reset; 2 wrong usage, or the router can't be reached"

// ctlCommands are what can be asked; each returns what to print.
var ctlCommands = map[string]func(ctx context.Context, socket, option string) (string, error){
	"trip":   ctlTrip,
	"reset":  ctlReset,
	"status": ctlStatus,
}

// runCtl is `poold ctl trip|reset|status`.
func runCtl(args []string) int {
	name := ""
	if len(args) > 0 {
		name = args[0]
	}
	ask, known := ctlCommands[name]
	if !known {
		fmt.Fprintln(os.Stderr, ctlUsage)
		return 2
	}
	flags := flag.NewFlagSet("poold ctl "+name, flag.ContinueOnError)
	socket := flags.String("socket", controlSocket, "`path` of the router's control socket")
	option := new(string)
	switch name {
	case "trip":
		flags.StringVar(option, "reason", "", "`text` that goes into status, reports and the log")
	case "reset":
		flags.StringVar(option, "slot", "", "`name` of the slot, a or b; without it all that serve")
	}
	if err := flags.Parse(args[1:]); err != nil {
		return usageCode(err)
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "poold ctl %s: unexpected argument %q\n%s\n", name, flags.Arg(0), ctlUsage)
		return 2
	}
	ctx, cancel := context.WithTimeout(context.Background(), ctlTimeout)
	defer cancel()
	text, err := ask(ctx, *socket, *option)
	return ctlResult(name, text, err)
}

// ctlResult prints and chooses the exit code.
func ctlResult(name, text string, err error) int {
	var refused *pool.Error
	switch {
	case errors.As(err, &refused):
		fmt.Fprintf(os.Stderr, "poold ctl %s: %s\n", name, refused.Message)
		return 1
	case err != nil:
		fmt.Fprintf(os.Stderr, "poold ctl %s: %v\n", name, err)
		return 2
	}
	fmt.Print(text)
	return 0
}

// ctlAsk sends one request to the router. An error that is a *pool.Error is the router's own.
func ctlAsk(ctx context.Context, socket, method, path, body string, answer any) error {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://router"+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("the router can't be reached; this has to run in its container (-c pool-router), and it has to be up: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("the router's answer broke off: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return ctlError(response.Status, text)
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("the router's answer can't be read: %w", err)
	}
	return nil
}

func ctlError(status string, text []byte) error {
	var envelope struct {
		Error *pool.Error `json:"error"`
	}
	if err := json.Unmarshal(text, &envelope); err != nil || envelope.Error == nil {
		return fmt.Errorf("the router answers with HTTP %s", status)
	}
	return envelope.Error
}

func ctlTrip(ctx context.Context, socket, reason string) (string, error) {
	var answer router.TripAnswer
	if err := ctlAsk(ctx, socket, http.MethodPost, router.TripPath, reason, &answer); err != nil {
		return "", err
	}
	return tripText(&answer), nil
}

func tripText(a *router.TripAnswer) string {
	did := fmt.Sprintf("%s goes from %s to 0 %% of this pod's requests; %s serves them.", named(a.Canary), percent(a.Before), named(a.Stable))
	if a.Already {
		did = fmt.Sprintf("%s gets nothing in this pod already, since %s: %s (%s).",
			named(a.Canary), a.Trip.At.UTC().Format(time.RFC3339), a.Trip.Reason, a.Trip.Message)
	}
	holds := "That holds, also when the router restarts, until the WorkerPool gets another retry token:"
	if a.Unkept != "" {
		holds = "It isn't on disk (" + a.Unkept + "): a restart of the router ends it. Make room there; the router tries again.\n" +
			"Until then it holds, or until the WorkerPool gets another retry token:"
	}
	return fmt.Sprintf("pool %s: %s\n%s\n  kubectl annotate workerpool %s %s=\"$(date +%%s)\" --overwrite\n",
		a.Pool, did, holds, a.Pool, retryAnnotation)
}

func ctlReset(ctx context.Context, socket, slot string) (string, error) {
	var answer router.ResetAnswer
	if err := ctlAsk(ctx, socket, http.MethodPost, router.ResetPath, slot, &answer); err != nil {
		return "", err
	}
	return resetText(&answer), nil
}

func resetText(a *router.ResetAnswer) string {
	var b strings.Builder
	for _, slot := range a.Slots {
		_, _ = fmt.Fprintf(&b, "pool %s: the workers of %s are replaced, one after the other; no request fails for it.\n", a.Pool, named(slot))
	}
	return b.String()
}

// retryAnnotation is the API's; this binary doesn't know the API.
const retryAnnotation = "pool.dspex.dev/retry"

func named(s router.ServedBy) string {
	return fmt.Sprintf("%s (revision %s, slot %s)", s.Version, s.Revision, s.Slot)
}

func percent(p float64) string { return fmt.Sprintf("%g %%", p) }

func ctlStatus(ctx context.Context, socket, _ string) (string, error) {
	var status router.Status
	if err := ctlAsk(ctx, socket, http.MethodGet, "/v1/status", "", &status); err != nil {
		return "", err
	}
	return statusText(&status), nil
}

// statusText is for a person at three in the morning; GET /v1/status has the rest.
func statusText(s *router.Status) string {
	var b strings.Builder
	operator := "not connected"
	if s.Operator {
		operator = "connected"
	}
	_, _ = fmt.Fprintf(&b, "pool %s, operator %s, epoch %d, sequence %d\n", s.Pool, operator, s.Epoch, s.Sequence)
	if !s.Configured {
		b.WriteString("no configuration is in force yet\n")
	}
	for _, slot := range s.Slots {
		_, _ = fmt.Fprintf(&b, "slot %s  %-28s  %s\n", slot.Name, roleText(s, slot.Name), slotText(&slot))
	}
	if t := s.Trip; t != nil {
		effect := "tripped"
		if t.ReportOnly {
			effect = "would have tripped, and is only said to"
		}
		_, _ = fmt.Fprintf(&b, "%s %s at %s: %s, %s\n", t.Revision, effect, t.At.UTC().Format(time.RFC3339), t.Reason, t.Message)
	}
	return b.String()
}

func roleText(s *router.Status, slot string) string {
	switch {
	case slot == s.Stable:
		return "stable"
	case slot == s.Canary && s.CanaryWeight != s.GivenWeight:
		return fmt.Sprintf("canary, %s in place of %s", percent(s.CanaryWeight), percent(s.GivenWeight))
	case slot == s.Canary:
		return "canary, " + percent(s.CanaryWeight)
	}
	return "idle"
}

func slotText(s *router.SlotStatus) string {
	switch {
	case !s.Reachable:
		return "not reachable: " + s.Problem
	case s.Revision == "":
		return "no workers"
	}
	text := fmt.Sprintf("%s, revision %s: %d of %d workers serve, %d crashed", s.Version, s.Revision, s.Ready+s.Busy, s.Desired, s.Crashed)
	if s.Unhealthy != "" {
		text += "; " + s.Unhealthy
	}
	if s.Boot != "" {
		text += "; starts fail: " + s.Boot
	}
	return text + startupText(s.Startup)
}

func startupText(s *router.StartupStatus) string {
	if s == nil {
		return ""
	}
	text := ""
	if !s.Since.IsZero() {
		limit := time.Duration(s.LimitMS) * time.Millisecond
		text += fmt.Sprintf("; starting since %s, for %s at most (spec.timeouts.start)", s.Since.UTC().Format(time.RFC3339), limit)
	}
	if s.Pace != "" {
		text += "; " + s.Pace
	}
	if s.Line != "" {
		text += "; last line: " + s.Line
	}
	return text
}
