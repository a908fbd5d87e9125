package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/hack/bench-pool/contestant"
	"github.com/dspex/workerpool-operator/hack/bench-pool/table"
)

// TestMain lets this test be the program that runs contestants.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == contestantCommand {
		if err := run(context.Background(), os.Args[1:]); err != nil {
			println(err.Error())
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// testBench is a run whose Python has nothing but the standard library.
func testBench(t *testing.T) *bench {
	t.Helper()
	python, err := exec.Command("python3", "-c", "import sys; print(sys.executable)").Output()
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Join("..", ".."))
	b, err := newRun(settings{rounds: 2, length: time.Millisecond, out: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(b.scratch) })
	if err := os.MkdirAll(filepath.Join(b.venv, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(strings.TrimSpace(string(python)), filepath.Join(b.venv, "bin", "python")); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestPhase: contestants of each kind answer each kind of load, and who can't start is absent and disturbs nobody.
func TestPhase(t *testing.T) {
	b := testBench(t)
	small := table.Workload{Command: "echo", Size: "200 B", Callers: 2, Workers: 2}
	phase := table.Phase{
		Title: "test",
		Contestants: []string{
			table.V1, table.V2, table.V2Opaque, table.V2JSON, table.V2Batch, table.Executor, table.MPApply, table.MPMap, table.MPPipe, table.Loky, table.Gunicorn,
			table.Sleepers,
		},
	}
	for _, command := range []string{"echo", "sleep", "burn"} {
		w := small
		w.Command = command
		phase.Workloads = append(phase.Workloads, w)
	}
	alone := table.Phase{
		Title: "alone", Contestants: []string{table.PingPong, table.PingPongJSON, table.V2Opaque, table.V2OpaquePipe},
		Workloads: []table.Workload{{Command: "echo", Size: "4 KB", Callers: 1, Workers: 1, Pinned: true}},
	}
	starts := table.Phase{
		Title: "starts", Contestants: []string{table.Forked, table.Spawned},
		Workloads: []table.Workload{{Command: table.Start, Size: "200 B", Callers: 1, Workers: 2}},
	}
	for _, p := range []table.Phase{phase, alone, starts} {
		if err := b.phase(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		for _, w := range p.Workloads {
			for _, name := range p.Contestants {
				rounds, want := b.results[table.Key{Contestant: name, Workload: w}], b.rounds
				if name == table.Loky || name == table.Gunicorn || !table.Takes(name, w) {
					want = 0
				}
				if len(rounds) != want {
					t.Errorf("%s has %d rounds of %s %s, want %d: %s", name, len(rounds), w.Command, w.Size, want, b.absent[name])
				}
				for _, f := range rounds {
					if f.Count == 0 || f.P50 <= 0 || f.Rate <= 0 || w.Command == "sleep" && f.P50 < 10*time.Millisecond {
						t.Errorf("%s, %s: %+v", name, w.Command, f)
					}
				}
			}
		}
	}
	forked := b.results[table.Key{Contestant: table.Forked, Workload: starts.Workloads[0]}]
	spawned := b.results[table.Key{Contestant: table.Spawned, Workload: starts.Workloads[0]}]
	for i := range min(len(forked), len(spawned)) {
		if own, whole := forked[i].Private, spawned[i].Private; own <= 0 || own > whole/2 || whole < 90e6 {
			t.Errorf("a forked worker owns %.0f bytes, a spawned one %.0f with its heap of 100 MB", own, whole)
		}
	}
	if len(b.absent) != 2 || b.absent[table.Loky] == "" || b.absent[table.Gunicorn] == "" {
		t.Errorf("absent: %v; want loky and gunicorn alone", b.absent)
	}
}

// TestContestantThatDies: its end is noticed and told, not waited for.
func TestContestantThatDies(t *testing.T) {
	b := testBench(t)
	p, err := b.begin(t.Context(), table.MPPipe, 1, false)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	if err := p.command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_, err = p.round(t.Context(), table.Workload{Command: "echo", Size: "200 B", Callers: 1}, time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "it has ended; see "+p.log) {
		t.Errorf("the round ended with %v", err)
	}
}

func TestTurns(t *testing.T) {
	b := &bench{settings: settings{rounds: 7, length: time.Second}}
	for size := range contestant.Sizes {
		want := 7
		if size == "4 MB" {
			want = 3
		}
		if got := b.turnsOf(table.Workload{Size: size}); got != want {
			t.Errorf("%d rounds of %s, want %d", got, size, want)
		}
	}
	if echo, sleep := b.turn(table.Workload{Command: "echo"}), b.turn(table.Workload{Command: "sleep"}); echo != time.Second || sleep != 4*time.Second {
		t.Errorf("turns of %s and %s", echo, sleep)
	}
}

func TestParse(t *testing.T) {
	if s, err := parse(nil); err != nil || s.rounds%2 == 0 || s.doc == "" {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := parse([]string{"-rounds", "0"}); err == nil {
		t.Error("a run without rounds is accepted")
	}
}

func TestTakesPart(t *testing.T) {
	b := &bench{settings: settings{only: "v2,mp-pipe"}, absent: table.Absent{table.MPPipe: "why"}}
	for name, want := range map[string]bool{table.V2: true, table.V2Opaque: false, table.V1: false, table.MPPipe: false} {
		if got := b.takesPart(name); got != want {
			t.Errorf("%s takes part: %v, want %v", name, got, want)
		}
	}
}

func TestReasonOfPip(t *testing.T) {
	output := "Collecting x\n  ERROR: Could not find a version that satisfies x\nERROR: No matching distribution found\n"
	if got := reason(output, errors.New("exit status 1")); got != "Could not find a version that satisfies x" {
		t.Errorf("reason %q", got)
	}
	if got := reason("killed\n", errors.New("signal: killed")); got != "signal: killed" {
		t.Errorf("reason %q", got)
	}
}
