package controllers

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/control"
)

// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=workerpool-system,resources=leases,verbs=get;create;update
// +kubebuilder:rbac:groups="",namespace=workerpool-system,resources=pods,verbs=list;patch

// How often the leader looks whether the control Service selects it and no one else: until it does, and from then on.
const (
	labelRetry = time.Second
	relabel    = 30 * time.Second
)

// Leader is what a replica does while it leads: it begins an epoch, serves the channel to the routers, and makes the
// control Service select its own pod. It ends with leadership.
type Leader struct {
	// Client writes labels; Live reads past the cache.
	Client client.Client
	Live   client.Reader
	Fleet  *control.Fleet
	Server *control.Server

	// Lease that was acquired, and the identity it was acquired with.
	Lease    types.NamespacedName
	Identity string
	// Pod that this process runs in; without a name no pod is labelled.
	Pod types.NamespacedName

	// Address of the channel, for example :9444; Listening, when set, is called with what became of it.
	Address   string
	Listening func(net.Addr)
	TLS       *tls.Config
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (l *Leader) NeedLeaderElection() bool { return true }

// Start leads until ctx ends.
func (l *Leader) Start(ctx context.Context) error {
	epoch, err := l.epoch(ctx)
	if err != nil {
		return err
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", l.Address)
	if err != nil {
		return fmt.Errorf("the channel to the routers can't listen: %w", err)
	}
	if l.Listening != nil {
		l.Listening(listener.Addr())
	}
	l.Fleet.Lead(epoch)
	log.FromContext(ctx).Info("Leading", "epoch", epoch, "address", listener.Addr().String())
	go l.stayLabelled(ctx)
	go l.watch(ctx)
	return l.Server.Serve(ctx, listener, l.TLS)
}

// epoch is the Lease's resourceVersion, read while this process holds it: greater than whatever an earlier leader can
// have read, for it had lost the Lease before, and greater still when the Lease was deleted and made anew.
func (l *Leader) epoch(ctx context.Context) (uint64, error) {
	var epoch uint64
	err := wait.PollUntilContextCancel(ctx, time.Second, true, func(ctx context.Context) (bool, error) {
		var lease coordinationv1.Lease
		if err := l.Live.Get(ctx, l.Lease, &lease); err != nil {
			log.FromContext(ctx).Error(err, "The Lease couldn't be read; trying again", "lease", l.Lease)
			return false, nil
		}
		if holder := ptr.Deref(lease.Spec.HolderIdentity, ""); holder != l.Identity {
			return false, fmt.Errorf("lease %s is held by %q, not by this process", l.Lease, holder)
		}
		var err error
		epoch, err = strconv.ParseUint(lease.ResourceVersion, 10, 64)
		return true, err
	})
	return epoch, err
}

// watch has pools passed over whose pods' reports cease to come, until ctx ends.
func (l *Leader) watch(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.Fleet.Missed()
		case <-ctx.Done():
			return
		}
	}
}

// stayLabelled keeps the control Service selecting this pod alone, until ctx ends. While it doesn't, routers keep
// looking.
func (l *Leader) stayLabelled(ctx context.Context) {
	if l.Pod.Name == "" {
		return
	}
	for ctx.Err() == nil {
		pause := relabel
		if err := l.label(ctx); err != nil && ctx.Err() == nil {
			log.FromContext(ctx).Error(err, "The leader's label couldn't be set; routers may not find it; trying again", "pod", l.Pod)
			pause = labelRetry
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// label makes the control Service select this pod alone.
func (l *Leader) label(ctx context.Context) error {
	var marked corev1.PodList
	err := l.Live.List(ctx, &marked, client.InNamespace(l.Pod.Namespace), client.MatchingLabels{v1alpha1.LeaderLabel: "true"})
	own := false
	for i := range marked.Items {
		if marked.Items[i].Name == l.Pod.Name {
			own = true
			continue
		}
		err = errors.Join(err, l.mark(ctx, marked.Items[i].Name, "null"))
	}
	if !own {
		err = errors.Join(err, l.mark(ctx, l.Pod.Name, `"true"`))
	}
	return err
}

// mark sets the leader's label of a pod to a JSON value.
func (l *Leader) mark(ctx context.Context, pod, value string) error {
	patch := fmt.Appendf(nil, `{"metadata":{"labels":{%q:%s}}}`, v1alpha1.LeaderLabel, value)
	object := &corev1.Pod{}
	object.Namespace, object.Name = l.Pod.Namespace, pod
	return client.IgnoreNotFound(l.Client.Patch(ctx, object, client.RawPatch(types.MergePatchType, patch)))
}
