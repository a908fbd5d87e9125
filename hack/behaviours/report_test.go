package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestNumbers(t *testing.T) {
	for name, want := range map[string][]string{
		"TestP27_LateReply":              {"P27"},
		"TestO18_O67_P91_Live":           {"O18", "O67", "P91"},
		"TestO3":                         {"O3"},
		"test_p27_late_reply":            {"P27"},
		"test_p27_p28_late[3.9-fork]":    {"P27", "P28"},
		"TestApply/O11_ColumnsFit":       {"O11"},
		"TestO14_Apply/second":           nil,
		"TestPool":                       nil,
		"TestLate_P27":                   nil,
		"TestO2Operator":                 nil,
		"TestP14_P91_O15_Demo/O17_Zero":  {"O17"},
		"test_options_are_kept":          nil,
		"TestContract/checkout/P13_FIFO": {"P13"},
	} {
		if got := (result{test: name}).numbers(); !cmp.Equal(got, want) {
			t.Errorf("%s shows %v, want %v", name, got, want)
		}
	}
}

const goOutput = `{"Action":"run","Package":"a","Test":"TestP1_Good"}
{"Action":"pass","Package":"a","Test":"TestP1_Good"}
a compiler's message
{"Action":"run","Package":"a","Test":"TestP2_Bad"}
{"Action":"fail","Package":"a","Test":"TestP2_Bad"}
{"Action":"run","Package":"b","Test":"TestP2_Good"}
{"Action":"pass","Package":"b","Test":"TestP2_Good"}
{"Action":"run","Package":"a","Test":"TestP3_Skipped"}
{"Action":"skip","Package":"a","Test":"TestP3_Skipped"}
{"Action":"run","Package":"a","Test":"TestP4_DiedInIt"}
{"Action":"fail","Package":"a"}
`

const pythonOutput = `<?xml version="1.0"?><testsuites><testsuite>
<testcase name="test_p1_good"/><testcase name="test_p5_bad"><failure message="no"/></testcase>
<testcase name="test_p6_skipped"><skipped/></testcase><testcase name="test_p99_unlisted"/>
</testsuite></testsuites>`

func TestReadResults(t *testing.T) {
	folder := t.TempDir()
	for name, content := range map[string]string{"unit.json": goOutput, "python.xml": pythonOutput} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	results, sources, err := readResults(folder)
	if err != nil || len(sources) != 2 {
		t.Fatalf("sources %v, error %v; want two", sources, err)
	}
	var list []behaviour
	for _, n := range []string{"P1", "P2", "P3", "P4", "P5", "P6", "P7"} {
		list = append(list, behaviour{n, "title of " + n})
	}
	got := report(list, results, sources)
	for _, want := range []string{
		"  P1    title of P1", "python, unit\n", "a test\n  P3 ", "\n  P7    title of P7\n",
		"unit: TestP2_Bad\n", "unit: TestP4_DiedInIt\n", "python: test_p5_bad\n", "P99\n",
		"1 of 7 behaviours have a passing test, 3 have one that fails, 3 have none\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("report lacks %q:\n%s", want, got)
		}
	}
}

func TestNoOutputIsAnError(t *testing.T) {
	if _, _, err := readResults(t.TempDir()); err == nil || !strings.Contains(err.Error(), "make test") {
		t.Errorf("an empty folder: %v, want an error that says what to run", err)
	}
}

// The list itself: every number once, none left out, and short enough to be printed on a line.
func TestListIsComplete(t *testing.T) {
	t.Chdir("../..")
	list, err := readBehaviours("docs/behaviours.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, b := range list {
		seen[b.number]++
	}
	for kind, last := range map[string]int{"P": 114, "O": 84} {
		for n := 1; n <= last; n++ {
			if number := kind + strconv.Itoa(n); seen[number] != 1 {
				t.Errorf("%s is listed %d times", number, seen[number])
			}
		}
	}
	for text := range strings.Lines(report(list, nil, []source{{"unit", 1, time.Now()}})) {
		if n := utf8.RuneCountInString(strings.TrimRight(text, "\n")); n > width || strings.Contains(text, "…") {
			t.Errorf("%d columns: %s", n, text)
		}
	}
}
