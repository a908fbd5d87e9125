//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dspex/workerpool-operator/test/e2e/harness"
)

// The leader is killed when it has decided to roll back and couldn't write that down yet: the routers act upon it all the same, and
// the next leader has it from them, and records it, once.
func TestO22_O37_LeaderKilledBetweenDecisionAndStatusWrite(t *testing.T) {
	w := newWorld(t)
	apps, pods := w.canary(4)
	release := w.refuseRollbacks("main")
	w.change("main", stepwise(10*time.Minute, 25))
	w.change("main", env("FAIL_RATE", "0.3"))
	leader := w.leader()
	w.eventually("a rollback that was decided and not written", func() (bool, string) {
		logs := w.kubectl("-n", harness.OperatorNamespace, "logs", leader.Name, "--tail=200")
		return strings.Contains(logs, refusedByTest), logs[max(0, len(logs)-500):]
	})
	if now := w.get("main").Status; now.LastRollback != nil || now.BlockedRevision != "" {
		t.Errorf("last rollback %+v, blocked %q; want nothing written", now.LastRollback, now.BlockedRevision)
	}
	for _, app := range apps {
		w.eventually("weight 0 in pod "+app.Pod+", though that can't be recorded", func() (bool, string) {
			status := w.router(app)
			return status.CanaryWeight == 0, show(status)
		})
	}
	w.must(cluster.Delete(w.ctx, leader, client.GracePeriodSeconds(0)))
	release()
	pool := w.rolledBack("main", "ErrorRateExceeded")
	w.offTraffic(apps)
	if last := pool.Status.LastRollback; last.Weight != "25" || pool.Status.BlockedRevision != last.Revision {
		t.Errorf("last rollback %+v, blocked %q; want one at 25", last, pool.Status.BlockedRevision)
	}
	if v1 := w.end(apps).Versions["v1"]; v1.Errors != 0 || v1.Requests == 0 {
		t.Errorf("v1 failed %d of %d", v1.Errors, v1.Requests)
	}
	w.unchanged("main", pods)
	w.must(cluster.AwaitDeployment(w.within(patience), harness.OperatorNamespace, harness.OperatorName))
}

const refusedByTest = "this rollback isn't to be written yet"

// refuseRollbacks makes the API server refuse statuses of this namespace that tell of a rollback, until it is released.
func (w *world) refuseRollbacks(pool string) (release func()) {
	w.Helper()
	name := w.namespace
	manifest := filepath.Join(w.TempDir(), "policy.yaml")
	w.must(os.WriteFile(manifest, fmt.Appendf(nil, `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: %[1]s}
spec:
  matchConstraints:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %[1]s}}
    resourceRules:
    - {apiGroups: [pool.dspex.dev], apiVersions: ["*"], operations: [UPDATE], resources: [workerpools/status]}
  validations:
  - {expression: "!has(object.status.lastRollback)", message: %[2]q}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: %[1]s}
spec: {policyName: %[1]s, validationActions: [Deny]}
`, name, refusedByTest), 0o600))
	w.kubectl("apply", "-f", manifest)
	release = func() {
		w.kubectl("delete", "--ignore-not-found", "validatingadmissionpolicybinding,validatingadmissionpolicy", name)
	}
	w.Cleanup(release)
	rollback := `{"status":{"lastRollback":{"revision":"r","from":"v2","to":"v1","toRevision":"s","weight":"1","reason":"Test","time":"2026-01-01T00:00:00Z"}}}`
	w.eventually("the policy in force", func() (bool, string) {
		output, err := cluster.Kubectl(w.ctx, "-n", w.namespace, "patch", "workerpool", pool, "--subresource=status", "--type=merge", "--dry-run=server", "-p", rollback)
		return err != nil && strings.Contains(err.Error()+output, refusedByTest), fmt.Sprintf("%s %v", output, err)
	})
	return release
}
