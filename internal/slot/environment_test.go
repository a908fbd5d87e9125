package slot_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/workerpool-operator/internal/slot"
	"github.com/dspex/workerpool-operator/internal/slot/slotproto"
)

// A variable of the container, as a Secret's key becomes one, reaches the workers and nothing else, however they fail.
func TestP54_TheContainersSecretsShowNowhere(t *testing.T) {
	const secret = "sk-0123456789"
	for name, change := range map[string]func(*slotproto.Config){
		"workers that serve":        func(*slotproto.Config) {},
		"from a zygote":             func(c *slotproto.Config) { c.Worker.Preload = slotproto.PreloadZygote },
		"a module that fails":       func(c *slotproto.Config) { c.Worker.Module = "broken" },
		"a module that isn't there": func(c *slotproto.Config) { c.Worker.Module = "nowhere" },
		"no such interpreter":       func(c *slotproto.Config) { c.Worker.Python = "/nowhere/python" },
		"a folder that isn't there": func(c *slotproto.Config) { c.Worker.WorkingDir = "/nowhere" },
		"a zygote that fails": func(c *slotproto.Config) {
			c.Worker.Module, c.Worker.Preload = "broken", slotproto.PreloadZygote
		},
	} {
		t.Run(name, func(t *testing.T) {
			said := &journal{}
			r := newRig(t, func(o *slot.Options) {
				o.Env = append(o.Env, "LLM_API_KEY="+secret)
				o.Log = slog.New(slog.NewJSONHandler(said, nil))
			})
			control, data := r.connect(slotproto.Control, "i"), r.connect(slotproto.Data, "i")
			cfg := r.config(change)
			if err := control.configure(cfg); err != nil {
				t.Fatal(err)
			}
			st := control.await("serving or failing", func(s slotproto.Status) bool { return s.Boot != nil || s.Ready == 1 })
			told, err := json.Marshal(st)
			if err != nil {
				t.Fatal(err)
			}
			if st.Boot == nil {
				if text, failure := data.call("environment", args{}); failure != nil || !strings.Contains(text, secret) {
					t.Errorf("the worker hasn't the variable: %v", failure)
				}
			}
			var failures []string
			for _, request := range []struct {
				command string
				args    args
			}{{"fail", args{"text": "x"}}, {"no such command", args{}}, {"end", args{"how": "SIGABRT"}}} {
				_, failure := data.call(request.command, request.args)
				if failure == nil {
					t.Fatalf("%s didn't fail", request.command)
				}
				failures = append(failures, fmt.Sprintf("%+v", failure))
			}
			r.end()
			for what, text := range map[string]string{"status": string(told), "errors": strings.Join(failures, "\n"), "log": said.String()} {
				if text == "" || strings.Contains(text, secret) {
					t.Errorf("the %s is empty, or shows the secret: %s", what, text)
				}
			}
		})
	}
}

// journal is a log that can be read while it is written.
type journal struct {
	mu   sync.Mutex
	text strings.Builder // guarded by mu
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func TestWorkerEnvironment(t *testing.T) {
	folder := t.TempDir()
	r := newRig(t, func(o *slot.Options) { o.Env = append(o.Env, "WORKERPOOL_TOKEN=private", "FROM_CONTAINER=1") })
	control, data := r.connect(slotproto.Control, "i"), r.connect(slotproto.Data, "i")
	if err := control.configure(r.config(func(c *slotproto.Config) {
		c.Worker.Env = []slotproto.EnvVar{{Name: "FROM_CONFIG", Value: "2"}, {Name: "PYTHONPATH", Value: r.spec.WorkingDir}}
		c.Worker.WorkingDir = folder
	})); err != nil {
		t.Fatal(err)
	}
	text, failure := data.call("environment", args{})
	if failure != nil {
		t.Fatal(failure)
	}
	var got struct {
		Environ   map[string]string
		CWD, Path string
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{
		"FROM_CONTAINER": got.Environ["FROM_CONTAINER"], "FROM_CONFIG": got.Environ["FROM_CONFIG"],
		"WORKERPOOL_TOKEN": got.Environ["WORKERPOOL_TOKEN"], "WORKERPOOL_WORKER": got.Environ["WORKERPOOL_WORKER"],
		"cwd": got.CWD, "sys.path[0]": got.Path,
	}
	want := map[string]string{
		"FROM_CONTAINER": "1", "FROM_CONFIG": "2", "WORKERPOOL_TOKEN": "", "WORKERPOOL_WORKER": "a-1", "cwd": folder, "sys.path[0]": folder,
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("what a worker sees (-want +got):\n%s", diff)
	}
}
