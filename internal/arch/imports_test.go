// Package arch holds the rules of who may import whom. An arrow that points the wrong way fails the build.
package arch

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/dspex/workerpool-operator/"

// A rule forbids the packages below the folders in from, tests apart, to import anything below forbid.
// Paths without a dot in their first element are the standard library's; those with a leading slash are folders of
// this module.
type rule struct {
	from   []string
	forbid []string
	except []string
	why    string
}

var rules = map[string]rule{
	"the API depends on apimachinery alone": {
		from:   []string{"api"},
		forbid: []string{"/", "sigs.k8s.io/controller-runtime", "k8s.io/client-go"},
		why:    "whoever imports the types must not get the operator with them",
	},
	"decisions see no client, no context, no clock": {
		from:   []string{"internal/rollout", "internal/analysis", "internal/status", "internal/inject", "internal/snapshot", "internal/revision", "internal/pki"},
		forbid: []string{"context", "os", "net", "net/http", "k8s.io/client-go", "sigs.k8s.io/controller-runtime", "/controllers"},
		why:    "a decision is a function of facts and a time value",
	},
	"the data plane knows nothing of Kubernetes": {
		from:   []string{"internal/pool", "internal/router", "internal/cgroup", "internal/frame", "internal/slot", "internal/histogram", "internal/install", "internal/store", "cmd/poold"},
		forbid: []string{"/api", "/controllers", "/internal/control", "k8s.io", "sigs.k8s.io"},
		except: []string{"/internal/control/controlpb"},
		why:    "it runs in every application pod and on a laptop",
	},
	"V1 doesn't know V2": {
		from: []string{"internal/pool/serial"}, forbid: []string{"/internal/pool/checkout"},
		why: "each must be removable",
	},
	"V2 doesn't know V1": {
		from: []string{"internal/pool/checkout"}, forbid: []string{"/internal/pool/serial"},
		why: "each must be removable",
	},
	"the pool doesn't know who serves it": {
		from:   []string{"internal/pool", "internal/cgroup", "internal/frame", "internal/histogram"},
		forbid: []string{"/internal/slot", "/internal/router"},
		why:    "arrows point from the edge to the core",
	},
	"nobody imports a program": {
		from:   []string{"api", "controllers", "internal", "hack", "test", "cmd"},
		forbid: []string{"/cmd"},
		why:    "wiring is the end of every arrow",
	},
	"nobody imports the controllers but the manager and tests": {
		from:   []string{"internal", "api", "cmd/poold", "hack"},
		forbid: []string{"/controllers"},
		why:    "they are the only writers of objects",
	},
}

func TestImports(t *testing.T) {
	for name, r := range rules {
		t.Run(name, func(t *testing.T) {
			seen := 0
			for _, folder := range r.from {
				for file, imports := range importsBelow(t, folder) {
					seen++
					for _, path := range imports {
						if r.breaks(path) {
							t.Errorf("%s imports %s: %s (%s)", file, path, name, r.why)
						}
					}
				}
			}
			if seen == 0 {
				t.Errorf("no Go file below %v: the rule guards nothing", r.from)
			}
		})
	}
}

func (r rule) breaks(path string) bool {
	return matches(path, r.forbid) && !matches(path, r.except)
}

func matches(path string, prefixes []string) bool {
	for _, p := range prefixes {
		if p == "/" && strings.HasPrefix(path, module) {
			return true
		}
		full := p
		if strings.HasPrefix(p, "/") {
			full = module + p[1:]
		}
		if path == full || strings.Contains(full, ".") && strings.HasPrefix(path, full+"/") {
			return true
		}
	}
	return false
}

// TestMatches holds the matcher itself: a rule that can't fail would be worse than none.
func TestMatches(t *testing.T) {
	for name, tc := range map[string]struct {
		path     string
		prefixes []string
		want     bool
	}{
		"own package below a folder":       {module + "api/v1alpha1", []string{"/api"}, true},
		"own package with the same prefix": {module + "apiary", []string{"/api"}, false},
		"any own package":                  {module + "internal/pool", []string{"/"}, true},
		"module below a domain":            {"k8s.io/client-go/rest", []string{"k8s.io/client-go"}, true},
		"standard library, exactly":        {"os", []string{"os"}, true},
		"standard library, below":          {"net/netip", []string{"net"}, false},
		"unrelated":                        {"time", []string{"os"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := matches(tc.path, tc.prefixes); got != tc.want {
				t.Errorf("matches(%q, %v) = %v, want %v", tc.path, tc.prefixes, got, tc.want)
			}
		})
	}
}

// importsBelow returns the imports of each non-test Go file below a folder of the module.
func importsBelow(t *testing.T, folder string) map[string][]string {
	t.Helper()
	root := filepath.Join("..", "..", folder)
	found := map[string][]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range parsed.Imports {
			value, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			found[path] = append(found[path], value)
		}
		if parsed.Imports == nil {
			found[path] = nil
		}
		return nil
	})
	if err != nil {
		t.Fatalf("reading the imports below %s: %v", folder, err)
	}
	return found
}
