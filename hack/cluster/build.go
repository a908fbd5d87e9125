package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

const (
	kubernetesModule = "hack/tools/kubernetes"
	corednsModule    = "hack/tools/coredns"
)

// A program is built from a module of its own with the ordinary go build.
type program struct {
	name   string
	module string // a folder of the checkout
	pkg    string
	cold   string // how long it takes with empty caches on two cores
}

// programs in the order in which they are wanted: the first three are all that envtest needs.
var programs = []program{
	{"etcd", kubernetesModule, "go.etcd.io/etcd/server/v3", "45 s"},
	{"kube-apiserver", kubernetesModule, "k8s.io/kubernetes/cmd/kube-apiserver", "5 min"},
	{"kubectl", kubernetesModule, "k8s.io/kubernetes/cmd/kubectl", "25 s"},
	{"kube-controller-manager", kubernetesModule, "k8s.io/kubernetes/cmd/kube-controller-manager", "110 s"},
	{"kube-scheduler", kubernetesModule, "k8s.io/kubernetes/cmd/kube-scheduler", "15 s"},
	{"kubelet", kubernetesModule, "k8s.io/kubernetes/cmd/kubelet", "30 s"},
	{"kube-proxy", kubernetesModule, "k8s.io/kubernetes/cmd/kube-proxy", "15 s"},
	{"coredns", corednsModule, ".", "80 s"},
}

// envtestAssets are the programs that controller-runtime's envtest starts.
var envtestAssets = []string{"etcd", "kube-apiserver", "kubectl"}

// A toolset is one tool module at one version: the folder of the cache in which its programs are.
type toolset struct {
	version string // of its main requirement, as in v1.37.2
	dir     string // its folder's name in the cache
	flags   []string
}

// toolsets holds the toolset of each tool module of the checkout.
type toolsets map[string]toolset

func readToolsets(checkout string) (toolsets, error) {
	all := toolsets{}
	for module, main := range map[string]string{
		kubernetesModule: "k8s.io/kubernetes",
		corednsModule:    "github.com/coredns/coredns",
	} {
		t, err := readToolset(filepath.Join(checkout, module), main)
		if err != nil {
			return nil, err
		}
		all[module] = t
	}
	return all, nil
}

// readToolset names the folder after everything that decides what a build gives: the module's files, the Go that
// builds, its flags.
func readToolset(dir, main string) (toolset, error) {
	gomod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return toolset{}, err
	}
	version := requiredVersion(gomod, main)
	if version == "" {
		return toolset{}, fmt.Errorf("%s/go.mod doesn't require %s", dir, main)
	}
	t := toolset{version: version, flags: buildFlags(version)}
	sum := sha256.New()
	_, _ = fmt.Fprintln(sum, runtime.Version(), runtime.GOOS, runtime.GOARCH, t.flags)
	sum.Write(gomod)
	for _, name := range []string{"go.sum", "main.go"} {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return toolset{}, err
		}
		sum.Write(content)
	}
	t.dir = fmt.Sprintf("%s-%s-%s", filepath.Base(dir), version, hex.EncodeToString(sum.Sum(nil))[:10])
	return t, nil
}

// requiredVersion reads the version of a requirement from a go.mod.
func requiredVersion(gomod []byte, module string) string {
	lines := bufio.NewScanner(bytes.NewReader(gomod))
	for lines.Scan() {
		words := strings.Fields(strings.TrimPrefix(strings.TrimSpace(lines.Text()), "require "))
		if len(words) >= 2 && words[0] == module && strings.HasPrefix(words[1], "v") {
			return words[1]
		}
	}
	return ""
}

