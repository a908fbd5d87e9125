package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// tailLines is how much of a dead component's log is shown: enough for a Go panic's first frames.
const tailLines = 15

// status is the command: it succeeds only for a cluster that is ready and whole.
func status(p paths, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("status takes no arguments, not %q", args[0])
	}
	rec, err := p.readRecord()
	if err != nil {
		return err
	}
	w, now := p.look()
	if w == nil {
		return p.withTail(errNodeDied, nodeLog)
	}
	defer w.close()
	fmt.Printf("Kubernetes %s at https://127.0.0.1:%d, up for %s\n",
		rec.Version, rec.HostPort, time.Since(rec.Started).Round(time.Second))
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, c := range now.Components {
		state := "running, pid " + fmt.Sprint(c.PID) + " in the node"
		if !c.Exited.IsZero() {
			state = "died at " + c.Exited.Format(time.TimeOnly) + ": " + c.Exit
		}
		_, _ = fmt.Fprintf(out, "  %s\t%s\n", c.Name, state)
	}
	_ = out.Flush()
	if what, component := now.problem(); what != "" {
		return p.withTail(errors.New(what), component)
	}
	if !now.Ready {
		return fmt.Errorf("still starting: %s", now.Phase)
	}
	return p.nodeStatus(rec)
}

// nodeStatus asks the cluster itself: a component that hangs hasn't died.
func (p paths) nodeStatus(rec record) error {
	cmd := p.kubectlCommand(rec, "get", "node", nodeName, "--no-headers", "--request-timeout=10s")
	output, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("all components run, but the API server doesn't answer: see `logs kube-apiserver`\n%s", output)
	}
	fmt.Printf("  %s", output)
	return nil
}

// withTail adds the end of a component's log to an error.
func (p paths) withTail(err error, component string) error {
	tail, readErr := tailOf(p.log(component), tailLines)
	if readErr != nil || tail == "" {
		return err
	}
	return fmt.Errorf("%w\n--- the end of %s\n%s", err, p.log(component), tail)
}

// tailOf returns a file's last lines.
func tailOf(path string, lines int) (string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	all := strings.Split(string(bytes.TrimRight(content, "\n")), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n"), nil
}

// logs is the command: the whole log of one component, or the components' names.
func logs(p paths, args []string) error {
	follow := slices.Contains(args, "-f")
	args = slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a == "-f" })
	names := append([]string{nodeLog}, componentNames...)
	if len(args) == 0 {
		fmt.Println(strings.Join(names, "\n"))
		return nil
	}
	if len(args) > 1 || !slices.Contains(names, args[0]) {
		return fmt.Errorf("logs takes one component, one of: %s", strings.Join(names, " "))
	}
	if _, err := os.Stat(p.log(args[0])); err != nil {
		return errNotUp
	}
	argv := []string{"cat", p.log(args[0])}
	if follow {
		argv = []string{"tail", "--lines=+1", "--follow", p.log(args[0])}
	}
	return replaceWith(argv)
}

// replaceWith becomes another program: its output, signals and exit code are then its own.
func replaceWith(argv []string) error {
	file, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	return syscall.Exec(file, argv, os.Environ())
}
