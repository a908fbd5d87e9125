package router

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLedgerKeepsWhatServesAndServedLast(t *testing.T) {
	var l ledger
	for _, revision := range []string{"r1", "r2", "r1", "r3", "r4", "r1", "r5"} {
		l.of(revision, "v2").record(succeeded, time.Millisecond, 0)
	}
	var got []string
	for _, f := range l.figures() {
		got = append(got, fmt.Sprint(f.revision, " ", f.requests()))
	}
	if diff := cmp.Diff([]string{"r3 1", "r4 1", "r1 3", "r5 1"}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if f := l.of("r2", "v2").figures(); f.requests() != 0 {
		t.Errorf("a revision that fell out comes back with %d requests", f.requests())
	}
}
