package main

import (
	"archive/tar"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// packTree writes a folder as a tarball: in the order of names, with owners, modes and links, with one time for all.
func packTree(tarball, root string) (err error) {
	f, err := os.Create(tarball)
	if err != nil {
		return err
	}
	p := packer{out: tar.NewWriter(f), root: root, seen: map[uint64]string{}}
	err = filepath.WalkDir(root, p.add)
	return errors.Join(err, p.out.Close(), f.Close())
}

type packer struct {
	out  *tar.Writer
	root string
	seen map[uint64]string // the first name of each file that has several, by inode
}

func (p *packer) add(path string, entry fs.DirEntry, err error) error {
	if err != nil || path == p.root {
		return err
	}
	info, err := entry.Info()
	if err != nil {
		return err
	}
	header, err := p.header(path, info)
	if err != nil {
		return err
	}
	if err := p.out.WriteHeader(header); err != nil || header.Typeflag != tar.TypeReg {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(p.out, f)
	return err
}

func (p *packer) header(path string, info fs.FileInfo) (*tar.Header, error) {
	link := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		var err error
		if link, err = os.Readlink(path); err != nil {
			return nil, err
		}
	}
	header, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return nil, err
	}
	name, err := filepath.Rel(p.root, path)
	if err != nil {
		return nil, err
	}
	header.Name, header.ModTime = name, layerTime
	header.Uname, header.Gname = "", "" // the host's names for these numbers
	if info.IsDir() {
		header.Name += "/"
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && info.Mode().IsRegular() && stat.Nlink > 1 {
		if first, linked := p.seen[stat.Ino]; linked {
			header.Typeflag, header.Linkname, header.Size = tar.TypeLink, first, 0
		} else {
			p.seen[stat.Ino] = name
		}
	}
	return header, nil
}
