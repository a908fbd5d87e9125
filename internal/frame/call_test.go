package frame_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/frame"
)

func TestACallIsItsMeta(t *testing.T) {
	for name, tc := range map[string]struct {
		call  frame.Call
		meta  string
		flags uint8
	}{
		"a plain command":      {frame.Call{Command: "echo"}, "echo", 0},
		"of a program":         {frame.Call{Command: "echo", Hash: "h1"}, "echo\x00h1", frame.FlagProgram},
		"of a session":         {frame.Call{Command: "echo", Session: "s1"}, "echo\x00s1\x00", frame.FlagContext},
		"of both":              {frame.Call{Command: "echo", Hash: "h1", Session: "s1", Program: "p1"}, "echo\x00h1\x00s1\x00p1", frame.FlagProgram | frame.FlagContext},
		"of everyone's":        {frame.Call{Command: "echo", Hash: "h1", Program: "p1"}, "echo\x00h1\x00\x00p1", frame.FlagProgram | frame.FlagContext},
		"a command with a NUL": {frame.Call{Command: "a\x00b", Hash: "h1"}, "a\x00b\x00h1", frame.FlagProgram},
		"a batch":              {frame.Call{Command: "echo", Hash: "h1", Batch: true}, "echo\x00h1", frame.FlagProgram | frame.FlagBatch},
		"with affinity": {
			frame.Call{Command: "echo", Hash: "h1", Session: "s1", Program: "p1", Affinity: "strict-now"}, "echo\x00h1\x00s1\x00p1\x00strict-now",
			frame.FlagProgram | frame.FlagContext | frame.FlagAffinity,
		},
		"idempotent": {frame.Call{Command: "echo", Idempotent: true}, "echo", frame.FlagIdempotent},
		"a stream":   {frame.Call{Command: "echo", Stream: true}, "echo\x00", frame.FlagStream},
		"a stream with a limit": {
			frame.Call{Command: "a\x00b", Hash: "h1", Session: "s1", Stream: true, Idle: 250 * time.Millisecond},
			"a\x00b\x00h1\x00s1\x00\x00250000", frame.FlagProgram | frame.FlagContext | frame.FlagStream,
		},
		"a stream from a worker of its own": {
			frame.Call{Command: "echo", Session: "s1", Stream: true, Idle: time.Second, Affinity: "hint"},
			"echo\x00s1\x00\x001000000\x00hint", frame.FlagContext | frame.FlagStream | frame.FlagAffinity,
		},
		"no command": {frame.Call{Hash: "h1"}, "\x00h1", frame.FlagProgram},
	} {
		t.Run(name, func(t *testing.T) {
			if meta, flags := string(tc.call.Meta()), tc.call.Flags(); meta != tc.meta || flags != tc.flags {
				t.Errorf("meta %q with flags %#x, want %q with %#x", meta, flags, tc.meta, tc.flags)
			}
			f := frame.Frame{Flags: tc.flags, Meta: []byte(tc.meta)}
			if got := f.Call(); got != tc.call {
				t.Errorf("Call = %+v, want %+v", got, tc.call)
			}
		})
	}
	short := frame.Frame{Flags: frame.FlagProgram | frame.FlagContext, Meta: []byte("echo")}
	if got := short.Call(); got != (frame.Call{Command: "echo"}) {
		t.Errorf("of a meta that lacks what its flags promise: %+v", got)
	}
}

func TestSeveralFramesTakeOneWrite(t *testing.T) {
	var out countingBuffer
	frames := []*frame.Frame{
		{Kind: frame.Program, Meta: []byte("h1"), Payload: []byte(`{"a":1}`)},
		{Kind: frame.Request, ID: 1, Flags: frame.FlagProgram, Meta: []byte("echo\x00h1"), Payload: []byte(`{}`)},
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
