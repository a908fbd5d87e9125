//go:build integration

package api

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/test/integration/apiserver"
)

const (
	crdFile    = "config/crd/bases/pool.dspex.dev_workerpools.yaml"
	fullSample = "config/samples/pool_v1alpha1_workerpool_full.yaml"
)

func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := server.Kubectl(t.Context(), args...)
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// TestO11_ColumnsFit shows a pool with long values in every column.
func TestO11_ColumnsFit(t *testing.T) {
	namespace := server.Namespace(t, nil)
	pool := manifest(namespace, object{"poolVersion": "v2"})
	pool.SetName("recommendations-eu")
	if err := server.Client.Create(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	var live v1alpha1.WorkerPool
	if err := server.Client.Get(t.Context(), client.ObjectKeyFromObject(pool), &live); err != nil {
		t.Fatal(err)
	}
	live.Status = v1alpha1.WorkerPoolStatus{
		Stable:  &v1alpha1.SlotRevision{Version: v1alpha1.PoolV2, Revision: "0123456789", Slot: "a"},
		Shown:   v1alpha1.ShownStatus{Version: "v2@a1b2", Stable: "v2@0123", ErrorRate: "12.25", P95: &metav1.Duration{Duration: 1234 * time.Millisecond}},
		Weight:  v1alpha1.WeightStatus{Summary: "99.75→100"},
		Pods:    v1alpha1.PodsStatus{Summary: "1000/1000"},
		Workers: v1alpha1.WorkersStatus{Summary: "16000/16000"},
		Conditions: []metav1.Condition{{
			Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: "ProgressDeadlineExceeded",
			Message: "a message", LastTransitionTime: metav1.Now(),
		}},
	}
	if err := server.Client.Status().Update(t.Context(), &live); err != nil {
		t.Fatal(err)
	}
	table := kubectl(t, "get", "wp", "-n", namespace)
	header, row, _ := strings.Cut(table, "\n")
	if got, want := strings.Fields(header), []string{"NAME", "VERSION", "STABLE", "WEIGHT", "PODS", "WORKERS", "READY", "REASON", "AGE"}; strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("columns %v, want %v", got, want)
	}
	for _, cell := range []string{"recommendations-eu", "v2@a1b2", "v2@0123", "99.75→100", "1000/1000", "16000/16000", "False", "ProgressDeadlineExceeded"} {
		if !strings.Contains(row, cell) {
			t.Errorf("the row lacks %q", cell)
		}
	}
	wide := kubectl(t, "get", "wp", "-n", namespace, "-o", "wide")
	for _, cell := range []string{"12.25", "1.234s"} {
		if !strings.Contains(wide, cell) {
			t.Errorf("the wide row lacks %q:\n%s", cell, wide)
		}
	}
	for _, line := range []string{header, strings.TrimRight(row, "\n")} {
		if width := utf8.RuneCountInString(line); width > 120 {
			t.Errorf("%d characters wide, want at most 120", width)
		}
	}
	if t.Failed() {
		t.Log("\n" + table)
	}
}

// TestO13_ClientSideApplyTakesTheCRD: kubectl writes the whole object into an annotation, which may have 256 KiB.
func TestO13_ClientSideApplyTakesTheCRD(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(apiserver.Root(), crdFile))
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	if len(asJSON) >= 256<<10 {
		t.Errorf("the CRD has %d bytes, want less than 256 KiB", len(asJSON))
	}
	kubectl(t, "apply", "--dry-run=server", "-f", crdFile)
}

// TestO7_AppliedTwice: defaults and normalisation leave nothing that a second apply would change.
func TestO7_AppliedTwice(t *testing.T) {
	for name, flags := range map[string][]string{
		"client-side": nil,
		"server-side": {"--server-side"},
	} {
		t.Run(name, func(t *testing.T) {
			namespace := server.Namespace(t, nil)
			apply := append([]string{"apply", "-n", namespace, "-f", fullSample}, flags...)
			kubectl(t, apply...)
			version := func() string {
				return kubectl(t, "get", "wp", "-n", namespace, "-o", "jsonpath={.items[*].metadata.resourceVersion}")
			}
			before := version()
			kubectl(t, apply...)
			if after := version(); after != before {
				t.Errorf("resourceVersion %s → %s after the second apply", before, after)
			}
			kubectl(t, append([]string{"diff", "-n", namespace, "-f", fullSample}, flags...)...)
		})
	}
}

func TestSamplesAreAccepted(t *testing.T) {
	namespace := server.Namespace(t, nil)
	kubectl(t, "apply", "-n", namespace, "--server-side", "--dry-run=server", "--validate=strict", "-k", "config/samples")
}
