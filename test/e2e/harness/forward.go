package harness

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
)

var forwarding = regexp.MustCompile(`Forwarding from (127\.0\.0\.1:\d+)`)

// Forward opens a port of the loopback that leads to a pod or service, such as "service/name", and returns its
// address. It closes when ctx ends.
func (c *Cluster) Forward(ctx context.Context, namespace, target string, port int) (address string, err error) {
	cmd := c.kubectlCommand(ctx, "-n", namespace, "port-forward", target, ":"+strconv.Itoa(port))
	cmd.Stderr = os.Stderr
	output, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		if found := forwarding.FindStringSubmatch(lines.Text()); found != nil {
			go func() {
				for lines.Scan() { // until kubectl ends: a full pipe would stop it
				}
				_ = cmd.Wait()
			}()
			return found[1], nil
		}
	}
	return "", fmt.Errorf("kubectl port-forward %s in %s ended without forwarding: %w", target, namespace, cmd.Wait())
}
