package router

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
	"github.com/dspex/workerpool-operator/internal/store"
)

// shown is what the sample's "show" answers.
type shown struct {
	PID   int
	Items []string
	Rest  map[string]any
}

// shows executes program p1 of session s1 and checks what its handler got; it returns the worker's pid.
func (p *podProcesses) shows(version, path string) int {
	p.t.Helper()
	a := p.do(200, "POST", path, `{"text": "now", "ms": 20}`, "Workerpool-Version", version)
	got := read[shown](p.t, a)
	if len(got.Items) != 1 || got.Items[0] != "kept" || len(got.Rest) != 2 || got.Rest["text"] != "now" || got.Rest["words"] != 5.0 {
		p.t.Errorf("%s: %s", version, a.body)
	}
	return got.PID
}

const keptProgram = `{"id": "p1", "command": "show", "session": "s1", "inputs": {"items": ["kept"], "words": 5, "text": "fixed"}}`

// TestP58_P59_P60_AnyWorkerServesAnySessionAndTheyOutliveWorkers: with real workers of both versions, which are killed.
func TestP58_P59_P60_AnyWorkerServesAnySessionAndTheyOutliveWorkers(t *testing.T) {
	p := newPod(t, samples(5000))
	p.do(201, "POST", "/v1/programs", keptProgram)
	p.do(201, "POST", "/v1/programs", strings.Replace(keptProgram, `"session": "s1", `, "", 1)) // everyone's
	p.do(200, "PATCH", "/v1/sessions/s1", `{"patch": {"turns": ["a"]}}`)
	own, common := "/v1/programs/p1/execute?session=s1", "/v1/programs/p1/execute"
	served := map[int]bool{}
	for range 2 {
		p.eachWorker(t, func(version string) int { return p.shows(version, own) }, served)
		p.shows("v1", common)
		p.shows("v2", common)
		p.killWorkers(t)
	}
	if len(served) < 8 {
		t.Errorf("the program was served by %d workers, want 4 and after their death 4 others: %v", len(served), served)
	}
	if s := p.session("s1"); string(s.Data) != `{"turns":["a"]}` || s.Version != 1 || s.Programs != 1 {
		t.Errorf("the session is %+v", s)
	}
}

