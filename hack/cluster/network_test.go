package main

import (
	"io"
	"net"
	"testing"
)

// A client that says it has nothing more to send still gets its answer, and the end after it.
func TestForwardPassesEachEndOfStream(t *testing.T) {
	server := listen(t)
	go func() {
		conn, err := server.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		asked, _ := io.ReadAll(conn)
		_, _ = conn.Write(append([]byte("you said "), asked...))
	}()
	entry := listen(t)
	go forward(entry, server.Addr().String())

	conn, err := net.Dial("tcp", entry.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(conn); err != nil || string(answer) != "you said hello" {
		t.Errorf("got %q, %v", answer, err)
	}
}

func TestForwardClosesWhenNobodyListens(t *testing.T) {
	gone := listen(t)
	address := gone.Addr().String()
	_ = gone.Close()
	entry := listen(t)
	go forward(entry, address)
	conn, err := net.Dial("tcp", entry.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if answer, _ := io.ReadAll(conn); len(answer) != 0 {
		t.Errorf("got %q from nobody", answer)
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}
