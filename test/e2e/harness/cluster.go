// Package harness is what the demo and the end-to-end tests share: a cluster with the operator deployed, the sample
// application in its pods, and what can be seen of a pod from the machine that the cluster runs on.
//
// The cluster is the local one of hack/cluster, or with CLUSTER=existing in the environment the current kubeconfig's.
// What needs the local one's machine returns ErrNotThisMachine on the other.
//
// It returns errors and prints nothing but what it is given a writer for; the tests wrap it.
package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
)

// Cluster is a connection to a cluster.
type Cluster struct {
	client.WithWatch
	Config *rest.Config
	Images Images

	http           *http.Client
	existing       bool   // not the local one
	context        string // of the kubeconfig, for an existing cluster
	operatorDigest string // of the operator's image, as a node of an existing cluster has it
	kubeconfig     string // of the local cluster
	kubectl        string // path of the program
	checkout       string
}

// Up starts the local cluster unless it runs, loads the project's images, and connects; with CLUSTER=existing it only
// connects, and looks whether that cluster will do. The programs' own progress goes to out.
func Up(ctx context.Context, out io.Writer) (*Cluster, error) {
	if err := checkChoice(); err != nil {
		return nil, err
	}
	if wantsExisting() {
		return existing(ctx, out)
	}
	checkout, err := findCheckout()
	if err != nil {
		return nil, err
	}
	for _, args := range [][]string{{"up"}, {"load", "--images"}} {
		cmd := exec.CommandContext(ctx, "go", append([]string{"run", "./hack/cluster"}, args...)...)
		cmd.Dir, cmd.Stdout, cmd.Stderr = checkout, out, out
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("go run ./hack/cluster %s: %w", strings.Join(args, " "), err)
		}
	}
	return Connect(ctx)
}

// Connect connects to the local cluster, whatever KUBECONFIG says: only who asks for another one may ever reach it.
func Connect(ctx context.Context) (*Cluster, error) {
	checkout, err := findCheckout()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "sh", "-c",
		`exports=$(go run ./hack/cluster env) && eval "$exports" && echo "$KUBECONFIG" && command -v kubectl`)
	cmd.Dir, cmd.Stderr = checkout, os.Stderr
	output, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go run ./hack/cluster env: %w (is the cluster up?)", err)
	}
	lines := strings.Split(strings.TrimSpace(string(output)), "\n")
	if len(lines) != 2 {
		return nil, fmt.Errorf("go run ./hack/cluster env: no kubeconfig and kubectl in %q", output)
	}
	c := &Cluster{Images: assembled, kubeconfig: lines[0], kubectl: lines[1], checkout: checkout}
	if c.Config, err = clientcmd.BuildConfigFromFlags("", c.kubeconfig); err != nil {
		return nil, err
	}
	return c, c.dial()
}

func (c *Cluster) dial() (err error) {
	log.SetLogger(logr.Discard())
	c.Config.QPS = -1 // tests aren't to be throttled by their own client
	if c.http, err = rest.HTTPClientFor(c.Config); err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	c.WithWatch, err = client.NewWithWatch(c.Config, client.Options{Scheme: scheme})
	return err
}

// Path is a file's path in the checkout.
func (c *Cluster) Path(elements ...string) string {
	return filepath.Join(append([]string{c.checkout}, elements...)...)
}

// Kubectl runs kubectl in the checkout and returns what it printed, on both streams.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	cmd := c.kubectlCommand(ctx, args...)
	output, err := cmd.CombinedOutput()
	if err != nil {
		return string(output), fmt.Errorf("kubectl %s: %w\n%s", strings.Join(args, " "), err, output)
	}
	return string(output), nil
}

func (c *Cluster) kubectlCommand(ctx context.Context, args ...string) *exec.Cmd {
	if c.existing {
		args = append([]string{"--context", c.context}, args...)
	}
	cmd := exec.CommandContext(ctx, c.kubectl, args...)
	cmd.Dir = c.checkout
	if !c.existing {
		cmd.Env = append(os.Environ(), "KUBECONFIG="+c.kubeconfig)
	}
	return cmd
}

// Existing reports whether this is the cluster of the current kubeconfig, and not the local one.
func (c *Cluster) Existing() bool { return c.existing }

// InNode runs a command in the node's namespaces and returns its standard output.
func (c *Cluster) InNode(ctx context.Context, args ...string) (string, error) {
	if c.existing {
		return "", ErrNotThisMachine
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{"run", "./hack/cluster", "exec", "--"}, args...)...)
	cmd.Dir, cmd.Stderr = c.checkout, os.Stderr
	output, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("in the node: %s: %w", strings.Join(args, " "), err)
	}
	return string(output), nil
}

// findCheckout walks up from the working directory to the module's root.
func findCheckout() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "hack", "cluster")); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("no hack/cluster in this folder or above it: run it inside the checkout")
}
