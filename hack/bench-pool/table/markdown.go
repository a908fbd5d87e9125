package table

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// id is a size as part of a row's name.
func id(size string) string { return strings.ReplaceAll(size, " ", "") }

// Absent are contestants that couldn't take part, with the reason.
type Absent map[string]string

// Markdown writes the rows and the figures behind them.
func Markdown(rows []Row, r Results, absent Absent) string {
	var b strings.Builder
	rowTable(&b, rows)
	phases := Phases()
	fmt.Fprintf(&b, "\n### One caller, N = 4, echo, all processes on one core\np50 in µs; × is how much longer than V2 in the same rounds.\n\n")
	figureTable(&b, r, phases[0].Contestants, alone, cell{median50, latency, true})
	fmt.Fprintf(&b, "\n### 8 callers, N = 4, echo\nRequests per second; × is how many times V2 serves in the same rounds.\n\n")
	figureTable(&b, r, append(phases[1].Contestants, Ray), together, cell{perSecond, rate, false})
	fmt.Fprintf(&b, "\n### 8 callers, N = 4, handlers that wait 10 ms or compute for 5 ms\nRequests per second; waiting is shared by workers, computing by cores.\n\n")
	handlerTable(&b, r, append(phases[2].Contestants, Ray))
	fmt.Fprintf(&b, "\n### Starts of 16 workers with a heap of 100 MB, one after the other\nMedians; memory is a worker's own after a call.\n\n")
	startTable(&b, r)
	absentList(&b, absent)
	return b.String()
}

func rowTable(b *strings.Builder, rows []Row) {
	fmt.Fprintf(b, "| what | value | target | |\n|---|---|---|---|\n")
	for _, row := range rows {
		value, verdict := "–", row.Note
		if row.Value != nil {
			value, verdict = number(*row.Value)+" "+row.Unit, "**not met**"
			if *row.Met {
				verdict = "met"
			}
		}
		fmt.Fprintf(b, "| %s | %s | %s %s | %s |\n", row.What, value, row.Target, row.Unit, verdict)
	}
}

// cell is how one figure of a table is taken and shown.
type cell struct {
	metric  metric
	show    func(float64) string
	inverse bool // the factor is the contestant over V2, not V2 over the contestant
}

func figureTable(b *strings.Builder, r Results, who []string, of func(size string) Workload, c cell) {
	fmt.Fprintf(b, "| | %s |\n|---|%s\n", strings.Join(sizes, " | "), strings.Repeat("---|", len(sizes)))
	for _, name := range who {
		var cells []string
		for _, size := range sizes {
			cells = append(cells, c.text(r, name, of(size)))
		}
		line(b, name, cells)
	}
}

func handlerTable(b *strings.Builder, r Results, who []string) {
	fmt.Fprintf(b, "| | 10 ms sleeps | share of N / 10 ms | 5 ms of CPU |\n|---|---|---|---|\n")
	c := cell{perSecond, rate, false}
	for _, name := range who {
		share := "–"
		if v, err := r.value(name, loadOf(name, sleeping), perSecond); err == nil {
			share = fmt.Sprintf("%.1f %%", 100*v/ideal(sleeping))
		}
		line(b, name, []string{c.text(r, name, sleeping), share, c.text(r, name, burning)})
	}
}

func startTable(b *strings.Builder, r Results) {
	fmt.Fprintf(b, "| | from start to ready, ms | private memory, MB |\n|---|---|---|\n")
	for _, name := range []string{Forked, Spawned} {
		ready, err := r.value(name, starting, startP50)
		if err != nil {
			continue
		}
		own, _ := r.value(name, starting, private)
		line(b, name, []string{number(ready), number(own)})
	}
}

// line leaves out who wasn't measured at all.
func line(b *strings.Builder, name string, cells []string) {
	if slices.ContainsFunc(cells, func(s string) bool { return s != "–" }) {
		fmt.Fprintf(b, "| %s | %s |\n", Titles[name], strings.Join(cells, " | "))
	}
}

func (c cell) text(r Results, name string, w Workload) string {
	w = loadOf(name, w)
	value, err := r.value(name, w, c.metric)
	if err != nil {
		return "–"
	}
	over, under := V2, name
	if c.inverse {
		over, under = name, V2
	}
	factor, err := r.ratio(over, under, w, c.metric)
	if err != nil || name == V2 {
		return c.show(value)
	}
	return fmt.Sprintf("%s, %.2f ×", c.show(value), factor)
}

// loadOf is the workload as that contestant had it.
func loadOf(name string, w Workload) Workload {
	if name == Ray {
		w.Beside = Ray
	}
	return w
}

func absentList(b *strings.Builder, absent Absent) {
	if len(absent) == 0 {
		return
	}
	fmt.Fprintf(b, "\n### Not measured\n")
	for _, name := range slices.Sorted(maps.Keys(absent)) {
		fmt.Fprintf(b, "- %s: %s\n", Titles[name], absent[name])
	}
}

func number(v float64) string {
	switch {
	case v >= 1000:
		return fmt.Sprintf("%.0f", v)
	case v >= 100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func latency(v float64) string {
	if v >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.1f", v)
}

func rate(v float64) string {
	if v >= 10_000 {
		return fmt.Sprintf("%.1f k", v/1000)
	}
	return latency(v)
}

// WriteJSON writes a line for each row: {name, value, unit, target, met}; value and met are null where a row wasn't
// measured.
func WriteJSON(w io.Writer, rows []Row) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	for _, row := range rows {
		if err := encoder.Encode(struct {
			Name   string   `json:"name"`
			Value  *float64 `json:"value"`
			Unit   string   `json:"unit"`
			Target string   `json:"target"`
			Met    *bool    `json:"met"`
		}{row.Name, row.Value, row.Unit, row.Target, row.Met}); err != nil {
			return err
		}
	}
	return nil
}
