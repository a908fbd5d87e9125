package pooltest

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

var programs = map[string]story{
	"TestP112_BatchAnswersInOrder": func(b *bench) {
		s := b.ready()
		reply, err := s.Do(b.Context(), pool.Request{
			Command: "echo", Batch: true, Program: &pool.Program{Hash: "h1", Body: []byte(`{"value":"fixed"}`)},
			Payload: []byte(`{"inputs":[{"value":1},{"other":2},{},{"value":4}]}`),
		})
		if err != nil {
			b.Fatalf("a batch with one wrong input: %v", err)
		}
		var answer struct {
			Outputs []struct {
				Result any
				Error  *pool.Error
			}
		}
		if err := json.Unmarshal(reply.Payload, &answer); err != nil || len(answer.Outputs) != 4 {
			b.Fatalf("outputs %s, %v; want four", reply.Payload, err)
		}
		for i, want := range []any{1.0, nil, "fixed", 4.0} {
			if got := answer.Outputs[i]; got.Result != want || (got.Error != nil) != (i == 1) {
				b.Errorf("output %d is %v, %v; want %v", i, got.Result, got.Error, want)
			}
		}
		s.wants(answer.Outputs[1].Error, pool.RequestError, pool.InvalidPayload)
		if reply.Failed != pool.CallerError {
			b.Errorf("the batch counts as %q, want its one failure's %s", reply.Failed, pool.CallerError)
		}
		_, err = s.Do(b.Context(), pool.Request{Command: "end", Batch: true, Payload: []byte(`{"inputs":[{"how":"os._exit"},{"how":"os._exit"}]}`)})
		s.wants(s.fourParts(err), pool.CommunicationError, pool.PortExited)
		if n := s.Stats().Spawned; n > 2 {
			b.Errorf("%d workers started; a batch is tried once", n)
		}
	},

	"TestProgramsInputsAreMergedAndTheirOwn": func(b *bench) {
		s := b.ready()
		p := program("h1", `{"items":["a"],"words":5}`)
		for range 3 { // what a handler does to its arguments is gone with the next call
			s.shows(p, `{"words":6}`, `{"items": ["a"], "words": 6}`)
			s.shows(p, `{}`, `{"items": ["a"], "words": 5}`)
		}
		s.shows(program("h2", `{"other":1}`), `{}`, `{"other": 1}`)
		if v := s.must("echo", args{"value": "plain"}); v != "plain" {
			b.Errorf("a plain command got %v", v)
		}
	},

	"TestP67_AProgramSurvivesItsWorkers": func(b *bench) {
		s := b.ready()
		p := program("h1", `{"items":["a"]}`)
		first := s.shows(p, `{}`, `{"items": ["a"]}`)
		if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
			b.Fatal(err)
		}
		s.await("a new worker", func(st pool.Stats) bool { return st.Ready == 1 && st.Workers[0].PID != first })
		if second := s.shows(p, `{}`, `{"items": ["a"]}`); second == first {
			b.Error("the worker wasn't replaced, so nothing is shown")
		}
	},

	// More and larger programs than a worker holds: those that had to go come again.
	"TestProgramsBeyondWhatAWorkerHolds": func(b *bench) {
		s := b.ready()
		large := strings.Repeat("x", 1<<20)
		for range 2 {
			for n := range 12 { // of 1 MiB each
				p := program(fmt.Sprint("large", n), fmt.Sprintf(`{"n":%d,"text":%q}`, n, large))
				s.shows(p, `{"text":""}`, fmt.Sprintf(`{"n": %d, "text": ""}`, n))
			}
			for n := range 300 {
				s.shows(program(fmt.Sprint("small", n), fmt.Sprintf(`{"n":%d}`, n)), `{}`, fmt.Sprintf(`{"n": %d}`, n))
			}
		}
	},

	"TestHandlersSeeSessionAndProgram": func(b *bench) {
		s := b.ready()
		for _, want := range []string{`["s1","p1"]`, `["anonymous",""]`} {
			req := pool.Request{Command: "context", Payload: []byte("{}")}
			if want != `["anonymous",""]` {
				req.Session, req.ProgramID, req.Program = "s1", "p1", program("h1", "{}")
			}
			if reply, err := s.Do(b.Context(), req); err != nil || string(reply.Payload) != want {
				b.Errorf("the handler saw %s, %v; want %s", reply.Payload, err, want)
			}
		}
	},

	"TestProgramForACommandThatIsntThere": func(b *bench) {
		s := b.ready()
		_, err := s.Do(b.Context(), pool.Request{Command: "nothing", Payload: []byte("{}"), Program: program("h1", "{}")})
		s.wants(s.fourParts(err), pool.RequestError, pool.UnknownCommand)
		s.shows(program("h1", "{}"), `{}`, `{}`)
	},

	"TestP111_ErrorsOfOthersAreNotThePools": func(b *bench) {
		s := b.ready()
		pid := s.pid()
		for kind, want := range map[string]pool.Type{"CallerError": pool.CallerError, "UpstreamError": pool.UpstreamError} {
			for range 10 {
				_, err := s.call("blame", args{"kind": kind, "text": "theirs"})
				if err == nil || err.Type != want || err.Message != "theirs" || err.Infrastructure() {
					b.Fatalf("%s: %v; want %s with its text", kind, err, want)
				}
			}
		}
		if st := s.Stats(); st.Infrastructure != 0 || st.Errors != 0 {
			b.Errorf("%d infrastructure failures, %d errors; want none", st.Infrastructure, st.Errors)
		}
		if again := s.pid(); again != pid {
			b.Errorf("worker %d was replaced by %d", pid, again)
		}
	},

	"TestCommandsAreReported": func(b *bench) {
		s := b.start()
		s.await("the names of the module's commands", func(st pool.Stats) bool {
			return st.Ready == 1 && strings.Contains(strings.Join(st.Commands, " "), " echo ")
		})
	},

	"TestCodecIsReported": func(b *bench) {
		s := b.ready()
		if codec := s.Stats().Workers[0].Codec; codec != s.must("codec", nil) {
			b.Errorf("the worker's codec shows as %q, and it is %v", codec, s.must("codec", nil))
		}
	},
}

func program(hash, body string) *pool.Program { return &pool.Program{Hash: hash, Body: []byte(body)} }

// shows runs a program and checks which arguments its handler got; it returns the worker's pid.
func (s *subject) shows(p *pool.Program, inputs, want string) (pid int) {
	s.Helper()
	reply, err := s.Do(s.Context(), pool.Request{
		Command: "show", Payload: []byte(inputs), Program: p, Deadline: time.Now().Add(patience),
	})
	if err != nil {
		s.Fatalf("program %s: %v", p.Hash, err)
	}
	var got struct {
		PID       int
		Arguments string
	}
	if err := json.Unmarshal(reply.Payload, &got); err != nil || got.Arguments != want {
		s.Fatalf("program %s with %s got %.200s, %v; want %.200s", p.Hash, inputs, reply.Payload, err, want)
	}
	return got.PID
}
