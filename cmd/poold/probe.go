package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/dspex/workerpool-operator/internal/router"
)

// Where the sockets are in a pod.
const (
	appSocket  = "/run/workerpool/app/pool.sock"
	slotSocket = "/run/workerpool/slot/pool.sock"
)

// probeTimeout is below the kubelet's, so that the reason is told.
const probeTimeout = 2 * time.Second

// probes are what can be asked, with the socket that they look at by default.
var probes = map[string]struct {
	socket string
	ask    func(ctx context.Context, socket string) error
}{
	"router": {appSocket, probeRouter},
	"pool":   {slotSocket, probePool},
}

// runProbe is `poold probe router|pool`: exit code 0, or 1 with one line that says why not.
func runProbe(args []string) int {
	const usage = "usage: poold probe router|pool [--socket PATH]\n" +
		"  router: it answers, and has a configuration in force\n" +
		"  pool:   the slot's supervisor listens; that workers are up is never asked"
	kind := ""
	if len(args) > 0 {
		kind = args[0]
	}
	probe, known := probes[kind]
	if !known {
		fmt.Fprintln(os.Stderr, usage)
		return 2
	}
	flags := flag.NewFlagSet("poold probe "+kind, flag.ContinueOnError)
	socket := flags.String("socket", probe.socket, "`path` of the unix socket")
	if err := flags.Parse(args[1:]); err != nil {
		return usageCode(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	if err := probe.ask(ctx, *socket); err != nil {
		fmt.Printf("%s: %v\n", kind, err) // standard output is what the kubelet shows
		return 1
	}
	return 0
}

func probePool(ctx context.Context, socket string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("the supervisor doesn't listen: %w", err)
	}
	return conn.Close()
}

func probeRouter(ctx context.Context, socket string) error {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://pool/v1/status", nil)
	if err != nil {
		return err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("it doesn't answer: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers with HTTP %s when asked for its status", response.Status)
	}
	var status router.Status
	if err := json.NewDecoder(response.Body).Decode(&status); err != nil {
		return fmt.Errorf("its status can't be read: %w", err)
	}
	if !status.Configured {
		return errors.New("no configuration is in force yet: neither the operator's nor the pod's own has arrived")
	}
	return nil
}
