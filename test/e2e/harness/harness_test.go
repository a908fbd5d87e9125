package harness

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
)

// A harness that overlooks a change makes every story pass.
func TestChangedContainers(t *testing.T) {
	before := Containers{"p/app": {ID: "containerd://1", Restarts: 0}, "p/pool-a": {ID: "containerd://2", Restarts: 1}}
	for name, tc := range map[string]struct {
		now  Containers
		want []string
	}{
		"the same":  {Containers{"p/app": {"containerd://1", 0}, "p/pool-a": {"containerd://2", 1}}, nil},
		"restarted": {Containers{"p/app": {"containerd://1", 0}, "p/pool-a": {"containerd://3", 2}}, []string{"p/pool-a: 1 restarts → 2"}},
		"replaced":  {Containers{"p/app": {"containerd://9", 0}, "p/pool-a": {"containerd://2", 1}}, []string{"p/app: 0 restarts → 0"}},
		"gone":      {Containers{"p/app": {"containerd://1", 0}}, []string{"p/pool-a is gone"}},
		"new": {Containers{"p/app": {"containerd://1", 0}, "p/pool-a": {"containerd://2", 1}, "q/app": {"containerd://5", 0}},
			[]string{"q/app is new"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := before.Changed(tc.now)
			if len(got) != len(tc.want) {
				t.Fatalf("changed: %v, want %v", got, tc.want)
			}
			for i, want := range tc.want {
				if !strings.HasPrefix(got[i], want) {
					t.Errorf("changed: %q, want %q", got[i], want)
				}
			}
		})
	}
}

func TestContainersOfLeavesOutFinishedOnes(t *testing.T) {
	ended := func(code int32) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code}}
	}
	pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Status: corev1.PodStatus{
		InitContainerStatuses: []corev1.ContainerStatus{
			{Name: "install", State: ended(0)}, {Name: "pool-a", ContainerID: "a", RestartCount: 2},
		},
		ContainerStatuses: []corev1.ContainerStatus{{Name: "app", ContainerID: "b", State: ended(1)}},
	}}
	want := Containers{"p/pool-a": {"a", 2}, "p/app": {"b", 0}}
	if diff := cmp.Diff(want, ContainersOf([]corev1.Pod{pod})); diff != "" {
		t.Errorf("containers (-want +got):\n%s", diff)
	}
}

func TestReadySpeaksOfTheCurrentSpec(t *testing.T) {
	for name, tc := range map[string]struct {
		status     metav1.ConditionStatus
		generation int64
		want       bool
	}{
		"true of this generation":  {metav1.ConditionTrue, 2, true},
		"true of an earlier one":   {metav1.ConditionTrue, 1, false},
		"false of this generation": {metav1.ConditionFalse, 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			pool := &v1alpha1.WorkerPool{ObjectMeta: metav1.ObjectMeta{Generation: 2}}
			pool.Status.Conditions = []metav1.Condition{{
				Type: v1alpha1.ConditionReady, Status: tc.status, Reason: "Promoted", ObservedGeneration: tc.generation,
			}}
			if got := Ready(pool); got != tc.want {
				t.Errorf("Ready = %v, want %v", got, tc.want)
			}
			if got := ConditionIs(pool, v1alpha1.ConditionReady, metav1.ConditionTrue, "Other"); got {
				t.Error("a condition with another reason counts as this one")
			}
		})
	}
	if Ready(&v1alpha1.WorkerPool{}) {
		t.Error("a pool without conditions is ready")
	}
}

func TestProcess(t *testing.T) {
	self, err := readProcess("/proc/" + strconv.Itoa(os.Getpid()))
	if err != nil || self.PID != os.Getpid() || self.UID != os.Getuid() || self.RSS == 0 {
		t.Errorf("own process: %+v, %v", self, err)
	}
	router := Process{Args: []string{"/opt/poold", "router", "--socket", "s"}}
	worker := Process{Args: []string{"/usr/bin/python3", "/opt/python", "--fds", "3,4"}}
	for name, got := range map[string]bool{
		"router runs poold router":    router.Runs("poold", "router"),
		"router isn't poold pool":     !router.Runs("poold", "pool"),
		"router isn't python":         !router.Runs("python3"),
		"no arguments beyond its own": !router.Runs("poold", "router", "--socket", "s", "more"),
		"worker is a worker":          worker.IsWorker(),
		"router isn't a worker":       !router.IsWorker(),
	} {
		if !got {
			t.Errorf("doesn't hold: %s", name)
		}
	}
}

func TestPoolError(t *testing.T) {
	full := Response{Body: []byte(`{"error":{"category":"resource_error","type":"queue_full","message":"m","context":{"pool":"p"}}}`)}
	want := PoolError{"resource_error", "queue_full", "m", map[string]any{"pool": "p"}}
	if diff := cmp.Diff(want, full.Error()); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
	if got := (Response{Body: []byte(`{"error":{"type":"t"}}`)}).Error(); got.Context != nil || got.Category != "" {
		t.Errorf("missing parts read as %+v", got)
	}
}
