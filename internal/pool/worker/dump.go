package worker

import (
	"bytes"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// dump is what a worker has told of its stacks.
type dump struct {
	thread   []step            // of its main thread, the most recent call first
	requests map[uint64][]step // of handlers that aren't in the main thread
	ended    bool              // all of requests is there
}

// step is one call of a stack.
type step struct{ file, line, function string }

const dumpEnd = "End of stacks"

// parseDump reads what faulthandler and poolworker write; see stacks.py. A line that is neither's is dropped, so that
// nothing but names and numbers gets through.
func parseDump(data []byte) dump {
	d := dump{requests: map[uint64][]step{}}
	to := func(s step) { d.thread = append(d.thread, s) }
	for len(data) > 0 {
		line, rest, complete := bytes.Cut(data, []byte("\n"))
		if !complete {
			break
		}
		data = rest
		text := string(line)
		if s, is := parseStep(text); is {
			to(s)
			continue
		}
		id, isRequest := strings.CutPrefix(text, "Request ")
		switch id, _, _ = strings.Cut(id, " "); {
		case isRequest:
			if n, err := strconv.ParseUint(id, 10, 64); err == nil {
				d.requests[n] = nil
				to = func(s step) { d.requests[n] = append(d.requests[n], s) }
			}
		case text == dumpEnd:
			d.ended = true
		}
	}
	return d
}

// parseStep reads `  File "/a/b.py", line 12 in c`.
func parseStep(line string) (s step, is bool) {
	rest, is := strings.CutPrefix(line, `  File "`)
	if !is {
		return s, false
	}
	at := strings.LastIndex(rest, `", line `)
	if at < 0 {
		return s, false
	}
	s.file = rest[:at]
	s.line, s.function, is = strings.Cut(rest[at+len(`", line `):], " in ")
	return s, is
}

// enough reports whether what is there tells where the handler is: of a worker's only handler, which is in its main
// thread unless that runs an event loop.
func (d *dump) enough(source *stackSource, only bool) bool {
	if d.ended {
		return true
	}
	outer := source.outer(d.thread)
	return only && outer < len(d.thread) && filepath.Base(d.thread[outer].file) == "execute.py"
}

// callers are the files of poolworker that call handlers.
var callers = map[string]bool{"execute.py": true, "concurrent.py": true, "aio.py": true}

// outer is where the handler's calls end and those of poolworker begin, which called it.
func (s *stackSource) outer(steps []step) int {
	for i, step := range steps {
		if s.isOurs(step) && callers[filepath.Base(step.file)] {
			return i
		}
	}
	return len(steps)
}

func (s *stackSource) isOurs(of step) bool { return strings.HasPrefix(of.file, s.Own) }

// show tells where a request's handler is. The one that the event loop has called, and that hasn't come back to it, is in the
// main thread, and holds up all others of the loop.
func (d *dump) show(request uint64, source *stackSource, module string) string {
	thread := d.thread[:source.outer(d.thread)]
	inThread := slices.ContainsFunc(thread, func(s step) bool { return !source.isLibrary(s.file, module) })
	own, told := d.requests[request]
	own = own[:source.outer(own)]
	switch {
	case len(own) > 0 && (request > 0 || !inThread):
		return source.text(own, module)
	case request == 0 && len(thread) > 0, told && inThread:
		return source.text(thread, module)
	case request == 0 || told:
		return "(none: the worker wasn't in the handler)"
	case inThread:
		return "(the worker's event loop is held up by)\n" + source.text(thread, module)
	}
	return "(none: another call holds up the worker's interpreter)"
}

// maxStack bounds what an error holds of a stack, in bytes.
const maxStack = 8 << 10

// text writes a stack as workers write tracebacks: the most recent call first, those of the user's own module ahead of
// libraries'.
func (s *stackSource) text(steps []step, module string) string {
	var own, libraries strings.Builder
	for _, c := range steps {
		to := &own
		if s.isLibrary(c.file, module) {
			to = &libraries
		}
		if !s.isOurs(c) {
			to.WriteString(`  File "` + c.file + `", line ` + c.line + ", in " + c.function + "\n")
		}
	}
	text := own.String() + libraries.String()
	if len(text) > maxStack {
		text = text[:strings.LastIndexByte(text[:maxStack-len(stackCut)], '\n')+1] + stackCut
	}
	return strings.TrimRight(text, "\n")
}

const stackCut = "… (cut)"

// isLibrary reports whether a file is Python's or an installed package's, and that isn't the user's own.
func (s *stackSource) isLibrary(file, module string) bool {
	if strings.HasPrefix(file, "<") {
		return true
	}
	_, installed, is := strings.Cut(file, "-packages/")
	own, _, _ := strings.Cut(module, ".")
	return is && !strings.HasPrefix(installed, own+"/") && installed != own+".py" || !is && strings.HasPrefix(file, s.Library)
}
