package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/router"
)

// bootstrapVariable holds the snapshot that injection wrote into the pod.
const bootstrapVariable = "WORKERPOOL_BOOTSTRAP"

// runRouter is `poold router`: it serves the application until it is told to end, by SIGTERM.
func runRouter(args []string) int {
	config, bootstrapFile, err := routerConfig(args)
	if err != nil {
		return usageCode(err) // the flag package has said why
	}
	if err := completeRouter(&config, bootstrapFile); err != nil {
		fmt.Fprintf(os.Stderr, "poold router: %v\n", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := router.New(config).Run(ctx); err != nil {
		config.Logger.Error("router ends", "error", err)
		return 1
	}
	config.Logger.Info("router ends", "reason", "drained")
	return 0
}

// routerConfig reads the flags.
func routerConfig(args []string) (_ router.Config, bootstrapFile string, _ error) {
	config := router.Config{
		Instance: rand.Text(), Version: buildVersion(),
		Logger: slog.New(slog.NewJSONHandler(os.Stderr, nil)).With("component", "router"),
	}
	flags := flag.NewFlagSet("poold router", flag.ContinueOnError)
	flags.Usage = func() {
		_, _ = fmt.Fprintf(flags.Output(), "usage: poold router --pool NAME [flags]\n"+
			"The pod's own configuration (a snapshot in protojson, with no epoch) comes in $%s or --bootstrap-file.\n", bootstrapVariable)
		flags.PrintDefaults()
	}
	flags.StringVar(&config.Pool, "pool", "", "`name` of the WorkerPool; required")
	flags.StringVar(&config.PoolUID, "pool-uid", "", "`UID` of the WorkerPool, compared with the operator's")
	flags.StringVar(&config.Socket, "socket", appSocket, "`path` of the application's unix socket; its folder is the router's")
	flags.StringVar(&config.Listen, "listen", "127.0.0.1:7413", "loopback `address` that serves the same; \"\": none")
	flags.StringVar(&config.SlotsDir, "slots-dir", "/run/workerpool/slots", "`folder` with a/pool.sock and b/pool.sock")
	flags.StringVar(&config.StateDir, "state-dir", "", "`folder` that keeps the last applied snapshot, programs and sessions; \"\": the first is lost with the process, the others aren't available")
	flags.StringVar(&config.ControlAddress, "control-address", "", "`host:port` of the operator; \"\": none, the bootstrap is all there is")
	flags.StringVar(&config.CAFile, "ca-file", "/run/workerpool/identity/ca.crt", "PEM `file` that the operator is trusted by; read for each connection")
	flags.StringVar(&config.TokenFile, "token-file", "/run/workerpool/identity/token", "`file` with the bearer token; read for each stream")
	flags.DurationVar(&config.StartupWait, "startup-wait", 3*time.Second, "how long to wait for the operator before starting from what there is")
	flags.IntVar(&config.MaxPayload, "max-payload", frame.DefaultMaxPayload, "largest body of a request, in `bytes`; the slots take no more than the default")
	flags.StringVar(&bootstrapFile, "bootstrap-file", "", "`file` with the pod's own configuration, in place of $"+bootstrapVariable)
	err := flags.Parse(args)
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
		_, _ = fmt.Fprintf(flags.Output(), "poold router: %v\n", err)
	}
	return config, bootstrapFile, err
}

// completeRouter reads the bootstrap, and refuses what can't work.
func completeRouter(config *router.Config, bootstrapFile string) error {
	config.Bootstrap = []byte(os.Getenv(bootstrapVariable))
	if bootstrapFile != "" {
		text, err := os.ReadFile(bootstrapFile)
		if err != nil {
			return fmt.Errorf("--bootstrap-file: %w", err)
		}
		config.Bootstrap = text
	}
	switch {
	case config.Pool == "":
		return errors.New("--pool is required")
	case config.ControlAddress == "" && len(config.Bootstrap) == 0:
		return fmt.Errorf("there is nothing to serve: give --control-address, $%s or --bootstrap-file", bootstrapVariable)
	case config.MaxPayload < 1 || config.MaxPayload > frame.DefaultMaxPayload:
		return fmt.Errorf("--max-payload %d: wanted 1 to %d, what a slot takes", config.MaxPayload, frame.DefaultMaxPayload)
	}
	return nil
}

// buildVersion is the module's version, "(devel)" for a build from a checkout.
func buildVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return ""
}

// usageCode is the exit code after flags weren't parsed: asking for help is no failure.
func usageCode(err error) int {
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	return 2
}
