package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// minimumMinor is the oldest Kubernetes 1.x that the operator is for: native sidecars are always on since 1.33. Its
// other needs are older: preStop's sleep (1.30), quantities in the CRD's rules (1.29).
const minimumMinor = 33

// pullPatience is how long a node may take to pull three images.
const pullPatience = 5 * time.Minute

// ErrNotThisMachine is the error of what looks at the cluster's node from this machine, when the node isn't on it.
var ErrNotThisMachine = errors.New("CLUSTER=existing: only the local cluster's node is on this machine")

// wantsExisting reports whether the environment asks for the cluster of the current kubeconfig.
func wantsExisting() bool { return os.Getenv("CLUSTER") == "existing" }

// checkChoice refuses a CLUSTER that means nothing.
func checkChoice() error {
	switch choice := os.Getenv("CLUSTER"); choice {
	case "", "local", "existing":
		return nil
	default:
		return fmt.Errorf("CLUSTER is %q: local starts a cluster on this machine, existing takes the current kubeconfig's", choice)
	}
}

// existing connects to the cluster of the kubeconfig's current context, and refuses one that can't run the operator
// before anything is changed in it.
func existing(ctx context.Context, out io.Writer) (*Cluster, error) {
	c, err := connectExisting()
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(out, "the cluster of context %s, at %s\n", c.context, c.Config.Host)
	if err := c.checkVersion(); err != nil {
		return nil, err
	}
	if err := c.checkOperator(ctx); err != nil {
		return nil, err
	}
	fmt.Fprintln(out, "looking whether its nodes have the images, or can pull them")
	return c, c.checkImages(ctx)
}

// connectExisting pins the context that is current now: another one may become current while this runs.
func connectExisting() (*Cluster, error) {
	checkout, err := findCheckout()
	if err != nil {
		return nil, err
	}
	loading := clientcmd.NewDefaultClientConfigLoadingRules()
	raw, err := loading.Load()
	if err != nil {
		return nil, fmt.Errorf("CLUSTER=existing: the kubeconfig can't be read: %w; point KUBECONFIG to a good one", err)
	}
	if raw.CurrentContext == "" {
		return nil, errors.New("CLUSTER=existing: the kubeconfig has no current context; choose one with `kubectl config use-context NAME`, " +
			"or point KUBECONFIG to a file that has one")
	}
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		return nil, errors.New("CLUSTER=existing: kubectl isn't on the PATH; install the version of your cluster's Kubernetes")
	}
	c := &Cluster{Images: ImagesFromEnv(), existing: true, context: raw.CurrentContext, kubectl: kubectl, checkout: checkout}
	overrides := &clientcmd.ConfigOverrides{CurrentContext: raw.CurrentContext}
	if c.Config, err = clientcmd.NewNonInteractiveDeferredLoadingClientConfig(loading, overrides).ClientConfig(); err != nil {
		return nil, fmt.Errorf("CLUSTER=existing: context %s: %w", raw.CurrentContext, err)
	}
	return c, c.dial()
}

func (c *Cluster) checkVersion() error {
	versions, err := discovery.NewDiscoveryClientForConfig(c.Config)
	if err != nil {
		return err
	}
	version, err := versions.ServerVersion()
	if err != nil {
		return fmt.Errorf("CLUSTER=existing: no answer from context %s: %w", c.context, err)
	}
	return recentEnough(version.Major, version.Minor)
}

// recentEnough takes a version as servers say it: some vendors' minor versions end with a plus.
func recentEnough(major, minor string) error {
	number, err := strconv.Atoi(strings.TrimRight(minor, "+"))
	if err != nil || major != "1" {
		return fmt.Errorf("CLUSTER=existing: the cluster says that it is Kubernetes %q.%q: needed is 1.%d or later", major, minor, minimumMinor)
	}
	if number < minimumMinor {
		return fmt.Errorf("CLUSTER=existing: the cluster is Kubernetes 1.%d: needed is 1.%d or later, where native sidecars are always on; "+
			"upgrade it, or choose another context", number, minimumMinor)
	}
	return nil
}

