package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dspex/workerpool-operator/test/e2e/harness"
)

const cleanUp = "look around: go run ./hack/cluster kubectl get wp -A     clean up: go run ./hack/cluster down"

// screen prints for people, at most 100 columns wide.
type screen struct {
	out   io.Writer
	begun time.Time
	steps int
}

func newScreen(out io.Writer) *screen { return &screen{out: out, begun: time.Now()} }

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
	table, err := c.Kubectl(ctx, "-n", namespace, "get", "workerpools")
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
		fmt.Fprintf(s.out, "  %-30s %-60s %s\n", p.text, p.measured, p.verdict)
		if p.verdict == broken {
			failed = append(failed, p.text)
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("not as promised: %s", strings.Join(failed, "; "))
	}
	fmt.Fprintf(s.out, "%s\n", cleanUp)
	return nil
}
