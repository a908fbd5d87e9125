package worker

import (
	"bytes"
	"log/slog"
	"strconv"
	"strings"
	"testing"
)

func TestP41_OutputAfterTheLogsEnd(t *testing.T) {
	var text bytes.Buffer
	o := newOutputLog(slog.New(slog.NewTextHandler(&text, nil)))
	const accepted = 100
	for i := range accepted {
		if !o.offer(outputLine{worker: "a-1", text: "line-" + strconv.Itoa(i)}) {
			t.Fatalf("line %d wasn't accepted", i)
		}
	}
	o.close()
	if n := strings.Count(text.String(), "line-"); n != accepted {
		t.Errorf("%d lines are written, want %d", n, accepted)
	}
	o.offer(outputLine{worker: "a-1", text: "late"}) // of a worker that couldn't be killed: must not panic
}
