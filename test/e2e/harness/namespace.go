package harness

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// MadeLabel is on every namespace that demo and tests make. `make undeploy` deletes what bears it.
const MadeLabel = "hack.dspex.dev/made-by-demo-or-tests"

// EmptyNamespace makes a namespace in which every pod has to meet Pod Security "restricted", with these labels beside.
// One that exists is deleted first; in an existing cluster only one that was made here, too.
func (c *Cluster) EmptyNamespace(ctx context.Context, name string, labels map[string]string) error {
	if err := c.checkNamespace(ctx, name); err != nil {
		return err
	}
	if err := c.DeleteNamespace(ctx, name); err != nil {
		return err
	}
	all := map[string]string{"pod-security.kubernetes.io/enforce": "restricted", MadeLabel: "true"}
	maps.Copy(all, labels)
	return c.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: all}})
}

// checkNamespace refuses to empty what may be somebody's: the local cluster has nobody.
func (c *Cluster) checkNamespace(ctx context.Context, name string) error {
	if !c.existing {
		return nil
	}
	var there corev1.Namespace
	if err := c.Get(ctx, client.ObjectKey{Name: name}, &there); err != nil {
		return client.IgnoreNotFound(err)
	}
	if _, made := there.Labels[MadeLabel]; !made {
		return fmt.Errorf("CLUSTER=existing: context %s has a namespace %s that demo and tests didn't make, and would empty; "+
			"delete it, or choose another cluster", c.context, name)
	}
	return nil
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
