package main

import (
	"archive/tar"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func testPaths(t *testing.T) paths {
	dir := t.TempDir()
	return paths{cache: filepath.Join(dir, "cache"), state: filepath.Join(dir, "state")}
}

func TestPKI(t *testing.T) {
	p := testPaths(t)
	ca, pairs, err := writePKI(p)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	for name, pair := range pairs {
		if _, err := tls.X509KeyPair(pair.cert, pair.key); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		block, _ := pem.Decode(pair.cert)
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		_, err = cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if name == "apiserver" {
			for _, host := range []string{"127.0.0.1", nodeIP, serviceIP, "kubernetes.default.svc"} {
				if err := cert.VerifyHostname(host); err != nil {
					t.Error(err)
				}
			}
		}
	}
	keys, err := filepath.Glob(p.inState("pki/*.key"))
	if err != nil || len(keys) != len(pairs)+2 {
		t.Errorf("%d keys were written, %v; want one for each of %v, the authority and tokens",
			len(keys), err, slices.Sorted(maps.Keys(pairs)))
	}
	for _, key := range keys {
		if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", key, info, err)
		}
	}
}

func TestKubeconfigOfTheUserLeadsToTheHostsPort(t *testing.T) {
	p := testPaths(t)
	pairs := map[string]keyPair{"admin": {cert: []byte("cert"), key: []byte("key")}}
	if err := writeKubeconfigs(p, []byte("ca"), pairs, 4321); err != nil {
		t.Fatal(err)
	}
	if got := read(t, p.kubeconfig()); !strings.Contains(got, "server: https://127.0.0.1:4321\n") {
		t.Errorf("the user's:\n%s", got)
	}
	if got := read(t, p.inState("etc/kubelet.kubeconfig")); !strings.Contains(got, "https://127.0.0.1:6443\n") {
		t.Errorf("the kubelet's:\n%s", got)
	}
}

