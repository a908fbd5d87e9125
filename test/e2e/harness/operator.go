package harness

import (
	"context"
	"fmt"
	"io"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// OperatorNamespace is where config/default puts the operator.
	OperatorNamespace = "workerpool-system"
	// OperatorName is its Deployment's name there.
	OperatorName = "workerpool-operator"

	// digestAnnotation on the operator's Deployment is the image that its pods were started from: the tag :dev
	// stands for whatever was built last.
	digestAnnotation = "hack.dspex.dev/image-digest"
)

// DeployOperator applies config/default, with the cluster's names of the images, restarts the operator when its image was built anew, and waits until all
// its replicas are available.
func (c *Cluster) DeployOperator(ctx context.Context, out io.Writer) error {
	before, existed, err := c.operator(ctx)
	if err != nil {
		return err
	}
	manifests, err := c.Manifests()
	if err != nil {
		return err
	}
	if _, err := c.Kubectl(ctx, "apply", "--server-side", "--force-conflicts", "-k", manifests); err != nil {
		return err
	}
	digest, err := c.imageDigest(ctx, c.Images.Operator)
	if err != nil {
		return err
	}
	if existed && before.Annotations[digestAnnotation] != digest {
		fmt.Fprintln(out, "the operator's image is new: restarting it")
		if _, err := c.Kubectl(ctx, "-n", OperatorNamespace, "rollout", "restart", "deployment", OperatorName); err != nil {
			return err
		}
	}
	if _, err := c.Kubectl(ctx, "-n", OperatorNamespace, "annotate", "--overwrite", "deployment", OperatorName,
		digestAnnotation+"="+digest); err != nil {
		return err
	}
	return c.AwaitDeployment(ctx, OperatorNamespace, OperatorName)
}

func (c *Cluster) operator(ctx context.Context) (deployment appsv1.Deployment, exists bool, err error) {
	err = c.Get(ctx, client.ObjectKey{Namespace: OperatorNamespace, Name: OperatorName}, &deployment)
	if apierrors.IsNotFound(err) {
		return deployment, false, nil
	}
	return deployment, err == nil, err
}

// imageDigest is that of the operator's image as the cluster's containerd has it.
func (c *Cluster) imageDigest(ctx context.Context, image string) (string, error) {
	if c.existing {
		return c.operatorDigest, nil
	}
	table, err := c.InNode(ctx, "ctr", "--namespace=k8s.io", "images", "list", "name=="+image)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(table) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[0] == image {
			return fields[2], nil
		}
	}
	return "", fmt.Errorf("image %s isn't in the cluster: go run ./hack/cluster load --images", image)
}
