package main

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/test/e2e/harness"
)

// width is that of the screen, in columns.
const width = 100

// evidence shows what `kubectl describe workerpool` says of the rollback: the part that matters at 3 a.m.
func (s *screen) evidence(ctx context.Context, c *harness.Cluster) error {
	s.command("kubectl", "-n", s.namespace, "describe", "workerpool", pool)
	described, err := c.Kubectl(ctx, "-n", s.namespace, "describe", "workerpool", pool)
	if err != nil {
		return err
	}
	for _, kind := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionRolledBack} {
		condition := conditionIn(described, kind)
		if len(condition) == 0 {
			return fmt.Errorf("kubectl describe shows no condition %s:\n%s", kind, described)
		}
		for _, line := range condition {
			for _, part := range wrap(strings.TrimSpace(line), width-7, 23) {
				fmt.Fprintln(s.out, "       "+part)
			}
		}
	}
	return nil
}

// conditionIn returns the lines of one condition in the output of `kubectl describe`, without those that only repeat
// numbers. Each condition ends with its type.
func conditionIn(described, kind string) []string {
	_, conditions, found := strings.Cut(described, "\n  Conditions:\n")
	if !found {
		return nil
	}
	var lines []string
	for line := range strings.Lines(conditions) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch {
		case !strings.HasPrefix(line, "    "):
			return nil
		case name == "Type":
			if strings.TrimSpace(value) == kind {
				return append([]string{strings.TrimRight(line, "\n")}, lines...)
			}
			lines = nil
		case name == "Last Transition Time", name == "Observed Generation":
		default:
			lines = append(lines, strings.TrimRight(line, "\n"))
		}
	}
	return nil
}

// wrap breaks a line at its spaces so that no part is longer than columns, but a word that is by itself. What follows the
// first part is indented.
func wrap(line string, columns, indent int) (parts []string) {
	for utf8.RuneCountInString(line) > columns {
		runes := []rune(line)
		cut := strings.LastIndex(string(runes[:columns+1]), " ")
		if cut <= indent {
			break
		}
		parts = append(parts, strings.TrimRight(line[:cut], " "))
		line = strings.Repeat(" ", indent) + strings.TrimLeft(line[cut:], " ")
	}
	return append(parts, line)
}
