package router

import (
	"errors"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestListeners(t *testing.T) {
	t.Run("socket is open to everybody, and gone afterwards", func(t *testing.T) {
		r := newRig(t, snapshot(0), nil)
		info, err := os.Stat(r.config.Socket)
		if err != nil || info.Mode().Perm() != 0o666 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
		r.end()
		if _, err := os.Stat(r.config.Socket); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after the end: %v", err)
		}
	})
	t.Run("takes the place of a router that was killed", func(t *testing.T) {
		path := shortDir(t) + "/pool.sock"
		first, err := listenUnix(t.Context(), path, 0o666)
		if err != nil {
			t.Fatal(err)
		}
		defer first.Close()
		second, err := listenUnix(t.Context(), path, 0o666)
		if err != nil {
			t.Fatal(err)
		}
		defer second.Close()
		go func() {
			if conn, err := net.Dial("unix", path); err == nil {
				_ = conn.Close()
			}
		}()
		conn, err := second.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	})
	t.Run("holds so many connections, and the next one waits", func(t *testing.T) {
		listeners, err := listen(t.Context(), shortDir(t)+"/pool.sock", "127.0.0.1:0", 1)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range listeners {
			address := l.Addr()
			if address.Network() == "unix" { // it was renamed
				address = &net.UnixAddr{Net: "unix", Name: strings.ReplaceAll(address.String(), ".pool.sock.new", "pool.sock")}
			}
			for range 2 {
				conn, err := net.Dial(address.Network(), address.String())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
			}
			first, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			var left atomic.Bool
			time.AfterFunc(50*time.Millisecond, func() { left.Store(true); _ = first.Close() })
			second, err := l.Accept()
			if err != nil || !left.Load() {
				t.Errorf("%s: a second connection was taken while the first was there, or not at all: %v", address, err)
			} else {
				_ = second.Close()
			}
			_ = l.Close()
		}
	})
	t.Run("loopback only", func(t *testing.T) {
		for address, fine := range map[string]bool{
			"127.0.0.1:0": true, "[::1]:0": true, "0.0.0.0:0": false, ":0": false, "10.0.0.1:0": false, "localhost": false, "example.org:80": false,
		} {
			l, err := listenLoopback(t.Context(), address)
			if err == nil {
				_ = l.Close()
			}
			if (err == nil) != fine && address != "[::1]:0" { // a machine may have no IPv6
				t.Errorf("%q: %v", address, err)
			}
		}
	})
}
