package cgroup

import (
	"os"
	"path/filepath"
	"testing"
)

// tree writes files and returns the folder that they are in.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestFind(t *testing.T) {
	for name, tc := range map[string]struct {
		groups string
		files  map[string]string
		want   string // folder
	}{
		"v2 in a container":       {"0::/\n", map[string]string{"memory.events": ""}, ""},
		"v2 outside of one":       {"0::/a/b\n", map[string]string{"a/b/memory.events": "", "memory.events": ""}, "a/b"},
		"v2 of another namespace": {"0::/../x\n", map[string]string{"memory.events": ""}, ""},
		"v1 in a container":       {"4:memory:/kubepods/x\n0::/\n", map[string]string{"memory/memory.oom_control": ""}, "memory"},
		"v1 outside of one":       {"4:cpu,memory:/x\n0::/\n", map[string]string{"memory/x/memory.oom_control": "", "memory/memory.oom_control": ""}, "memory/x"},
	} {
		t.Run(name, func(t *testing.T) {
			root := tree(t, tc.files)
			if got, want := find(root, tc.groups).dir, filepath.Join(root, tc.want); got != want {
				t.Errorf("found %q, want %q", got, want)
			}
		})
	}
	if m := find(t.TempDir(), "0::/\n"); m != (Memory{}) {
		t.Errorf("found %v where there is nothing", m)
	}
}

func TestFigures(t *testing.T) {
	type figures struct{ usage, limit, reclaimable, kills uint64 }
	for name, tc := range map[string]struct {
		files map[string]string
		want  figures
	}{
		"v2": {map[string]string{
			"memory.events": "low 0\noom 3\noom_kill 2\noom_group_kill 1\n", "memory.current": "1000\n", "memory.max": "4000\n",
			"memory.stat": "anon 500\nfile 300\ninactive_file 200\nactive_file 50\n",
		}, figures{1000, 4000, 250, 2}},
		"v2 without a limit": {map[string]string{
			"memory.events": "oom_kill 0\n", "memory.current": "1\n", "memory.max": "max\n",
		}, figures{usage: 1}},
		"v1": {map[string]string{
			"memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n", "memory.usage_in_bytes": "1000\n", "memory.limit_in_bytes": "4000\n",
			"memory.stat": "inactive_file 1\nactive_file 1\ntotal_inactive_file 200\ntotal_active_file 50\n",
		}, figures{1000, 4000, 250, 7}},
		"v1 without a limit": {map[string]string{
			"memory.oom_control": "", "memory.usage_in_bytes": "1\n", "memory.limit_in_bytes": "9223372036854771712\n",
		}, figures{usage: 1}},
		"no group": {nil, figures{}},
	} {
		t.Run(name, func(t *testing.T) {
			m := At(tree(t, tc.files))
			got := figures{limit: m.Limit(), reclaimable: m.Reclaimable()}
			got.usage, _ = m.Usage()
			got.kills, _ = m.Kills()
			if got != tc.want {
				t.Errorf("figures %+v, want %+v", got, tc.want)
			}
		})
	}
}
