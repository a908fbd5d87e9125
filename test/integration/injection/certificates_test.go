//go:build integration

package injection

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/controllers"
	"github.com/dspex/workerpool-operator/internal/inject"
	"github.com/dspex/workerpool-operator/internal/pki"
)

func certificateSecret(ctx context.Context) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	return secret, server.Client.Get(ctx, client.ObjectKey{Namespace: operatorNamespace, Name: controllers.CertificateSecret}, secret)
}

// awaitBundle waits until the API server trusts what the Secret holds, and returns it.
func awaitBundle(t *testing.T, differsFrom []byte) []byte {
	t.Helper()
	var bundle []byte
	err := await(t.Context(), func(ctx context.Context) error {
		secret, err := certificateSecret(ctx)
		if err != nil {
			return err
		}
		config, err := webhookConfiguration(ctx)
		if err != nil {
			return err
		}
		bundle = secret.Data[pki.BundleKey]
		if bytes.Equal(bundle, differsFrom) || !bytes.Equal(config.Webhooks[0].ClientConfig.CABundle, bundle) {
			return errors.New("the webhook configuration doesn't have the new bundle")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return bundle
}

// awaitInjection waits until the webhook answers again: the API server learns of a new bundle by a watch.
func awaitInjection(t *testing.T, namespace string) {
	t.Helper()
	err := await(t.Context(), func(ctx context.Context) error {
		return server.Client.Create(ctx, podFor(namespace, "summarizer"), client.DryRunAll)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestDeletedCertificatesAreMadeAnew(t *testing.T) {
	namespace := server.Namespace(t, nil)
	createPool(t, namespace, "summarizer")
	before := awaitBundle(t, nil)
	secret, err := certificateSecret(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Client.Delete(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	now := awaitBundle(t, before)
	awaitInjection(t, namespace)
	// Its pods' routers have to trust it too, with nothing else to wake the pool.
	bundle := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: inject.CAConfigMap("summarizer")}}
	err = await(t.Context(), func(ctx context.Context) error {
		if err := server.Client.Get(ctx, client.ObjectKeyFromObject(bundle), bundle); err != nil {
			return err
		}
		if bundle.Data[inject.CAKey] != string(now) {
			return errors.New("the pool's ConfigMap has another bundle")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestO48_AnyReplicaServesTheWebhook: one that doesn't lead serves with the same authority, and takes over.
func TestO48_AnyReplicaServesTheWebhook(t *testing.T) {
	namespace := server.Namespace(t, nil)
	createPool(t, namespace, "summarizer")
	second, err := startOperator(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := second.serveWebhook(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitInjection(t, namespace)

	if err := first.stop(); err != nil {
		t.Errorf("the first replica didn't end cleanly: %v", err)
	}
	first = second
	// The second leads once it renews: what is taken away comes back.
	before := awaitBundle(t, nil)
	secret, err := certificateSecret(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Client.Delete(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	awaitBundle(t, before)
	awaitInjection(t, namespace)
}

func TestO56_NoSecretsOfOthersAndNoExec(t *testing.T) {
	asOperator, err := client.New(operatorConfig(), client.Options{Scheme: server.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	namespace := server.Namespace(t, nil)
	for name, tc := range map[string]struct {
		attributes authorizationv1.ResourceAttributes
		allowed    bool
	}{
		"its own Secret":             {authorizationv1.ResourceAttributes{Verb: "get", Resource: "secrets", Namespace: operatorNamespace, Name: controllers.CertificateSecret}, true},
		"another Secret":             {authorizationv1.ResourceAttributes{Verb: "get", Resource: "secrets", Namespace: operatorNamespace, Name: "other"}, false},
		"Secrets of its namespace":   {authorizationv1.ResourceAttributes{Verb: "list", Resource: "secrets", Namespace: operatorNamespace}, false},
		"Secrets of all namespaces":  {authorizationv1.ResourceAttributes{Verb: "list", Resource: "secrets"}, false},
		"a Secret of a user":         {authorizationv1.ResourceAttributes{Verb: "get", Resource: "secrets", Namespace: namespace, Name: "x"}, false},
		"commands in pods":           {authorizationv1.ResourceAttributes{Verb: "create", Resource: "pods", Subresource: "exec", Namespace: namespace}, false},
		"pods of users":              {authorizationv1.ResourceAttributes{Verb: "patch", Resource: "pods", Namespace: namespace}, false},
		"its own pod":                {authorizationv1.ResourceAttributes{Verb: "patch", Resource: "pods", Namespace: operatorNamespace}, true},
		"a pool's spec":              {authorizationv1.ResourceAttributes{Verb: "patch", Group: "pool.dspex.dev", Resource: "workerpools", Namespace: namespace}, false},
		"a pool's status":            {authorizationv1.ResourceAttributes{Verb: "patch", Group: "pool.dspex.dev", Resource: "workerpools", Subresource: "status", Namespace: namespace}, true},
		"another webhook":            {authorizationv1.ResourceAttributes{Verb: "patch", Group: "admissionregistration.k8s.io", Resource: "mutatingwebhookconfigurations", Name: "other"}, false},
		"roles":                      {authorizationv1.ResourceAttributes{Verb: "create", Group: "rbac.authorization.k8s.io", Resource: "clusterroles"}, false},
		"impersonation":              {authorizationv1.ResourceAttributes{Verb: "impersonate", Resource: "users"}, false},
		"tokens of service accounts": {authorizationv1.ResourceAttributes{Verb: "create", Resource: "serviceaccounts", Subresource: "token", Namespace: namespace}, false},
	} {
		t.Run(name, func(t *testing.T) {
			review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &tc.attributes}}
			if err := asOperator.Create(t.Context(), review); err != nil {
				t.Fatal(err)
			}
			if review.Status.Allowed != tc.allowed {
				t.Errorf("allowed %v, want %v", review.Status.Allowed, tc.allowed)
			}
		})
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "x"}}
	if err := asOperator.Get(t.Context(), client.ObjectKeyFromObject(secret), secret); !apierrors.IsForbidden(err) {
		t.Errorf("reading a user's Secret gave %v, want Forbidden", err)
	}
}

// TestO8_TheOperatorOwnsNoSpecField, and TestO12's half that can be seen here: it sets no finalizer.
func TestO8_TheOperatorOwnsNoSpecField(t *testing.T) {
	namespace := server.Namespace(t, nil)
	pool := createPool(t, namespace, "summarizer")
	awaitStatus(t, pool, func(s *v1alpha1.WorkerPoolStatus) bool { return s.Stable != nil && len(s.Conditions) > 0 })
	for _, entry := range pool.ManagedFields {
		if entry.Subresource == "status" {
			continue
		}
		if strings.Contains(entry.Manager, "workerpool-operator") {
			t.Errorf("the operator owns fields outside status: %s %s", entry.Manager, entry.FieldsV1)
		}
	}
	if len(pool.Finalizers) != 0 {
		t.Errorf("finalizers %v, want none", pool.Finalizers)
	}
}
