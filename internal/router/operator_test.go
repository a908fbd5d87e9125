package router

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"github.com/dspex/workerpool-operator/internal/control"
	"github.com/dspex/workerpool-operator/internal/control/controlpb"
	"github.com/dspex/workerpool-operator/internal/pki"
	"github.com/dspex/workerpool-operator/internal/pool"
)

// poolKey is the pool of these tests in the operator's eyes.
var poolKey = types.NamespacedName{Namespace: "shop", Name: "summarizer"}

const podUID types.UID = "pod-1"

// directory vouches for the one pod of these tests.
type directory struct{}

func (directory) Review(_ context.Context, token string) (control.Caller, error) {
	if token != "token" {
		return control.Caller{}, fmt.Errorf("%w: it is %q", control.ErrTokenRefused, token)
	}
	return control.Caller{Namespace: poolKey.Namespace, Pod: "pod", PodUID: podUID}, nil
}

func (directory) Pod(context.Context, types.NamespacedName, types.UID) (control.PodIdentity, error) {
	return control.PodIdentity{UID: podUID, Pool: poolKey.Name, PoolUID: "uid"}, nil
}

func (directory) PoolUID(context.Context, types.NamespacedName) (types.UID, error) { return "uid", nil }

// leader is the operator's real end of the channel, in this process.
type leader struct {
	*control.Fleet
	t    *testing.T
	stop func()
}

// lead starts a leader of that epoch at address ("": any) and returns it and its address.
func lead(t *testing.T, certificates map[string][]byte, address string, epoch uint64) (*leader, string) {
	t.Helper()
	if address == "" {
		address = "localhost:0"
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certificates[pki.ServingCertKey], certificates[pki.ServingKey])
	if err != nil {
		t.Fatal(err)
	}
	fleet := control.NewFleet(time.Now, control.NewMetrics(prometheus.NewRegistry()), func(types.NamespacedName) {})
	fleet.Lead(epoch)
	server := &control.Server{Fleet: fleet, Reviewer: directory{}, Directory: directory{}, Clock: time.Now, Log: logr.Discard()}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(ctx, listener, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13})
	}()
	l := &leader{Fleet: fleet, t: t, stop: func() { cancel(); <-done }}
	t.Cleanup(l.stop)
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return l, "localhost:" + port
}

// pod is what the leader knows of the pod.
func (l *leader) pod() control.PodView { return l.View(poolKey).Pods[podUID] }

func newCertificates(t *testing.T) map[string][]byte {
	t.Helper()
	plan, err := pki.For(nil, []string{"localhost"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return plan.Data
}

// connectTo lets the rig's next router talk to an operator.
func (r *rig) connectTo(address string, certificates map[string][]byte) {
	r.t.Helper()
	dir := r.t.TempDir()
	r.config.PoolUID, r.config.ControlAddress, r.config.StartupWait = "uid", address, 3*time.Second
	r.config.CAFile, r.config.TokenFile = filepath.Join(dir, "ca.crt"), filepath.Join(dir, "token")
	for path, content := range map[string][]byte{r.config.CAFile: certificates[pki.BundleKey], r.config.TokenFile: []byte("token\n")} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
}

// newLedRig is a rig whose router runs with the bootstrap, and follows a leader of epoch 7.
func newLedRig(t *testing.T, bootstrap, published *controlpb.Snapshot) (*rig, *leader, string, map[string][]byte) {
	t.Helper()
	certificates := newCertificates(t)
	l, address := lead(t, certificates, "", 7)
	if published != nil {
		l.Publish(poolKey, published)
	}
	r := newRig(t, bootstrap, nil)
	r.connectTo(address, certificates)
	r.restart()
	return r, l, address, certificates
}

func TestO19_NewPodJoinsBeforeItTakesTraffic(t *testing.T) {
	r, l, _, _ := newLedRig(t, snapshot(0), snapshot(10_000))
	if a := r.post("x", "{}"); a.slot() == "" {
		t.Fatalf("%d %s", a.code, a.body)
	}
	if st := r.status(); st.Epoch != 7 || st.CanaryWeight != 100 {
		t.Errorf("the first request was served at %+v, want the leader's snapshot", st)
	}
	r.until(func() bool { return l.pod().Acknowledged })
}

func TestStartsFromItsOwnWhenNoOperatorComes(t *testing.T) {
	for name, address := range map[string]string{"refused": "localhost:1", "no such name": "operator.invalid:1"} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, snapshot(2500), nil)
			r.connectTo(address, newCertificates(t))
			r.config.StartupWait = 300 * time.Millisecond
			start := time.Now()
			r.restart()
			if a := r.post("x", "{}"); a.slot() == "" {
				t.Fatalf("%d %s", a.code, a.body)
			}
			if waited := time.Since(start); waited < r.config.StartupWait {
				t.Errorf("it began after %v, without waiting for the operator", waited)
			}
			if st := r.status(); st.CanaryWeight != 25 || st.Operator {
				t.Errorf("in force: %+v", st)
			}
		})
	}
}