// killWorkers kills them all, and waits until others are in their place.
func (p *podProcesses) killWorkers(t *testing.T) {
	t.Helper()
	old := p.pythons()
	for _, pid := range old {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	p.until(func() bool {
		now := p.pythons()
		return len(now) == len(old) && !slices.ContainsFunc(now, func(pid int) bool { return slices.Contains(old, pid) })
	})
	p.awaitWorkers(samples(0))
}

// eachWorker runs until every worker of the pod has been the one: V1's take turns, V2's are busy at the same time.
func (p *podProcesses) eachWorker(t *testing.T, run func(version string) int, served map[int]bool) {
	t.Helper()
	wanted := p.pythons()
	p.until(func() bool {
		var mu sync.Mutex
		var wg sync.WaitGroup
		for _, version := range []string{"v1", "v2", "v2"} {
			wg.Go(func() {
				pid := run(version)
				mu.Lock()
				defer mu.Unlock()
				served[pid] = true
			})
		}
		wg.Wait()
		for _, pid := range wanted {
			if !served[pid] {
				return false
			}
		}
		return true
	})
}

func TestProgramForACommandThatTheWorkersDontHave(t *testing.T) {
	p := newPod(t, samples(0))
	a := p.refused(404, "unknown_command", "POST", "/v1/programs", `{"command": "nope"}`)
	if commands := fmt.Sprint(a.failure.Context["commands"]); !strings.Contains(commands, " echo ") {
		t.Errorf("context lists %s", commands)
	}
	a = p.do(201, "POST", "/v1/programs", `{"command": "echo", "inputs": {"txet": "a"}}`)
	p.refused(400, "invalid_payload", "POST", a.header.Get("Location")+"/execute", "{}") // no argument of that name
}

// TestP111_P112_Batches: each is one request, and counts as its worst output.
func TestP111_P112_Batches(t *testing.T) {
	p := newLivePod(t, samples(0))
	p.do(201, "POST", "/v1/programs", `{"id": "p1", "command": "blame", "inputs": {"text": "theirs"}}`)
	a := p.do(200, "POST", "/v1/commands/echo/batch", `{"inputs": [{"text": "a"}, {"txet": 1}, {"text": "c"}]}`, headerDeadline, "5s")
	if !regexp.MustCompile(`^\{"outputs":\[\{"result":"a"\},\{"error":\{.*"invalid_payload".*\}\},\{"result":"c"\}\]\}$`).MatchString(a.body) {
		t.Errorf("outputs %s", a.body)
	}
	p.do(200, "POST", "/v1/commands/fail/batch", `{"inputs": [{"text": "a"}]}`)
	p.do(200, "POST", "/v1/programs/p1/batch", `{"inputs": [{"whom": "upstream"}, {"whom": "caller"}]}`)
	p.do(200, "POST", "/v1/programs/p1/batch", `{"inputs": []}`)
	p.refused(400, "invalid_payload", "POST", "/v1/commands/echo/batch", `{"text": "a"}`)
	p.refused(404, "unknown_command", "POST", "/v1/commands/nope/batch", `{"inputs": []}`)
	p.refused(404, "unknown_command", "POST", "/v1/commands/batch", `{"inputs": []}`)
	want := RevisionStatus{Requests: 7, Errors: 1, UpstreamErrors: 1, CallerErrors: 4}
	for _, got := range p.status().Revisions {
		if got.Requests == 0 {
			continue
		}
		want.Revision, want.Version, want.Latency, want.Service = got.Revision, got.Version, got.Latency, got.Service
		if got != want {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	}
}

func TestHandlersSeeSessionAndProgram(t *testing.T) {
	p := newPod(t, samples(0))
	p.do(201, "POST", "/v1/programs", `{"id": "p1", "command": "asks"}`)
	for _, version := range []string{"v1", "v2"} {
		for want, a := range map[string]*answer{
			`{"session":"anonymous","program":""}`:   p.do(200, "POST", "/v1/commands/asks", "", headerVersion, version),
			`{"session":"s1","program":""}`:          p.do(200, "POST", "/v1/commands/asks", "", headerVersion, version, headerSession, "s1"),
			`{"session":"s1","program":"p1"}`:        p.do(200, "POST", "/v1/programs/p1/execute?session=s1", "", headerVersion, version),
			`{"session":"anonymous","program":"p1"}`: p.do(200, "POST", "/v1/programs/p1/execute", "", headerVersion, version),
		} {
			if a.body != want {
				t.Errorf("%s: the handler saw %s, want %s", version, a.body, want)
			}
		}
	}
}

// TestProgramOfTheLargestSize: 1 MiB of fixed inputs, executed many times in parallel by all workers.
func TestProgramOfTheLargestSize(t *testing.T) {
	p := newPod(t, samples(5000))
	text := strings.Repeat("x", store.DefaultMaxRecord-len(`{"text":""}`))
	p.do(201, "POST", "/v1/programs", fmt.Sprintf(`{"id": "large", "command": "echo", "inputs": {"text":%q}}`, text))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				if a := p.do(200, "POST", "/v1/programs/large/execute", `{"text": "small"}`); a.body != `"small"` {
					t.Errorf("%.100s", a.body)
				}
			}
		})
	}
	wg.Wait()
	if a := p.do(200, "POST", "/v1/programs/large/execute", ""); a.body != `"`+text+`"` {
		t.Errorf("%d bytes came back of %d", len(a.body), len(text))
	}
}