// checkOperator refuses to replace an operator that somebody else deployed: pools in use hang on it.
func (c *Cluster) checkOperator(ctx context.Context) error {
	deployment, exists, err := c.operator(ctx)
	if err != nil {
		return err
	}
	if _, ours := deployment.Annotations[digestAnnotation]; exists && !ours {
		return fmt.Errorf("CLUSTER=existing: context %s has an operator in %s that demo and tests didn't deploy, and would replace; "+
			"choose another cluster, or take it out with `make undeploy`", c.context, OperatorNamespace)
	}
	return nil
}

// checkImages starts each image once, and remembers which the operator's is.
func (c *Cluster) checkImages(ctx context.Context) error {
	const namespace = "workerpool-image-check"
	ctx, cancel := context.WithTimeout(ctx, pullPatience)
	defer cancel()
	if err := c.EmptyNamespace(ctx, namespace, nil); err != nil {
		return err
	}
	defer func() { _ = c.RemoveNamespace(context.WithoutCancel(ctx), namespace) }()
	if err := c.Create(ctx, imageProbe(namespace, c.Images)); err != nil {
		return fmt.Errorf("CLUSTER=existing: start a pod that pulls the images: %w", err)
	}
	var pods corev1.PodList
	var seen map[string]string
	var refused error
	err := c.Await(ctx, &pods, func() (done bool) {
		if len(pods.Items) == 1 {
			seen, refused = pulled(&pods.Items[0])
		}
		return refused != nil || len(seen) == len(pods.Items[0].Spec.Containers)
	}, client.InNamespace(namespace))
	if refused != nil {
		return refused
	}
	if err != nil {
		return fmt.Errorf("CLUSTER=existing: the images %+v weren't there within %s: %w\n%s", c.Images, pullPatience, err, describePods(pods.Items))
	}
	c.operatorDigest = seen["operator"]
	return nil
}

// imageProbe is a pod that needs nothing but its images.
func imageProbe(namespace string, images Images) *corev1.Pod {
	container := func(name, image string, command ...string) corev1.Container {
		return corev1.Container{
			Name: name, Image: image, Command: command, ImagePullPolicy: corev1.PullIfNotPresent,
			SecurityContext: &corev1.SecurityContext{
				AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			},
		}
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "images", Namespace: namespace},
		Spec: corev1.PodSpec{
			RestartPolicy:                corev1.RestartPolicyNever,
			AutomountServiceAccountToken: new(false),
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: new(true), RunAsUser: new(int64(65532)),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{
				container("operator", images.Operator, "/manager", "--help"),
				container("worker", images.Worker, "python3", "--version"),
				container("samples", images.Samples, "/sample-app", "--help"),
			},
		},
	}
}

// pulled returns the image ids of the containers that were started, or an error that says what to do about one that
// can't be.
func pulled(pod *corev1.Pod) (map[string]string, error) {
	images := map[string]string{}
	for _, c := range pod.Spec.Containers {
		images[c.Name] = c.Image
	}
	started := map[string]string{}
	for _, s := range pod.Status.ContainerStatuses {
		variable := strings.ToUpper(s.Name) + "_IMAGE"
		switch waiting, ended := s.State.Waiting, s.State.Terminated; {
		case waiting != nil && strings.Contains(" ImagePullBackOff InvalidImageName ErrImageNeverPull ", " "+waiting.Reason+" "):
			return nil, fmt.Errorf("CLUSTER=existing: node %s can't get image %s (%s: %s); push it where the nodes can pull it without "+
				"a secret and set %s, or load it: `make images`, then `kind load image-archive` or `k3d image import` with out/images/%s.tar",
				pod.Spec.NodeName, images[s.Name], waiting.Reason, waiting.Message, variable, s.Name)
		case ended != nil && ended.StartedAt.IsZero(), ended != nil && ended.Reason == "StartError":
			return nil, fmt.Errorf("CLUSTER=existing: image %s doesn't start on node %s (%s: %s); set %s to one of this checkout, for the node's platform",
				images[s.Name], pod.Spec.NodeName, ended.Reason, ended.Message, variable)
		case s.ImageID != "" && (s.State.Running != nil || ended != nil):
			started[s.Name] = s.ImageID
		}
	}
	return started, nil
}
