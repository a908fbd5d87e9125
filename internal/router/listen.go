package router

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
)

// maxConnections of the application are held at a time, on each of socket and port; see listener. It is above what a slot
// is sent, so that a full queue is told and not waited for.
const maxConnections = 4096

// listen opens the application's socket and, when address isn't empty, a loopback port. Each holds no more than limit
// connections.
func listen(ctx context.Context, socket, address string, limit int) ([]*listener, error) {
	socketListener, err := listenUnix(ctx, socket, 0o666)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", socket, err)
	}
	if address == "" {
		return []*listener{newListener(socketListener, limit)}, nil
	}
	tcp, err := listenLoopback(ctx, address)
	if err != nil {
		return nil, errors.Join(err, socketListener.Close())
	}
	return []*listener{newListener(socketListener, limit), newListener(tcp, limit)}, nil
}

// listenUnix makes the socket beside its path and renames it there, so that whoever sees it can connect: it takes
// the place of a former router's. At the application's everybody may write to it: who can reach the folder may call.
func listenUnix(ctx context.Context, path string, mode fs.FileMode) (net.Listener, error) {
	fresh := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "unix", fresh)
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(fresh, mode), os.Rename(fresh, path)); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &ownedSocket{Listener: l, path: path}, nil
}

// ownedSocket removes its file when it closes: an application that comes too late gets "no such file".
type ownedSocket struct {
	net.Listener
	path string
}

func (s *ownedSocket) Close() error {
	err := s.Listener.Close()
	if errors.Is(err, net.ErrClosed) {
		return err
	}
	return errors.Join(err, os.Remove(s.path))
}

// listenLoopback refuses every address that could be reached from outside the pod.
func listenLoopback(ctx context.Context, address string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("--listen: %w", err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("--listen %s: only loopback addresses are served, like 127.0.0.1:7413", address)
	}
	var config net.ListenConfig
	return config.Listen(ctx, "tcp", address)
}
