package main

import (
	"bufio"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// A result is how one test ended.
type result struct {
	stage   string // whose output told it: unit, python, e2e...
	test    string
	outcome outcome
}

type outcome string

const (
	passed  outcome = "pass"
	failed  outcome = "fail"
	skipped outcome = "skip"
)

// A source is a file of results.
type source struct {
	stage   string
	tests   int
	written time.Time
}

// readResults reads every report in the folder.
func readResults(folder string) (results []result, sources []source, err error) {
	for pattern, read := range map[string]func(*os.File, string) ([]result, error){"*.json": readGo, "*.xml": readPython} {
		paths, err := filepath.Glob(filepath.Join(folder, pattern))
		if err != nil {
			return nil, nil, err
		}
		for _, path := range paths {
			found, from, err := readFile(path, read)
			if err != nil {
				return nil, nil, fmt.Errorf("%s: %w", path, err)
			}
			results, sources = append(results, found...), append(sources, from)
		}
	}
	if len(sources) == 0 {
		return nil, nil, fmt.Errorf("no *.json and no *.xml in %s: run `make test` first, or one of its stages", folder)
	}
	return results, sources, nil
}

func readFile(path string, read func(*os.File, string) ([]result, error)) ([]result, source, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, source{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, source{}, err
	}
	stage := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	results, err := read(f, stage)
	return results, source{stage: stage, tests: len(results), written: info.ModTime()}, err
}

// readGo reads the events of `go test -json`. A test that began and never ended has failed: its process died.
func readGo(f *os.File, stage string) ([]result, error) {
	ends := map[string]outcome{} // by package and test
	var order []string
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var event struct{ Action, Package, Test string }
		if json.Unmarshal(lines.Bytes(), &event) != nil || event.Test == "" {
			continue // a compiler's message, or a package's own end
		}
		key := event.Package + "\x00" + event.Test
		switch outcome(event.Action) {
		case passed, failed, skipped:
			ends[key] = outcome(event.Action)
		case "run":
			ends[key] = failed
			order = append(order, key)
		}
	}
	var results []result
	for _, key := range order {
		_, test, _ := strings.Cut(key, "\x00")
		results = append(results, result{stage, test, ends[key]})
	}
	return results, lines.Err()
}

// readPython reads JUnit's XML.
func readPython(f *os.File, stage string) ([]result, error) {
	var report struct {
		Cases []struct {
			Name    string    `xml:"name,attr"`
			Failure *struct{} `xml:"failure"`
			Error   *struct{} `xml:"error"`
			Skipped *struct{} `xml:"skipped"`
		} `xml:"testsuite>testcase"`
	}
	if err := xml.NewDecoder(f).Decode(&report); err != nil {
		return nil, err
	}
	var results []result
	for _, c := range report.Cases {
		r := result{stage, c.Name, passed}
		switch {
		case c.Failure != nil || c.Error != nil:
			r.outcome = failed
		case c.Skipped != nil:
			r.outcome = skipped
		}
		results = append(results, r)
	}
	return results, nil
}

var number = regexp.MustCompile(`^[POpo][0-9]+$`)

// numbers are the behaviours that a test's own name says it shows. What its parents show is the parents' result.
func (r result) numbers() []string {
	name := r.test[strings.LastIndex(r.test, "/")+1:]
	name = strings.TrimPrefix(strings.TrimPrefix(name, "test_"), "Test")
	var found []string
	for part := range strings.SplitSeq(name, "_") {
		if !number.MatchString(part) {
			break
		}
		found = append(found, strings.ToUpper(part))
	}
	return found
}
