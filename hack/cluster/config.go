package main

import (
	"bytes"
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"text/template"

	"golang.org/x/sys/unix"
)

// The cluster's addresses lie in its own network namespace: they may be the same as any of the machine's.
const (
	nodeName    = "node1"
	nodeIP      = "10.99.0.1"
	nodeNet     = nodeIP + "/24"
	podCIDR     = "10.244.0.0/16"
	nodePodCIDR = "10.244.0.0/22" // four times maxPods, so that addresses aren't reused at once
	nodePodMask = "22"
	serviceCIDR = "10.96.0.0/16"
	serviceIP   = "10.96.0.1" // the first of serviceCIDR: the API server as pods see it
	dnsIP       = "10.96.0.10"
	domain      = "cluster.local"
	apiPort     = "6443"

	cniPlugins   = "/usr/lib/cni" // where Debian has them
	pauseImage   = "localhost/workerpool-pause:dev"
	corednsImage = "localhost/workerpool-coredns:dev"
)

//go:embed assets
var assets embed.FS

// nodeConfig is what the files of assets are filled in with.
type nodeConfig struct {
	State, CgroupRoot, Snapshotter, CNIPlugins string
	NodeName, NodeIP, PodCIDR, NodePodCIDR     string
	DNSIP, Domain, PauseImage, CoreDNSImage    string
}

// writeConfig writes the components' configuration files, with paths as the node sees them.
func writeConfig(p paths) error {
	config := nodeConfig{
		State: nodeState, CgroupRoot: "/" + p.clusterName(), Snapshotter: snapshotter(p.state), CNIPlugins: cniPlugins,
		NodeName: nodeName, NodeIP: nodeIP, PodCIDR: podCIDR, NodePodCIDR: nodePodCIDR,
		DNSIP: dnsIP, Domain: domain, PauseImage: pauseImage, CoreDNSImage: corednsImage,
	}
	for asset, target := range map[string]string{
		"kubelet.yaml":    "etc/kubelet.yaml",
		"kube-proxy.yaml": "etc/kube-proxy.yaml",
		"containerd.toml": "etc/containerd.toml",
		"cni.conflist":    "etc/cni/10-pods.conflist",
		"coredns.yaml":    "etc/coredns.yaml",
	} {
		content, err := render(asset, config)
		if err != nil {
			return err
		}
		if err := writeFile(p.inState(target), content, 0o644); err != nil {
			return err
		}
	}
	// Pods with dnsPolicy Default get this one: there is no name server but the cluster's.
	return writeFile(p.inState("etc/resolv.conf"), nil, 0o644)
}

func render(asset string, config nodeConfig) ([]byte, error) {
	t, err := template.New(asset).Option("missingkey=error").ParseFS(assets, "assets/"+asset)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", asset, err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, config); err != nil {
		return nil, fmt.Errorf("fill in %s: %w", asset, err)
	}
	return out.Bytes(), nil
}

// snapshotter is overlayfs unless the state already lies on an overlay, on which no other can be mounted.
func snapshotter(state string) string {
	var fs unix.Statfs_t
	for dir := state; ; dir = filepath.Dir(dir) {
		err := unix.Statfs(dir, &fs)
		if os.IsNotExist(err) && dir != "/" {
			continue
		}
		if err == nil && fs.Type == unix.OVERLAYFS_SUPER_MAGIC {
			return "native"
		}
		return "overlayfs"
	}
}
