package frame_test

import (
	"bytes"
	"testing"

	"github.com/dspex/workerpool-operator/internal/frame"
)

func TestACallNamesItsProgram(t *testing.T) {
	for name, tc := range map[string]struct {
		f             frame.Frame
		command, hash string
	}{
		"a plain command":         {frame.Frame{Meta: []byte("echo")}, "echo", ""},
		"of a program":            {frame.Frame{Flags: frame.FlagProgram, Meta: frame.ProgramMeta("echo", "h1")}, "echo", "h1"},
		"a command with a NUL":    {frame.Frame{Flags: frame.FlagProgram, Meta: frame.ProgramMeta("a\x00b", "h1")}, "a\x00b", "h1"},
		"the flag and no hash":    {frame.Frame{Flags: frame.FlagProgram, Meta: []byte("echo")}, "echo", ""},
		"a NUL without the flag":  {frame.Frame{Meta: []byte("a\x00b")}, "a\x00b", ""},
		"a hash without the rest": {frame.Frame{Flags: frame.FlagProgram, Meta: []byte("\x00h1")}, "", "h1"},
	} {
		t.Run(name, func(t *testing.T) {
			if command, hash := tc.f.Call(); command != tc.command || hash != tc.hash {
				t.Errorf("Call = %q, %q; want %q, %q", command, hash, tc.command, tc.hash)
			}
		})
	}
}

func TestSeveralFramesTakeOneWrite(t *testing.T) {
	var out countingBuffer
	frames := []*frame.Frame{
		{Kind: frame.Program, Meta: []byte("h1"), Payload: []byte(`{"a":1}`)},
		{Kind: frame.Request, ID: 1, Flags: frame.FlagProgram, Meta: frame.ProgramMeta("echo", "h1"), Payload: []byte(`{}`)},
	}
	if err := frame.NewWriter(&out).Write(frames...); err != nil || out.writes != 1 {
		t.Fatalf("%d writes, %v; want 1", out.writes, err)
	}
	r := frame.NewReader(&out.Buffer, 0)
	for _, want := range frames {
		var got frame.Frame
		if err := r.Read(&got); err != nil {
			t.Fatal(err)
		}
		assertEqual(t, &got, want)
	}
}

type countingBuffer struct {
	bytes.Buffer
	writes int
}

func (b *countingBuffer) Write(p []byte) (int, error) {
	b.writes++
	return b.Buffer.Write(p)
}
