package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dspex/workerpool-operator/hack/bench-pool/table"
)

func TestReplaceSection(t *testing.T) {
	first := replaceSection("", "old\n")
	if want := newDocument + sectionBegin + "old\n" + sectionEnd; first != want {
		t.Errorf("a new document is %q, want %q", first, want)
	}
	both := "# Benchmarks\n\nabove\n\n" + sectionBegin + "old\n" + sectionEnd + "\n## Another's\n"
	if got, want := replaceSection(both, "new\n"), strings.Replace(both, "old", "new", 1); got != want {
		t.Errorf("the document is %q, want %q", got, want)
	}
	if got, want := replaceSection("# Benchmarks\n\n## Another's\n", "new\n"),
		"# Benchmarks\n\n## Another's\n\n"+sectionBegin+"new\n"+sectionEnd; got != want {
		t.Errorf("the document is %q, want %q", got, want)
	}
}

// TestPublish runs twice: the document has one section, the file of lines both runs.
func TestPublish(t *testing.T) {
	folder := t.TempDir()
	s := settings{doc: filepath.Join(folder, "benchmarks.md"), json: filepath.Join(folder, "rows")}
	rows := table.Rows(nil, 2)
	for range 2 {
		if err := publish(t.Output(), s, machine{Cores: 2}, rows, nil, table.Absent{table.Ray: "not here"}); err != nil {
			t.Fatal(err)
		}
	}
	document, err := os.ReadFile(s.doc)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(document), "## The pool against"); n != 1 || !strings.Contains(string(document), "2 cores") {
		t.Errorf("%d sections in\n%s", n, document)
	}
	lines, err := os.ReadFile(s.json)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(lines), "\n"); n != 2*len(rows) {
		t.Errorf("%d lines, want %d", n, 2*len(rows))
	}
}
