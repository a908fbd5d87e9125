package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// systemImages are what every cluster runs: the pods' sandbox and DNS.
var systemImages = []string{"pause", "coredns"}

// up is the command. It may be interrupted anywhere: what is built stays built, a start that began goes on by itself,
// and the next `up` joins it.
func up(p paths, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("up takes no arguments, not %q", args[0])
	}
	if err := needRoot(); err != nil {
		return err
	}
	unlock, err := p.lock(p.clusterName())
	if err != nil {
		return err
	}
	defer unlock()
	if w, state := p.look(); w != nil {
		defer w.close()
		what, _ := state.problem()
		if what == "" {
			return joinCluster(p, w, state)
		}
		err := p.repair(w, state)
		if err == nil {
			return nil
		}
		say("the running cluster is broken: %s: replacing it", err)
	}
	if err := p.clean(); err != nil {
		return err
	}
	return p.start()
}

// joinCluster waits for a cluster that runs already.
func joinCluster(p paths, w *watch, now snapshot) error {
	rec, err := p.readRecord()
	if err != nil {
		return err
	}
	if tools, err := readToolsets(p.checkout); err == nil && tools[kubernetesModule].dir != rec.Programs {
		say("the running cluster is of another version than this checkout: `down` and `up` replace it")
	}
	return beating(func() error { return p.await(w, now, rec) })
}

// repair has dead components started again, which leaves all else of the cluster as it is. A start that failed has nothing
// to leave.
func (p paths) repair(w *watch, broken snapshot) error {
	dead := broken.dead()
	if broken.Failed != "" || len(dead) == 0 {
		what, _ := broken.problem()
		return errors.New(what)
	}
	say("starting again: %s", strings.Join(dead, ", "))
	rec, err := p.readRecord()
	if err != nil {
		return err
	}
	now, err := w.restart(broken)
	if err != nil {
		return err
	}
	return beating(func() error { return p.await(w, now, rec) })
}

// look returns the running node's state, nil when none runs.
func (p paths) look() (*watch, snapshot) {
	w, err := dialBoard(p.socket())
	if err != nil {
		return nil, snapshot{}
	}
	now, err := w.next()
	if err != nil {
		w.close()
		return nil, snapshot{}
	}
	return w, now
}

func (p paths) start() error {
	if err := installDebianPackages(); err != nil {
		return err
	}
	tools, err := p.ensure()
	if err != nil {
		return err
	}
	images, unlock, err := p.buildImages(tools, systemImages...)
	if err != nil {
		return err
	}
	defer unlock() // the node has imported them by then
	begun := time.Now()
	if err := p.launch(tools[kubernetesModule], images); err != nil {
		return err
	}
	w, now := p.look()
	if w == nil {
		return p.withTail(errNodeDied, nodeLog)
	}
	defer w.close()
	rec, err := p.readRecord()
	if err != nil {
		return err
	}
	defer func() { detail("took %s", round(time.Since(begun))) }()
	return beating(func() error { return p.await(w, now, rec) })
}

// launch writes all that the node reads, and starts it.
func (p paths) launch(kubernetes toolset, images []string) error {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("find a free port of the loopback: %w", err)
	}
	defer listener.Close()
	rec := record{
		Version: kubernetes.version, Programs: kubernetes.dir, Images: images, Started: time.Now(),
		HostPort: listener.Addr().(*net.TCPAddr).Port,
	}
	ca, pairs, err := writePKI(p)
	if err != nil {
		return err
	}
	if err := writeKubeconfigs(p, ca, pairs, rec.HostPort); err != nil {
		return err
	}
	if err := writeConfig(p); err != nil {
		return err
	}
	if err := p.writeRecord(rec); err != nil {
		return err
	}
	say("starting Kubernetes %s (logs in %s)", rec.Version, p.logs())
	return p.spawn(listener.(*net.TCPListener))
}

// spawn starts this program again as pid 1 of new namespaces, and returns when that listens on its socket.
func (p paths) spawn(listener *net.TCPListener) error {
	socket, err := listener.File()
	if err != nil {
		return err
	}
	defer socket.Close()
	if err := os.MkdirAll(p.logs(), 0o755); err != nil {
		return err
	}
	log, err := os.Create(p.log(nodeLog))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{nodeArgv0, nodeCommand, p.state, p.cache}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{socket}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid: true, // Ctrl-C in the terminal of `up` isn't meant for the cluster
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID |
			syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the node in namespaces of its own: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return p.awaitNode(ended)
}

func (p paths) awaitNode(ended <-chan error) error {
	listening := make(chan error, 1)
	go func() {
		listening <- retry(time.Minute, 10*time.Millisecond, func() error {
			w, err := dialBoard(p.socket())
			if err == nil {
				w.close()
			}
			return err
		})
	}()
	select {
	case err := <-listening:
		return err
	case err := <-ended:
		return p.withTail(fmt.Errorf("the node died at once: %w", err), nodeLog)
	}
}

// await follows the node's start until the cluster is ready or can't be any more.
func (p paths) await(w *watch, now snapshot, rec record) error {
	for phase := ""; ; {
		if what, component := now.problem(); what != "" {
			return p.withTail(errors.New(what), component)
		}
		if now.Ready {
			say("up: Kubernetes %s at https://127.0.0.1:%d", rec.Version, rec.HostPort)
			detail("KUBECONFIG=%s", p.kubeconfig())
			return nil
		}
		if now.Phase != phase {
			phase = now.Phase
			detail("%s", phase)
		}
		var err error
		if now, err = w.next(); err != nil {
			return p.withTail(errNodeDied, nodeLog)
		}
	}
}

func needRoot() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("not root: namespaces, cgroups and containerd need it; try `sudo -E %s`",
			filepath.Base(os.Args[0]))
	}
	return nil
}
