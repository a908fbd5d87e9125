package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// kubectl is the command: the built kubectl against the cluster, with its exit code. It runs beside a dead component, which
// is what one wants to look at; when a component dies meanwhile, kubectl is ended and the component's log shown.
func kubectl(p paths, args []string) error {
	if len(args) > 0 && args[0] == "kustomize" {
		return kustomize(p, args)
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
	if what, _ := now.problem(); what != "" {
		fmt.Fprintf(os.Stderr, "cluster: %s; `up` starts it again\n", what)
	}
	return p.runWatched(p.kubectlCommand(rec, args...), w, now)
}

// kustomize is the one part of kubectl that wants no cluster.
func kustomize(p paths, args []string) error {
	tools, err := p.ensure("kubectl")
	if err != nil {
		return err
	}
	program := filepath.Join(p.inCache(tools[kubernetesModule].dir), "kubectl")
	return replaceWith(append([]string{program}, args...))
}

func (p paths) kubectlCommand(rec record, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(p.inCache(rec.Programs), "kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+p.kubeconfig(), "KUBECACHEDIR="+p.kubectlCache())
	return cmd
}

// runWatched ends a command when a component dies that was alive before: what it waits for may never come.
func (p paths) runWatched(cmd *exec.Cmd, w *watch, before snapshot) error {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// The terminal sends Ctrl-C to both: the child decides what it means.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGQUIT)
	if err := cmd.Start(); err != nil {
		return err
	}
	var result error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		result = cmd.Wait()
	}()
	died := make(chan error, 1)
	go func() { died <- p.firstProblem(w, before) }()
	select {
	case <-ended:
		return asExitCode(result)
	case err := <-died:
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		return err
	}
}

// asExitCode makes a child's failure our own exit code: the child has said what it was.
func asExitCode(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exitCode(max(exit.ExitCode(), 1))
	}
	return err
}

// firstProblem waits for something to go wrong that wasn't wrong before.
func (p paths) firstProblem(w *watch, before snapshot) error {
	known := before.dead()
	for {
		now, err := w.next()
		if err != nil {
			return errNodeDied
		}
		for _, name := range now.dead() {
			if !slices.Contains(known, name) {
				return p.withTail(errors.New(name+" died"), name)
			}
		}
		known = now.dead()
	}
}

// execInNode is the command: it enters all of the node's namespaces.
func execInNode(p paths, args []string) error {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return errors.New("exec takes a command, as in `exec -- ip address`")
	}
	enter, err := p.enter()
	if err != nil {
		return err
	}
	return replaceWith(append(enter, args...))
}

// enter is the command line before a command that is to run in the node.
func (p paths) enter() ([]string, error) {
	pid := p.findNode()
	if pid == 0 {
		return nil, errNotUp
	}
	if err := needRoot(); err != nil {
		return nil, fmt.Errorf("enter the node: %w", err)
	}
	target := strconv.Itoa(pid)
	return []string{"nsenter", "--target", target, "--mount", "--net", "--pid", "--uts", "--ipc", "--wd", "--"}, nil
}
