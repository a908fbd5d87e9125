package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"os"
	"os/exec"
	"strings"
)

// nodeLinks makes the node's network: its address lies on a bridge without ports, and the default route leads there,
// so that nothing leaves the machine. (Without any, connecting to a Service would fail before kube-proxy's rules are
// asked.)
var nodeLinks = []string{
	"link set lo up",
	"link add node0 type bridge",
	"address add " + nodeNet + " dev node0",
	"link set node0 up",
	"route add default dev node0",
}

// nodeNetSysctls belong to the network namespace, not to the machine. The last one is there only where the kernel
// filters bridges; pods aren't bridged, but a CNI plugin of yours might.
var nodeNetSysctls = []struct{ path, value string }{
	{"/proc/sys/net/ipv4/ip_forward", "1"},
	{"/proc/sys/net/ipv4/conf/all/rp_filter", "0"},
	{"/proc/sys/net/ipv4/conf/default/rp_filter", "0"},
	{"/proc/sys/net/bridge/bridge-nf-call-iptables", "1"},
}

func (n *node) setUpNetwork(ctx context.Context) error {
	for _, args := range nodeLinks {
		if err := n.super.run(ctx, exec.Command("ip", strings.Fields(args)...)); err != nil {
			return err
		}
	}
	for _, s := range nodeNetSysctls {
		err := os.WriteFile(s.path, []byte(s.value), 0o644)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("set up the node's network: %w", err)
		}
	}
	return nil
}

// forward passes each connection that is accepted on to the address, until the node ends.
func forward(l net.Listener, address string) {
	for {
		conn, err := l.Accept()
		if err != nil {
			log.Printf("forward to %s: %v", address, err)
			return
		}
		go join(conn.(*net.TCPConn), address)
	}
}

// join copies both ways, passing on each side's end of stream, until both have ended.
func join(outside *net.TCPConn, address string) {
	defer outside.Close()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return // the client sees its connection closed, and status tells why
	}
	inside := conn.(*net.TCPConn)
	defer inside.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		pass(inside, outside)
	}()
	pass(outside, inside)
	<-done
}

func pass(to, from *net.TCPConn) {
	_, _ = io.Copy(to, from)
	_ = to.CloseWrite()
}
