package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
)

// debianPackages are what Debian does better than a build from source would: each with a file that tells that it is
// there. Without nft, say, kube-proxy dies at once, and all that shows is DNS never becoming ready.
var debianPackages = []struct{ name, file string }{
	{"containerd", "containerd"},
	{"runc", "runc"},
	{"containernetworking-plugins", cniPlugins + "/ptp"},
	{"nftables", "nft"},
	{"iptables", "iptables"},
	{"iproute2", "ip"},
	{"conntrack", "conntrack"},
	{"util-linux", "nsenter"},
}

// installDebianPackages installs what is missing.
func installDebianPackages() error {
	// sbin isn't on every root's PATH.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return err
	}
	var missing []string
	for _, pkg := range debianPackages {
		if _, err := exec.LookPath(pkg.file); err != nil {
			missing = append(missing, pkg.name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return aptInstall(missing)
}

func aptInstall(packages []string) error {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("missing, and no apt-get to install them: install %s", strings.Join(packages, ", "))
	}
	return step("installing Debian's "+strings.Join(packages, ", "), func() error {
		install := append([]string{"install", "--yes", "--quiet", "--no-install-recommends"}, packages...)
		for _, args := range [][]string{{"update", "--quiet"}, install} {
			args = slices.Concat([]string{"-o", "DPkg::Lock::Timeout=300"}, args)
			cmd := exec.Command("apt-get", args...)
			// RUNLEVEL=1 keeps the packages' services from being started: the node runs its own containerd.
			cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1")
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C half-way would leave dpkg to be repaired
			if output, err := runCaptured(cmd); err != nil {
				return fmt.Errorf("apt-get %s: %w\n%s", args[2], err, output)
			}
		}
		return nil
	})
}
