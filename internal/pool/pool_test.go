package pool

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestP28_Budget(t *testing.T) {
	now := time.Unix(1000, 0)
	in := func(s int) time.Time { return now.Add(time.Duration(s) * time.Second) }
	limits := Limits{Checkout: 5 * time.Second, Operation: 30 * time.Second}
	for name, tc := range map[string]struct {
		deadline  time.Time
		handover  time.Time
		waitUntil time.Time
		waitError Type
		until     time.Time
	}{
		"no deadline, handed over at once": {time.Time{}, in(0), in(5), CheckoutTimeout, in(30)},
		"no deadline, handed over late":    {time.Time{}, in(5), in(5), CheckoutTimeout, in(35)},
		"a far deadline changes nothing":   {in(100), in(5), in(5), CheckoutTimeout, in(35)},
		"a deadline within the operation":  {in(20), in(5), in(5), CheckoutTimeout, in(20)},
		"a deadline within the wait":       {in(3), in(2), in(3), DeadlineExceeded, in(3)},
	} {
		t.Run(name, func(t *testing.T) {
			b := NewBudget(Request{Deadline: tc.deadline}, limits, now)
			if got := b.WaitUntil(); !got.Equal(tc.waitUntil) {
				t.Errorf("waits until %s, want %s", got, tc.waitUntil)
			}
			if got := b.WaitError("p").Type; got != tc.waitError {
				t.Errorf("then gets %s, want %s", got, tc.waitError)
			}
			if got := b.OperationUntil(tc.handover); !got.Equal(tc.until) {
				t.Errorf("operation until %s, want %s", got, tc.until)
			}
		})
	}
}

func TestP45_FourPartsInJSON(t *testing.T) {
	for name, tc := range map[string]struct {
		err  *Error
		want string
	}{
		"no context": {
			&Error{Category: SystemError, Type: Internal, Message: "m"},
			`{"category":"system_error","type":"internal","message":"m","context":{}}`,
		},
		"queue full": {
			NewQueueFull("summarizer", 4, 1000, 250*time.Millisecond),
			`{"category":"resource_error","type":"queue_full","message":"pool summarizer has 4 workers busy and 1000 requests waiting ` +
				`(queueLimit); retry later or raise spec.queueLimit","context":{"busy":4,"pool":"summarizer","retry_after_ms":250,"waiting":1000}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := json.Marshal(tc.err)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestWithChangesOnlyTheCopy(t *testing.T) {
	e := NewCancelled("p")
	if named := e.With("slot", "a"); named.Context["slot"] != "a" || named.Context["pool"] != "p" {
		t.Errorf("context %v", named.Context)
	}
	if _, there := e.Context["slot"]; there {
		t.Error("the original changed")
	}
}

func TestRetryAfter(t *testing.T) {
	var m Meter
	if got := m.RetryAfter(4); got != unknownService {
		t.Errorf("before the first operation %s, want %s", got, unknownService)
	}
	for range 3 {
		m.Observe(Reply{Service: 100 * time.Millisecond}, nil)
	}
	if got := m.RetryAfter(4); got != 25*time.Millisecond {
		t.Errorf("4 busy, 100 ms each: %s, want 25 ms", got)
	}
}
