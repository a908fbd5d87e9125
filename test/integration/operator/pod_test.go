//go:build integration

package operator

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
	"github.com/dspex/workerpool-operator/internal/histogram"
	"github.com/dspex/workerpool-operator/internal/router/agent"
	"github.com/dspex/workerpool-operator/internal/router/state"
)

// script is a pod that does as a test says. Its router's agent is the real one.
type script struct {
	mu       sync.Mutex
	snapshot *controlpb.Snapshot
	history  []*controlpb.Snapshot
	changed  chan struct{}
	withheld bool               // nothing is put in force
	refusal  string             // everything is refused, for this reason
	starting bool               // workers of slots other than the stable's don't get ready
	broken   map[string]string  // traceback by module whose workers don't start
	room     uint32             // workers that a slot's limits allow; 0: any number
	failing  map[string]float64 // share of the requests that fail, by version
	trip     *controlpb.Trip    // what the router says of a trip
	silence  chan struct{}      // no report goes out until it is closed; nil: they do
	counters map[string]*controlpb.RevisionCounters
	latency  map[string]*histogram.Histogram
}

func newScript() *script {
	return &script{
		changed: make(chan struct{}), broken: map[string]string{}, failing: map[string]float64{},
		counters: map[string]*controlpb.RevisionCounters{}, latency: map[string]*histogram.Histogram{},
	}
}

// set changes the script.
func (s *script) set(change func(*script)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *script) Apply(_ context.Context, next *controlpb.Snapshot) error {
	s.mu.Lock()
	withheld, refusal, before := s.withheld, s.refusal, s.snapshot
	s.mu.Unlock()
	switch {
	case refusal != "":
		return errors.New(refusal)
	case withheld:
		return errors.New("withheld by the test")
	}
	if err := errors.Join(state.CheckOrder(state.PositionOf(next), state.PositionOf(before)), state.Validate(next)); err != nil {
		return err
	}
	next, err := state.KeepRollback(next, before)
	if err != nil {
		return err
	}
	s.set(func(s *script) {
		s.snapshot = next
		s.history = append(s.history, next)
	})
	return nil
}

func (s *script) Kept() *controlpb.Snapshot { return s.inForce() }

func (s *script) Changed() [2]<-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return [2]<-chan struct{}{s.changed, nil}
}

// Tripped never tells of a trip by itself: a script speaks of it when the test makes it speak.
func (s *script) Tripped() <-chan struct{} { return nil }

func (s *script) SetConnected(bool) {}

func (s *script) Report() *controlpb.Report {
	s.mu.Lock()
	silence := s.silence
	s.mu.Unlock()
	if silence != nil {
		<-silence
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &controlpb.Report{Epoch: s.snapshot.GetEpoch(), Sequence: s.snapshot.GetSequence(), Trip: s.trip}
	for _, slot := range s.snapshot.GetSlots() {
		r.Slots = append(r.Slots, s.slot(slot))
	}
	for _, revision := range slices.Sorted(maps.Keys(s.counters)) {
		c := proto.Clone(s.counters[revision]).(*controlpb.RevisionCounters)
		c.Latency = sparse(s.latency[revision])
		r.Revisions = append(r.Revisions, c)
	}
	return r
}

// hush keeps all reports back until speak; acknowledgements too, as one goroutine sends both.
func (s *script) hush() { s.set(func(s *script) { s.silence = make(chan struct{}) }) }

func (s *script) speak() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.silence != nil {
		close(s.silence)
		s.silence = nil
	}
}

// slot is what a slot would report. Caller holds mu.
func (s *script) slot(slot *controlpb.Slot) *controlpb.SlotState {
	out := &controlpb.SlotState{Name: slot.GetName(), Reachable: true}
	if slot.GetRevision() == nil {
		return out
	}
	out.Revision, out.Version, out.Desired = slot.GetRevision().GetHash(), slot.GetRevision().GetVersion(), slot.GetSize()
	if s.room > 0 && slot.GetSize() > s.room {
		out.Desired, out.MaxWorkers, out.Capped = s.room, s.room, true
	}
	traceback, broken := s.broken[slot.GetRevision().GetModule()]
	switch {
	case broken:
		out.Boot = &controlpb.BootFailure{Reason: "WorkerBootFailed", Message: "module doesn't import", Traceback: traceback}
	case s.starting && slot.GetName() != s.snapshot.GetStable():
		out.Starting = out.Desired
	default:
		out.Ready = out.Desired
	}
	return out
}

