package contestant

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// served is a Python web server at a unix socket, with as many single-threaded worker processes as a pool has.
type served struct {
	process *exec.Cmd
	socket  string
	dial    func(socket string) client
	clients []client // of this round
}

// client is one caller's way to a server.
type client interface {
	// post sends a body and returns the answer's.
	post(path string, body []byte) ([]byte, error)
	close()
}

func startGunicorn(ctx context.Context, s Setup) (rig, error) {
	return startServer(ctx, s, newHTTPClient, func(socket string) []string {
		return []string{"gunicorn", "--workers", strconv.Itoa(s.Workers), "--bind", "unix:" + socket, "--log-level", "warning",
			"--worker-tmp-dir", s.Scratch, "bench_wsgi:application"}
	})
}

func startUvicorn(ctx context.Context, s Setup) (rig, error) {
	return startServer(ctx, s, newHTTPClient, func(socket string) []string {
		return []string{"uvicorn", "--workers", strconv.Itoa(s.Workers), "--uds", socket, "--loop", "uvloop", "--http", "httptools",
			"--no-access-log", "--log-level", "warning", "bench_asgi:application"}
	})
}

// startUWSGI speaks uWSGI's own protocol, as nginx would: it is faster than HTTP.
func startUWSGI(ctx context.Context, s Setup) (rig, error) {
	return startServer(ctx, s, newUWSGIClient, func(socket string) []string {
		return []string{"uwsgi", "--master", "--die-on-term", "--need-app", "--disable-logging", "--processes", strconv.Itoa(s.Workers),
			"--socket", socket, "--module", "bench_wsgi:application"}
	})
}

func startServer(ctx context.Context, s Setup, dial func(string) client, command func(socket string) []string) (rig, error) {
	server := &served{socket: filepath.Join(s.Scratch, "http.sock"), dial: dial}
	argv := command(server.socket)
	program := filepath.Join(filepath.Dir(s.Python), argv[0])
	server.process = exec.Command(program, argv[1:]...) //nolint:noctx // close ends it politely
	server.process.Dir = s.PythonDir
	server.process.Env = append(os.Environ(), "PYTHONPATH="+s.PythonDir)
	server.process.Stdout, server.process.Stderr = os.Stderr, os.Stderr
	server.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := server.process.Start(); err != nil {
		return nil, err
	}
	if err := server.awaitListening(ctx); err != nil {
		_ = server.close(ctx)
		return nil, err
	}
	return server, nil
}

func (s *served) awaitListening(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		connection, err := net.Dial("unix", s.socket)
		if err == nil {
			return connection.Close()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s doesn't listen: %w", filepath.Base(s.process.Path), err)
		}
	}
}

// caller gives each caller a client of its own, made anew for each round: which worker a kept connection leads to is
// chance, and no round's chance should be another's.
func (s *served) caller(_ context.Context, command string, p Payload, callers int) (Caller, error) {
	s.hangUp()
	first := s.dial(s.socket)
	defer first.close()
	answer, err := first.post("/"+command, p.Arguments)
	if err != nil {
		return nil, err
	}
	if err := differ(answer, p.Result); err != nil {
		return nil, err
	}
	for range callers {
		s.clients = append(s.clients, s.dial(s.socket))
	}
	return func(_ context.Context, caller int) (time.Duration, error) {
		answer, err := s.clients[caller].post("/"+command, p.Arguments)
		if err == nil && len(answer) != len(p.Result) {
			err = fmt.Errorf("the answer has %d bytes; want %d", len(answer), len(p.Result))
		}
		return 0, err
	}, nil
}

func (s *served) hangUp() {
	for _, c := range s.clients {
		c.close()
	}
	s.clients = nil
}

func (s *served) close(context.Context) error {
	s.hangUp()
	_ = s.process.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(5*time.Second, func() { _ = s.process.Process.Kill() })
	defer kill.Stop()
	err := s.process.Wait()
	if errors.As(err, new(*exec.ExitError)) {
		return nil
	}
	return err
}
