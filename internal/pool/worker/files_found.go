package worker

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// fileID is the same for all names of a file.
type fileID struct{ device, inode uint64 }

type foundFile struct {
	id    fileID
	root  *os.Root // removing by it never leaves the folder, whatever links are put in its place
	path  string   // below root
	bytes uint64
}

// foundFiles is what a walk has seen.
type foundFiles struct {
	files []foundFile
	bytes uint64
	cut   bool // there are more entries than the walk looks at

	roots   []*os.Root
	folders []foundFile
	entries int
}

// walk looks at so many entries below the folders, and at nothing that is mounted there. Each file counts once.
func walk(folders []string, most int) (found foundFiles) {
	mounts := mountPoints()
	seen := map[fileID]bool{}
	for _, folder := range folders {
		root, err := os.OpenRoot(folder)
		if err != nil {
			continue
		}
		found.roots = append(found.roots, root)
		_ = fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil || path == ".":
				return nil //nolint:nilerr // what has gone meanwhile, or can't be read, is nobody's
			case found.entries >= most:
				found.cut = true
				return fs.SkipAll
			case d.IsDir() && slices.Contains(mounts, filepath.Join(folder, path)):
				return fs.SkipDir
			}
			found.entries++
			if info, err := d.Info(); err == nil {
				found.note(root, path, info, seen)
			}
			return nil
		})
	}
	return found
}

func (found *foundFiles) note(root *os.Root, path string, info fs.FileInfo, seen map[fileID]bool) {
	id, size, _ := takenBy(info)
	if seen[id] {
		return
	}
	seen[id] = true
	found.bytes += size
	switch {
	case info.IsDir():
		found.folders = append(found.folders, foundFile{root: root, path: path})
	case info.Mode().IsRegular():
		found.files = append(found.files, foundFile{id, root, path, size})
	}
}

// removeEmptyFolders removes those that have become empty, children before their parents.
func (found *foundFiles) removeEmptyFolders() (removed int) {
	for _, f := range slices.Backward(found.folders) {
		if f.root.Remove(f.path) == nil {
			removed++
		}
	}
	return removed
}

func (found *foundFiles) close() {
	for _, root := range found.roots {
		_ = root.Close()
	}
}

// mountPoints are where something is mounted, in this process's eyes.
func mountPoints() (points []string) {
	text, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range bytes.Lines(text) {
		if fields := strings.Fields(string(line)); len(fields) > 4 {
			points = append(points, strings.ReplaceAll(fields[4], `\040`, " "))
		}
	}
	return points
}

// openedFiles is what processes have open below the folders.
type openedFiles struct {
	by      map[*process]uint64 // bytes of each one's group
	deleted uint64              // bytes of files that have no name any more, and so aren't found by a walk
}

func openFiles(folders []string, all []*process, groups *Groups) openedFiles {
	o := openedFiles{by: map[*process]uint64{}}
	nameless := map[fileID]bool{}
	for _, p := range all {
		own := map[fileID]bool{}
		for _, pid := range groups.of(p.pid) {
			eachOpen(pid, folders, func(id fileID, size, names uint64) {
				if !own[id] {
					own[id] = true
					o.by[p] += size
				}
				if names == 0 && !nameless[id] {
					nameless[id] = true
					o.deleted += size
				}
			})
		}
	}
	return o
}

// openEverywhere are the files below the folders that any process has open which this one can see.
func openEverywhere(folders []string) map[fileID]bool {
	open := map[fileID]bool{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			eachOpen(pid, folders, func(id fileID, _, _ uint64) { open[id] = true })
		}
	}
	return open
}

// eachOpen calls visit for each file below the folders that the process has open.
func eachOpen(pid int, folders []string, visit func(id fileID, size, names uint64)) {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd"
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		link := filepath.Join(dir, e.Name())
		target, err := os.Readlink(link)
		if err != nil || !slices.ContainsFunc(folders, func(f string) bool { return strings.HasPrefix(target, f+"/") }) {
			continue
		}
		if info, err := os.Stat(link); err == nil && info.Mode().IsRegular() {
			visit(takenBy(info))
		}
	}
}

// written is what a process and its group have written to disks since they started, in bytes.
func written(groups *Groups, p *process) (sum uint64) {
	for _, pid := range groups.of(p.pid) {
		text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/io")
		for line := range bytes.Lines(text) {
			if number, ok := bytes.CutPrefix(line, []byte("write_bytes: ")); ok {
				n, _ := strconv.ParseUint(string(bytes.TrimSpace(number)), 10, 64)
				sum += n
			}
		}
	}
	return sum
}
