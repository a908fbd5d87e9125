package controllers

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/dspex/workerpool-operator/internal/pki"
)

// Objects of config/ that the certificates are for.
const (
	// CertificateSecret, in the operator's namespace, holds the authority and the serving certificate.
	CertificateSecret = "workerpool-certificates"
	// The Services that the serving certificate is for.
	WebhookService = "workerpool-webhook"
	ControlService = "workerpool-control"
	MetricsService = "workerpool-metrics"
	// WebhookConfiguration gets the bundle.
	WebhookConfiguration = "workerpool-injection"
)

// certificateRecheck is how often the leader looks whether someone took the bundle out of the webhook configuration.
const certificateRecheck = time.Minute

// Certificates keeps the operator's certificates: every replica serves with what the Secret holds, and the leader
// alone renews it and gives the bundle to the API server. Nothing is restarted and no connection is cut when they
// change.
type Certificates struct {
	// Client reads the Secret from the cache and writes; Live asks the API server itself.
	Client    client.Client
	Live      client.Reader
	Namespace string // of the operator
	// Names of the serving certificate; ServiceNames makes the usual ones.
	Names []string
	Now   func() time.Time
	// BundleChanged, unless nil, is called after Bundle has changed.
	BundleChanged func(context.Context)

	leading <-chan struct{}
	loaded  atomic.Pointer[certificate]
}

// certificate is what one version of the Secret says.
type certificate struct {
	pair   tls.Certificate
	bundle []byte
}

// ServiceNames are the names under which the operator's Services are called.
func ServiceNames(namespace string) []string {
	var names []string
	for _, s := range []string{WebhookService, ControlService, MetricsService} {
		names = append(names, s+"."+namespace+".svc", s+"."+namespace+".svc.cluster.local")
	}
	return names
}

// SecretCache limits the cache of Secrets to the one that is needed; the operator may read no other.
func SecretCache(namespace string) cache.ByObject {
	return cache.ByObject{Namespaces: map[string]cache.Config{
		namespace: {FieldSelector: fields.OneTermEqualSelector("metadata.name", CertificateSecret)},
	}}
}

// SetupWithManager registers the controller, on every replica.
func (c *Certificates) SetupWithManager(mgr ctrl.Manager) error {
	c.leading = mgr.Elected()
	ours := predicate.NewPredicateFuncs(func(o client.Object) bool {
		return o.GetNamespace() == c.Namespace && o.GetName() == CertificateSecret
	})
	return ctrl.NewControllerManagedBy(mgr).
		Named("certificates").
		WithOptions(controller.Options{NeedLeaderElection: new(false)}).
		For(&corev1.Secret{}, builder.WithPredicates(ours)).
		WatchesRawSource(source.Func(c.start)).
		Complete(c)
}

// start asks for the first visit, when there may be no Secret yet, and for one on becoming the leader.
func (c *Certificates) start(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	visit := reconcile.Request{NamespacedName: c.secretKey()}
	queue.Add(visit)
	go func() {
		select {
		case <-c.leading:
			queue.Add(visit)
		case <-ctx.Done():
		}
	}()
	return nil
}

func (c *Certificates) secretKey() client.ObjectKey {
	return client.ObjectKey{Namespace: c.Namespace, Name: CertificateSecret}
}

func (c *Certificates) leads() bool {
	select {
	case <-c.leading:
		return true
	default:
		return false
	}
}

// load puts the Secret's certificate into use.
func (c *Certificates) load(ctx context.Context, data map[string][]byte) error {
	pair, err := tls.X509KeyPair(data[pki.ServingCertKey], data[pki.ServingKey])
	if err != nil {
		return fmt.Errorf("the serving certificate in Secret %s can't be used (%w); delete the Secret, and the leader makes it anew", c.secretKey(), err)
	}
	before := c.loaded.Swap(&certificate{pair, data[pki.BundleKey]})
	changed := before == nil || string(before.bundle) != string(data[pki.BundleKey])
	if changed && c.BundleChanged != nil {
		c.BundleChanged(ctx)
	}
	return nil
}

var errNoCertificate = errors.New("no certificate yet; the leader makes one within seconds of its election")

// GetCertificate is for tls.Config: each handshake gets the certificate of that moment.
func (c *Certificates) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	loaded := c.loaded.Load()
	if loaded == nil {
		return nil, errNoCertificate
	}
	return &loaded.pair, nil
}

// Bundle is the PEM that routers are to trust; nil before there is a certificate.
func (c *Certificates) Bundle() []byte {
	if loaded := c.loaded.Load(); loaded != nil {
		return loaded.bundle
	}
	return nil
}

// Ready is a health check: a replica without a certificate can't serve the webhook. Only with one is the server worth
// asking: it would log each handshake that fails.
func (c *Certificates) Ready(server healthz.Checker) healthz.Checker {
	return func(r *http.Request) error {
		if c.loaded.Load() == nil {
			return errNoCertificate
		}
		return server(r)
	}
}

// ServeTLS completes the configuration of a server that presents the certificate. The webhook's server offers
// HTTP/1.1 alone: HTTP/2 has been a way to exhaust servers.
func (c *Certificates) ServeTLS(config *tls.Config) {
	config.GetCertificate = c.GetCertificate
	config.MinVersion = tls.VersionTLS13
	config.NextProtos = []string{"http/1.1"}
}

// ChannelTLS is the configuration of the routers' gRPC server.
func (c *Certificates) ChannelTLS() *tls.Config {
	return &tls.Config{GetCertificate: c.GetCertificate, MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}}
}
