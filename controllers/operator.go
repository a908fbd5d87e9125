package controllers

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/control"
	"github.com/dspex/workerpool-operator/internal/inject"
)

// The metrics endpoint asks who scrapes it, and whether they may.
// +kubebuilder:rbac:groups=authorization.k8s.io,resources=subjectaccessreviews,verbs=create

// LeaseName is the Lease that replicas lead by, in the operator's namespace.
const LeaseName = "workerpool-operator"

// Leader election: a leader that is gone without a word is replaced after leaseDuration, one that says goodbye at once.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
	shutdown      = 20 * time.Second
)

// Options of the operator. All of them are required but where it says otherwise.
type Options struct {
	// Namespace and PodName say where this process runs. Without a PodName no pod is labelled as the leader.
	Namespace, PodName string
	// OperatorImage and WorkerImage are what injected containers run.
	OperatorImage, WorkerImage string
	// ControlAddress is where routers find the leader, host:port. Default: the control Service of Namespace.
	ControlAddress string

	// Where the servers listen, host:port. "0" turns metrics and health off.
	ControlBind, MetricsBind, HealthBind string
	// Webhook says where the webhook listens; its TLS settings are filled in.
	Webhook webhook.Options

	Log   logr.Logger
	Clock func() time.Time
	// Metrics is where the channel's and the rollouts' metrics are registered. Default: the one that the metrics endpoint serves.
	Metrics metrics.RegistererGatherer
}

// NewScheme knows all kinds that the operator reads and writes.
func NewScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	return scheme, errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme))
}

// NewManager puts the operator together; Start makes it work.
func NewManager(kubernetes *rest.Config, o Options) (manager.Manager, error) {
	if o.Namespace == "" {
		return nil, errors.New("the operator's namespace isn't known; set --namespace or POD_NAMESPACE")
	}
	names, err := o.names()
	if err != nil {
		return nil, err
	}
	certificates := &Certificates{Namespace: o.Namespace, Names: names, Now: o.Clock}
	identity := o.PodName // which no one has after it: the process that takes over in the same pod needn't wait for the Lease to end
	if identity == "" {
		identity = string(uuid.NewUUID())
	}
	settings, err := managerOptions(kubernetes, &o, certificates, identity)
	if err != nil {
		return nil, err
	}
	mgr, err := ctrl.NewManager(kubernetes, settings)
	if err != nil {
		return nil, err
	}
	certificates.Client, certificates.Live = mgr.GetClient(), mgr.GetAPIReader()
	return mgr, errors.Join(
		certificates.SetupWithManager(mgr),
		setupInjection(mgr, &o),
		setupReconciliation(mgr, &o, certificates, identity),
		mgr.AddHealthzCheck("ping", healthz.Ping),
		mgr.AddReadyzCheck("webhook", certificates.Ready(mgr.GetWebhookServer().StartedChecker())),
	)
}

// names that the serving certificate bears: the Services', and the one that routers were given instead.
func (o *Options) names() ([]string, error) {
	names := ServiceNames(o.Namespace)
	if o.ControlAddress == "" {
		o.ControlAddress = fmt.Sprintf("%s.%s.svc:9444", ControlService, o.Namespace)
	}
	host, _, err := net.SplitHostPort(o.ControlAddress)
	if err != nil {
		return nil, fmt.Errorf("the control address: %w", err)
	}
	if !slices.Contains(names, host) {
		names = append(names, host)
	}
	return names, nil
}

func managerOptions(kubernetes *rest.Config, o *Options, certificates *Certificates, identity string) (manager.Options, error) {
	scheme, err := NewScheme()
	if err != nil {
		return manager.Options{}, err
	}
	cached, err := CacheOptions(o.Namespace)
	if err != nil {
		return manager.Options{}, err
	}
	lock, err := resourcelock.NewFromKubeconfig(resourcelock.LeasesResourceLock, o.Namespace, LeaseName,
		resourcelock.ResourceLockConfig{Identity: identity}, kubernetes, renewDeadline)
	if err != nil {
		return manager.Options{}, fmt.Errorf("the Lease %s/%s: %w", o.Namespace, LeaseName, err)
	}
	o.Webhook.TLSOpts = append(o.Webhook.TLSOpts, certificates.ServeTLS)
	return manager.Options{
		Scheme:                              scheme,
		Cache:                               cached,
		Client:                              client.Options{FieldOwner: v1alpha1.ManagedBy},
		Logger:                              o.Log,
		LeaderElection:                      true,
		LeaderElectionResourceLockInterface: lock,
		LeaderElectionReleaseOnCancel:       true,
		LeaseDuration:                       new(leaseDuration),
		RenewDeadline:                       new(renewDeadline),
		RetryPeriod:                         new(retryPeriod),
		GracefulShutdownTimeout:             new(shutdown),
		HealthProbeBindAddress:              o.HealthBind,
		WebhookServer:                       webhook.NewServer(o.Webhook),
		// Controllers' names are unique in a process, and tests run one operator after another in theirs.
		Controller: config.Controller{Logger: o.Log, SkipNameValidation: new(true)},
		Metrics:    metricsOptions(o, certificates),
	}, nil
}

// metricsOptions serve metrics over TLS, to those who may read them.
func metricsOptions(o *Options, certificates *Certificates) metricsserver.Options {
	return metricsserver.Options{
		BindAddress:    o.MetricsBind,
		SecureServing:  true,
		FilterProvider: filters.WithAuthenticationAndAuthorization,
		TLSOpts:        []func(*tls.Config){certificates.ServeTLS},
	}
}

func setupInjection(mgr manager.Manager, o *Options) error {
	injector := &Injector{
		Cached: mgr.GetClient(), Live: mgr.GetAPIReader(),
		Settings: inject.Settings{OperatorImage: o.OperatorImage, WorkerImage: o.WorkerImage, ControlAddress: o.ControlAddress},
	}
	return injector.SetupWithManager(mgr)
}

// setupReconciliation makes what only the leader does.
func setupReconciliation(mgr manager.Manager, o *Options, certificates *Certificates, identity string) error {
	if o.Metrics == nil {
		o.Metrics = metrics.Registry
	}
	wakeups := &Wakeups{}
	certificates.BundleChanged = func(ctx context.Context) { wakeups.wakeAll(ctx, mgr.GetClient()) }
	fleet := control.NewFleet(o.Clock, control.NewMetrics(o.Metrics), wakeups.Wake)
	reconciler := &WorkerPoolReconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Fleet: fleet, Clock: o.Clock,
		Events:      mgr.GetEventRecorder("workerpool-controller"),
		WorkerImage: o.WorkerImage,
		Metrics:     NewMetrics(o.Metrics),
		Trust:       certificates,
		Wake:        wakeups.Wake,
	}
	leader := &Leader{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Fleet: fleet,
		Server: &control.Server{
			Fleet:     fleet,
			Reviewer:  TokenReviewer{mgr.GetClient()},
			Directory: Directory{Cached: mgr.GetClient(), Live: mgr.GetAPIReader()},
			Clock:     o.Clock,
			Log:       o.Log.WithName("control"),
		},
		Lease:    types.NamespacedName{Namespace: o.Namespace, Name: LeaseName},
		Identity: identity,
		Pod:      types.NamespacedName{Namespace: o.Namespace, Name: o.PodName},
		Address:  o.ControlBind,
		TLS:      certificates.ChannelTLS(),
	}
	return errors.Join(reconciler.SetupWithManager(mgr, wakeups), mgr.Add(leader))
}
