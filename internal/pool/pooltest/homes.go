package pooltest

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// ask has a worker say who it is: its pid, a float64 as all numbers of results.
func (s *subject) ask(key string, mode pool.AffinityMode) (any, *pool.Error) {
	return s.request(s.Context(), pool.Request{Command: "pid", Affinity: pool.Affinity{Key: key, Mode: mode}}, nil)
}

func (s *subject) mustAsk(key string, mode pool.AffinityMode) float64 {
	s.Helper()
	v, err := s.ask(key, mode)
	if err != nil {
		s.Fatalf("%s of key %s: %v", mode, key, err)
	}
	home, ok := v.(float64)
	if !ok {
		s.Fatalf("the worker has no pid: %v", v)
	}
	return home
}

func (s *subject) askAsync(key string, mode pool.AffinityMode) <-chan result {
	end := make(chan result, 1)
	go func() {
		v, err := s.ask(key, mode)
		end <- result{v, err}
	}()
	return end
}

func (s *subject) servedBy(worker float64, end <-chan result) {
	s.Helper()
	if r := <-end; r.err != nil || r.value != worker {
		s.Errorf("got %v, %v; want worker %v", r.value, r.err, worker)
	}
}

// holding is a request that its key's worker is busy with.
type holding struct {
	*subject
	path string
	end  <-chan result
}

// hold returns when a worker has begun a request of the key.
func (s *subject) hold(key string) holding {
	s.Helper()
	o := s.begin(key, pool.AffinityStrict)
	s.until("the worker is busy", func() bool { return exists(o.path + ".begun") })
	return o
}

func (s *subject) begin(key string, mode pool.AffinityMode) holding {
	path, end := filepath.Join(s.TempDir(), "go"), make(chan result, 1)
	go func() {
		v, err := s.request(s.Context(), pool.Request{Command: "occupy", Affinity: pool.Affinity{Key: key, Mode: mode}}, args{"path": path})
		end <- result{v, err}
	}()
	return holding{s, path, end}
}

// release lets the request end, and returns who served it.
func (o holding) release() float64 {
	o.Helper()
	o.letGo()
	r := <-o.end
	worker, ok := r.value.(float64)
	if r.err != nil || !ok {
		o.Fatalf("a request that was let go: %v, %v", r.value, r.err)
	}
	return worker
}

func (o holding) letGo() {
	o.Helper()
	if err := os.WriteFile(o.path, nil, 0o600); err != nil {
		o.Fatal(err)
	}
}

// kill ends the worker.
func (o holding) kill() {
	o.Helper()
	pid, err := os.ReadFile(o.path + ".begun")
	if err != nil {
		o.Fatal(err)
	}
	n, err := strconv.Atoi(string(pid))
	if err != nil {
		o.Fatal(err)
	}
	if err := syscall.Kill(n, syscall.SIGKILL); err != nil {
		o.Fatal(err)
	}
	o.wants((<-o.end).err, pool.CommunicationError, pool.PortExited)
}

// homes gives each key a worker of its own, as many as the pool has.
func (s *subject) homes(keys ...string) map[string]float64 {
	s.Helper()
	running := map[string]holding{}
	for _, key := range keys {
		running[key] = s.begin(key, pool.AffinityStrict)
	}
	s.await("all inside", func(st pool.Stats) bool { return st.Busy+st.Queued == len(keys) })
	for _, o := range running {
		o.letGo() // all of them: V1 runs one after the other
	}
	homes, keyOf := map[string]float64{}, map[float64]string{}
	for key, o := range running {
		home := o.release()
		if other, taken := keyOf[home]; taken {
			s.Fatalf("keys %s and %s have the same worker", key, other)
		}
		homes[key], keyOf[home] = home, key
	}
	return homes
}
