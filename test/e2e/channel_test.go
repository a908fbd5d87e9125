//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/control/controlpb"
	"github.com/dspex/workerpool-operator/test/e2e/harness"
)

const audience = "pool.dspex.dev" // of the routers' tokens

// A pod of one pool can neither read nor report for another, whatever it claims.
func TestO46_AnotherPoolsToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, podsA := w.serving("a", v1alpha1.PoolV1, 1)
	w.serving("b", v1alpha1.PoolV1, 1)
	a, b := w.get("a"), w.get("b")
	channel := w.dialOperator(&podsA[0])
	ofA := w.token(&podsA[0], audience)
	for name, tc := range map[string]struct {
		token string
		claim *v1alpha1.WorkerPool
		want  codes.Code
	}{
		"another pool's name and UID":     {ofA, b, codes.PermissionDenied},
		"a token for another audience":    {w.token(&podsA[0], "other"), a, codes.Unauthenticated},
		"a token that no pod is bound to": {w.token(nil, audience), a, codes.Unauthenticated},
		"no token":                        {"", a, codes.Unauthenticated},
		"a token that isn't one":          {"eyJhbGciOiJub25lIn0.e30.", a, codes.Unauthenticated},
		// The one claim that is true: without it the refusals would show nothing.
		"its own": {ofA, a, codes.OK},
	} {
		t.Run(name, func(t *testing.T) {
			snapshot, err := w.sub(t).hello(channel, tc.token, tc.claim)
			if status.Code(err) != tc.want || (err == nil) != (snapshot != nil) {
				t.Errorf("got snapshot %v and %v, want %s", snapshot, err, tc.want)
			}
		})
	}
}

// dialOperator connects to the leader's control service as a router of the pod would.
func (w *world) dialOperator(pod *corev1.Pod) controlpb.AgentClient {
	w.Helper()
	host, portText, err := net.SplitHostPort(routerFlag(pod, "--control-address"))
	w.must(err)
	port, err := strconv.Atoi(portText)
	w.must(err)
	address, err := cluster.Forward(w.ctx, harness.OperatorNamespace, "service/"+strings.Split(host, ".")[0], port)
	w.must(err)

	var bundle corev1.ConfigMap
	name := pod.Labels[v1alpha1.PoolLabel] + "-workerpool-ca"
	w.must(cluster.Get(w.ctx, client.ObjectKey{Namespace: w.namespace, Name: name}, &bundle))
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(bundle.Data["ca.crt"])) {
		w.Fatalf("ConfigMap %s holds no certificate: %v", name, bundle.Data)
	}
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: host})))
	w.must(err)
	w.Cleanup(func() { _ = conn.Close() })
	return controlpb.NewAgentClient(conn)
}

func routerFlag(pod *corev1.Pod, flag string) string {
	for _, c := range pod.Spec.InitContainers {
		for i, arg := range c.Args {
			if arg == flag && i+1 < len(c.Args) {
				return c.Args[i+1]
			}
		}
	}
	return ""
}

// token of the namespace's default account, bound to the pod unless there is none.
func (w *world) token(pod *corev1.Pod, audience string) string {
	w.Helper()
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences: []string{audience}, ExpirationSeconds: new(int64(600)),
	}}
	if pod != nil {
		request.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID}
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default", Namespace: w.namespace}}
	w.must(cluster.SubResource("token").Create(w.ctx, account, request))
	return request.Status.Token
}

// hello opens a stream with a token and a claim, and returns the first snapshot that comes back.
func (w *world) hello(channel controlpb.AgentClient, token string, claim *v1alpha1.WorkerPool) (*controlpb.Snapshot, error) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, 15*time.Second)
	defer cancel()
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	stream, err := channel.Stream(ctx)
	w.must(err)
	_ = stream.Send(&controlpb.AgentMessage{Body: &controlpb.AgentMessage_Hello{Hello: &controlpb.Hello{
		Pool: claim.Name, PoolUid: string(claim.UID), Instance: "e2e", Version: "e2e",
	}}}) // an error is told by Recv
	message, err := stream.Recv()
	return message.GetSnapshot(), err
}
