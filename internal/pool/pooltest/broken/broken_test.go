package broken

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/checkout"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
	"github.com/dspex/workerpool-operator/internal/pool/pooltest"
	"github.com/dspex/workerpool-operator/internal/pool/serial"
)

// right are the pools that the contract passes; their own packages show it with the same Run.
var right = map[pool.Version]pooltest.Factory{
	pool.V1: func(ctx context.Context, name string, l crew.Launch, limits pool.Limits, log *slog.Logger) pool.Pool {
		return serial.New(ctx, name, l, limits, log)
	},
	pool.V2: func(ctx context.Context, name string, l crew.Launch, limits pool.Limits, log *slog.Logger) pool.Pool {
		if limits.Concurrency > 1 {
			return checkout.NewShared(ctx, name, l, limits, log)
		}
		return checkout.New(ctx, name, l, limits, log)
	},
}

// The way in which broken pools are looked at must not break a right one. That the right ones pass the whole contract
// is shown in their own packages.
func TestRightPoolsPass(t *testing.T) {
	for version, tests := range map[pool.Version][]string{
		pool.V1: {"TestP13_OneAtATimeInOrder", "TestP18_FirstComeFirstServed", "TestP44_PythonExceptionKeepsWorker"},
		pool.V2: {"TestP18_OverflowKeepsTheOrder", "TestP19_IdlePoolServesOneRequest", "TestP31_BoundedQueueIsExact", "TestP72_KilledWhileIdle", "TestP107_LateAnswersReachNobody"},
	} {
		for _, title := range tests {
			if failures := pooltest.Check(t, version, title, right[version], 0); len(failures) > 0 {
				t.Errorf("%s of %s: %q", title, version, failures)
			}
		}
	}
}

// chosen is the variable that names the one fault for a process that looks at no other.
const chosen = "BROKEN_POOL"

// Each fault makes the test fail that names it, for the reason that it should. Each is looked at in a process of its
// own, as a test of the contract takes all children, goroutines and descriptors of its process for those of its pool.
func TestContractNotices(t *testing.T) {
	pools := Pools()
	if fault := os.Getenv(chosen); fault != "" {
		notices(t, pools[slices.IndexFunc(pools, func(p Pool) bool { return p.Fault == fault })])
		return
	}
	if len(pools) < 25 {
		t.Errorf("%d broken pools; want at least 25", len(pools))
	}
	for _, p := range pools {
		t.Run(p.Fault, func(t *testing.T) {
			t.Parallel() // most of the time they wait for what doesn't happen
			isolated(t, p)
		})
	}
}

// isolated runs this test again for one fault.
func isolated(t *testing.T, p Pool) {
	again := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestContractNotices$", "-test.timeout", "5m")
	again.Env = append(os.Environ(), chosen+"="+p.Fault)
	if output, err := again.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, output)
	}
}

// notices looks again with a longer limit, as on a busy machine a short one can end the test before it comes to what
// the fault is about.
func notices(t *testing.T, p Pool) {
	limits := []time.Duration{p.Limit}
	if p.Limit > 0 {
		limits = append(limits, 5*p.Limit)
	}
	var failures []string
	for _, limit := range limits {
		failures = pooltest.Check(t, p.Version, p.Test, p.Factory(right[p.Version]), limit)
		if slices.ContainsFunc(failures, p.says) {
			return
		}
	}
	t.Errorf("%s of %s says %q; want %q", p.Test, p.Version, failures, p.Says)
}
