package controllers

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/dspex/workerpool-operator/internal/pki"
)

// certificateWorld is replicas of the operator over one API server, at a time that tests move.
type certificateWorld struct {
	t      *testing.T
	server client.Client
	now    time.Time
}

func newCertificateWorld(t *testing.T) *certificateWorld {
	config := &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: WebhookConfiguration},
		Webhooks:   []admissionregistrationv1.MutatingWebhook{{Name: "inject.pool.dspex.dev"}},
	}
	return &certificateWorld{
		t:      t,
		server: fake.NewClientBuilder().WithScheme(testScheme(t)).WithObjects(config).Build(),
		now:    time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	}
}

func (w *certificateWorld) replica(leads bool) *Certificates {
	leading := make(chan struct{})
	if leads {
		close(leading)
	}
	return &Certificates{
		Client: w.server, Live: w.server, Namespace: "workerpool-system",
		Names: ServiceNames("workerpool-system"), Now: func() time.Time { return w.now }, leading: leading,
	}
}

func (w *certificateWorld) visit(c *Certificates) ctrl.Result {
	w.t.Helper()
	result, err := c.Reconcile(w.t.Context(), ctrl.Request{})
	if err != nil {
		w.t.Fatal(err)
	}
	return result
}

func (w *certificateWorld) webhookBundle() []byte {
	w.t.Helper()
	config := &admissionregistrationv1.MutatingWebhookConfiguration{}
	if err := w.server.Get(w.t.Context(), client.ObjectKey{Name: WebhookConfiguration}, config); err != nil {
		w.t.Fatal(err)
	}
	return config.Webhooks[0].ClientConfig.CABundle
}

// trusts checks what a replica serves against a bundle, as the API server and the routers do.
func (w *certificateWorld) trusts(bundle []byte, c *Certificates) error {
	pair, err := c.GetCertificate(&tls.ClientHelloInfo{})
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	for _, name := range []string{"workerpool-webhook.workerpool-system.svc", "workerpool-control.workerpool-system.svc"} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: w.now}); err != nil {
			return err
		}
	}
	return nil
}

func TestLeaderMakesCertificatesAndFollowersLoadThem(t *testing.T) {
	w := newCertificateWorld(t)
	leader, follower := w.replica(true), w.replica(false)
	up := func(*http.Request) error { return nil }

	w.visit(follower)
	if err := follower.Ready(up)(nil); err == nil {
		t.Error("a replica without a certificate is ready")
	}
	if len(follower.Bundle()) != 0 {
		t.Error("a replica without a certificate has a bundle")
	}
	result := w.visit(leader)
	if result.RequeueAfter <= 0 || result.RequeueAfter > certificateRecheck {
		t.Errorf("the leader looks again after %s, want at most %s", result.RequeueAfter, certificateRecheck)
	}
	w.visit(follower)
	for name, c := range map[string]*Certificates{"leader": leader, "follower": follower} {
		if err := c.Ready(up)(nil); err != nil {
			t.Errorf("%s isn't ready: %v", name, err)
		}
		if err := w.trusts(w.webhookBundle(), c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.Equal(c.Bundle(), w.webhookBundle()) {
			t.Errorf("%s has another bundle than the webhook configuration", name)
		}
	}
	down := errors.New("not started")
	if err := leader.Ready(func(*http.Request) error { return down })(nil); !errors.Is(err, down) {
		t.Errorf("ready though the server says %v: %v", down, err)
	}
}

// TestO47_ReplicasAreNeverAhead: two years, a day at a time; followers visit a day late, and whoever read the bundle
// a day before trusts every replica.
func TestO47_ReplicasAreNeverAhead(t *testing.T) {
	w := newCertificateWorld(t)
	leader, follower := w.replica(true), w.replica(false)
	bundles := 0
	leader.BundleChanged = func(context.Context) { bundles++ }
	w.visit(leader)
	w.visit(follower)
	for end := w.now.AddDate(2, 0, 0); w.now.Before(end); w.now = w.now.Add(24 * time.Hour) {
		yesterday := w.webhookBundle()
		w.visit(leader)
		for name, c := range map[string]*Certificates{"leader": leader, "follower": follower} {
			if err := errors.Join(w.trusts(yesterday, c), w.trusts(w.webhookBundle(), c)); err != nil {
				t.Fatalf("%s: %s: %v", w.now, name, err)
			}
		}
		w.visit(follower)
	}
	if bundles < 2 {
		t.Errorf("%d changes of the bundle in two years, want the first one and a rotation: nothing was rotated", bundles)
	}
}

func TestBundleTakenOutOfTheWebhookComesBack(t *testing.T) {
	w := newCertificateWorld(t)
	leader := w.replica(true)
	w.visit(leader)
	config := &admissionregistrationv1.MutatingWebhookConfiguration{}
	if err := w.server.Get(t.Context(), client.ObjectKey{Name: WebhookConfiguration}, config); err != nil {
		t.Fatal(err)
	}
	config.Webhooks[0].ClientConfig.CABundle = nil
	if err := w.server.Update(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	w.visit(leader)
	if !bytes.Equal(w.webhookBundle(), leader.Bundle()) {
		t.Error("the bundle isn't back in the webhook configuration")
	}
}

// TestFormerLeaderDoesNotOverwrite: two that both think they lead; the slower one's write fails, and its next visit
// takes over what the other wrote.
func TestFormerLeaderDoesNotOverwrite(t *testing.T) {
	w := newCertificateWorld(t)
	leader, former := w.replica(true), w.replica(true)
	secret, err := former.secret(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.visit(leader)
	plan, err := pki.For(secret.Data, former.Names, w.now)
	if err != nil {
		t.Fatal(err)
	}
	if err := former.store(t.Context(), secret, plan); !apierrors.IsAlreadyExists(err) {
		t.Fatalf("storing over the other's certificates gave %v, want AlreadyExists", err)
	}
	w.visit(former)
	if !bytes.Equal(former.Bundle(), leader.Bundle()) {
		t.Error("the two have different bundles")
	}
}

func TestFollowerKeepsItsCertificateWhenTheSecretIsBroken(t *testing.T) {
	w := newCertificateWorld(t)
	leader, follower := w.replica(true), w.replica(false)
	w.visit(leader)
	w.visit(follower)
	secret := &corev1.Secret{}
	if err := w.server.Get(t.Context(), leader.secretKey(), secret); err != nil {
		t.Fatal(err)
	}
	secret.Data[pki.ServingKey] = []byte("garbage")
	if err := w.server.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	_, err := follower.Reconcile(t.Context(), ctrl.Request{})
	if err == nil || !strings.Contains(err.Error(), CertificateSecret) || strings.Contains(err.Error(), "garbage") {
		t.Errorf("got %v, want an error that names the Secret and shows nothing of it", err)
	}
	if err := w.trusts(w.webhookBundle(), follower); err != nil {
		t.Errorf("the follower lost the certificate that it had: %v", err)
	}
	w.visit(leader)
	w.visit(follower)
	if err := w.trusts(w.webhookBundle(), follower); err != nil {
		t.Errorf("after the leader's repair: %v", err)
	}
}

func TestMissingWebhookConfigurationIsAnError(t *testing.T) {
	w := newCertificateWorld(t)
	config := &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: WebhookConfiguration}}
	if err := w.server.Delete(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	_, err := w.replica(true).Reconcile(t.Context(), ctrl.Request{})
	if err == nil || !strings.Contains(err.Error(), WebhookConfiguration) {
		t.Errorf("got %v, want an error that names the configuration", err)
	}
}
