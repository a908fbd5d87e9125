package main

import (
	"encoding/base64"
	"fmt"
)

// writeKubeconfigs writes one for each component, which finds the API server in its own network namespace, and one
// for the user, who finds it forwarded to a port of the host's loopback.
func writeKubeconfigs(p paths, ca []byte, pairs map[string]keyPair, hostPort int) error {
	inside := "https://127.0.0.1:" + apiPort
	for _, name := range []string{"admin", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"} {
		content := kubeconfig(inside, ca, pairs[name])
		if err := writeFile(p.inState("etc/"+name+".kubeconfig"), content, 0o600); err != nil {
			return err
		}
	}
	outside := fmt.Sprintf("https://127.0.0.1:%d", hostPort)
	return writeFile(p.kubeconfig(), kubeconfig(outside, ca, pairs["admin"]), 0o600)
}

// kubeconfig carries the certificates in itself, so that it can be copied anywhere.
func kubeconfig(server string, ca []byte, user keyPair) []byte {
	encoded := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters:
- name: workerpool
  cluster:
    server: %s
    certificate-authority-data: %s
users:
- name: workerpool
  user:
    client-certificate-data: %s
    client-key-data: %s
contexts:
- name: workerpool
  context: {cluster: workerpool, user: workerpool}
current-context: workerpool
`, server, encoded(ca), encoded(user.cert), encoded(user.key))
}
