package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/dspex/workerpool-operator/internal/cgroup"
	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
	"github.com/dspex/workerpool-operator/internal/slot"
)

// runPool is `poold pool`: the supervisor of one slot. It ends only when it is told to (SIGTERM, SIGINT), never
// for anything that Python does: a sidecar that exits takes its pod out of service.
func runPool(args []string) int {
	opt, code := poolOptions(args)
	if opt == nil {
		return code
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil)).With("slot", opt.Name)
	if err := servePool(opt, log); err != nil {
		log.Error("slot ended", "error", err)
		return 1
	}
	return 0
}

// poolSettings are a slot's, and what its supervisor does beside it.
type poolSettings struct {
	slot.Options
	tmpLimit uint64 // of files below /tmp, in bytes; 0: none
}

func poolOptions(args []string) (opt *poolSettings, code int) {
	flags := flag.NewFlagSet("poold pool", flag.ContinueOnError)
	opt = &poolSettings{Options: slot.Options{Env: os.Environ()}}
	flags.StringVar(&opt.Name, "name", "", "name of the slot: a or b (required)")
	flags.StringVar(&opt.Socket, "socket", "", "unix socket to serve the router on (required)")
	flags.StringVar(&opt.PythonDir, "python-dir", "/opt/workerpool/python", "folder with poolworker's __main__.py")
	flags.IntVar(&opt.MaxWorkers, "max-workers", 0, "workers that the container's limits allow; 0: no limit")
	flags.Uint64Var(&opt.WorkerMemory, "worker-memory", 0, "bytes of memory that one worker may take; 0: as much as the container's limit, if it has one")
	flags.Uint64Var(&opt.tmpLimit, "tmp-limit", 0, "bytes that all workers may have in files below /tmp; 0: no limit. Beyond, the worker that has most is ended")
	flags.IntVar(&opt.MaxPayload, "max-payload", frame.DefaultMaxPayload, "largest request or reply, in bytes")
	flags.DurationVar(&opt.InitTimeout, "init-timeout", worker.DefaultInitTimeout, "from a worker's start to ready, imports included, where the configuration has no limit")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, 0
		}
		return nil, 2
	}
	if err := completeOptions(&opt.Options, flags.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "poold pool:", err)
		return nil, 2
	}
	return opt, 0
}

// completeOptions makes paths absolute and refuses what can't work.
func completeOptions(opt *slot.Options, rest []string) (err error) {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q; all settings are flags", rest[0])
	case opt.Name == "" || opt.Socket == "":
		return fmt.Errorf("--name and --socket are required")
	case opt.MaxWorkers < 0 || opt.MaxPayload < 1 || opt.InitTimeout <= 0:
		return fmt.Errorf("--max-workers, --max-payload and --init-timeout must be positive (--max-workers 0: no limit)")
	}
	if opt.WorkingDir, err = os.Getwd(); err != nil {
		return err
	}
	if opt.PythonDir, err = filepath.Abs(opt.PythonDir); err != nil {
		return err
	}
	opt.Socket, err = filepath.Abs(opt.Socket)
	return err
}

// terminationGrace bounds the end of the slot after SIGTERM when its configuration has a longer drain timeout.
const terminationGrace = 10 * time.Minute

func servePool(opt *poolSettings, log *slog.Logger) error {
	stopped, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ignoreUnrelatedSignals()
	listener, err := slot.Listen(opt.Socket)
	if err != nil {
		return err
	}
	defer listener.Close()
	host, err := worker.NewHost(log)
	if err != nil {
		return err
	}
	defer func() { _ = host.Close() }() // Slot.Close has said what is left
	if opt.Marker, err = slot.Marker(opt.Name, opt.Socket); err != nil {
		log.Warn("workers that an earlier supervisor left aren't looked for", "error", err)
	} else if n := host.KillLeftovers(opt.Marker); n > 0 {
		log.Warn("killed workers that an earlier supervisor left", "processes", n)
	}
	guardMemory(&opt.Options, host, cgroup.Own())
	// The socket's folder is a volume that workers can write to as well.
	host.GuardFiles(opt.tmpLimit, "/tmp", filepath.Dir(opt.Socket))
	opt.Host, opt.Log = host, log
	return serveUntil(stopped, slot.New(opt.Options), listener, log)
}

// guardMemory bounds what workers take, one by one and together, by what is known of the container.
func guardMemory(opt *slot.Options, host *worker.Host, memory cgroup.Memory) {
	if opt.WorkerMemory == 0 {
		opt.WorkerMemory = memory.Limit()
	}
	host.GuardMemory(memory)
}

// ignoreUnrelatedSignals keeps signals that mean nothing here from ending the process. They are caught, not ignored:
// workers would inherit that.
func ignoreUnrelatedSignals() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM, syscall.SIGPIPE)
}

// serveUntil serves until stopped ends, then lets running requests finish and ends all workers.
func serveUntil(stopped context.Context, s *slot.Slot, listener net.Listener, log *slog.Logger) error {
	server := slot.NewServer(s, slot.DefaultMaxConnections)
	ended := make(chan error, 1)
	ctx := context.WithoutCancel(stopped) // requests outlive the signal: they drain
	go func() { ended <- server.Serve(ctx, listener) }()
	log.Info("slot serves", "socket", listener.Addr().String())
	<-stopped.Done()
	log.Info("slot drains")
	_ = listener.Close()
	bounded, cancel := context.WithTimeout(ctx, terminationGrace)
	defer cancel()
	s.Close(bounded)
	server.Close()
	return <-ended
}
