package controllers

import (
	"bytes"
	"context"
	"fmt"
	"maps"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/pki"
)

// +kubebuilder:rbac:groups="",namespace=workerpool-system,resources=secrets,verbs=create
// +kubebuilder:rbac:groups="",namespace=workerpool-system,resources=secrets,resourceNames=workerpool-certificates,verbs=get;list;watch;update
// +kubebuilder:rbac:groups=admissionregistration.k8s.io,resources=mutatingwebhookconfigurations,resourceNames=workerpool-injection,verbs=get;patch

// Reconcile brings this replica's certificate up to the Secret, and on the leader the Secret up to the plan and the
// webhook configuration up to the Secret.
func (c *Certificates) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	secret, err := c.secret(ctx)
	if err != nil {
		return ctrl.Result{}, err
	}
	if !c.leads() {
		if secret.ResourceVersion == "" {
			return ctrl.Result{}, nil // the leader will make it, and the watch will say so
		}
		return ctrl.Result{}, c.load(ctx, secret.Data)
	}
	now := c.Now()
	plan, err := pki.For(secret.Data, c.Names, now)
	if err != nil {
		return ctrl.Result{}, err
	}
	if err := c.store(ctx, secret, plan); err != nil {
		return ctrl.Result{}, err
	}
	if err := c.load(ctx, plan.Data); err != nil {
		return ctrl.Result{}, err
	}
	if err := c.publish(ctx, plan.Data[pki.BundleKey]); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: min(certificateRecheck, max(plan.Next.Sub(now), 1))}, nil
}

// secret reads the Secret, which has no resourceVersion when there is none. The leader reads it live: what it plans from must not
// be older than what it wrote.
func (c *Certificates) secret(ctx context.Context) (*corev1.Secret, error) {
	var from client.Reader = c.Client
	if c.leads() {
		from = c.Live
	}
	secret := &corev1.Secret{}
	err := from.Get(ctx, c.secretKey(), secret)
	if apierrors.IsNotFound(err) {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
			Namespace: c.Namespace, Name: CertificateSecret,
			Labels: map[string]string{v1alpha1.ManagedByLabel: v1alpha1.ManagedBy},
		}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading Secret %s: %w", c.secretKey(), err)
	}
	return secret, nil
}

// store writes the plan. Both writes fail when someone else wrote in between; then the next visit plans again.
func (c *Certificates) store(ctx context.Context, secret *corev1.Secret, plan pki.Plan) error {
	if len(plan.Changes) == 0 {
		return nil
	}
	secret.Data = maps.Clone(plan.Data)
	write := func() error { return c.Client.Update(ctx, secret) }
	if secret.ResourceVersion == "" {
		write = func() error { return c.Client.Create(ctx, secret) }
	}
	if err := write(); err != nil {
		return fmt.Errorf("storing the certificates in Secret %s: %w", c.secretKey(), err)
	}
	log.FromContext(ctx).Info("certificates changed", "changes", plan.Changes, "next", plan.Next)
	return nil
}

// publish gives the bundle to the API server, which calls the webhook with it. A missing configuration is an error
// that is tried again: without it labelled pods would start without a pool.
func (c *Certificates) publish(ctx context.Context, bundle []byte) error {
	config := &admissionregistrationv1.MutatingWebhookConfiguration{}
	if err := c.Live.Get(ctx, client.ObjectKey{Name: WebhookConfiguration}, config); err != nil {
		return fmt.Errorf("reading MutatingWebhookConfiguration %s: %w", WebhookConfiguration, err)
	}
	before := config.DeepCopy()
	changed := false
	for i := range config.Webhooks {
		if !bytes.Equal(config.Webhooks[i].ClientConfig.CABundle, bundle) {
			config.Webhooks[i].ClientConfig.CABundle = bundle
			changed = true
		}
	}
	if !changed {
		return nil
	}
	if err := c.Client.Patch(ctx, config, client.StrategicMergeFrom(before)); err != nil {
		return fmt.Errorf("giving the CA bundle to MutatingWebhookConfiguration %s: %w", WebhookConfiguration, err)
	}
	return nil
}
