package main

import "path"

// A component is a process of the cluster that is to live as long as the node.
type component struct {
	name string
	path string
	args []string
}

const (
	containerdSocket = "/run/containerd/containerd.sock"
	etcdURL          = "http://127.0.0.1:2379"
	etcdPeerURL      = "http://127.0.0.1:2380"
)

// componentNames in the order in which they are started.
var componentNames = []string{
	"containerd", "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy",
}

func newComponent(rec record, name string) component {
	args := map[string]func() []string{
		"containerd":              containerdArgs,
		"etcd":                    etcdArgs,
		"kube-apiserver":          apiserverArgs,
		"kube-controller-manager": controllerManagerArgs,
		"kube-scheduler":          schedulerArgs,
		"kubelet":                 kubeletArgs,
		"kube-proxy":              kubeProxyArgs,
	}[name]()
	c := component{name: name, path: path.Join(nodeCache, rec.Programs, name), args: args}
	if name == "containerd" {
		c.path = "/usr/bin/containerd" // Debian's
	}
	return c
}

func statePath(name string) string { return path.Join(nodeState, name) }
func pkiPath(name string) string   { return path.Join(nodeState, "pki", name) }

func containerdArgs() []string { return []string{"--config", statePath("etc/containerd.toml")} }

// etcd's data ends with the cluster: to wait for the disk would buy nothing.
func etcdArgs() []string {
	return []string{
		"--name=default", "--data-dir=" + statePath("etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls=" + etcdURL, "--advertise-client-urls=" + etcdURL,
		"--listen-peer-urls=" + etcdPeerURL, "--initial-advertise-peer-urls=" + etcdPeerURL,
		"--initial-cluster=default=" + etcdPeerURL,
	}
}

// The API server listens on all addresses of the node's own network namespace: pods reach it by the node's.
func apiserverArgs() []string {
	return []string{
		"--etcd-servers=" + etcdURL,
		"--bind-address=0.0.0.0", "--secure-port=" + apiPort, "--advertise-address=" + nodeIP,
		"--service-cluster-ip-range=" + serviceCIDR,
		"--tls-cert-file=" + pkiPath("apiserver.crt"), "--tls-private-key-file=" + pkiPath("apiserver.key"),
		"--client-ca-file=" + pkiPath("ca.crt"),
		"--kubelet-client-certificate=" + pkiPath("apiserver-kubelet-client.crt"),
		"--kubelet-client-key=" + pkiPath("apiserver-kubelet-client.key"),
		"--kubelet-certificate-authority=" + pkiPath("ca.crt"),
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc." + domain,
		"--service-account-key-file=" + pkiPath("tokens.pub"),
		"--service-account-signing-key-file=" + pkiPath("tokens.key"),
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--requestheader-client-ca-file=" + pkiPath("ca.crt"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--requestheader-group-headers=X-Remote-Group", "--requestheader-username-headers=X-Remote-User",
		"--proxy-client-cert-file=" + pkiPath("front-proxy-client.crt"),
		"--proxy-client-key-file=" + pkiPath("front-proxy-client.key"),
		"--allow-privileged=true", "--profiling=false",
	}
}

// controlLoop holds the flags that the two clients of the API server share. There is one replica of each: no
// leases. The request rates are those of a cluster in a hurry, not of one among many.
func controlLoop(name string) []string {
	kubeconfig := statePath("etc/" + name + ".kubeconfig")
	return []string{
		"--kubeconfig=" + kubeconfig,
		"--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=127.0.0.1", "--leader-elect=false", "--profiling=false",
		"--kube-api-qps=200", "--kube-api-burst=400",
	}
}

func controllerManagerArgs() []string {
	return append(controlLoop("kube-controller-manager"),
		"--use-service-account-credentials=true",
		"--service-account-private-key-file="+pkiPath("tokens.key"), "--root-ca-file="+pkiPath("ca.crt"),
		"--cluster-signing-cert-file="+pkiPath("ca.crt"), "--cluster-signing-key-file="+pkiPath("ca.key"),
		"--allocate-node-cidrs=true", "--cluster-cidr="+podCIDR, "--node-cidr-mask-size="+nodePodMask,
		"--service-cluster-ip-range="+serviceCIDR,
	)
}

func schedulerArgs() []string { return controlLoop("kube-scheduler") }

func kubeletArgs() []string {
	return []string{
		"--config=" + statePath("etc/kubelet.yaml"), "--kubeconfig=" + statePath("etc/kubelet.kubeconfig"),
		"--hostname-override=" + nodeName, "--node-ip=" + nodeIP, "--root-dir=/var/lib/kubelet",
	}
}

func kubeProxyArgs() []string { return []string{"--config=" + statePath("etc/kube-proxy.yaml")} }
