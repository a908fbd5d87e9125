//go:build integration

package operator

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/control/controlpb"
)

// plainPod is one that was made before the operator was there, by a Deployment.
func (w *world) plainPod(name string, pool *v1alpha1.WorkerPool) *corev1.Pod {
	return w.pod(name, pool, func(p *corev1.Pod) {
		p.Annotations = nil
		p.Labels["pod-template-hash"] = "5d9f"
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-5d9f", UID: "rs", Controller: new(true)}}
	})
}

func TestO46_OnlyItsOwnPool(t *testing.T) {
	startOperator(t)
	w := newWorld(t)
	a, b := w.pool("a", nil), w.pool("b", nil)
	podA, plain := w.pod("a-0", a, nil), w.plainPod("plain-5d9f-1", a)
	gone := w.pod("gone", a, func(p *corev1.Pod) { p.Annotations[v1alpha1.InjectedAnnotation] = "another-uid" })
	channel := w.dial("a")
	claim := func(pool *v1alpha1.WorkerPool) *controlpb.Hello {
		return &controlpb.Hello{Pool: pool.Name, PoolUid: string(pool.UID), Instance: "test"}
	}
	for name, tc := range map[string]struct {
		token string
		hello *controlpb.Hello
		want  codes.Code
		says  string
	}{
		"another pool's name and UID":     {w.token(podA, "pool.dspex.dev"), claim(b), codes.PermissionDenied, "belongs to pool a"},
		"its pool's name, another UID":    {w.token(podA, "pool.dspex.dev"), &controlpb.Hello{Pool: "a", PoolUid: "x"}, codes.PermissionDenied, "belongs to pool a"},
		"a pod without sidecars":          {w.token(plain, "pool.dspex.dev"), claim(a), codes.PermissionDenied, "isn't in a pool"},
		"injected for a deleted pool":     {w.token(gone, "pool.dspex.dev"), &controlpb.Hello{Pool: "a", PoolUid: "another-uid"}, codes.PermissionDenied, "has been deleted"},
		"a token for another audience":    {w.token(podA, "other"), claim(a), codes.Unauthenticated, "token refused"},
		"a token that no pod is bound to": {w.token(nil, "pool.dspex.dev"), claim(a), codes.Unauthenticated, "isn't bound to a pod"},
		"no token":                        {"", claim(a), codes.Unauthenticated, "no bearer token"},
		"a token that isn't one":          {"eyJhbGciOiJub25lIn0.e30.", claim(a), codes.Unauthenticated, "token refused"},
		"its own":                         {w.token(podA, "pool.dspex.dev"), claim(a), codes.OK, ""},
	} {
		t.Run(name, func(t *testing.T) {
			snapshot, err := hello(testContext(t), channel, tc.token, tc.hello)
			if status.Code(err) != tc.want || (err == nil) != (snapshot != nil) || !strings.Contains(status.Convert(err).Message(), tc.says) {
				t.Errorf("got snapshot %v and %v, want %s with %q", snapshot, err, tc.want, tc.says)
			}
		})
	}
}

// dial connects to the operator, trusting the bundle of a pool.
func (w *world) dial(pool string) controlpb.AgentClient {
	w.t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(w.bundle(pool))
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots})))
	w.must(err)
	w.t.Cleanup(func() { _ = conn.Close() })
	return controlpb.NewAgentClient(conn)
}

// hello opens a stream and returns the first snapshot that comes back.
func hello(ctx context.Context, channel controlpb.AgentClient, token string, hello *controlpb.Hello) (*controlpb.Snapshot, error) {
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	stream, err := channel.Stream(ctx)
	if err != nil {
		return nil, err
	}
	_ = stream.Send(&controlpb.AgentMessage{Body: &controlpb.AgentMessage_Hello{Hello: hello}}) // Recv tells its error
	message, err := stream.Recv()
	return message.GetSnapshot(), err
}