func TestO42_OperatorGoesAndAnotherComes(t *testing.T) {
	r, l, address, certificates := newLedRig(t, snapshot(0), snapshot(1000))
	r.until(func() bool { return l.pod().Acknowledged && ready(r.Router, snapshot(0)) })
	l.stop()
	r.until(func() bool { return !r.status().Operator })
	if _, b := r.burst(200); b != 20 {
		t.Errorf("with no operator %d of 200 requests went to the canary, want 20", b)
	}

	// One with an older epoch, that thinks it leads, is refused: the weight stays.
	old, _ := lead(t, certificates, address, 6)
	old.Publish(poolKey, snapshot(10_000))
	r.until(func() bool {
		return strings.Contains(old.pod().Refusal, "epoch 6, sequence 1 is older than epoch 7, sequence 1")
	})
	if st := r.status(); st.CanaryWeight != 10 || st.Epoch != 7 {
		t.Errorf("after an old leader's snapshot: %+v", st)
	}
	old.stop()

	next, _ := lead(t, certificates, address, 9)
	next.Publish(poolKey, snapshot(5000))
	r.until(func() bool { return next.pod().Acknowledged })
	if st := r.status(); st.CanaryWeight != 50 || st.Epoch != 9 {
		t.Errorf("after the next leader's snapshot: %+v", st)
	}
}

func TestO45_RefusalNamesItsReason(t *testing.T) {
	onlyA := changed(snapshot(0), func(s *controlpb.Snapshot) { s.Slots[1].Revision, s.Canary = nil, "" })
	r, l, _, _ := newLedRig(t, onlyA, onlyA)
	r.until(func() bool { return l.pod().Acknowledged })
	r.b.Refuse(pool.NewError(pool.RequestError, pool.InvalidPayload, "worker.module is empty"))
	l.Publish(poolKey, snapshot(1000))
	r.until(func() bool { return strings.Contains(l.pod().Refusal, "slot b refused its configuration") })
	if l.pod().Acknowledged {
		t.Error("refused and acknowledged")
	}
	r.b.Refuse(nil)
	r.b.Stop()
	r.until(func() bool { return !r.slots["b"].Serving() })
	r.b.Start()
	r.until(func() bool { return l.pod().Acknowledged })
}

// TestO18_WeightAndSizeThroughTheChannel also measures how long a change takes to be acknowledged.
func TestO18_WeightAndSizeThroughTheChannel(t *testing.T) {
	r, l, _, _ := newLedRig(t, snapshot(0), snapshot(0))
	r.until(func() bool { return l.pod().Acknowledged })
	for _, weight := range []uint32{1000, 10_000, 0} {
		start := time.Now()
		l.Publish(poolKey, changed(snapshot(weight), func(s *controlpb.Snapshot) {
			s.Slots[0].Size, s.Slots[1].Size = 6, 6
		}))
		r.until(func() bool { return l.pod().Acknowledged })
		if took := time.Since(start); took > reactionLimit {
			t.Errorf("weight %d was acknowledged after %v", weight, took)
		}
		if got := r.status().CanaryWeight; got != float64(weight)/100 {
			t.Errorf("weight %v, want %d hundredths", got, weight)
		}
	}
	configs := r.a.Configs()
	if last := configs[len(configs)-1]; last.Size != 6 {
		t.Errorf("slot a was last told size %d", last.Size)
	}
	r.until(func() bool { return l.pod().Slots["a"].Desired == 6 && l.pod().Slots["a"].Up })
}

// reactionLimit is generous: milliseconds are usual.
const reactionLimit = 2 * time.Second

func TestReportsAddUpAtTheOperator(t *testing.T) {
	const stable, canary = "00000000a1", "00000000b2" // the operator counts for what can be a revision only
	published := changed(snapshot(2500), func(s *controlpb.Snapshot) {
		s.Slots[0].Revision.Hash, s.Slots[1].Revision.Hash = stable, canary
	})
	r, l, _, _ := newLedRig(t, published, published)
	r.until(func() bool { return l.pod().Acknowledged && ready(r.Router, published) && len(l.pod().Slots) == 2 })
	// Counting starts with the first report; it has come, as the slots are known.
	a, b := r.burst(200)
	r.until(func() bool {
		figures := l.View(poolKey).Figures
		return figures[stable].Requests == uint64(a) && figures[canary].Requests == uint64(b)
	})
	if f := l.View(poolKey).Figures[canary]; f.Version != "v2" || f.Errors != 0 || f.P50 <= 0 || f.P99 < f.P50 {
		t.Errorf("figures of the canary: %+v", f)
	}
	r.b.Stop()
	r.until(func() bool { return !l.pod().Slots["b"].Reachable })
}

func TestO46_AnotherPodsTokenGetsNothing(t *testing.T) {
	r, l, _, _ := newLedRig(t, snapshot(0), nil)
	if err := os.WriteFile(r.config.TokenFile, []byte("stolen"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.Publish(poolKey, snapshot(10_000))
	r.config.StartupWait = 100 * time.Millisecond
	r.restart()
	r.until(func() bool { return strings.Contains(r.logs.String(), "Unauthenticated") })
	r.until(func() bool { return r.status().Configured })
	if st := r.status(); st.CanaryWeight != 0 || st.Operator {
		t.Errorf("in force: %+v", st)
	}
	if strings.Contains(r.logs.String(), "no stream to the operator") && l.pod().Connected {
		t.Error("the operator let it in")
	}
}
