package worker

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestP41_OutputAfterTheLogsEnd(t *testing.T) {
	var text bytes.Buffer
	o := newOutputLog(slog.New(slog.NewTextHandler(&text, nil)))
	const accepted = 100
	for i := range accepted {
		if !o.offer(outputLine{worker: "a-1", record: record{Text: "line-" + strconv.Itoa(i)}}) {
			t.Fatalf("line %d wasn't accepted", i)
		}
	}
	o.close()
	if n := strings.Count(text.String(), "line-"); n != accepted {
		t.Errorf("%d lines are written, want %d", n, accepted)
	}
	o.offer(outputLine{worker: "a-1", record: record{Text: "late"}}) // of a worker that couldn't be killed: must not panic
}

// entries are what a worker's output becomes in a log.
func entries(t *testing.T, output string) (logged []map[string]any, tail []string) {
	t.Helper()
	var text bytes.Buffer
	o := newOutputLog(slog.New(slog.NewJSONHandler(&text, nil)))
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r := readOutput("a-1", read, o)
	if _, err := write.WriteString(output); err != nil {
		t.Fatal(err)
	}
	if err := write.Close(); err != nil {
		t.Fatal(err)
	}
	<-r.done
	o.close()
	for line := range strings.Lines(text.String()) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		logged = append(logged, entry)
	}
	return logged, r.last()
}

func TestP41_RecordsKeepTheirLevelLoggerAndLines(t *testing.T) {
	const failed = `{"level": 40, "name": "ERROR", "logger": "shop.db", "text": "can't divide\nTraceback:\n  File x"}`
	long := strings.Repeat("é", 8000)
	for name, tc := range map[string]struct {
		output string
		want   []map[string]any
	}{
		"a line":   {"hello\n", []map[string]any{{"level": "INFO", "msg": "hello"}}},
		"a record": {recordMark + failed + "\n", []map[string]any{{"level": "ERROR", "logger": "shop.db", "msg": "can't divide\nTraceback:\n  File x"}}},
		"behind half a line": {"half" + recordMark + failed + "\n", []map[string]any{
			{"level": "INFO", "msg": "half"}, {"level": "ERROR", "logger": "shop.db"},
		}},
		"levels": {
			recordMark + `{"level": 30, "name": "WARNING", "logger": "a", "text": "w"}` + "\n" +
				recordMark + `{"level": 10, "name": "DEBUG", "logger": "a", "text": "d"}` + "\n" +
				recordMark + `{"level": 50, "name": "CRITICAL", "logger": "a", "text": "c"}` + "\n",
			[]map[string]any{
				{"level": "WARN", "msg": "w", "python_level": nil}, {"level": "INFO", "msg": "d", "python_level": "DEBUG"},
				{"level": "ERROR", "msg": "c", "python_level": "CRITICAL"},
			},
		},
		"several lines, no record": {recordMark + `{"text": "a\nb"}` + "\n", []map[string]any{{"level": "INFO", "msg": "a\nb", "logger": nil}}},
		"longer than a line":       {recordMark + `{"level": 40, "text": "` + long + `"}` + "\n", []map[string]any{{"level": "ERROR", "msg": long}}},
		"no record after all":      {recordMark + "{\nnext\n", []map[string]any{{"level": "INFO", "msg": "{"}, {"msg": "next"}}},
		"a line that is too long":  {strings.Repeat("x", 3*maxLine) + "\nnext\n", []map[string]any{{"msg": strings.Repeat("x", maxLine)}, {"msg": "next"}}},
		"a record without an end": {recordMark + strings.Repeat("x", 2*maxRecord) + "\nnext\n", []map[string]any{
			{"msg": strings.Repeat("x", maxLine)}, {"msg": "next"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := entries(t, tc.output)
			if len(got) != len(tc.want) {
				t.Fatalf("logged %d entries, want %d: %.500v", len(got), len(tc.want), got)
			}
			for i, want := range tc.want {
				if got[i]["worker"] != "a-1" || got[i]["source"] != "output" {
					t.Errorf("entry %d doesn't name its worker: %.500v", i, got[i])
				}
				for key, value := range want {
					if got[i][key] != value {
						t.Errorf("entry %d has %s %.500v, want %.500v", i, key, got[i][key], value)
					}
				}
			}
		})
	}
}

// A failed start is explained by the last lines, which a record has several of.
func TestP41_LastLinesOfRecords(t *testing.T) {
	_, tail := entries(t, recordMark+`{"level": 40, "text": "`+strings.Repeat(`x\n`, 50)+`last"}`+"\n")
	if len(tail) != tailLines || tail[tailLines-1] != "last" {
		t.Errorf("the last lines are %q", tail)
	}
}
