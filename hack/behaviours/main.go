// Command behaviours tells which of the numbered behaviours have a passing test, from what the last run wrote.
//
//	go run ./hack/behaviours out
//
// The numbers and titles are those of docs/behaviours.md. It reads each *.json of the folder as the output of
// `go test -json` and each *.xml as pytest's JUnit report. A test shows the behaviours whose numbers stand in front in
// its name: TestP27_LateReply, TestO18_O67_Live, test_p27_late_reply, and likewise in a subtest's. A behaviour counts
// as shown when at least one test of it passed and none failed; a skipped test shows nothing.
//
// results.go reads test output, report.go compares it with the list.
package main

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"strings"
)

func main() {
	folder := "out"
	if len(os.Args) > 1 {
		folder = os.Args[1]
	}
	if err := run(folder); err != nil {
		fmt.Fprintln(os.Stderr, "behaviours:", err)
		os.Exit(1)
	}
}

func run(folder string) error {
	list, err := readBehaviours("docs/behaviours.md")
	if err != nil {
		return err
	}
	results, sources, err := readResults(folder)
	if err != nil {
		return err
	}
	fmt.Print(report(list, results, sources))
	return nil
}

// A behaviour is a line of the list.
type behaviour struct{ number, title string }

var behaviourLine = regexp.MustCompile(`^- \*\*([PO]\d+)\*\* (.+)$`)

func readBehaviours(path string) ([]behaviour, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("the list of behaviours: %w (run it in the checkout)", err)
	}
	defer f.Close()
	var list []behaviour
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if found := behaviourLine.FindStringSubmatch(lines.Text()); found != nil {
			list = append(list, behaviour{found[1], strings.TrimSuffix(found[2], ".")})
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s lists no behaviour", path)
	}
	return list, nil
}
