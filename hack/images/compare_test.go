package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
)

func TestCompare(t *testing.T) {
	config := v1.Config{User: nonRoot, Entrypoint: []string{"/app"}, Env: []string{"HOME=/tmp"}, WorkingDir: "/app"}
	app := file{to: "/bin/app", content: []byte("program"), mode: 0o755}
	for name, tc := range map[string]struct {
		spoil func(*v1.Config) []file
		want  string // empty: the same
	}{
		"the same": {func(*v1.Config) []file { return []file{app} }, ""},
		"in two layers' order, signed, with a mount point": {func(c *v1.Config) []file {
			c.Labels, c.WorkingDir = map[string]string{toolLabel: "1.28.2"}, "/app/"
			return []file{{to: "/etc/hosts"}, app}
		}, ""},
		"another user":       {func(c *v1.Config) []file { c.User = "0:0"; return []file{app} }, "its user is 0:0"},
		"another entrypoint": {func(c *v1.Config) []file { c.Entrypoint = nil; return []file{app} }, "its entrypoint is []"},
		"another variable":   {func(c *v1.Config) []file { c.Env = []string{"HOME=/"}; return []file{app} }, "its variable HOME is /"},
		"a variable more":    {func(c *v1.Config) []file { c.Env = append(c.Env, "A=b"); return []file{app} }, "its variable A is in the Dockerfile's only: b"},
		"another folder":     {func(c *v1.Config) []file { c.WorkingDir = "/"; return []file{app} }, "its folder is /"},
		"a label":            {func(c *v1.Config) []file { c.Labels = map[string]string{"a": "b"}; return []file{app} }, "its label a is in"},
		"a file more":        {func(*v1.Config) []file { return []file{app, {to: "/bin/b", mode: 0o644}} }, "/bin/b is in the Dockerfile's only"},
		"a file less":        {func(*v1.Config) []file { return []file{{to: "/bin", mode: os.ModeDir | 0o755}} }, "/bin/app isn't in the Dockerfile's"},
		"another mode":       {func(*v1.Config) []file { a := app; a.mode = 0o700; return []file{a} }, "/bin/app is -rwx------"},
		"other contents":     {func(*v1.Config) []file { a := app; a.content = []byte("PROGRAM"); return []file{a} }, "/bin/app is"},
	} {
		t.Run(name, func(t *testing.T) {
			assembled, err := build(empty.Image, config, app)
			if err != nil {
				t.Fatal(err)
			}
			spoilt := *config.DeepCopy()
			files := tc.spoil(&spoilt)
			built, err := build(empty.Image, spoilt, files...)
			if err != nil {
				t.Fatal(err)
			}
			got, n, err := compare(assembled, built)
			if err != nil || n != 1 {
				t.Fatalf("%d files, %v; want the one that there is", n, err)
			}
			if tc.want == "" && len(got) > 0 {
				t.Errorf("got %q, want no difference", got)
			}
			if tc.want != "" && !slices.ContainsFunc(got, func(line string) bool { return strings.HasPrefix(line, tc.want) }) {
				t.Errorf("got %q, want a line that begins with %q", got, tc.want)
			}
		})
	}
}

func TestDockerfileBases(t *testing.T) {
	in := inputs{checkout: "../.."}
	bases, err := in.dockerfileBases()
	if err != nil || !strings.Contains(bases.golang, "/golang:1.") || !strings.Contains(bases.python, "/python:3.") {
		t.Errorf("got %+v, %v", bases, err)
	}
	in.checkout = t.TempDir()
	if err := os.WriteFile(in.checkout+"/Dockerfile", []byte("FROM scratch\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := in.dockerfileBases(); err == nil || !strings.Contains(err.Error(), "GO_IMAGE") {
		t.Errorf("no ARG: %v, want an error that names it", err)
	}
}
