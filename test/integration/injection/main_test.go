//go:build integration

// Package injection holds the tests of the webhook and of its certificates: the real operator, with the permissions
// that config/rbac gives it, against a real API server with config/default applied.
package injection

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/dspex/workerpool-operator/controllers"
	"github.com/dspex/workerpool-operator/test/integration/apiserver"
)

const operatorNamespace = "workerpool-system"

// patience is how long anything may take that takes milliseconds on an idle machine.
const patience = time.Minute

var (
	server *apiserver.Server
	first  *operator // leads, unless a test says otherwise
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

// run ends the operator before its API server.
func run(m *testing.M) int {
	var err error
	if server, err = apiserver.Start(); err == nil {
		defer func() { _ = server.Stop() }()
		err = setUp(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := first.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "the operator ended:", err)
		return 1
	}
	return code
}

func setUp(ctx context.Context) error {
	if out, err := server.Kubectl(ctx, "apply", "--server-side", "-k", "config/default"); err != nil {
		return fmt.Errorf("applying config/default: %w\n%s", err, out)
	}
	var err error
	if first, err = startOperator(ctx); err != nil {
		return err
	}
	return first.serveWebhook(ctx)
}

// operator is one replica, in this process.
type operator struct {
	webhookPort int
	metrics     string // host:port
	health      string
	cancel      context.CancelFunc
	ended       chan error
}

// operatorConfig is what the Deployment's pods have: the service account of config/rbac and nothing more.
func operatorConfig() *rest.Config {
	config := rest.CopyConfig(server.Config)
	config.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + operatorNamespace + ":workerpool-operator",
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + operatorNamespace, "system:authenticated"},
	}
	return config
}

// startOperator returns once the replica is ready.
func startOperator(ctx context.Context) (*operator, error) {
	var ports [3]int
	for i := range ports {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		ports[i] = port
	}
	o := &operator{
		webhookPort: ports[0],
		metrics:     fmt.Sprintf("127.0.0.1:%d", ports[1]),
		health:      fmt.Sprintf("127.0.0.1:%d", ports[2]),
		ended:       make(chan error, 1),
	}
	mgr, err := controllers.NewManager(operatorConfig(), controllers.Options{
		Namespace:      operatorNamespace,
		OperatorImage:  "operator:test",
		WorkerImage:    "worker:test",
		ControlAddress: "localhost:9444", // makes the certificate one for localhost
		ControlBind:    "127.0.0.1:0",
		MetricsBind:    o.metrics,
		HealthBind:     o.health,
		Webhook:        webhook.Options{Host: "127.0.0.1", Port: o.webhookPort},
		Log:            logr.Discard(),
		Clock:          time.Now,
		Metrics:        prometheus.NewRegistry(),
	})
	if err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(ctx)
	o.cancel = cancel
	go func() { o.ended <- mgr.Start(running) }()
	return o, o.awaitReady(ctx)
}

func (o *operator) stop() error {
	o.cancel()
	return <-o.ended
}

func (o *operator) awaitReady(ctx context.Context) error {
	return await(ctx, func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+o.health+"/readyz", nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("readyz: %s", response.Status)
		}
		return nil
	})
}

// serveWebhook makes the API server call this replica, as the Service would, and returns once it trusts it.
func (o *operator) serveWebhook(ctx context.Context) error {
	if err := pointWebhook(ctx, o.webhookPort); err != nil {
		return err
	}
	return await(ctx, func(ctx context.Context) error {
		config, err := webhookConfiguration(ctx)
		if err != nil {
			return err
		}
		if len(config.Webhooks[0].ClientConfig.CABundle) == 0 {
			return errors.New("no CA bundle in the webhook configuration")
		}
		return nil
	})
}

func webhookConfiguration(ctx context.Context) (*admissionregistrationv1.MutatingWebhookConfiguration, error) {
	config := &admissionregistrationv1.MutatingWebhookConfiguration{}
	return config, server.Client.Get(ctx, client.ObjectKey{Name: controllers.WebhookConfiguration}, config)
}

// pointWebhook replaces the Service, which nothing serves here, by a port of this machine.
func pointWebhook(ctx context.Context, port int) error {
	config, err := webhookConfiguration(ctx)
	if err != nil {
		return err
	}
	before := config.DeepCopy()
	to := &config.Webhooks[0].ClientConfig
	to.Service, to.URL = nil, new(fmt.Sprintf("https://localhost:%d%s", port, controllers.InjectionPath))
	return server.Client.Patch(ctx, config, client.MergeFrom(before))
}

// await retries until there is no error, or patience is over.
func await(ctx context.Context, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("after %s: %w", patience, err)
		}
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
