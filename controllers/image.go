package controllers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// +kubebuilder:rbac:groups="",namespace=workerpool-system,resources=pods,verbs=get

// ManagerContainer is the operator's container in its own pod; config/manager names it too.
const ManagerContainer = "manager"

// How long the operator asks for its own pod before it gives up, and how often: its permissions may have been applied
// in the same second as itself.
const (
	ownPodPatience = 30 * time.Second
	ownPodRetry    = time.Second
)

// OwnImage is the image that this process was started from, as its pod's spec has it: with the tag or digest that the
// pod was made with, and from the registry that a webhook may have put in place of another. The sidecars are made from
// it, so that they are never of another build than the operator that makes them.
func OwnImage(ctx context.Context, reader client.Reader, pod types.NamespacedName) (string, error) {
	if pod.Name == "" || pod.Namespace == "" {
		return "", errors.New("the image of the injected containers isn't known, as this isn't known to run in a pod; set POD_NAME and POD_NAMESPACE, or --operator-image (OPERATOR_IMAGE)")
	}
	own := &corev1.Pod{}
	var last error
	err := wait.PollUntilContextTimeout(ctx, ownPodRetry, ownPodPatience, true, func(ctx context.Context) (bool, error) {
		last = reader.Get(ctx, pod, own)
		return last == nil, nil
	})
	if err != nil {
		return "", fmt.Errorf("the image of the injected containers isn't known, as the operator can't read its own pod %s; let its service account get it, or set --operator-image (OPERATOR_IMAGE): %w",
			pod, errors.Join(err, last))
	}
	return managerImage(own)
}

// managerImage takes the container by its name, or the only one there is.
func managerImage(pod *corev1.Pod) (string, error) {
	var names []string
	for _, c := range pod.Spec.Containers {
		if c.Name == ManagerContainer || len(pod.Spec.Containers) == 1 {
			return c.Image, nil
		}
		names = append(names, c.Name)
	}
	return "", fmt.Errorf("the image of the injected containers isn't known, as none of the containers of pod %s/%s is named %s (there is: %s); name it so, or set --operator-image (OPERATOR_IMAGE)",
		pod.Namespace, pod.Name, ManagerContainer, strings.Join(names, ", "))
}