// buildFlags are those of the operator's own builds, so that the packages that both have are compiled once; the
// linker's flags don't matter for that. Without a stamped version the API server calls itself v0.0.0-master.
func buildFlags(version string) []string {
	link := "-s -w"
	numbers := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	if len(numbers) == 3 {
		for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
			link += fmt.Sprintf(" -X %[1]s.gitVersion=%[2]s -X %[1]s.gitMajor=%[3]s -X %[1]s.gitMinor=%[4]s"+
				" -X %[1]s.gitTreeState=clean -X %[1]s.gitCommit= -X %[1]s.buildDate=1970-01-01T00:00:00Z",
				pkg, version, numbers[0], numbers[1])
		}
	}
	return []string{"-trimpath", "-buildvcs=false", "-ldflags", link}
}

// build is the command: it builds the named programs.
func build(p paths, names []string) error {
	tools, err := p.ensure(names...)
	if err != nil {
		return err
	}
	for _, t := range tools {
		if _, err := os.Stat(p.inCache(t.dir)); err == nil {
			detail("%s", p.inCache(t.dir))
		}
	}
	return nil
}

// ensure builds what isn't in the cache of the named programs, all when none is named.
func (p paths) ensure(names ...string) (toolsets, error) {
	if err := p.needCheckout(); err != nil {
		return nil, err
	}
	tools, err := readToolsets(p.checkout)
	if err != nil {
		return nil, err
	}
	wanted, err := pick(programs, names)
	if err != nil {
		return nil, err
	}
	for _, prog := range wanted {
		if err := p.ensureProgram(prog, tools[prog.module]); err != nil {
			return nil, err
		}
	}
	return tools, nil
}

func pick(all []program, names []string) ([]program, error) {
	if len(names) == 0 {
		return all, nil
	}
	for _, name := range names {
		if !slices.ContainsFunc(all, func(prog program) bool { return prog.name == name }) {
			known := make([]string, len(all))
			for i, prog := range all {
				known[i] = prog.name
			}
			return nil, fmt.Errorf("no program %q: there are %s", name, strings.Join(known, " "))
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(prog program) bool {
		return !slices.Contains(names, prog.name)
	}), nil
}

// ensureProgram looks before it takes the lock: who needs only programs that are there never waits for a build.
func (p paths) ensureProgram(prog program, t toolset) error {
	target := filepath.Join(p.inCache(t.dir), prog.name)
	if _, err := os.Stat(target); err == nil {
		return nil
	}
	unlock, err := p.lock("build")
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(target); err == nil {
		return nil
	}
	what := fmt.Sprintf("building %s %s, once (about %s when nothing is cached)", prog.name, t.version, prog.cold)
	return step(what, func() error { return p.goBuild(prog, t, target) })
}

// goBuild leaves either the whole program or nothing under its name.
func (p paths) goBuild(prog program, t toolset, target string) error {
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	partial := target + ".partial"
	defer func() { _ = os.Remove(partial) }()
	cmd := exec.Command("go", append([]string{"build", "-o", partial}, append(t.flags, prog.pkg)...)...)
	cmd.Dir = filepath.Join(p.checkout, prog.module)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} // kill -9 of us ends the build, too
	if output, err := runCaptured(cmd); err != nil {
		return fmt.Errorf("build %s: %w\n%s", prog.name, err, output)
	}
	return os.Rename(partial, target)
}

// runCaptured runs a command and returns the end of what it printed: the part that says why it failed.
func runCaptured(cmd *exec.Cmd) (string, error) {
	var out tailBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// tailBuffer keeps the last lines of what is written to it.
type tailBuffer struct{ kept []byte }

var _ io.Writer = (*tailBuffer)(nil)

const tailBytes = 4096

func (b *tailBuffer) Write(data []byte) (int, error) {
	b.kept = append(b.kept, data...)
	if over := len(b.kept) - tailBytes; over > tailBytes { // cut now and then, not on every write
		b.kept = append([]byte(nil), b.kept[over:]...)
	}
	return len(data), nil
}

func (b *tailBuffer) String() string {
	text := string(b.kept)
	if over := len(text) - tailBytes; over > 0 {
		text = text[over:]
		_, text, _ = strings.Cut(text, "\n")
	}
	return strings.TrimRight(text, "\n")
}
