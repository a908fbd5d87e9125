package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dspex/workerpool-operator/test/e2e/harness"
)

// cleanUp tells how to go on.
func cleanUp() string {
	if os.Getenv("CLUSTER") == "existing" {
		return "look around: kubectl get wp -A     clean up: make undeploy"
	}
	return "look around: go run ./hack/cluster kubectl get wp -A     clean up: go run ./hack/cluster down"
}

// screen prints for people, at most 100 columns wide.
type screen struct {
	out       io.Writer
	namespace string // that it shows
	begun     time.Time
	steps     int
}

func newScreen(out io.Writer, namespace string) *screen {
	return &screen{out: out, namespace: namespace, begun: time.Now()}
}

// step heads a step with the time since the demo began.
func (s *screen) step(title, shows string) {
	s.steps++
	took := time.Since(s.begun)
	fmt.Fprintf(s.out, "\n%2d:%02d  %d. %s\n       %s\n", int(took.Minutes()), int(took.Seconds())%60, s.steps, title, shows)
}

func (s *screen) say(format string, args ...any) {
	fmt.Fprintf(s.out, "       "+format+"\n", args...)
}

// command shows what is being run, broken where a line would become too long.
func (s *screen) command(name string, args ...string) {
	line := "       $ " + name
	for _, arg := range args {
		if utf8.RuneCountInString(line)+1+len(arg) > 96 {
			fmt.Fprintln(s.out, line+" \\")
			line = "           " + arg
			continue
		}
		line += " " + arg
	}
	fmt.Fprintln(s.out, line)
}

// pools shows `kubectl get workerpools`.
func (s *screen) pools(ctx context.Context, c *harness.Cluster) error {
	table, err := c.Kubectl(ctx, "-n", s.namespace, "get", "workerpools")
	if err != nil {
		return err
	}
	for line := range strings.Lines(table) {
		fmt.Fprintln(s.out, "       "+strings.TrimRight(line, " \n"))
	}
	return nil
}

// summary shows the promises, and returns an error that names those that didn't hold.
func (s *screen) summary(promises []promise) error {
	fmt.Fprintf(s.out, "\n  %-30s %s\n", "promise", "measured")
	var failed []string
	for _, p := range promises {
		line := fmt.Sprintf("  %-30s %-63s %s", p.text, p.measured, p.verdict)
		fmt.Fprintln(s.out, strings.TrimRight(line, " "))
		if p.verdict == broken {
			failed = append(failed, p.text)
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("not as promised: %s%s", strings.Join(failed, "; "), busy())
	}
	fmt.Fprintf(s.out, "%s\n", cleanUp())
	return nil
}

// busy is a remark for when the machine has had other things to do: throughput is promised for one that hasn't.
func busy() string {
	var oneMinute float64
	content, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	if _, err := fmt.Sscan(string(content), &oneMinute); err != nil || oneMinute < 2*float64(runtime.NumCPU()) {
		return ""
	}
	return fmt.Sprintf(" (but this machine is busy: load %.0f on %d cores)", oneMinute, runtime.NumCPU())
}
