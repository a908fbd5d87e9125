package slot

import (
	"fmt"
	"strings"
	"testing"

	"github.com/dspex/workerpool-operator/internal/pool"
)

func TestFirstOfEachKindIsLoggedAndTheOthersAreCounted(t *testing.T) {
	c := failureCounts{}
	one, other := failureKind{command: "a", place: "x.py:1"}, failureKind{command: "a", place: "x.py:2"}
	if !c.note(one) || !c.note(other) || c.note(one) || c.note(one) {
		t.Error("not the first of each kind alone is logged")
	}
	if counts := c.end(); len(counts) != 1 || counts[one] != 2 {
		t.Errorf("%v weren't logged; want 2 of one kind", counts)
	}
	if c.note(one) {
		t.Error("one that goes on is logged in full in the next window")
	}
	if !c.note(other) {
		t.Error("one that had paused isn't logged")
	}
	if counts := c.end(); len(counts) != 1 || counts[one] != 1 {
		t.Errorf("%v weren't logged in the second window; want 1", counts)
	}
	c.end()
	if !c.note(one) {
		t.Error("one that has paused since isn't logged")
	}
}

func TestKindsOfFailuresAreBounded(t *testing.T) {
	c := failureCounts{}
	logged := 0
	for i := range 10 * maxKinds {
		if c.note(failureKind{place: fmt.Sprint(i)}) {
			logged++
		}
	}
	if counts := c.end(); logged != maxKinds || counts[otherKinds] != 9*maxKinds || len(c) != 0 {
		t.Errorf("%d kinds are logged, %v counted, %d kept", logged, counts, len(c))
	}
}

func TestP54_PlacesHaveNoValues(t *testing.T) {
	e := pool.NewError(pool.CommunicationError, pool.PythonError, "ValueError: s3cret").With("traceback",
		"ValueError: s3cret\n  File s3cret\n"+
			"  File \"/app/shop/db.py\", line 41, in load\n    raise ValueError(\"literal\")\n"+
			"  File \"/app/shop/commands.py\", line 12, in <lambda>\n    load(x)\ncaused by KeyError: 's3cret'\n"+
			"  File \"/usr/lib/python3/json.py\", line 3, in s3cret text\n")
	places := placesOf(e)
	if len(places) != 2 || places[0] != "/app/shop/db.py:41 in load" || places[1] != "/app/shop/commands.py:12 in <lambda>" {
		t.Errorf("places %q", places)
	}
	long := make([]string, 1000)
	for i := range long {
		long[i] = "/app/shop/db.py:41 in load"
	}
	if text := stackOf(long); len(text) > maxStack+10 || !strings.HasSuffix(text, "\n… (cut)") {
		t.Errorf("a stack of %d bytes, which ends in %q", len(text), text[len(text)-20:])
	}
}

func TestWhichFailuresAreLogged(t *testing.T) {
	for _, tc := range []struct {
		category pool.Category
		reason   pool.Type
		want     bool
	}{
		{pool.CommunicationError, pool.PythonError, true},
		{pool.CommunicationError, pool.UpstreamError, true},
		{pool.TimeoutError, pool.CommandTimeout, true},
		{pool.CommunicationError, pool.PortExited, true},
		{pool.CommunicationError, pool.DecodeError, true},
		{pool.CommunicationError, pool.ResponseMismatch, true},
		{pool.CommunicationError, pool.FrameTooLarge, true},
		{pool.SystemError, pool.Internal, true},
		{pool.RequestError, pool.FrameTooLarge, false},
		{pool.RequestError, pool.CallerError, false},
		{pool.RequestError, pool.InvalidPayload, false},
		{pool.RequestError, pool.Cancelled, false},
		{pool.ResourceError, pool.QueueFull, false},
		{pool.ResourceError, pool.NotAvailable, false},
		{pool.TimeoutError, pool.CheckoutTimeout, false},
	} {
		if got := worthLogging(pool.NewError(tc.category, tc.reason, "")); got != tc.want {
			t.Errorf("%s/%s is logged: %v", tc.category, tc.reason, got)
		}
	}
}

func TestFailureOfABatchIsItsCallsOwn(t *testing.T) {
	own := `{"outputs":[{"result":1},{"error":{"category":"communication_error","type":"python_error","message":"m","context":{"exception":"KeyError"}}}]}`
	for _, tc := range []struct{ payload, exception string }{
		{own, "KeyError"}, {`{"outputs":[]}`, ""}, {"3", ""}, {own + strings.Repeat(" ", maxBatch), ""},
	} {
		e := batchFailure(&pool.Reply{Payload: []byte(tc.payload), Failed: pool.PythonError})
		if got, _ := e.Context["exception"].(string); got != tc.exception || e.Type != pool.PythonError {
			t.Errorf("%.50s: failed with %v", tc.payload, e)
		}
	}
}
