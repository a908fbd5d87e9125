package worker_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// echoServer answers each line with itself, some time later, so that answers of connections that are shared would
// get mixed.
type echoServer struct {
	net.Listener
	served sync.WaitGroup
}

func newEchoServer(t *testing.T) *echoServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &echoServer{Listener: l}
	s.served.Go(s.accept)
	t.Cleanup(func() {
		_ = l.Close()
		s.served.Wait()
	})
	return s
}

func (s *echoServer) address() string { return s.Addr().String() }

func (s *echoServer) accept() {
	for {
		conn, err := s.Accept()
		if err != nil {
			return
		}
		s.served.Go(func() {
			defer conn.Close()
			for lines := bufio.NewScanner(conn); lines.Scan(); {
				time.Sleep(rand.N(2 * time.Millisecond))
				if _, err := fmt.Fprintf(conn, "re %s\n", lines.Text()); err != nil {
					return
				}
			}
		})
	}
}