func TestO15_O16_NoRaiseWithoutEveryPod(t *testing.T) {
	startOperator(t)
	w := newWorld(t)
	pool := w.pool("main", func(s *v1alpha1.WorkerPoolSpec) { s.PoolVersion = v1alpha1.PoolV1 })
	scripts := w.served(pool, 2)
	w.awaitReady("main", "Promoted")
	scripts[1].set(func(s *script) { s.withheld = true })
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.PoolVersion, s.Canary = v1alpha1.PoolV2, weight("50") })
	held := w.awaitReady("main", "ConfigurationRefused")
	if c := condition(held, v1alpha1.ConditionConfigSynced); !strings.Contains(c.Message, "main-1") || !strings.Contains(c.Message, "withheld by the test") {
		t.Errorf("TestO45: the message names neither pod nor reason: %s", c.Message)
	}
	if held.Status.Weight.Applied != "0" || slices.Max(scripts[0].weights()) != 0 {
		t.Errorf("applied %s, weights %v; want 0", held.Status.Weight.Applied, scripts[0].weights())
	}
	scripts[1].set(func(s *script) { s.withheld = false })
	w.awaitReady("main", "CanaryPinned")
}

func TestO42_ADisconnectedPodHoldsTheWeight(t *testing.T) {
	startOperator(t)
	w := newWorld(t)
	pool := w.pool("main", func(s *v1alpha1.WorkerPoolSpec) { s.PoolVersion, s.Canary = v1alpha1.PoolV2, weight("10") })
	stays, leaves := newScript(), newScript()
	w.connect(w.pod("stays", pool, nil), stays)
	lost := w.pod("leaves", pool, nil)
	disconnect := w.connect(lost, leaves)
	w.awaitReady("main", "CanaryPinned")
	disconnect()
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.Canary = weight("50") })
	unreachable := w.awaitReady("main", "PodsUnreachable")
	if c := condition(unreachable, v1alpha1.ConditionReady); !strings.Contains(c.Message, "leaves") {
		t.Errorf("message doesn't name the pod: %s", c.Message)
	}
	if got := slices.Max(stays.weights()); got != 1000 {
		t.Errorf("weight %d in force, want it held at 1000", got)
	}
	w.connect(lost, leaves)
	if got := w.awaitReady("main", "CanaryPinned"); got.Status.Weight.Applied != "50" {
		t.Errorf("applied %s after the pod is back", got.Status.Weight.Applied)
	}
	if first := leaves.inForce(); first.GetCanaryWeight() != 5000 {
		t.Errorf("TestO43: the pod that is back has %v", first)
	}
}

// A new leader starts where the last one stopped: a higher epoch, the same weights, no write.
func TestO44_O22_AChangeOfLeader(t *testing.T) {
	first := startOperator(t)
	w := newWorld(t)
	pool := w.pool("main", func(s *v1alpha1.WorkerPoolSpec) { s.Canary = weight("10") })
	scripts := w.served(pool, 2)
	w.awaitReady("main", "CanaryPinned")
	before := w.awaitIdleLook("main")
	old := scripts[0].inForce()
	w.anotherLeader(first, scripts)
	time.Sleep(time.Second) // for anything that would move by mistake
	after := w.awaitReady("main", "CanaryPinned")
	if after.ResourceVersion != before.ResourceVersion {
		t.Errorf("the change of leader wrote the status:\nbefore %s\nafter %s", show(before), show(after))
	}
	for _, s := range scripts {
		if got := s.weights(); !slices.Equal(got, []uint32{0, 1000, 1000}) {
			t.Errorf("weights in force %v, want 0, 10 %%, 10 %%", got)
		}
	}
	if err := scripts[0].Apply(t.Context(), old); err == nil || !strings.Contains(err.Error(), "older") {
		t.Errorf("the old leader's snapshot: %v, want it refused", err)
	}
}

// anotherLeader replaces the operator, and waits until all pods have heard of the new one.
func (w *world) anotherLeader(first *operator, scripts []*script) *operator {
	w.t.Helper()
	old := scripts[0].inForce().GetEpoch()
	first.stop()
	second := startOperator(w.t)
	w.await("snapshot of the new leader in every pod", func() error {
		for _, s := range scripts {
			if s.inForce().GetEpoch() <= old {
				return errStillOld
			}
		}
		return nil
	})
	return second
}

var errStillOld = status.Error(codes.Unavailable, "still the old leader's")
