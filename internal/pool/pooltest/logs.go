package pooltest

import (
	"context"
	"log/slog"
	"sync"
)

// logCounter is a log that keeps its lines, to be asked about them.
type logCounter struct {
	mu    sync.Mutex
	lines []line // guarded by mu
}

type line struct {
	message    string
	attributes map[string]slog.Value
}

// Enabled implements slog.Handler.
func (*logCounter) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (l *logCounter) Handle(_ context.Context, r slog.Record) error {
	entry := line{message: r.Message, attributes: map[string]slog.Value{}}
	r.Attrs(func(a slog.Attr) bool {
		entry.attributes[a.Key] = a.Value
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, entry)
	return nil
}

// WithAttrs implements slog.Handler; the suite looks at records' own attributes only.
func (l *logCounter) WithAttrs([]slog.Attr) slog.Handler { return l }

// WithGroup implements slog.Handler.
func (l *logCounter) WithGroup(string) slog.Handler { return l }

// matching counts the lines for which is holds.
func (l *logCounter) matching(is func(line) bool) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, entry := range l.lines {
		if is(entry) {
			n++
		}
	}
	return n
}
