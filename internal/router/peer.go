package router

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// untilLeft returns io.EOF when the peer has closed the connection whole, or another error when the read deadline passed.
func (c *conn) untilLeft() error {
	watched := func() bool { return false }
	if tcp, is := c.Conn.(*net.TCPConn); is {
		defer c.of.watching.Add(-1)
		if c.of.watching.Add(1) > maxWatching {
			return io.EOF
		}
		watched = c.watchPeer(tcp)
		defer watched()
	}
	if err := c.raw.Read(func(fd uintptr) bool { return hungUp(int(fd)) }); err != nil && !watched() {
		return err
	}
	return io.EOF
}

const (
	leastLook, mostLook = 10 * time.Millisecond, 250 * time.Millisecond
	// maxWatching bounds how many are watched at a time, as each look reads a table; others are taken to have left.
	maxWatching = 64
)

// watchPeer wakes who reads from a connection whose peer sends nothing more once the peer doesn't listen either: TCP sends
// the same when one half is closed as when both are, but this port's peers are in the same pod, where the kernel tells who
// has a socket. The caller must call stop, which reports whether the peer had left.
func (c *conn) watchPeer(tcp *net.TCPConn) (stop func() bool) {
	var left atomic.Bool
	var wg sync.WaitGroup
	ended := make(chan struct{})
	wg.Go(func() {
		for wait := time.Duration(0); ; wait = min(max(2*wait, leastLook), mostLook) {
			select {
			case <-time.After(wait):
			case <-ended:
				return
			}
			if !peerHolds(tcp.RemoteAddr().(*net.TCPAddr), tcp.LocalAddr().(*net.TCPAddr)) {
				left.Store(true)
				_ = tcp.SetReadDeadline(past)
				return
			}
		}
	})
	return sync.OnceValue(func() bool {
		close(ended)
		wg.Wait()
		return left.Load()
	})
}

// peerHolds reports whether a process has the socket at one end of a loopback connection, which is connected to the other. A
// kernel that doesn't tell is taken to say no: a caller that left must not keep a worker.
func peerHolds(one, other *net.TCPAddr) bool {
	for _, table := range []struct {
		path string
		size int // of its addresses
	}{{"/proc/self/net/tcp", net.IPv4len}, {"/proc/self/net/tcp6", net.IPv6len}} {
		from, to := procAddress(one, table.size), procAddress(other, table.size)
		if from == "" || to == "" {
			continue
		}
		file, err := os.Open(table.path)
		if err != nil {
			continue
		}
		held := false
		for lines := bufio.NewScanner(file); !held && lines.Scan(); {
			row := strings.Fields(lines.Text())
			held = len(row) > 9 && row[1] == from && row[2] == to && row[9] != "0" // its inode: 0 when no process has it
		}
		_ = file.Close()
		if held {
			return true
		}
	}
	return false
}

// procAddress renders an address as the kernel's tables of sockets do; "" when it has no form of that size.
func procAddress(a *net.TCPAddr, size int) string {
	ip := a.IP.To16()
	if size == net.IPv4len {
		ip = a.IP.To4()
	}
	if ip == nil {
		return ""
	}
	var text strings.Builder
	for i := 0; i < size; i += 4 {
		fmt.Fprintf(&text, "%08X", binary.NativeEndian.Uint32(ip[i:]))
	}
	return fmt.Sprintf("%s:%04X", text.String(), a.Port)
}
