package contestant

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// pingPong is one Python process that echoes frames, at the other end of two pipes: the least that a request to
// Python can cost. There is no pool, no deadline and no header but a length.
type pingPong struct {
	process *exec.Cmd
	out, in *os.File
	opaque  bool
	buffer  []byte
}

func startPingPong(_ context.Context, s Setup) (rig, error) { return pingPongWith(s, "bytes") }

// startJSONPingPong is the limit of whoever speaks JSON with its handlers: the process decodes and encodes with the
// workers' own codec.
func startJSONPingPong(_ context.Context, s Setup) (rig, error) { return pingPongWith(s, "json") }

func pingPongWith(s Setup, codec string) (rig, error) {
	theirsIn, out, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirsIn.Close()
	in, theirsOut, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirsOut.Close()
	process := exec.Command(s.Python, filepath.Join(s.PythonDir, "pingpong.py"), codec) //nolint:noctx // it ends with its pipe
	process.Env = append(os.Environ(), "PYTHONPATH="+s.PoolDir)
	process.Stderr = os.Stderr
	process.ExtraFiles = []*os.File{theirsIn, theirsOut}
	process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := process.Start(); err != nil {
		return nil, err
	}
	return &pingPong{process: process, out: out, in: in, opaque: codec == "bytes"}, nil
}

// lengthSize is what stands before every payload: its length, big-endian.
const lengthSize = 4

func (p *pingPong) caller(_ context.Context, command string, payload Payload, callers int) (Caller, error) {
	if command != "echo" || callers != 1 {
		return nil, fmt.Errorf("one process that echoes can't do %s for %d callers", command, callers)
	}
	if p.opaque {
		payload = opaque(payload)
	}
	frame := binary.BigEndian.AppendUint32(nil, uint32(len(payload.Arguments)))
	frame = append(frame, payload.Arguments...)
	p.buffer = make([]byte, lengthSize+len(payload.Arguments))
	answer, err := p.roundTrip(frame)
	if err != nil {
		return nil, err
	}
	if err := differ(answer, payload.Result); err != nil {
		return nil, err
	}
	return func(context.Context, int) (time.Duration, error) {
		_, err := p.roundTrip(frame)
		return 0, err
	}, nil
}

// roundTrip returns the answer's payload, which is valid until the next one.
func (p *pingPong) roundTrip(frame []byte) ([]byte, error) {
	if _, err := p.out.Write(frame); err != nil {
		return nil, err
	}
	have, err := io.ReadAtLeast(p.in, p.buffer, lengthSize)
	if err != nil {
		return nil, err
	}
	total := lengthSize + int(binary.BigEndian.Uint32(p.buffer))
	if total > len(p.buffer) || have > total {
		return nil, fmt.Errorf("the answer has %d bytes, more than the question", total)
	}
	if _, err := io.ReadFull(p.in, p.buffer[have:total]); err != nil {
		return nil, err
	}
	return p.buffer[lengthSize:total], nil
}

func (p *pingPong) close(context.Context) error {
	_ = p.out.Close()
	_ = p.in.Close()
	return p.process.Wait()
}
