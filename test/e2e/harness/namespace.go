package harness

import (
	"context"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// EmptyNamespace makes a namespace in which every pod has to meet Pod Security "restricted", with these labels beside.
// One that exists is deleted first.
func (c *Cluster) EmptyNamespace(ctx context.Context, name string, labels map[string]string) error {
	if err := c.DeleteNamespace(ctx, name); err != nil {
		return err
	}
	all := map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}
	maps.Copy(all, labels)
	return c.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: all}})
}

// DeleteNamespace deletes a namespace and waits until it is gone. One that doesn't exist is no error.
func (c *Cluster) DeleteNamespace(ctx context.Context, name string) error {
	if err := c.RemoveNamespace(ctx, name); err != nil {
		return err
	}
	var all corev1.NamespaceList
	return c.Await(ctx, &all, func() bool {
		return !slices.ContainsFunc(all.Items, func(n corev1.Namespace) bool { return n.Name == name })
	})
}

// RemoveNamespace begins to delete a namespace.
func (c *Cluster) RemoveNamespace(ctx context.Context, name string) error {
	if err := c.Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
		return client.IgnoreNotFound(err)
	}
	// Nothing here needs its grace period, and a namespace is gone only when its last pod is.
	err := c.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(name), client.GracePeriodSeconds(1))
	return client.IgnoreNotFound(err)
}
