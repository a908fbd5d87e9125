package crew

import (
	"context"
	"testing"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// answering is a worker whose round trips end as they are told.
type answering struct {
	Worker
	next worker.Outcome
}

func (w *answering) RoundTrip(context.Context, worker.Call) worker.Outcome { return w.next }

func TestP50_FailuresInARow(t *testing.T) {
	outcomes := map[string]worker.Outcome{
		"ok":       {},
		"internal": {Err: pool.NewError(pool.SystemError, pool.Internal, "m")},
		"raised":   {Err: pool.NewError(pool.CommunicationError, pool.PythonError, "m")},
		"timeout":  {Err: pool.NewError(pool.TimeoutError, pool.CommandTimeout, "m"), Discard: worker.ReasonTimeout},
	}
	for name, tc := range map[string]struct {
		ends []string
		want worker.Reason // after the last of them; none before
	}{
		"the third ends it":                   {[]string{"internal", "internal", "internal"}, reasonFailing},
		"two don't":                           {[]string{"internal", "internal"}, ""},
		"a success resets":                    {[]string{"internal", "internal", "ok", "internal", "internal"}, ""},
		"an exception neither counts":         {[]string{"raised", "raised", "raised", "raised"}, ""},
		"nor resets":                          {[]string{"internal", "raised", "internal", "internal"}, reasonFailing},
		"what ends it at once has its reason": {[]string{"internal", "internal", "timeout"}, worker.ReasonTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			w := &answering{}
			m := &Member{worker: w}
			for i, end := range tc.ends {
				w.next = outcomes[end]
				want := worker.Reason("")
				if i == len(tc.ends)-1 {
					want = tc.want
				}
				if got := m.RoundTrip(t.Context(), worker.Call{}).Discard; got != want {
					t.Errorf("after %v discard is %q, want %q", tc.ends[:i+1], got, want)
				}
			}
		})
	}
}
