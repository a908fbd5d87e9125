package worker

import (
	"bufio"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
)

// What workers print is logged line by line, and what poolworker marks as one record in one entry, within bounds: a line
// longer than maxLine is cut, and a worker that prints more than linesPerSecond (after a burst; a record counts as one
// for each maxLine that it has) has lines dropped and counted. The pipe is always drained, whatever the log's own sink
// does, so that no worker ever blocks on its output.
const (
	maxLine        = 4 << 10 // bytes
	linesPerSecond = 100
	lineBurst      = 500
	lineBacklog    = 1024 // lines that wait for the log's sink, all workers together
	tailLines      = 20   // kept of each worker, to explain a failed start
)

type outputLine struct {
	worker  string
	record  record
	dropped int
}

// outputLog is the one goroutine that writes workers' lines to the log.
type outputLog struct {
	log   *slog.Logger
	lines chan outputLine // never closed: a worker that can't be killed may outlive the log
	quit  chan struct{}
	done  chan struct{}
}

func newOutputLog(log *slog.Logger) *outputLog {
	o := &outputLog{log: log, lines: make(chan outputLine, lineBacklog), quit: make(chan struct{}), done: make(chan struct{})}
	go o.run()
	return o
}

func (o *outputLog) run() {
	defer close(o.done)
	for {
		select {
		case l := <-o.lines:
			o.write(l)
		case <-o.quit:
			o.writeRest()
			return
		}
	}
}

// writeRest writes what has been accepted, and no more than fits the backlog of a worker that prints on.
func (o *outputLog) writeRest() {
	for range lineBacklog {
		select {
		case l := <-o.lines:
			o.write(l)
		default:
			return
		}
	}
}

func (o *outputLog) write(l outputLine) {
	if l.dropped > 0 {
		o.log.Warn("worker output dropped", "worker", l.worker, "lines", l.dropped)
		return
	}
	l.record.write(o.log, l.worker)
}

// close waits until what was accepted is written. Readers of workers that are still alive may go on; what they
// offer from now on is lost.
func (o *outputLog) close() {
	close(o.quit)
	<-o.done
}

func (o *outputLog) offer(l outputLine) bool {
	select {
	case o.lines <- l:
		return true
	default:
		return false
	}
}

// outputReader drains one worker's output.
type outputReader struct {
	worker string
	pipe   *os.File
	log    *outputLog
	done   chan struct{}

	mu   sync.Mutex
	tail []string // guarded by mu

	tokens   float64
	filled   time.Time // when tokens was right
	dropped  int       // lines since the last report
	reported time.Time
}

func readOutput(worker string, pipe *os.File, log *outputLog) *outputReader {
	r := &outputReader{worker: worker, pipe: pipe, log: log, done: make(chan struct{}), tokens: lineBurst, filled: time.Now()}
	go r.run()
	return r
}

func (r *outputReader) run() {
	defer close(r.done)
	defer r.pipe.Close()
	in := bufio.NewReaderSize(r.pipe, maxLine)
	for {
		line, more, err := in.ReadLine()
		text := string(line)
		for more && err == nil { // the rest of a record, or of a line that is cut
			line, more, err = in.ReadLine()
			if len(text) < maxRecord && strings.Contains(text[:min(len(text), maxLine)], recordMark) {
				text += string(line)
			}
		}
		r.take(text)
		if err != nil {
			r.reportDropped()
			return
		}
	}
}

// take accepts a line, and what is marked in it as a record. One that can't be read, as another process has written into
// it, is a line.
func (r *outputReader) take(line string) {
	before, data, marked := splitRecord(line)
	if before != "" {
		r.accept(record{Text: before})
	}
	if !marked {
		return
	}
	entry, is := parseRecord(data)
	if !is {
		entry = record{Text: data[:min(len(data), maxLine)]}
	}
	r.accept(entry)
}

func (r *outputReader) accept(entry record) {
	r.keep(entry.Text)
	now := time.Now()
	if !r.afford(now, 1+len(entry.Text)/maxLine) {
		r.dropped++
		if now.Sub(r.reported) >= time.Second {
			r.reportDropped()
			r.reported = now
		}
		return
	}
	r.reportDropped()
	if !r.log.offer(outputLine{worker: r.worker, record: entry}) {
		r.dropped++
	}
}

// keep remembers the last lines.
func (r *outputReader) keep(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tail = append(r.tail, strings.Split(text, "\n")...)
	if n := len(r.tail) - tailLines; n > 0 {
		r.tail = append(r.tail[:0], r.tail[n:]...)
	}
}

// afford takes tokens from the worker's bucket, if it has one at least; it may owe the others.
func (r *outputReader) afford(now time.Time, cost int) bool {
	r.tokens = min(lineBurst, r.tokens+now.Sub(r.filled).Seconds()*linesPerSecond)
	r.filled = now
	if r.tokens < 1 {
		return false
	}
	r.tokens -= float64(cost)
	return true
}

func (r *outputReader) reportDropped() {
	if r.dropped > 0 && r.log.offer(outputLine{worker: r.worker, dropped: r.dropped}) {
		r.dropped = 0
	}
}

// finish ends the reader after its worker's death: what is in the pipe is read, and a stray process that holds
// the other end keeps it open no longer than wait.
func (r *outputReader) finish(wait time.Duration) {
	err := r.pipe.SetReadDeadline(time.Now().Add(wait))
	if err == nil || errors.Is(err, os.ErrClosed) {
		<-r.done
	}
}

// lastLine returns the worker's last line; "": it has printed none.
func (r *outputReader) lastLine() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.tail) == 0 {
		return ""
	}
	return r.tail[len(r.tail)-1]
}

// last returns the worker's last lines.
func (r *outputReader) last() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.tail...)
}
