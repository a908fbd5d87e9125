package contestant

import (
	"context"
	"encoding/binary"
	"errors"
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

// sleepers are processes that sleep for 10 ms before they echo, in a channel: what waiting in so many processes comes to
// with nothing around them.
type sleepers struct {
	all []*pingPong
}

func startSleepers(ctx context.Context, s Setup) (rig, error) {
	var r sleepers
	for range s.Workers {
		p, err := pingPongWith(s, "sleep")
		if err != nil {
			return nil, errors.Join(err, r.close(ctx))
		}
		r.all = append(r.all, p)
	}
	return &r, nil
}

func (r *sleepers) caller(_ context.Context, command string, payload Payload, _ int) (Caller, error) {
	if command != "sleep" {
		return nil, fmt.Errorf("processes that sleep can't do %s", command)
	}
	free := make(chan func() error, len(r.all))
	for _, p := range r.all {
		call, err := p.prepare(payload)
		if err != nil {
			return nil, err
		}
		free <- call
	}
	return func(context.Context, int) (time.Duration, error) {
		call := <-free
		defer func() { free <- call }()
		return 0, call()
	}, nil
}

func (r *sleepers) close(ctx context.Context) (err error) {
	for _, p := range r.all {
		err = errors.Join(err, p.close(ctx))
	}
	return err
}

func pingPongWith(s Setup, answer string) (*pingPong, error) {
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
	process := exec.Command(s.Python, filepath.Join(s.PythonDir, "pingpong.py"), answer) //nolint:noctx // it ends with its pipe
	process.Env = append(os.Environ(), "PYTHONPATH="+s.PoolDir)
	process.Stderr = os.Stderr
	process.ExtraFiles = []*os.File{theirsIn, theirsOut}
	process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := process.Start(); err != nil {
		return nil, err
	}
	return &pingPong{process: process, out: out, in: in, opaque: answer != "json"}, nil
}

// lengthSize is what stands before every payload: its length, big-endian.
const lengthSize = 4

func (p *pingPong) caller(_ context.Context, command string, payload Payload, callers int) (Caller, error) {
	if command != "echo" || callers != 1 {
		return nil, fmt.Errorf("one process that echoes can't do %s for %d callers", command, callers)
	}
	call, err := p.prepare(payload)
	if err != nil {
		return nil, err
	}
	return func(context.Context, int) (time.Duration, error) { return 0, call() }, nil
}

// prepare returns what sends a payload, after it has come back once.
func (p *pingPong) prepare(payload Payload) (call func() error, err error) {
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
	return func() error {
		_, err := p.roundTrip(frame)
		return err
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
