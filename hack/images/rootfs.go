package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	suite = "bookworm" // Debian 12: Python 3.11
	// rootfsVersion is part of the cached file's name: raise it when prune or debootstrap's arguments change.
	rootfsVersion = "1"
)

// pruned is what a container has no use for: half of what debootstrap installs.
var pruned = []string{
	"usr/share/doc/*", "usr/share/man/*", "usr/share/info/*", "usr/share/locale/*", "usr/share/lintian/*",
	"var/cache/apt/*", "var/lib/apt/lists/*", "var/log/*", "dev/*",
}

// pythonRootfs returns Debian's minimal system with Python as a layer, made once and then cached.
func (in inputs) pythonRootfs() (fileLayer, error) {
	tarball := filepath.Join(in.cache, "rootfs", "python-"+suite+"-"+rootfsVersion+".tar")
	layer, err := openLayer(tarball)
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		return layer, err
	}
	unlock, err := lock(tarball + ".lock")
	if err != nil {
		return fileLayer{}, err
	}
	defer unlock()
	layer, err = openLayer(tarball)
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		return layer, err
	}
	err = step("making the Python rootfs, once (about 80 s)", func() error { return makeRootfs(tarball) })
	if err != nil {
		return fileLayer{}, fmt.Errorf("make the Python rootfs: %w", err)
	}
	return openLayer(tarball)
}

// lock waits for a run that makes the same file: also one whose parent was killed, and that goes on by itself.
func lock(path string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { _ = f.Close() }, nil
}

func makeRootfs(tarball string) error {
	if os.Geteuid() != 0 {
		return errors.New("not root, which debootstrap needs")
	}
	work := filepath.Join(filepath.Dir(tarball), ".partial")
	if err := os.RemoveAll(work); err != nil { // of a run that was killed
		return err
	}
	if err := os.MkdirAll(work, 0o755); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	root := filepath.Join(work, "root")
	if err := debootstrap(root); err != nil {
		return err
	}
	if err := prune(root); err != nil {
		return err
	}
	return install(root, tarball)
}

// install packs the tree beside its target, and writes the digest last: only a rootfs that has one is whole.
func install(root, tarball string) error {
	packed := filepath.Join(filepath.Dir(root), "rootfs.tar")
	if err := packTree(packed, root); err != nil {
		return err
	}
	digest, err := digestOf(packed)
	if err != nil {
		return err
	}
	if err := os.Rename(packed, tarball); err != nil {
		return err
	}
	partial := digestFile(packed)
	if err := os.WriteFile(partial, []byte(digest), 0o644); err != nil {
		return err
	}
	return os.Rename(partial, digestFile(tarball))
}

// debootstrap runs in mount and process namespaces of its own: it mounts /proc and /sys in the new root, and they
// are to go with it, even when it is killed half-way.
func debootstrap(root string) error {
	if err := needProgram("debootstrap", "debootstrap", "debian-archive-keyring"); err != nil {
		return err
	}
	mirror, err := debianMirror()
	if err != nil {
		return err
	}
	cmd := exec.Command("unshare", "--mount", "--pid", "--fork", "--kill-child",
		"debootstrap", "--variant=minbase", "--include=python3", suite, root, mirror)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		lines := strings.Split(strings.TrimSpace(output.String()), "\n")
		return fmt.Errorf("debootstrap: %w\n%s", err, strings.Join(lines[max(0, len(lines)-10):], "\n"))
	}
	return nil
}

// needProgram installs Debian packages unless the program is there. sbin isn't on every root's PATH.
func needProgram(program string, packages ...string) error {
	for _, place := range []string{"/usr/sbin/", "/usr/bin/"} {
		if _, err := os.Stat(place + program); err == nil {
			return nil
		}
	}
	return step("installing Debian's "+program, func() error { return aptInstall(program, packages) })
}

func aptInstall(program string, packages []string) error {
	install := append([]string{"install", "--yes", "--quiet", "--no-install-recommends"}, packages...)
	for _, args := range [][]string{{"update", "--quiet"}, install} {
		cmd := exec.Command("apt-get", append([]string{"-o", "DPkg::Lock::Timeout=300"}, args...)...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if output, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s is missing, and apt-get %s failed: %w\n%s", program, args[0], err, output)
		}
	}
	return nil
}

// debianMirror asks apt where it gets Debian from. Other vendors' archives may stand in its lists too.
func debianMirror() (string, error) {
	output, err := exec.Command("apt-get", "indextargets", "--format", "$(LABEL)|$(CODENAME)|$(REPO_URI)",
		"Created-By: Packages").Output()
	if err != nil {
		return "", fmt.Errorf("ask apt for its mirror: %w", err)
	}
	mirror := mirrorIn(string(output))
	if mirror == "" {
		return "", errors.New("apt knows no archive labelled Debian: run `apt-get update`, or add one to its sources")
	}
	return mirror, nil
}

// mirrorIn picks an archive of the suite out of apt's answer, or else any of Debian's.
func mirrorIn(targets string) (mirror string) {
	for line := range strings.Lines(targets) {
		fields := strings.Split(strings.TrimSpace(line), "|")
		if len(fields) != 3 || fields[0] != "Debian" {
			continue
		}
		if fields[1] == suite {
			return fields[2]
		}
		mirror = fields[2]
	}
	return mirror
}

func prune(root string) error {
	for _, pattern := range pruned {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return err
		}
		for _, path := range found {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// appUser returns the rootfs' account files with the user that workers run as.
func (in inputs) appUser() ([]file, error) {
	rootfs, err := in.pythonRootfs()
	if err != nil {
		return nil, err
	}
	files := []file{
		{to: "/etc/group", mode: 0o644, content: []byte("app:x:65532:\n")},
		{to: "/etc/passwd", mode: 0o644, content: []byte("app:x:65532:65532:app:/tmp:/usr/sbin/nologin\n")},
	}
	for i := range files {
		had, err := readFromTar(rootfs.path, strings.TrimPrefix(files[i].to, "/"))
		if err != nil {
			return nil, err
		}
		files[i].content = append(had, files[i].content...)
	}
	return files, nil
}

func readFromTar(tarball, name string) ([]byte, error) {
	f, err := os.Open(tarball)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for in := tar.NewReader(f); ; {
		header, err := in.Next()
		if err != nil {
			return nil, fmt.Errorf("look for %s in %s: %w", name, tarball, err)
		}
		if header.Name == name {
			return io.ReadAll(in)
		}
	}
}
