// Command bench-pool measures the pool against what a user would pick instead: Python's own pools, web servers, loky,
// Ray, and the least that a request to Python can cost. All of them run the same handlers with the same payloads on
// this machine, by turns, and only figures of the same turn are compared.
//
//	make bench-pool
//	go run ./hack/bench-pool -rounds 3 -length 100ms -doc ""     # short, for a look; writes no document
//
// main.go is the run, phases.go the turns, process.go one contestant, venv.go where the peers come from, publish.go
// where the tables go. Package contestant is the other side of process.go, package table what the results mean.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/dspex/workerpool-operator/hack/bench-pool/contestant"
	"github.com/dspex/workerpool-operator/hack/bench-pool/table"
)

// The main thread is kept for what starts processes: a child's parent-death signal is bound to the thread.
func init() { runtime.LockOSThread() }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-pool:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == contestantCommand {
		return contest(ctx, args[1:])
	}
	return measure(ctx, args)
}

// settings are the flags.
type settings struct {
	rounds int
	length time.Duration
	only   string
	out    string
	doc    string
	json   string
}

func parse(args []string) (s settings, err error) {
	flags := flag.NewFlagSet("bench-pool", flag.ContinueOnError)
	flags.IntVar(&s.rounds, "rounds", 7, "how often each contestant has its turn; an odd number has a middle")
	flags.DurationVar(&s.length, "length", 150*time.Millisecond, "of a turn; handlers that wait or compute get four times as much")
	flags.StringVar(&s.only, "only", "", "names of contestants, comma-separated: all others stay away")
	flags.StringVar(&s.out, "out", "out/bench-pool", "where the peers are installed and logs are written")
	flags.StringVar(&s.doc, "doc", "docs/benchmarks.md", `document whose section on pools is rewritten; "" for none`)
	flags.StringVar(&s.json, "json", os.Getenv("BENCH_OUT"), "file to which a line of JSON is added for each row")
	err = flags.Parse(args)
	if err == nil && s.rounds < 1 {
		err = fmt.Errorf("-rounds is %d; at least one round is needed", s.rounds)
	}
	return s, err
}

func measure(ctx context.Context, args []string) error {
	s, err := parse(args)
	if err != nil {
		return err
	}
	r, err := newRun(s)
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(r.scratch) }()
	machine := describe(r.cores)
	start := time.Now()
	if err := r.install(ctx); err != nil {
		return err
	}
	machine.Python, machine.Codec = r.pythonVersion(), r.codec()
	for _, phase := range table.Phases() {
		if err := r.phase(ctx, phase); err != nil {
			return err
		}
	}
	machine.Took = time.Since(start)
	return publish(os.Stdout, s, machine, table.Rows(r.results, len(r.cores)), r.results, r.absent)
}

// bench is one run.
type bench struct {
	settings
	self    string // this program
	root    string // of the repository
	venv    string
	scratch string
	cores   []int // that this process may use
	results table.Results
	absent  table.Absent
}

func newRun(s settings) (*bench, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	root, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(root, "hack", "bench-pool", "requirements.txt")); err != nil {
		return nil, fmt.Errorf("run it from the repository's root: %w", err)
	}
	if s.out, err = filepath.Abs(s.out); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(s.out, "logs"), 0o755); err != nil {
		return nil, err
	}
	scratch, err := os.MkdirTemp("", "bench-pool-")
	if err != nil {
		return nil, err
	}
	cores, err := allowedCores()
	if err != nil {
		return nil, err
	}
	return &bench{
		settings: s, self: self, root: root, venv: filepath.Join(s.out, "venv"), scratch: scratch, cores: cores,
		results: table.Results{}, absent: table.Absent{},
	}, contestant.WritePayloads(scratch)
}

// takesPart is false for who was left out by -only, and for peers that can't be installed.
func (b *bench) takesPart(name string) bool {
	if _, absent := b.absent[name]; absent {
		return false
	}
	return b.only == "" || strings.Contains(","+b.only+",", ","+name+",")
}

const contestantCommand = "contestant"

// contest is the life of a contestant that is written in Go; see process.go for its arguments.
func contest(ctx context.Context, args []string) error {
	var s contestant.Setup
	flags := flag.NewFlagSet(contestantCommand, flag.ContinueOnError)
	flags.IntVar(&s.Workers, "workers", table.Workers, "")
	flags.StringVar(&s.Python, "python", "", "")
	flags.StringVar(&s.PythonDir, "handlers", "", "")
	flags.StringVar(&s.PoolDir, "poolworker", "", "")
	flags.StringVar(&s.Payloads, "payloads", "", "")
	flags.StringVar(&s.Scratch, "scratch", "", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	return contestant.Serve(ctx, flags.Arg(0), s, os.Stdin, os.Stdout)
}
