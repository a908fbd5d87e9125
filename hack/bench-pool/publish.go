package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/dspex/workerpool-operator/hack/bench-pool/table"
)

// publish prints the section, writes it into the document, and adds the rows to the file of JSON lines.
func publish(screen io.Writer, s settings, m machine, rows []table.Row, results table.Results, absent table.Absent) error {
	section := preface(s, m) + table.Markdown(rows, results, absent)
	fmt.Fprintf(screen, "\n%s\n", section)
	if s.json != "" {
		if err := addLines(s.json, rows); err != nil {
			return err
		}
	}
	if s.doc == "" {
		return nil
	}
	document, err := os.ReadFile(s.doc)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.WriteFile(s.doc, []byte(replaceSection(string(document), section)), 0o644)
}

func addLines(path string, rows []table.Row) error {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	err = table.WriteJSON(file, rows)
	return errors.Join(err, file.Close())
}

func preface(s settings, m machine) string {
	return fmt.Sprintf(`## The pool against what one would pick instead
%s

`+"`make bench-pool`"+` writes this section; `+"`go run ./hack/bench-pool -h`"+` lists what can be changed. Every contestant has the
same handlers, payloads (JSON; opaque rows: bytes) and number of worker processes, and its callers as its users have
them: goroutines for the pool and, over a unix socket, for the web servers; threads of one Python program for Python's
pools. %d rounds (at most 3 with 4 MB) of %s for each figure (%s with handlers that wait or compute), by turns; figures
are medians, × the median of the ratios within a round. Absolute figures differ between machines and moments, ratios much less. RoadRunner
and NimblePool are measured outside the project. V1 serves one request at a time by design. Python's pools pickle their
values; servers and the row that says so read and write JSON with the standard library, V1 and V2 with the codec named above.

`, m, s.rounds, s.length, 4*s.length)
}

// What stands between these lines in the document is the run's to write; all else is left as it is.
const (
	sectionBegin = "<!-- bench-pool writes from here -->\n"
	sectionEnd   = "<!-- to here -->\n"
	newDocument  = "# Benchmarks\n\n"
)

func replaceSection(document, section string) string {
	if document == "" {
		document = newDocument
	}
	marked := sectionBegin + section + sectionEnd
	before, rest, found := strings.Cut(document, sectionBegin)
	if !found {
		return strings.TrimRight(document, "\n") + "\n\n" + marked
	}
	_, after, _ := strings.Cut(rest, sectionEnd)
	return before + marked + after
}
