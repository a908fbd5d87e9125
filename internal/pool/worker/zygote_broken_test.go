package worker_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// TestP102_ForksThatDontWorkAreGivenUp has forks fail in ways that no look at the process could foretell: a few workers
// later, at once when it hangs, all are spawned without a try, and the reason is told.
func TestP102_ForksThatDontWorkAreGivenUp(t *testing.T) {
	all := newNursery(t)
	for leave, tc := range map[string]struct {
		reason string
		tries  int // after which no fork is tried
	}{
		"fork that hangs":        {"forked no worker within 5s", 1},
		"child that hangs":       {"had said nothing after 5s", 1},
		"fork whose child hangs": {"code that hangs at a fork, over 4 s", 1},
		"fork that dies":         {"exited with status 9 when a worker was to be forked", 20},
		"child that dies":        {"the forked process ended before it was a worker", 3},
		"fork that isn't there":  {"the fork failed: ", 3},
	} {
		t.Run(leave, func(t *testing.T) {
			t.Parallel()
			n := all.beside(t, "FORKABLE_LEAVE="+leave)
			for try := 0; n.zygote.Refused() == ""; try++ {
				if w := n.worker(); w.who().forked() || try > tc.tries {
					t.Fatalf("worker %d is forked %v, and nothing is said of it", try, w.who().forked())
				}
			}
			if got := n.zygote.Refused(); !strings.Contains(got, tc.reason) {
				t.Errorf("refused: %q; want %q in it", got, tc.reason)
			}
			n.await("the zygote's end", func() bool { return n.zygote.PID() == 0 })
			n.worker()
			if n.zygote.PID() != 0 {
				t.Error("a fork was tried again at once")
			}
		})
	}
}

// fakeZygote is an interpreter whose zygotes do what script says, over the socket s; workers of their own it runs as ever.
func (n *nursery) fakeZygote(script string) {
	path := filepath.Join(n.TempDir(), "python")
	text := "#!" + n.spec.Python + "\nimport os, sys\nif '--zygote' not in sys.argv:\n    os.execv('" + n.spec.Python + "', sys.argv)\n" +
		"import json, socket\ns = socket.socket(fileno=int(sys.argv[-1]))\ns.recv(65536)\n" + script
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil { //nolint:gosec // a program
		n.Fatal(err)
	}
	n.spec.Python = path
}

func TestP102_AZygoteThatAnswersNonsenseIsGivenUp(t *testing.T) {
	const ready, order = "s.send(b'{\"ready\": true}')\n", "s.recvmsg(65536, 1000)\n"
	all := newNursery(t)
	for name, tc := range map[string]struct{ script, reason string }{
		"no JSON":                {ready + order + "s.send(b'what?')\n" + order, "can't be read"},
		"another kind of JSON":   {ready + order + "s.send(b'{\"pid\": \"x\"}')\n" + order, "can't be read"},
		"nothing":                {ready + order + "s.send(b'{}')\n" + order + "s.send(b'{}')\n" + order + "s.send(b'{}')\n" + order, "the fork failed"},
		"the supervisor's pid":   {ready + order + "s.send(json.dumps({'pid': os.getppid()}).encode())\n" + order, "can't be true"},
		"the end":                {ready + order, "when a worker was to be forked"},
		"a first answer of none": {"s.send(b'{}')\n" + order, "first answer can't be read"},
		"an end in the import":   {"os._exit(4)\n", "exited with status 4"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := all.beside(t)
			n.fakeZygote(tc.script)
			for n.zygote.Refused() == "" {
				w, err := n.zygote.Launch()
				if err != nil {
					continue // as a worker of its own might have failed
				}
				if err := w.Ready(t.Context()); err != nil {
					t.Fatalf("a spawned worker: %v", err)
				}
				w.Kill(worker.ReasonClosed)
				<-w.Gone()
			}
			if got := n.zygote.Refused(); !strings.Contains(got, tc.reason) {
				t.Errorf("refused: %q; want %q in it", got, tc.reason)
			}
			if w := n.worker(); w.who().forked() {
				t.Error("a worker was forked")
			}
		})
	}
}
