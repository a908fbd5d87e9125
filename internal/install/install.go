// Package install puts poold and the Python side of a worker into a pod, where the slots run them from the user's
// own image.
package install

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Names within the target folder.
const (
	Binary = "poold"
	Python = "python"
)

// Modes of what is installed: any user of the pod may run it, only the one who installed it may change it. They are
// set apart from creation, because the umask is another's.
const (
	binaryMode fs.FileMode = 0o755
	folderMode fs.FileMode = 0o755
	fileMode   fs.FileMode = 0o644
)

// Install copies the executable to DIR/poold and the tree to DIR/python. Each is put in place whole: whoever looks
// meanwhile finds the former one or the new one. What is there already with the same content is left alone, so that
// a second run changes nothing. DIR itself must exist and be writable; it may belong to another user.
func Install(dir, executable string, tree fs.FS) error {
	if err := installBinary(dir, executable); err != nil {
		return fmt.Errorf("install %s in %s: %w", Binary, dir, err)
	}
	if err := installTree(dir, tree); err != nil {
		return fmt.Errorf("install %s in %s: %w", Python, dir, err)
	}
	return nil
}

func installBinary(dir, executable string) error {
	source, err := os.Open(executable)
	if err != nil {
		return err
	}
	defer source.Close()
	target := filepath.Join(dir, Binary)
	same, err := sameFile(target, source, binaryMode)
	if err != nil || same {
		return err
	}
	if _, err := source.Seek(0, io.SeekStart); err != nil {
		return err
	}
	fresh, err := os.CreateTemp(dir, "."+Binary+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(fresh.Name()) }() // nothing is left of it once it is renamed
	_, err = io.Copy(fresh, source)
	err = errors.Join(err, fresh.Chmod(binaryMode), fresh.Sync(), fresh.Close())
	if err != nil {
		return err
	}
	return os.Rename(fresh.Name(), target)
}

// sameFile reports whether path is a file with that mode and the content of want.
func sameFile(path string, want io.Reader, mode fs.FileMode) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Mode() != mode {
		return false, err
	}
	return sameContent(f, want)
}

func sameContent(a, b io.Reader) (bool, error) {
	const chunk = 64 << 10
	x, y := make([]byte, chunk), make([]byte, chunk)
	for {
		n, errA := io.ReadFull(a, x)
		m, errB := io.ReadFull(b, y)
		if !bytes.Equal(x[:n], y[:m]) {
			return false, nil
		}
		ended := errors.Is(errA, io.EOF) || errors.Is(errA, io.ErrUnexpectedEOF)
		switch {
		case ended:
			return true, nil
		case errA != nil:
			return false, errA
		case errB != nil:
			return false, errB
		}
	}
}

// installTree writes the tree beside its place and exchanges the two.
func installTree(dir string, tree fs.FS) error {
	target := filepath.Join(dir, Python)
	same, err := sameTree(target, tree)
	if err != nil || same {
		return err
	}
	fresh, err := os.MkdirTemp(dir, "."+Python+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(fresh) }() // the former tree, or what a failure left
	if err := writeTree(fresh, tree); err != nil {
		return err
	}
	err = os.Rename(fresh, target) // works where there is nothing, or an empty folder
	if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.ENOTDIR) {
		err = unix.Renameat2(unix.AT_FDCWD, fresh, unix.AT_FDCWD, target, unix.RENAME_EXCHANGE)
	}
	return err
}

func writeTree(root string, tree fs.FS) error {
	return fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		path := filepath.Join(root, filepath.FromSlash(name))
		if entry.IsDir() {
			if err := os.MkdirAll(path, folderMode); err != nil {
				return err
			}
			return os.Chmod(path, folderMode)
		}
		content, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, content, fileMode); err != nil {
			return err
		}
		return os.Chmod(path, fileMode)
	})
}

// sameTree reports whether the folder at root holds exactly the tree.
func sameTree(root string, tree fs.FS) (bool, error) {
	wanted, same := 0, true
	err := fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !same {
			return err
		}
		wanted++
		same, err = sameEntry(filepath.Join(root, filepath.FromSlash(name)), tree, name, entry)
		return err
	})
	if err != nil || !same {
		return false, err
	}
	found := 0
	err = filepath.WalkDir(root, func(string, fs.DirEntry, error) error { found++; return nil })
	return found == wanted, err
}

func sameEntry(path string, tree fs.FS, name string, entry fs.DirEntry) (bool, error) {
	if entry.IsDir() {
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return err == nil && info.Mode() == fs.ModeDir|folderMode, err
	}
	content, err := tree.Open(name)
	if err != nil {
		return false, err
	}
	defer content.Close()
	return sameFile(path, content, fileMode)
}
