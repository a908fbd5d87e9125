package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// imageNameAnnotation is where containerd looks for the name under which to import an image.
const imageNameAnnotation = "io.containerd.image.name"

// writeArchive writes an OCI image layout as a tarball: the index first, where a reader finds the image's digest
// without reading the rest. It leaves either the whole tarball or the one that was there before.
func writeArchive(path, name string, image v1.Image) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	partial, err := os.CreateTemp(filepath.Dir(path), ".partial-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(partial.Name()) }()
	defer partial.Close()
	if err := writeLayout(tar.NewWriter(partial), name, image); err != nil {
		return err
	}
	if err := errors.Join(partial.Chmod(0o644), partial.Close()); err != nil {
		return err
	}
	return os.Rename(partial.Name(), path)
}

func writeLayout(out *tar.Writer, name string, image v1.Image) error {
	index, err := indexOf(name, image)
	if err != nil {
		return err
	}
	manifest, err := image.RawManifest()
	if err != nil {
		return err
	}
	config, err := image.RawConfigFile()
	if err != nil {
		return err
	}
	if err := errors.Join(
		writeEntry(out, "index.json", index),
		writeEntry(out, "oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)),
		writeEntry(out, blobPath(hashOf(manifest)), manifest),
		writeEntry(out, blobPath(hashOf(config)), config),
	); err != nil {
		return err
	}
	layers, err := image.Layers()
	if err != nil {
		return err
	}
	for _, layer := range layers {
		if err := writeLayer(out, layer); err != nil {
			return err
		}
	}
	return out.Close()
}

func indexOf(name string, image v1.Image) ([]byte, error) {
	digest, err := image.Digest()
	if err != nil {
		return nil, err
	}
	size, err := image.Size()
	if err != nil {
		return nil, err
	}
	return json.Marshal(v1.IndexManifest{
		SchemaVersion: 2,
		MediaType:     types.OCIImageIndex,
		Manifests: []v1.Descriptor{{
			MediaType:   types.OCIManifestSchema1,
			Size:        size,
			Digest:      digest,
			Annotations: map[string]string{imageNameAnnotation: name},
		}},
	})
}

func writeLayer(out *tar.Writer, layer v1.Layer) error {
	digest, err := layer.Digest()
	if err != nil {
		return err
	}
	size, err := layer.Size()
	if err != nil {
		return err
	}
	content, err := layer.Compressed()
	if err != nil {
		return err
	}
	defer content.Close()
	return writeStream(out, blobPath(digest), size, content)
}

func blobPath(digest v1.Hash) string { return "blobs/" + digest.Algorithm + "/" + digest.Hex }

func hashOf(content []byte) v1.Hash {
	hash, _, err := v1.SHA256(bytes.NewReader(content))
	if err != nil {
		panic(err) // memory can be read
	}
	return hash
}

func writeEntry(out *tar.Writer, name string, content []byte) error {
	return writeStream(out, name, int64(len(content)), bytes.NewReader(content))
}

func writeStream(out *tar.Writer, name string, size int64, content io.Reader) error {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: layerTime}
	if err := out.WriteHeader(header); err != nil {
		return err
	}
	_, err := io.Copy(out, content)
	return err
}

// archivedDigest is the digest of the image in a tarball of ours, empty when there is none.
func archivedDigest(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	in := tar.NewReader(f)
	var index v1.IndexManifest
	if header, err := in.Next(); err != nil || header.Name != "index.json" {
		return ""
	}
	if err := json.NewDecoder(in).Decode(&index); err != nil || len(index.Manifests) != 1 {
		return ""
	}
	return index.Manifests[0].Digest.String()
}
