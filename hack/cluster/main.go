// Command cluster runs a real one-node Kubernetes on a bare Debian machine: etcd, the API server, controllers,
// scheduler, kubelet, kube-proxy, containerd and CoreDNS, with no container engine and no image registry.
//
//	go run ./hack/cluster up
//
// Start reading at up.go (what happens on the host) and node.go (what happens inside). Everything runs below one
// process, the node: pid 1 of private mount, network, pid, uts and ipc namespaces. When that process ends, however it
// ends, the kernel takes every process, mount and interface with it. What then remains is files below two folders
// (paths.go) and a cgroup (cgroup.go).
package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// A command is what the first argument names. Commands with an empty help line aren't listed.
type command struct {
	name, args, help string
	run              func(p paths, args []string) error
}

func commands() []command {
	return []command{
		{"up", "", "start the cluster, or what has died of it", up},
		{"down", "[--purge-cache]", "stop it, leave nothing; the flag removes the builds, too", down},
		{"status", "", "what runs; fails and shows why when something died", status},
		{"kubectl", "ARGS...", "kubectl against the cluster", kubectl},
		{"load", "[--images] [NAME|FILE.tar...]", "load images: tarballs and the project's own (flag: all)", load},
		{"env", "[--assets]", "shell exports; the flag prints only envtest's folder", env},
		{"logs", "[COMPONENT] [-f]", "a component's log; without a name, the names", logs},
		{"exec", "[--] CMD...", "run a command in the node's namespaces", execInNode},
		{"build", "[PROGRAM...]", "build the cluster's programs into the cache, or some", build},
		{nodeCommand, "", "", runNode},
	}
}

// exitCode is the error of a command whose child has already said what went wrong.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// Parent-death signals fire when the thread that started a child ends, so the main goroutine keeps the main thread.
func init() { runtime.LockOSThread() }

func main() {
	// A line to a closed pipe (`status | head`) is an error to ignore, not a reason to die half-way.
	signal.Ignore(unix.SIGPIPE)
	err := dispatch(os.Args[1:])
	var code exitCode
	switch {
	case errors.As(err, &code):
		os.Exit(int(code))
	case err != nil:
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func dispatch(args []string) error {
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		fmt.Print(usage())
		return nil
	}
	for _, c := range commands() {
		if c.name == args[0] {
			p, err := findPaths()
			if err != nil {
				return err
			}
			return c.run(p, args[1:])
		}
	}
	return fmt.Errorf("no command %q: `go run ./hack/cluster help` lists them", args[0])
}

func usage() string {
	var b strings.Builder
	b.WriteString("Usage: go run ./hack/cluster COMMAND\n\n")
	for _, c := range commands() {
		if c.help != "" {
			fmt.Fprintf(&b, "  %-36s %s\n", c.name+" "+c.args, c.help)
		}
	}
	return b.String()
}
