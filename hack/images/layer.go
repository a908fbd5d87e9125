package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// layerTime is the time of every file: images of the same contents are to be the same image.
var layerTime = time.Unix(0, 0)

// Layers aren't compressed: they go from this disk to this disk, and to compress them takes longer than to copy.
const layerType = types.OCIUncompressedLayer

// A file is put into an image: content given, or read from a path. A mode with os.ModeDir makes a folder.
type file struct {
	from    string
	content []byte
	to      string
	mode    os.FileMode
}

// layerOf makes a layer of a few files, in memory.
func layerOf(files []file) (v1.Layer, error) {
	var buf bytes.Buffer
	out := tar.NewWriter(&buf)
	for _, f := range files {
		if err := f.write(out); err != nil {
			return nil, fmt.Errorf("%s: %w", f.to, err)
		}
	}
	if err := out.Close(); err != nil {
		return nil, err
	}
	return static.NewLayer(buf.Bytes(), layerType), nil
}

func (f file) write(out *tar.Writer) error {
	content := f.content
	if f.from != "" {
		var err error
		if content, err = os.ReadFile(f.from); err != nil {
			return err
		}
	}
	header := &tar.Header{
		Typeflag: tar.TypeReg,
		Name:     strings.TrimPrefix(path.Clean(f.to), "/"),
		Mode:     int64(f.mode.Perm()),
		Size:     int64(len(content)),
		ModTime:  layerTime,
	}
	if f.mode.IsDir() {
		header.Typeflag, header.Name = tar.TypeDir, header.Name+"/"
	}
	if err := out.WriteHeader(header); err != nil {
		return err
	}
	_, err := out.Write(content)
	return err
}

// A fileLayer is a layer whose tarball lies on the disk, too large to be held in memory.
type fileLayer struct {
	path   string
	digest v1.Hash
	size   int64
}

var _ v1.Layer = fileLayer{}

func (l fileLayer) Digest() (v1.Hash, error)             { return l.digest, nil }
func (l fileLayer) DiffID() (v1.Hash, error)             { return l.digest, nil }
func (l fileLayer) Compressed() (io.ReadCloser, error)   { return os.Open(l.path) }
func (l fileLayer) Uncompressed() (io.ReadCloser, error) { return os.Open(l.path) }
func (l fileLayer) Size() (int64, error)                 { return l.size, nil }
func (l fileLayer) MediaType() (types.MediaType, error)  { return layerType, nil }

// openLayer takes a tarball as a layer. Its digest is kept beside it: to compute it takes a second, at each run.
func openLayer(tarball string) (fileLayer, error) {
	info, err := os.Stat(tarball)
	if err != nil {
		return fileLayer{}, err
	}
	digest, err := os.ReadFile(digestFile(tarball))
	if err != nil {
		return fileLayer{}, err
	}
	hash, err := v1.NewHash(string(digest))
	return fileLayer{path: tarball, digest: hash, size: info.Size()}, err
}

func digestFile(tarball string) string { return tarball + ".digest" }

func digestOf(tarball string) (string, error) {
	f, err := os.Open(tarball)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), nil
}
