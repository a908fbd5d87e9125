package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
)

// nodeCommand is the hidden command that becomes pid 1 of the node's namespaces.
const nodeCommand = "node"

// nodeLog is the log of that process.
const nodeLog = "node"

// listenerFD is the socket on the host's loopback that the node is started with: a socket stays in the network
// namespace in which it was made, and so the node, which has none of the host's network, can serve it.
const listenerFD = 3

// startLimit bounds what the start waits for. Alone on two cores it takes 8 s; the limit is for a machine that has
// much else to do, since a component's death ends the wait at once.
const startLimit = 10 * time.Minute

// node is pid 1 of the cluster.
type node struct {
	rec   record
	board *board
	super *supervisor
}

// runNode never returns while the node lives: a start that failed stays to be looked at.
func runNode(_ paths, args []string) error {
	if len(args) != 2 || os.Getpid() != 1 {
		return errors.New("this command is the cluster's own: use `up`")
	}
	syscall.CloseOnExec(listenerFD) // not for the components
	p := paths{state: args[0], cache: args[1]}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	n := &node{board: newBoard()}
	socket, err := net.Listen("unix", p.socket())
	if err != nil {
		return err
	}
	go n.board.serve(socket)
	if err := n.bringUp(p); err != nil {
		log.Println(err)
		n.board.update(func(s *snapshot) { s.Failed = err.Error() })
	}
	for range n.board.restarts {
		if err := n.restart(); err != nil {
			log.Println(err)
			n.board.update(func(s *snapshot) { s.Failed = err.Error() })
		}
	}
	return nil
}

// bringUp makes the machine that the components expect, and starts them, each as soon as what it needs is there.
func (n *node) bringUp(p paths) (err error) {
	if n.rec, err = p.readRecord(); err != nil {
		return err
	}
	cgroups, err := p.findCgroups()
	if err == nil {
		err = cgroups.create()
	}
	if err != nil {
		return err
	}
	if err := setUpMounts(p); err != nil {
		return err
	}
	n.super = newSupervisor(n.board, statePath("logs"))
	ctx, cancel := startContext()
	defer cancel()
	if err := n.setUpNetwork(ctx); err != nil {
		return err
	}
	listener, err := net.FileListener(os.NewFile(listenerFD, "forward"))
	if err != nil {
		return fmt.Errorf("take over the host's socket: %w", err)
	}
	go forward(listener, "127.0.0.1:"+apiPort)
	ctx, stop := n.super.died(ctx)
	defer stop()
	return n.startAll(ctx)
}

func startContext() (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(context.Background(), startLimit, fmt.Errorf("the start took longer than %s", startLimit))
}

// restart starts the components that have ended, and waits until the cluster serves again. The others, the pods and what
// etcd holds stay as they are.
func (n *node) restart() error {
	now, _ := n.board.read()
	dead := now.dead()
	n.board.update(func(s *snapshot) {
		*s = s.withoutDead()
		s.Restarts++
		s.Ready, s.Failed, s.Phase = len(dead) == 0 && s.Ready, "", "starting again: "+strings.Join(dead, ", ")
	})
	if len(dead) == 0 {
		return nil
	}
	ctx, cancel := startContext()
	defer cancel()
	ctx, stop := n.super.died(ctx)
	defer stop()
	kubelet := slices.Index(dead, "kubelet")
	before, after := dead, []string(nil)
	if kubelet >= 0 {
		before, after = dead[:kubelet], dead[kubelet:]
	}
	if err := n.start(before...); err != nil {
		return err
	}
	if err := awaitSocket(ctx, containerdSocket); err != nil {
		return err
	}
	if err := awaitAPIServer(ctx); err != nil {
		return err
	}
	if kubelet >= 0 { // what the last one said of the node is no news of this one
		if err := n.kubectl(ctx, "-n", "kube-node-lease", "delete", "--ignore-not-found", "lease/"+nodeName); err != nil {
			return err
		}
	}
	if err := n.start(after...); err != nil {
		return err
	}
	if err := n.kubectl(ctx, "wait", "-n", "kube-node-lease", "--for=create", "lease/"+nodeName); err != nil {
		return err
	}
	return n.awaitServing(ctx)
}

