package pooltest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// memoryLimit is the largest payload in these stories, in bytes. Workers that serve several requests at a time have no
// memory; all that is told here holds for their pipes.
const memoryLimit = 2 << 20

// memorySizes of payloads: those at which something changes, and some between.
var memorySizes = []int{
	100, worker.DefaultMemoryFrom - 1, worker.DefaultMemoryFrom, worker.DefaultMemoryFrom + 1, 100_000, 1 << 20, memoryLimit,
}

var memory = map[string]story{
	"TestP113_PayloadsOfAnySize": func(b *bench) {
		b.spec.MaxPayload = memoryLimit
		s := b.ready()
		pid := s.pid()
		for i, size := range memorySizes {
			s.sends(i, size)
			s.gets(i, size)
		}
		_, err := s.Do(b.Context(), pool.Request{Command: "echo", Payload: echoOf(1, memoryLimit+1)})
		s.wants(s.fourParts(err), pool.RequestError, pool.FrameTooLarge)
		_, tooLarge := s.call("pattern", args{"seed": 1, "size": memoryLimit + 1})
		s.wants(tooLarge, pool.CommunicationError, pool.FrameTooLarge)
		s.sends(2, memoryLimit)
		if again := s.pid(); again != pid {
			b.Error("a payload over the limit has cost a worker")
		}
	},

	"TestP113_RepliesAreTheirCallersToKeep": func(b *bench) {
		b.spec.MaxPayload = memoryLimit
		s := b.ready()
		for _, size := range memorySizes {
			first := s.pattern(1, size)
			s.pattern(2, size)
			if !bytes.Equal(first, patternOf(1, size)) {
				b.Errorf("a reply of %d bytes has changed with the next one", size)
			}
		}
	},

	"TestP113_PayloadsOfManyCallersNeverCross": func(b *bench) {
		b.spec.MaxPayload = memoryLimit
		b.limits.Size = 3
		s := b.ready()
		var all sync.WaitGroup
		for caller := range 9 {
			random := rand.New(rand.NewPCG(113, uint64(caller)))
			all.Go(func() {
				for i := range 30 {
					size, seed := memorySizes[random.IntN(len(memorySizes)-1)], 1000*caller+i
					if random.IntN(2) == 0 {
						s.sends(seed, size)
					} else {
						s.gets(seed, size)
					}
				}
			})
		}
		all.Wait()
		if st := s.Stats(); st.Destroyed != 0 {
			b.Errorf("%d workers were lost", st.Destroyed)
		}
	},

	"TestP113_KilledWithALargePayload": func(b *bench) {
		b.spec.MaxPayload = memoryLimit
		b.limits.Size = 2
		s := b.ready()
		for i := range 3 {
			_, err := s.call("end", args{"how": "SIGKILL", "code": strings.Repeat("x", 1<<20)})
			s.wants(err, pool.CommunicationError, pool.PortExited)
			s.sends(i, 1<<20) // by the other one
			s.awaitReady(2)
		}
		want := 2
		if b.shared {
			want = 0
		}
		b.until("the memory of those that were killed unmapped", func() bool { return mappings(b) <= want })
		if maps := mappings(b); maps != want {
			b.Errorf("%d mappings for 2 workers; want %d", maps, want)
		}
		s.end()
		b.until("all memory unmapped", func() bool { return mappings(b) == 0 })
	},

	"TestP113_TimeoutWithALargePayload": func(b *bench) {
		b.spec.MaxPayload = memoryLimit
		s := b.ready()
		for i := range 2 {
			value := strings.Repeat("late", 1<<18)
			s.limits.Operation = time.Second
			s.Configure(s.limits)
			_, err := s.call("sleep", args{"ms": 1200, "value": value})
			s.wants(err, pool.TimeoutError, pool.CommandTimeout)
			s.limits.Operation = b.patience
			s.Configure(s.limits)
			s.gets(i, 1<<20)
		}
	},
}

// patternOf is the JSON of the text that the command pattern makes, so many bytes.
func patternOf(seed, size int) []byte {
	text := strings.Repeat(fmt.Sprintf("%08d", seed), size/8+1)
	return []byte(`"` + text[:size-2] + `"`)
}

// echoOf is the JSON of echo's arguments with such a text, so many bytes.
func echoOf(seed, size int) []byte {
	const before, after = `{"value":`, `}`
	return []byte(before + string(patternOf(seed, size-len(before)-len(after))) + after)
}

// sends has a request of so many bytes echoed. It may be called by any goroutine.
func (s *subject) sends(seed, size int) {
	payload := echoOf(seed, size)
	reply, err := s.Do(s.Context(), pool.Request{Command: "echo", Payload: payload})
	s.compare(fmt.Sprintf("a request of %d bytes", size), reply.Payload, payload[len(`{"value":`):size-1], err)
}

// gets asks for a result of so many bytes. It may be called by any goroutine.
func (s *subject) gets(seed, size int) {
	s.compare(fmt.Sprintf("a result of %d bytes", size), s.pattern(seed, size), patternOf(seed, size), nil)
}

func (s *subject) pattern(seed, size int) []byte {
	arguments, _ := json.Marshal(args{"seed": seed, "size": size})
	reply, err := s.Do(s.Context(), pool.Request{Command: "pattern", Payload: arguments})
	if err != nil {
		s.Errorf("a result of %d bytes: %v", size, err)
	}
	return reply.Payload
}

func (s *subject) compare(what string, got, want []byte, err error) {
	if err != nil || !bytes.Equal(got, want) {
		s.Errorf("%s: %d bytes that begin with %.20q, %v; want %d with %.20q", what, len(got), got, err, len(want), want)
	}
}

// mappings counts the memory that this process shares with workers.
func mappings(b *bench) int {
	b.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		b.Fatal(err)
	}
	return bytes.Count(maps, []byte("memfd:workerpool"))
}
