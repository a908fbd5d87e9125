package worker

import (
	"strings"
	"testing"
)

var source = &stackSource{Own: "/opt/workerpool/python/poolworker/", Library: "/usr/lib/python3.11/"}

const (
	ofHandler = `Stack (most recent call first):
  File "/usr/lib/python3.11/socket.py", line 706 in readinto
  File "/app/venv/lib/python3.11/site-packages/httpx/_main.py", line 9 in get
  File "/app/shop/provider.py", line 41 in complete
  File "/app/shop/commands.py", line 12 in <lambda>
  File "/opt/workerpool/python/poolworker/execute.py", line 115 in _call
  File "/opt/workerpool/python/__main__.py", line 22 in <module>
`
	shownHandler = `  File "/app/shop/provider.py", line 41, in complete
  File "/app/shop/commands.py", line 12, in <lambda>
  File "/usr/lib/python3.11/socket.py", line 706, in readinto
  File "/app/venv/lib/python3.11/site-packages/httpx/_main.py", line 9, in get`
	ofLoop = `Stack (most recent call first):
  File "/usr/lib/python3.11/selectors.py", line 468 in select
  File "/usr/lib/python3.11/asyncio/base_events.py", line 1884 in _run_once
  File "/opt/workerpool/python/poolworker/aio.py", line 60 in run
`
	ofBlockedLoop = `Stack (most recent call first):
  File "/app/shop/commands.py", line 30 in compute
  File "/usr/lib/python3.11/asyncio/base_events.py", line 1884 in _run_once
  File "/opt/workerpool/python/poolworker/aio.py", line 60 in run
`
	shownBlock = `  File "/app/shop/commands.py", line 30, in compute
  File "/usr/lib/python3.11/asyncio/base_events.py", line 1884, in _run_once`
	ofRequests = `Request 7 (most recent call first):
  File "/app/shop/commands.py", line 20 in ask
  File "/opt/workerpool/python/poolworker/concurrent.py", line 99 in _call_one
Request 8 (most recent call first):
  File "/opt/workerpool/python/poolworker/concurrent.py", line 99 in _answer
`
	ofTask = `Request 0 (most recent call first):
  File "/app/shop/commands.py", line 20 in ask
`
	shownTask = `  File "/app/shop/commands.py", line 20, in ask`
	ended     = "End of stacks\n"
)

func TestP30_WhichStackIsShown(t *testing.T) {
	for name, tc := range map[string]struct {
		dump    string
		request uint64
		want    string
		only    bool // it is enough for the worker's only request, without what may follow
	}{
		"the handler's own, the module's calls first": {ofHandler, 0, shownHandler, true},
		"with all that follows":                       {ofHandler + ended, 0, shownHandler, true},
		"the suspended task's":                        {ofLoop + ofTask + ended, 0, shownTask, true},
		"the loop's while the task isn't told":        {ofBlockedLoop, 0, shownBlock, false},
		"a task that computes":                        {ofBlockedLoop + ofTask + ended, 0, shownBlock, true},
		"one of several":                              {ofLoop + ofRequests + ended, 7, shownTask, true},
		"the one of several that computes":            {ofBlockedLoop + ofRequests + ended, 8, shownBlock, true},
		"who holds up the loop":                       {ofBlockedLoop, 7, "(the worker's event loop is held up by)\n" + shownBlock, false},
		"who holds up Python isn't known":             {ofLoop, 7, "(none: another call holds up the worker's interpreter)", false},
		"between handlers":                            {ended, 0, "(none: the worker wasn't in the handler)", true},
		"what is neither's": {
			"token=sk-secret\n" + ofHandler + "  File \"/app/x.py\" sk-secret\n  ...\n", 0, shownHandler, true,
		},
		"a last line that is cut": {ofHandler + "  File \"/app/half.py\", line 1", 0, shownHandler, true},
	} {
		t.Run(name, func(t *testing.T) {
			d := parseDump([]byte(tc.dump))
			if got := d.show(tc.request, source, "shop.commands"); got != tc.want {
				t.Errorf("shown:\n%s\nwant:\n%s", got, tc.want)
			}
			if got := d.enough(source, tc.request == 0); got != tc.only {
				t.Errorf("enough is %v, want %v", got, tc.only)
			}
		})
	}
}

func TestP30_AnInstalledModuleIsTheUsersOwn(t *testing.T) {
	for file, library := range map[string]bool{
		"/usr/lib/python3.11/ssl.py":                                true,
		"/venv/lib/python3.11/site-packages/httpx/_client.py":       true,
		"/venv/lib/python3.11/site-packages/shop/commands.py":       false,
		"/venv/lib/python3.11/site-packages/shopping/commands.py":   true,
		"/usr/lib/python3/dist-packages/shop.py":                    false,
		"/usr/lib/python3.11/site-packages/numpy/linalg/_linalg.py": true,
		"<frozen importlib._bootstrap>":                             true,
		"/app/shop/commands.py":                                     false,
	} {
		if got := source.isLibrary(file, "shop.commands"); got != library {
			t.Errorf("%s: library %v, want %v", file, got, library)
		}
	}
}

func TestP30_StackIsBounded(t *testing.T) {
	deep := "Stack (most recent call first):\n" + strings.Repeat(`  File "/app/shop/commands.py", line 12 in again`+"\n", 1000)
	d := parseDump([]byte(deep))
	got := d.show(0, source, "shop")
	if len(got) > maxStack || !strings.HasSuffix(got, "in again\n"+stackCut) {
		t.Errorf("%d bytes that end with %q; want at most %d, cut after a line", len(got), got[len(got)-40:], maxStack)
	}
}
