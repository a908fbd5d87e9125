package worker

import (
	"encoding/json"
	"log/slog"
	"strings"
)

// recordMark is what a line begins with that holds a record of Python's logging, or other text of several lines that
// was written in one piece, as JSON; see python/poolworker/output.py.
const recordMark = "\x02poolworker "

// maxRecord bounds such a line, in bytes: poolworker's MAX_RECORD characters, each an escape at worst.
const maxRecord = 64 << 10

// record is one entry of a worker's output.
type record struct {
	Level  int    `json:"level"` // Python's; 0: it isn't a record of logging
	Name   string `json:"name"`  // of the level
	Logger string `json:"logger"`
	Text   string `json:"text"`
}

// parseRecord reads what is behind the mark.
func parseRecord(data string) (r record, is bool) {
	err := json.Unmarshal([]byte(data), &r)
	return r, err == nil && r.Text != ""
}

// splitRecord takes a line apart: what something else had written before the record, and the record.
func splitRecord(line string) (before, data string, marked bool) {
	before, data, marked = strings.Cut(line, recordMark)
	return before, data, marked
}

// Python's levels.
const (
	pythonInfo    = 20
	pythonWarning = 30
	pythonError   = 40
)

// write logs the record with the level that is the nearest of the slot's. What is below INFO is INFO, as the module
// has decided that it is shown; attributes say what it was.
func (r *record) write(log *slog.Logger, worker string) {
	attributes := []any{"worker", worker, "source", "output"}
	if r.Logger != "" {
		attributes = append(attributes, "logger", r.Logger)
	}
	switch r.Level {
	case 0, pythonInfo, pythonWarning, pythonError:
	default:
		attributes = append(attributes, "python_level", r.Name)
	}
	switch {
	case r.Level >= pythonError:
		log.Error(r.Text, attributes...)
	case r.Level >= pythonWarning:
		log.Warn(r.Text, attributes...)
	default:
		log.Info(r.Text, attributes...)
	}
}