func TestP111_ErrorsOfOthersReachTheApplication(t *testing.T) {
	p := newLivePod(t, samples(0))
	before := p.pythons()
	p.do(201, "POST", "/v1/programs", `{"id": "blames", "command": "blame", "inputs": {"whom": "upstream"}}`)
	for name, tc := range map[string]struct {
		status         int
		category, kind string
		path, body     string
	}{
		"the caller":                   {400, "request_error", "caller_error", "/v1/commands/blame", `{"whom": "caller", "text": "too long"}`},
		"a service":                    {502, "communication_error", "upstream_error", "/v1/commands/blame", `{"whom": "upstream", "text": "too long"}`},
		"a service, from a program":    {502, "communication_error", "upstream_error", "/v1/programs/blames/execute", `{"text": "too long"}`},
		"the caller, from a program's": {400, "request_error", "caller_error", "/v1/programs/blames/execute", `{"whom": "caller", "text": "too long"}`},
	} {
		t.Run(name, func(t *testing.T) {
			a := p.refused(tc.status, tc.kind, "POST", tc.path, tc.body)
			if a.failure.Category != tc.category || a.failure.Message != "too long" || a.failure.Context["exception"] == "" {
				t.Errorf("%s", a.body)
			}
		})
	}
	for name, tc := range map[string]struct{ path, body, message string }{
		"a wrong type":                 {"/v1/commands/echo", `{"text": 3}`, "text: expected a string, got a number; it is echo(text: str)"},
		"a missing argument":           {"/v1/commands/echo", `{}`, `argument "text" is missing; it is echo(text: str)`},
		"a wrong type, in a program's": {"/v1/programs/blames/execute", `{"text": null}`, "text: expected a string, got null; it is blame"},
	} {
		t.Run(name, func(t *testing.T) {
			a := p.refused(400, "invalid_payload", "POST", tc.path, tc.body)
			if a.failure.Category != "request_error" || !strings.HasPrefix(a.failure.Message, tc.message) || a.failure.Context["argument"] != "text" {
				t.Errorf("%s", a.body)
			}
		})
	}
	p.until(func() bool {
		want := RevisionStatus{Requests: 7, CallerErrors: 5, UpstreamErrors: 2}
		got := p.revisionFigures("r1")
		return got.Requests == want.Requests && got.CallerErrors == want.CallerErrors && got.UpstreamErrors == want.UpstreamErrors && got.Errors == 0
	})
	if after := p.pythons(); fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("workers %v became %v", before, after)
	}
}

// TestP70_NothingStoredIsLostWhenAContainerDies: kill -9 of the router and of either slot, under a load of updates and
// executions. What was answered is there afterwards.
func TestP70_NothingStoredIsLostWhenAContainerDies(t *testing.T) {
	p := newPod(t, samples(5000))
	p.do(201, "POST", "/v1/programs", keptProgram)
	var mu sync.Mutex
	answered := map[string]bool{} // updates of their own sessions that were answered with success
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for caller := range 4 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				id := fmt.Sprintf("caller%d-%d", caller, n)
				if p.tryPatch(id) {
					mu.Lock()
					answered[id] = true
					mu.Unlock()
				}
			}
		})
	}
	for _, name := range []string{"a", "router", "b"} {
		_ = p.end(name, syscall.SIGKILL)
		if name == "router" {
			p.startRouter()
		} else {
			p.startSlot(name)
		}
		p.awaitWorkers(samples(5000))
	}
	close(stop)
	wg.Wait()
	if len(answered) == 0 {
		t.Fatal("no update was answered, so nothing is shown")
	}
	for id := range answered {
		if s := p.session(id); string(s.Data) != `{"kept":"`+id+`"}` {
			t.Errorf("session %s is %+v", id, s)
		}
	}
	for _, version := range []string{"v1", "v2"} {
		p.shows(version, "/v1/programs/p1/execute?session=s1")
	}
	t.Logf("%d sessions outlived the router", len(answered))
}

