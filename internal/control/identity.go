package control

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
)

// Audience is what a router's token must be for.
const Audience = "pool.dspex.dev"

// reauthenticate is how long a stream lasts whose token doesn't say when it expires.
const reauthenticate = 10 * time.Minute

// ErrTokenRefused is what a Reviewer wraps when the API server doesn't vouch for a token, as opposed to not answering.
var ErrTokenRefused = errors.New("token refused")

// ErrNotFound is what a Directory wraps when there is no such object.
var ErrNotFound = errors.New("not found")

// Reviewer asks the API server whom a token speaks for.
type Reviewer interface {
	// Review returns the pod that the token is bound to. The token must be for Audience.
	Review(ctx context.Context, token string) (Caller, error)
}

// Caller is the pod that a token is bound to.
type Caller struct {
	Namespace string
	Pod       string
	PodUID    types.UID
}

// Directory looks pods and pools up.
type Directory interface {
	// Pod returns what identifies a pod, of those that had this name the one with the UID if it still exists.
	Pod(ctx context.Context, name types.NamespacedName, uid types.UID) (PodIdentity, error)
	// PoolUID returns the UID of a pool.
	PoolUID(ctx context.Context, name types.NamespacedName) (types.UID, error)
}

// PodIdentity is what a pod says of itself in its metadata, which only the API server and injection write.
type PodIdentity struct {
	UID     types.UID
	Pool    string    // its label
	PoolUID types.UID // stamped at injection
}

// Member is a router that was let in.
type Member struct {
	Pool    types.NamespacedName
	PoolUID types.UID
	Pod     string
	PodUID  types.UID
	// Until its token expires; then the stream ends and the router comes back with a new one.
	Until time.Time
}

// rejection is why a stream isn't let in.
type rejection struct {
	reason string // for the metric: one of a few words
	status *status.Status
}

func (r *rejection) Error() string              { return r.status.Message() }
func (r *rejection) GRPCStatus() *status.Status { return r.status }

func reject(reason string, code codes.Code, format string, args ...any) error {
	return &rejection{reason: reason, status: status.Newf(code, format, args...)}
}

// authenticate finds out who is calling: the token tells the pod, the pod tells its pool. What the router claims in its
// Hello must agree with both.
func (s *Server) authenticate(ctx context.Context, token string, hello *controlpb.Hello) (Member, error) {
	if token == "" {
		return Member{}, reject("no_token", codes.Unauthenticated, "no bearer token; a router sends the projected token for audience %s", Audience)
	}
	caller, err := s.Reviewer.Review(ctx, token)
	switch {
	case errors.Is(err, ErrTokenRefused):
		return Member{}, reject("token_refused", codes.Unauthenticated, "%v; send a current token for audience %s that is bound to the pod", err, Audience)
	case err != nil:
		return Member{}, reject("review_failed", codes.Unavailable, "the token couldn't be reviewed: %v; retry", err)
	}
	name := types.NamespacedName{Namespace: caller.Namespace, Name: caller.Pod}
	pod, err := s.Directory.Pod(ctx, name, caller.PodUID)
	if err != nil {
		return Member{}, lookupFailed("pod", name, err)
	}
	pool := types.NamespacedName{Namespace: caller.Namespace, Name: pod.Pool}
	if err := agree(caller, pod, hello); err != nil {
		return Member{}, err
	}
	uid, err := s.Directory.PoolUID(ctx, pool)
	if err != nil {
		return Member{}, lookupFailed("WorkerPool", pool, err)
	}
	if uid != pod.PoolUID {
		return Member{}, otherPool(name, pool)
	}
	return Member{Pool: pool, PoolUID: uid, Pod: caller.Pod, PodUID: caller.PodUID, Until: expiry(token, s.Clock())}, nil
}

// agree compares token, pod and claim.
func agree(caller Caller, pod PodIdentity, hello *controlpb.Hello) error {
	switch {
	case pod.UID != caller.PodUID:
		return reject("other_pod", codes.PermissionDenied, "the token is bound to an earlier pod named %s/%s", caller.Namespace, caller.Pod)
	case pod.Pool == "" || pod.PoolUID == "":
		return reject("not_injected", codes.PermissionDenied, "pod %s/%s isn't in a pool: it has no sidecars of this operator", caller.Namespace, caller.Pod)
	case hello.GetPool() != pod.Pool || hello.GetPoolUid() != string(pod.PoolUID):
		return reject("other_pool", codes.PermissionDenied, "pod %s/%s belongs to pool %s and can't speak for pool %s", caller.Namespace, caller.Pod, pod.Pool, bounded(hello.GetPool(), 253))
	}
	return nil
}

// otherPool rejects a pod of an earlier pool of the same name.
func otherPool(pod, pool types.NamespacedName) error {
	return reject("other_pool", codes.PermissionDenied, "pod %s was injected for a WorkerPool %s that has been deleted since; restart the pod", pod, pool)
}

func lookupFailed(kind string, name types.NamespacedName, err error) error {
	if errors.Is(err, ErrNotFound) {
		return reject("not_found", codes.PermissionDenied, "%s %s doesn't exist", kind, name)
	}
	return reject("lookup_failed", codes.Unavailable, "%s %s couldn't be looked up: %v; retry", kind, name, err)
}

// expiry reads when a token expires. It is called after the API server vouched for the token, so the signature needs no
// second look.
func expiry(token string, now time.Time) time.Time {
	var claims struct {
		Expires float64 `json:"exp"`
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return now.Add(reauthenticate)
	}
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(body, &claims) != nil || claims.Expires <= 0 {
		return now.Add(reauthenticate)
	}
	return time.Unix(int64(claims.Expires), 0)
}

// String is how logs name a member.
func (m Member) String() string {
	return fmt.Sprintf("%s/%s of pool %s", m.Pool.Namespace, m.Pod, m.Pool.Name)
}