// serve counts requests, split by the weight in force.
func (s *script) serve(requests uint64, latency time.Duration) {
	s.set(func(s *script) {
		canary := requests * uint64(s.snapshot.GetCanaryWeight()) / 10000
		for _, slot := range s.snapshot.GetSlots() {
			n := requests - canary
			switch {
			case slot.GetRevision() == nil:
				continue
			case slot.GetName() == s.snapshot.GetCanary():
				n = canary
			}
			s.count(slot.GetRevision(), n, latency)
		}
	})
}

// count adds requests of a revision. Caller holds mu.
func (s *script) count(r *controlpb.Revision, n uint64, latency time.Duration) {
	if s.counters[r.GetHash()] == nil {
		s.counters[r.GetHash()] = &controlpb.RevisionCounters{Revision: r.GetHash(), Version: r.GetVersion()}
		s.latency[r.GetHash()] = &histogram.Histogram{}
	}
	c := s.counters[r.GetHash()]
	c.Requests += n
	c.Errors += uint64(math.Round(float64(n) * s.failing[r.GetVersion()]))
	for range n {
		s.latency[r.GetHash()].Observe(latency)
	}
}

func sparse(h *histogram.Histogram) *controlpb.Histogram {
	out := &controlpb.Histogram{}
	for i, n := range h.Counts {
		if n > 0 {
			out.Buckets, out.Counts = append(out.Buckets, uint32(i)), append(out.Counts, n)
		}
	}
	return out
}

// weights are the canary's in the order in which they were in force.
func (s *script) weights() []uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []uint32
	for _, snapshot := range s.history {
		out = append(out, snapshot.GetCanaryWeight())
	}
	return out
}

// inForce is what the pod has in force.
func (s *script) inForce() *controlpb.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.snapshot
}

// connect runs the pod's router until disconnect is called or the test ends.
func (w *world) connect(pod *corev1.Pod, s *script) (disconnect func()) {
	w.t.Helper()
	folder := w.t.TempDir()
	token, ca := filepath.Join(folder, "token"), filepath.Join(folder, "ca.crt")
	w.must(os.WriteFile(token, []byte(w.token(pod, "pool.dspex.dev")), 0o600))
	w.must(os.WriteFile(ca, w.bundle(pod.Labels["pool.dspex.dev/pool"]), 0o600))
	a := agent.New(agent.Options{
		Address: address, CAFile: ca, TokenFile: token,
		Pool: pod.Labels["pool.dspex.dev/pool"], PoolUID: pod.Annotations["pool.dspex.dev/injected-pool-uid"],
		Instance: string(pod.UID), Version: "test", Pod: s, Logger: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.Run(ctx)
	}()
	disconnect = func() {
		cancel()
		s.speak()
		<-done
	}
	w.t.Cleanup(disconnect)
	return disconnect
}

// token of the namespace's default account, bound to the pod unless there is none.
func (w *world) token(pod *corev1.Pod, audience string) string {
	w.t.Helper()
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences: []string{audience}, ExpirationSeconds: new(int64(600)),
	}}
	if pod != nil {
		request.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID}
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default", Namespace: w.namespace}}
	w.must(server.Client.SubResource("token").Create(w.t.Context(), account, request))
	return request.Status.Token
}

// bundle waits for the CA bundle of a pool, as the kubelet would.
func (w *world) bundle(pool string) []byte {
	w.t.Helper()
	var found corev1.ConfigMap
	w.await("the CA bundle of "+pool, func() error {
		return server.Client.Get(w.t.Context(), client.ObjectKey{Namespace: w.namespace, Name: pool + "-workerpool-ca"}, &found)
	})
	return []byte(found.Data["ca.crt"])
}

// Interface checks.
var _ agent.Pod = (*script)(nil)

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}