func (n *node) startAll(ctx context.Context) error {
	if err := n.start("containerd", "etcd", "kube-apiserver"); err != nil {
		return err
	}
	n.phase("importing images, starting the control plane")
	if err := both(
		func() error { return n.importImages(ctx) },
		func() error { return n.startControlPlane(ctx) },
	); err != nil {
		return err
	}
	if err := n.start("kubelet", "kube-proxy"); err != nil {
		return err
	}
	return n.awaitServing(ctx)
}

// awaitServing waits until pods can be made and can find each other.
func (n *node) awaitServing(ctx context.Context) error {
	n.phase("waiting for the node")
	if err := n.kubectl(ctx, "wait", "--for=create", "node/"+nodeName); err != nil {
		return err
	}
	if err := n.kubectl(ctx, "wait", "--for=condition=Ready", "node/"+nodeName); err != nil {
		return err
	}
	n.phase("waiting for DNS")
	if err := n.kubectl(ctx, "-n", "kube-system", "rollout", "status", "deployment/coredns"); err != nil {
		return err
	}
	// A pod can't be created before its namespace has this account.
	if err := n.kubectl(ctx, "wait", "--for=create", "serviceaccount/default"); err != nil {
		return err
	}
	n.board.update(func(s *snapshot) { s.Phase, s.Ready = "ready", true })
	return nil
}

func (n *node) startControlPlane(ctx context.Context) error {
	if err := awaitAPIServer(ctx); err != nil {
		return err
	}
	if err := n.start("kube-controller-manager", "kube-scheduler"); err != nil {
		return err
	}
	return n.kubectl(ctx, "apply", "--server-side", "-f", statePath("etc/coredns.yaml"))
}

func (n *node) importImages(ctx context.Context) error {
	if err := awaitSocket(ctx, containerdSocket); err != nil {
		return err
	}
	for _, image := range n.rec.Images {
		cmd := exec.Command("ctr", "--namespace=k8s.io", "images", "import", path.Join(nodeCache, image))
		if err := n.super.run(ctx, cmd); err != nil {
			return fmt.Errorf("import %s: %w", image, err)
		}
	}
	return nil
}

func (n *node) start(names ...string) error {
	for _, name := range names {
		if err := n.super.startComponent(newComponent(n.rec, name)); err != nil {
			return err
		}
	}
	return nil
}

func (n *node) phase(what string) {
	n.board.update(func(s *snapshot) { s.Phase = what })
}

func (n *node) kubectl(ctx context.Context, args ...string) error {
	all := append([]string{"--kubeconfig=" + statePath("etc/admin.kubeconfig")}, args...)
	if args[0] == "wait" {
		all = append(all, "--timeout="+startLimit.String())
	}
	return n.super.run(ctx, exec.Command(path.Join(nodeCache, n.rec.Programs, "kubectl"), all...))
}

// awaitAPIServer asks until the answer is yes: the API server announces its readiness to nobody.
func awaitAPIServer(ctx context.Context) error {
	ca, err := os.ReadFile(pkiPath("ca.crt"))
	if err != nil {
		return err
	}
	admin, err := tls.LoadX509KeyPair(pkiPath("admin.crt"), pkiPath("admin.key"))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{admin}},
	}}
	defer client.CloseIdleConnections()
	return poll(ctx, func() bool {
		resp, err := client.Get("https://127.0.0.1:" + apiPort + "/readyz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

func awaitSocket(ctx context.Context, socket string) error {
	return poll(ctx, func() bool {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

func poll(ctx context.Context, done func() bool) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

// both runs two functions at the same time and returns the error of the first that fails.
func both(first, second func() error) error {
	errs := make(chan error, 2)
	for _, fn := range []func() error{first, second} {
		go func() { errs <- fn() }()
	}
	if err := <-errs; err != nil {
		return err
	}
	return <-errs
}