// tryPatch updates a session; false when nobody answered.
func (p *podProcesses) tryPatch(id string) bool {
	request, err := http.NewRequestWithContext(p.t.Context(), http.MethodPatch, "http://pool/v1/sessions/"+id,
		strings.NewReader(`{"patch": {"kept": "`+id+`"}}`))
	if err != nil {
		p.t.Error(err)
		return false
	}
	response, err := p.client.Do(request)
	if err != nil { // the router is down
		time.Sleep(time.Millisecond)
		return false
	}
	defer response.Body.Close()
	var s store.Session
	return response.StatusCode == http.StatusOK && json.NewDecoder(response.Body).Decode(&s) == nil
}

// TestP70_SwitchOfVersionsWithRealWorkers: V1 → V2 → V1 live, in the same router.
func TestP70_SwitchOfVersionsWithRealWorkers(t *testing.T) {
	p := newLivePod(t, samples(0))
	p.do(201, "POST", "/v1/programs", keptProgram)
	p.do(200, "PATCH", "/v1/sessions/s1", `{"patch": {"turns": ["a"]}}`)
	for i, version := range []string{"v1", "v2", "v1"} {
		p.apply(at(onlyOne(version), 1, uint64(i+1)))
		a := p.do(200, "POST", "/v1/programs/p1/execute?session=s1", `{"text": "now"}`)
		if a.header.Get(headerVersion) != version || len(read[shown](t, a).Items) != 1 {
			t.Errorf("%s: %s by %s", version, a.body, a.header.Get(headerVersion))
		}
		p.do(200, "PATCH", "/v1/sessions/s1", fmt.Sprintf(`{"patch": {"last": %q}, "expectedVersion": %d}`, version, i+1))
	}
	if s := p.session("s1"); string(s.Data) != `{"last":"v1","turns":["a"]}` || s.Version != 4 {
		t.Errorf("the session is %+v", s)
	}
}

// onlyOne is the snapshot of a pool that serves one version and whose other slot is idle.
func onlyOne(version string) *controlpb.Snapshot {
	return changed(samples(0), func(s *controlpb.Snapshot) {
		s.Canary = ""
		if version == "v2" {
			s.Stable = "b"
			s.Slots[0].Revision = nil
		} else {
			s.Slots[1].Revision = nil
		}
	})
}

// TestFullDisk: the router's state is on a tmpfs of 1 MiB.
func TestFullDisk(t *testing.T) {
	if err := exec.Command("unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt").Run(); err != nil {
		t.Skipf("no tmpfs can be mounted here: %v", err)
	}
	p := newPodWith(t, samples(0), func(p *podProcesses) {
		p.wrapper = []string{"unshare", "-rm", "sh", "-c", `mount -t tmpfs -o size=1m none "$0" && head -c 200000 /dev/zero >"$0/somebody-elses" && exec "$@"`, p.dir + "/state"}
	})
	kept, full := 0, &answer{}
	for ; kept < 100; kept++ {
		full = p.send("POST", "/v1/programs", strings.NewReader(fmt.Sprintf(
			`{"id": "p%d", "command": "echo", "session": "s%d", "inputs": {"text": %q}}`, kept, kept, strings.Repeat("x", 50_000))))
		if full.code != 201 {
			break
		}
	}
	if full.code != 507 || full.failure.Type != "store_full" || !strings.Contains(full.failure.Message, "disk") || kept == 0 {
		t.Fatalf("after %d programs: %d %s", kept, full.code, full.body)
	}
	for i := range kept { // what is stored is there, and used
		p.do(200, "POST", fmt.Sprintf("/v1/programs/p%d/execute?session=s%d", i, i), `{"text": "small"}`)
	}
	p.do(200, "POST", "/v1/commands/echo", `{"text": "a command"}`, headerSession, "another")
	// With room on the disk again things can be removed and added.
	inside := fmt.Sprintf("/proc/%d/root%s/state/somebody-elses", p.procs["router"].Process.Pid, p.dir)
	if err := os.Remove(inside); err != nil {
		t.Fatal(err)
	}
	p.do(204, "DELETE", "/v1/sessions/s0", "")
	p.do(201, "POST", "/v1/programs", `{"command": "echo", "session": "s1"}`)
	t.Logf("full after %d programs: %s", kept, full.failure.Message)
}