func TestConfigIsFilledIn(t *testing.T) {
	p := testPaths(t)
	if err := writeConfig(p); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(p.inState("etc"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if content := read(t, path); strings.Contains(content, "{{") || strings.Contains(content, p.state) {
			t.Errorf("%s has a gap, or a path of the host:\n%s", path, content)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if got := read(t, p.inState("etc/kubelet.yaml")); !strings.Contains(got, "cgroupRoot: /"+p.clusterName()+"\n") {
		t.Errorf("the kubelet's cgroup root isn't the one that is made:\n%s", got)
	}
}

func TestEveryComponentHasItsProgram(t *testing.T) {
	for _, name := range componentNames {
		c := newComponent(record{Programs: "kubernetes-v1"}, name)
		built := slices.ContainsFunc(programs, func(p program) bool { return p.name == name })
		if built != strings.HasPrefix(c.path, nodeCache+"/kubernetes-v1/") || len(c.args) == 0 {
			t.Errorf("%s is started as %s %v", name, c.path, c.args)
		}
	}
}

func TestIsNode(t *testing.T) {
	cmdline := func(args ...string) []byte { return []byte(strings.Join(args, "\x00") + "\x00") }
	for _, c := range []struct {
		cmdline []byte
		want    bool
	}{
		{cmdline(nodeArgv0, nodeCommand, "/state", "/cache"), true},
		{cmdline(nodeArgv0, nodeCommand, "/another", "/cache"), false},
		{cmdline("grep", nodeArgv0, nodeCommand, "/state"), false},
		{nil, false},
	} {
		if got := isNode(c.cmdline, "/state"); got != c.want {
			t.Errorf("isNode(%q) = %v", c.cmdline, got)
		}
	}
}

func TestRecord(t *testing.T) {
	p := testPaths(t)
	if _, err := p.readRecord(); !errors.Is(err, errNotUp) {
		t.Errorf("without a record: %v", err)
	}
	want := record{Version: "v1.37.2", HostPort: 4321, Images: []string{"images/pause.tar"}}
	if err := p.writeRecord(want); err != nil {
		t.Fatal(err)
	}
	got, err := p.readRecord()
	if err != nil || got.HostPort != want.HostPort || len(got.Images) != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestALockIsHeldUntilGivenBack(t *testing.T) {
	p := testPaths(t)
	unlock, err := p.lock("test")
	if err != nil {
		t.Fatal(err)
	}
	second := make(chan error, 1)
	go func() {
		unlock, err := p.lock("test")
		if err == nil {
			unlock()
		}
		second <- err
	}()
	select {
	case err := <-second:
		t.Fatalf("two hold the lock: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if err := os.RemoveAll(p.cache); err != nil { // as down --purge-cache does while it holds it
		t.Fatal(err)
	}
	if err := os.MkdirAll(p.cache, 0o755); err != nil {
		t.Fatal(err)
	}
	unlock()
	if err := <-second; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(p.lockFile("test")); err != nil {
		t.Errorf("the second holds a lock that nobody can find: %v", err)
	}
}

func TestFindCheckout(t *testing.T) {
	root := t.TempDir()
	if err := writeFile(filepath.Join(root, kubernetesModule, "go.mod"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := findCheckout(filepath.Join(root, "hack")); got != root {
		t.Errorf("from a folder inside: %q", got)
	}
	if got := findCheckout(filepath.Dir(root)); got != "" {
		t.Errorf("from outside: %q", got)
	}
}

func TestATooLongStatePathIsRefused(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", "/"+strings.Repeat("long/", 20))
	if _, err := findPaths(); err == nil || !strings.Contains(err.Error(), "XDG_STATE_HOME") {
		t.Errorf("got %v, want the way out", err)
	}
}

func TestShellQuote(t *testing.T) {
	if got := shellQuote("/it's here"); got != `'/it'\''s here'` {
		t.Errorf("got %s", got)
	}
}

func TestTailOf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("one\ntwo\nthree\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for lines, want := range map[int]string{2: "two\nthree", 9: "one\ntwo\nthree"} {
		if got, err := tailOf(path, lines); err != nil || got != want {
			t.Errorf("the last %d: %q, %v", lines, got, err)
		}
	}
}

func TestImagesInATarball(t *testing.T) {
	const index = `{"manifests":[{"digest":"sha256:aa","annotations":{"io.containerd.image.name":"localhost/a:dev"}}]}`
	for name, c := range map[string]struct {
		entry string
		want  int
	}{"OCI": {"index.json", 1}, "Docker's own": {"manifest.json", 0}} {
		path := filepath.Join(t.TempDir(), "image.tar")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		out := tar.NewWriter(f)
		_ = out.WriteHeader(&tar.Header{Name: c.entry, Size: int64(len(index)), Mode: 0o644})
		_, _ = out.Write([]byte(index))
		_, _ = out.Close(), f.Close()
		images, err := imagesIn(path)
		if err != nil || len(images) != c.want {
			t.Errorf("%s: got %v, %v", name, images, err)
		}
	}
}

func TestLoadedImages(t *testing.T) {
	table := "REF TYPE DIGEST SIZE PLATFORMS LABELS\n" +
		"localhost/a:dev application/vnd.oci.image.manifest.v1+json sha256:aa 1.4 MiB linux/amd64 -\n"
	loaded := parseImageList(table)
	if !containsAll(loaded, map[string]string{"localhost/a:dev": "sha256:aa"}) {
		t.Errorf("got %v", loaded)
	}
	if containsAll(loaded, map[string]string{"localhost/a:dev": "sha256:bb"}) {
		t.Error("another image under the same name counts as loaded")
	}
}

func TestSplitImages(t *testing.T) {
	own, files := splitImages([]string{"worker", "./worker.tar", "samples"})
	if !slices.Equal(own, []string{"worker", "samples"}) || !slices.Equal(files, []string{"./worker.tar"}) {
		t.Errorf("got %v and %v", own, files)
	}
}
