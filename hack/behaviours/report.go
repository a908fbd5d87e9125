package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// width of the report.
const width = 100

// shown is what the tests say of one behaviour.
type shown struct {
	passing int
	failing []string        // names
	stages  map[string]bool // with a passing test
}

func (s *shown) ok() bool { return s.passing > 0 && len(s.failing) == 0 }

// report lists the behaviours with a passing test, those whose tests fail, and those without any.
func report(list []behaviour, results []result, sources []source) string {
	by := tally(results)
	var with, failing, without []string
	for _, b := range list {
		s := by[b.number]
		delete(by, b.number)
		switch {
		case s == nil || s.passing == 0 && len(s.failing) == 0:
			without = append(without, line(b, ""))
		case s.ok():
			with = append(with, line(b, strings.Join(slices.Sorted(maps.Keys(s.stages)), ", ")))
		default:
			failing = append(failing, line(b, "")+"\n"+indented(s.failing))
		}
	}
	var out strings.Builder
	slices.SortFunc(sources, func(a, b source) int { return cmp.Compare(a.stage, b.stage) })
	for _, s := range sources {
		fmt.Fprintf(&out, "%-12s %5d tests, run on %s\n", s.stage, s.tests, s.written.Format("2 Jan 15:04"))
	}
	section(&out, "with a passing test", with)
	section(&out, "whose tests fail", failing)
	section(&out, "without a test", without)
	if len(by) > 0 {
		fmt.Fprintf(&out, "\nIn tests' names, but not in docs/behaviours.md: %s\n", strings.Join(slices.Sorted(maps.Keys(by)), ", "))
	}
	fmt.Fprintf(&out, "\n%d of %d behaviours have a passing test, %d have one that fails, %d have none\n",
		len(with), len(list), len(failing), len(without))
	return out.String()
}

func tally(results []result) map[string]*shown {
	by := map[string]*shown{}
	for _, r := range results {
		for _, number := range r.numbers() {
			s := by[number]
			if s == nil {
				s = &shown{stages: map[string]bool{}}
				by[number] = s
			}
			switch r.outcome {
			case passed:
				s.passing++
				s.stages[r.stage] = true
			case failed:
				s.failing = append(s.failing, r.stage+": "+r.test)
			case skipped: // shows nothing either way
			}
		}
	}
	return by
}

func section(out *strings.Builder, title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(out, "\n%s\n%s\n", title, strings.Join(lines, "\n"))
}

// line is a behaviour with a remark at the right edge; the title gives way.
func line(b behaviour, remark string) string {
	room := width - 8 - 1 - utf8.RuneCountInString(remark)
	title := []rune(b.title)
	if len(title) > room {
		title = append(title[:room-1], '…')
	}
	return strings.TrimRight(fmt.Sprintf("  %-5s %-*s %s", b.number, room, string(title), remark), " ")
}

// indented lists names below a line.
func indented(names []string) string {
	var lines []string
	for _, name := range names {
		if r := []rune(name); len(r) > width-10 {
			name = string(r[:width-11]) + "…"
		}
		lines = append(lines, "          "+name)
	}
	return strings.Join(lines, "\n")
}
