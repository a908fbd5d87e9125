// Command manager is the operator: it injects pods, reconciles pools, and talks to the routers.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/dspex/workerpool-operator/controllers"
)

// Requests per second to the API server, sustained and at once. A reconnecting fleet costs one review per router.
const (
	queriesPerSecond = 50
	queryBurst       = 100
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "manager: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	options, level := flags()
	log := logr.FromSlogHandler(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	ctrl.SetLogger(log)
	klog.SetLogger(log)
	options.Log = log

	kubernetes, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("no way to the API server (in a cluster, or KUBECONFIG): %w", err)
	}
	kubernetes.QPS, kubernetes.Burst = queriesPerSecond, queryBurst
	ctx := ctrl.SetupSignalHandler()
	if options.OperatorImage == "" {
		if options.OperatorImage, err = ownImage(ctx, kubernetes, options); err != nil {
			return err
		}
	}
	log.Info("Injected containers run", "image", options.OperatorImage)
	mgr, err := controllers.NewManager(kubernetes, options)
	if err != nil {
		return err
	}
	return mgr.Start(ctx)
}

func ownImage(ctx context.Context, kubernetes *rest.Config, options controllers.Options) (string, error) {
	reader, err := client.New(kubernetes, client.Options{})
	if err != nil {
		return "", fmt.Errorf("asking for the operator's own pod: %w", err)
	}
	return controllers.OwnImage(ctx, reader, types.NamespacedName{Namespace: options.Namespace, Name: options.PodName})
}

// flags reads the command line. Defaults come from the environment where the pod's manifest can fill it.
func flags() (controllers.Options, slog.Level) {
	options := controllers.Options{Clock: time.Now, PodName: os.Getenv("POD_NAME")}
	var level slog.Level
	flag.StringVar(&options.Namespace, "namespace", os.Getenv("POD_NAMESPACE"), "namespace that the operator runs in (POD_NAMESPACE)")
	flag.StringVar(&options.OperatorImage, "operator-image", os.Getenv("OPERATOR_IMAGE"), "image that holds /poold, for injected containers (OPERATOR_IMAGE; default: the one that this pod runs)")
	flag.StringVar(&options.WorkerImage, "worker-image", os.Getenv("WORKER_IMAGE"), "image of the workers of pools that name none (WORKER_IMAGE)")
	flag.StringVar(&options.ControlAddress, "control-address", "", "where routers find the leader, host:port (default: the Service workerpool-control)")
	flag.StringVar(&options.ControlBind, "control-bind-address", ":9444", "where the leader serves the routers")
	flag.StringVar(&options.MetricsBind, "metrics-bind-address", ":8443", `where /metrics is served, "0" to turn it off`)
	flag.StringVar(&options.HealthBind, "health-probe-bind-address", ":8081", `where /healthz and /readyz are served, "0" to turn them off`)
	flag.IntVar(&options.Webhook.Port, "webhook-port", webhook.DefaultPort, "where the injection webhook is served")
	flag.TextVar(&level, "log-level", slog.LevelInfo, "DEBUG, INFO, WARN or ERROR")
	flag.Parse()
	return options, level
}
