//go:build integration

// Package apiserver starts a real kube-apiserver with its etcd for the integration tests of a package, with the
// project's CRDs installed. There is no kubelet and no controller: what is written stays as it is.
package apiserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
)

// assetsVariable is envtest's own.
const assetsVariable = "KUBEBUILDER_ASSETS"

var errNoAssets = errors.New(assetsVariable + " isn't set, and these tests need a kube-apiserver: run `make test-integration`, or export " +
	assetsVariable + "=$(go run ./hack/cluster env --assets)")

// Server is a running API server.
type Server struct {
	Config *rest.Config // of an administrator
	Client client.Client
	Scheme *k8sruntime.Scheme
	// Kubeconfig is a file for kubectl.
	Kubeconfig string

	env *envtest.Environment
}

// Root is the folder of the checkout.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "..")
}

// Scheme knows Kubernetes' kinds and the project's.
func Scheme() (*k8sruntime.Scheme, error) {
	s := k8sruntime.NewScheme()
	return s, errors.Join(clientgoscheme.AddToScheme(s), v1alpha1.AddToScheme(s))
}

// Start starts the server, with the admission plugins that a cluster has.
func Start() (*Server, error) {
	if os.Getenv(assetsVariable) == "" {
		return nil, errNoAssets
	}
	scheme, err := Scheme()
	if err != nil {
		return nil, err
	}
	env := &envtest.Environment{
		CRDDirectoryPaths:     []string{filepath.Join(Root(), "config/crd/bases")},
		ErrorIfCRDPathMissing: true,
	}
	// envtest turns the service account's own token off; injection must hold against it.
	env.ControlPlane.GetAPIServer().Configure().Disable("disable-admission-plugins")
	config, err := env.Start()
	if err != nil {
		return nil, fmt.Errorf("starting the API server: %w", err)
	}
	s := &Server{Config: config, Scheme: scheme, env: env}
	if err := s.prepare(); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

func (s *Server) prepare() (err error) {
	if s.Client, err = client.New(s.Config, client.Options{Scheme: s.Scheme}); err != nil {
		return err
	}
	user, err := s.env.AddUser(envtest.User{Name: "kubectl", Groups: []string{"system:masters"}}, nil)
	if err != nil {
		return err
	}
	text, err := user.KubeConfig()
	if err != nil {
		return err
	}
	file, err := os.CreateTemp("", "kubeconfig-")
	if err != nil {
		return err
	}
	s.Kubeconfig = file.Name()
	_, err = file.Write(text)
	return errors.Join(err, file.Close())
}

// Stop ends the server and removes what it left.
func (s *Server) Stop() error {
	return errors.Join(s.env.Stop(), os.Remove(s.Kubeconfig))
}

// Main is TestMain's whole body: it starts the server, hands it over, and runs the tests.
func Main(m *testing.M, ready func(*Server)) int {
	s, err := Start()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ready(s)
	code := m.Run()
	if err := s.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stopping the API server:", err)
		return 1
	}
	return code
}

// Kubectl runs kubectl and returns what it printed, on both outputs.
func (s *Server) Kubectl(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(os.Getenv(assetsVariable), "kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.Kubeconfig, "HOME="+filepath.Dir(s.Kubeconfig))
	cmd.Dir = Root()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Namespace makes a namespace for one test, with the default service account that a controller would make.
func (s *Server) Namespace(t *testing.T, labels map[string]string) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-", Labels: labels}}
	if err := s.Client.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: ns.Name, Name: "default"}}
	if err := s.Client.Create(t.Context(), account); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	return ns.Name
}
