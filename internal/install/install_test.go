package install

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// tree is what a test installs.
func tree() fstest.MapFS {
	return fstest.MapFS{
		"__main__.py":            {Data: []byte("import poolworker\n")},
		"poolworker/__init__.py": {Data: nil},
		"poolworker/loop.py":     {Data: []byte("def run(): ...\n")},
	}
}

// binary makes an executable with that content.
func binary(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "poold")
	if err := os.WriteFile(path, []byte(content), 0o500); err != nil {
		t.Fatal(err)
	}
	return path
}

// entry is one installed file or folder.
type entry struct {
	Mode    fs.FileMode
	Content string
}

func installed(t *testing.T, dir string) map[string]entry {
	t.Helper()
	found := map[string]entry{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var content []byte
		if !d.IsDir() {
			content, err = os.ReadFile(path)
		}
		name, _ := filepath.Rel(dir, path)
		found[name] = entry{info.Mode(), string(content)}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func want(executable string) map[string]entry {
	return map[string]entry{
		"poold":                         {0o755, executable},
		"python":                        {fs.ModeDir | 0o755, ""},
		"python/__main__.py":            {0o644, "import poolworker\n"},
		"python/poolworker":             {fs.ModeDir | 0o755, ""},
		"python/poolworker/__init__.py": {0o644, ""},
		"python/poolworker/loop.py":     {0o644, "def run(): ...\n"},
	}
}

// TestInstall starts from what a folder may hold, and always ends with exactly what is to be there.
func TestInstall(t *testing.T) {
	write := func(t *testing.T, path, content string, mode fs.FileMode) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), mode)); err != nil {
			t.Fatal(err)
		}
	}
	for name, prepare := range map[string]func(t *testing.T, dir string){
		"empty folder": func(*testing.T, string) {},
		"former version": func(t *testing.T, dir string) {
			write(t, dir+"/poold", "old", 0o755)
			write(t, dir+"/python/__main__.py", "old", 0o644)
			write(t, dir+"/python/gone/since.py", "old", 0o644)
		},
		"one file more": func(t *testing.T, dir string) {
			if err := Install(dir, binary(t, "new"), tree()); err != nil {
				t.Fatal(err)
			}
			write(t, dir+"/python/poolworker/more.py", "", 0o644)
		},
		"modes that keep others out": func(t *testing.T, dir string) {
			if err := Install(dir, binary(t, "new"), tree()); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(os.Chmod(dir+"/poold", 0o700), os.Chmod(dir+"/python/poolworker", 0o700)); err != nil {
				t.Fatal(err)
			}
		},
		"a file in the folder's place": func(t *testing.T, dir string) { write(t, dir+"/python", "x", 0o644) },
		"an empty folder":              func(t *testing.T, dir string) { write(t, dir+"/python/x", "", 0o644); _ = os.Remove(dir + "/python/x") },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			prepare(t, dir)
			if err := Install(dir, binary(t, "new"), tree()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want("new"), installed(t, dir)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestInstallUnderAStrictUmask(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	dir := t.TempDir()
	if err := Install(dir, binary(t, "new"), tree()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want("new"), installed(t, dir)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestSecondInstallChangesNothing(t *testing.T) {
	dir := t.TempDir()
	executable := binary(t, "new")
	if err := Install(dir, executable, tree()); err != nil {
		t.Fatal(err)
	}
	inode := func(name string) uint64 {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t).Ino
	}
	before := []uint64{inode("poold"), inode("python"), inode("python/__main__.py")}
	if err := Install(dir, executable, tree()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, []uint64{inode("poold"), inode("python"), inode("python/__main__.py")}); diff != "" {
		t.Errorf("inodes (-before +after)\n%s", diff)
	}
}

// TestReadersFindOneVersionWhole replaces two versions by each other under readers.
func TestReadersFindOneVersionWhole(t *testing.T) {
	dir := t.TempDir()
	versions := []fstest.MapFS{
		{"__main__.py": {Data: bytes.Repeat([]byte("1"), 5000)}},
		{"__main__.py": {Data: bytes.Repeat([]byte("2"), 5000)}},
	}
	executables := []string{binary(t, "1"), binary(t, "2")}
	if err := Install(dir, executables[0], versions[0]); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				text, err := os.ReadFile(filepath.Join(dir, "python/__main__.py"))
				if err != nil || len(text) != 5000 || bytes.Count(text, text[:1]) != 5000 {
					t.Errorf("%d bytes, %v", len(text), err)
					return
				}
			}
		})
	}
	for i := range 40 {
		if err := Install(dir, executables[i%2], versions[i%2]); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
	if found := installed(t, dir); len(found) != 3 {
		t.Errorf("left behind: %v", found)
	}
}

func TestInstallSaysWhereItFailed(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	err := Install(missing, binary(t, "x"), tree())
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestO73_FolderOfAnotherUser: the folder is root's, writable for all, as an emptyDir is.
func TestO73_FolderOfAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to become someone else")
	}
	dir, executable := t.TempDir(), binary(t, "new")
	for parent := dir; parent != os.TempDir(); parent = filepath.Dir(parent) {
		if err := os.Chmod(parent, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chmod(dir, 0o777), os.Chmod(filepath.Dir(executable), 0o755), os.Chmod(executable, 0o555)); err != nil {
		t.Fatal(err)
	}
	as(t, 65532, func() {
		for range 2 {
			if err := Install(dir, executable, tree()); err != nil {
				t.Error(err)
			}
		}
	})
	if diff := cmp.Diff(want("new"), installed(t, dir)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// as runs f as another user, on a thread that ends with it.
func as(t *testing.T, uid int, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		lockAsUser(t, uid)
		f()
	}()
	<-done
}

// lockAsUser gives the calling goroutine's thread another file system user, and keeps both together: the thread ends
// with the goroutine, which never unlocks it.
func lockAsUser(t *testing.T, uid int) {
	runtime.LockOSThread()
	if _, _, errno := syscall.RawSyscall(syscall.SYS_SETFSUID, uintptr(uid), 0, 0); errno != 0 {
		t.Error(errno)
	}
}
