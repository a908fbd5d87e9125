//go:build integration

// Package operator holds the tests of the whole operator against a real API server. The pods' routers are the real
// agent around a scripted pod; their tokens are real ones.
package operator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/dspex/workerpool-operator/controllers"
	"github.com/dspex/workerpool-operator/test/integration/apiserver"
)

const (
	operatorNamespace = "workerpool-system"
	workerImage       = "localhost/workerpool-worker:test"
	patience          = 20 * time.Second
)

var (
	server  *apiserver.Server
	address string // of the channel, the same for every operator
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	ctrl.SetLogger(logr.Discard())
	s, err := apiserver.Start()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := prepare(s); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	} else {
		code = m.Run()
	}
	if err := s.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stopping the API server:", err)
		return 1
	}
	return code
}

func prepare(s *apiserver.Server) error {
	server = s
	port, err := freePort()
	address = fmt.Sprintf("localhost:%d", port)
	for _, object := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: operatorNamespace}},
		// Without webhooks in it: pods are injected by these tests themselves.
		&admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: controllers.WebhookConfiguration}},
	} {
		err = errors.Join(err, s.Client.Create(context.Background(), object))
	}
	return err
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// operator is one process of it, within this one.
type operator struct {
	t       *testing.T
	end     context.CancelFunc
	done    chan error
	metrics *prometheus.Registry
}

// startOperator starts one that ends with the test, or with stop. Only one at a time: tests here don't run in parallel.
func startOperator(t *testing.T) *operator {
	t.Helper()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	mgr, err := controllers.NewManager(server.Config, controllers.Options{
		Namespace: operatorNamespace, OperatorImage: "operator:test", WorkerImage: workerImage,
		ControlAddress: address, ControlBind: address, MetricsBind: "0", HealthBind: "0",
		Webhook: webhook.Options{Host: "localhost", Port: port},
		Log:     quietLog(t), Clock: time.Now, Metrics: registry,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	o := &operator{t: t, end: end, done: make(chan error, 1), metrics: registry}
	go func() { o.done <- mgr.Start(ctx) }()
	t.Cleanup(o.stop)
	return o
}

// stop ends the operator and waits until it has given its leadership back.
func (o *operator) stop() {
	o.end()
	select {
	case err, running := <-o.done:
		if running && err != nil {
			o.t.Errorf("operator: %v", err)
		}
		if running {
			close(o.done)
		}
	case <-time.After(patience):
		o.t.Error("the operator doesn't stop")
	}
}

// rollbacks that this process counted, by reason, without those that it counted none of.
func (o *operator) rollbacks() map[string]float64 {
	o.t.Helper()
	families, err := o.metrics.Gather()
	if err != nil {
		o.t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		if f.GetName() != "workerpool_rollbacks_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if n := m.GetCounter().GetValue(); n > 0 {
				out[m.GetLabel()[0].GetValue()] = n
			}
		}
	}
	return out
}

// quietLog logs into the test while it runs.
func quietLog(t *testing.T) logr.Logger {
	var mu sync.Mutex
	over := false
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		over = true
	})
	return funcr.New(func(prefix, args string) {
		mu.Lock()
		defer mu.Unlock()
		if !over && !strings.Contains(args, "Starting") {
			t.Log(prefix, args)
		}
	}, funcr.Options{})
}
