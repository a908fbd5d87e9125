package main

import (
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// kubeletSysctls are machine-wide settings that the kubelet insists on. It may have them its way in files that only
// the node sees; the machine keeps its own.
var kubeletSysctls = map[string]string{
	"/proc/sys/vm/overcommit_memory":      "1",
	"/proc/sys/kernel/panic":              "10",
	"/proc/sys/kernel/panic_on_oops":      "1",
	"/proc/sys/kernel/keys/root_maxkeys":  "1000000",
	"/proc/sys/kernel/keys/root_maxbytes": "25000000",
}

// setUpMounts gives the node a machine of its own over the host's file system: an empty /run, /var/lib and /var/log,
// its own /proc. All of it goes when the mount namespace does.
func setUpMounts(p paths) error {
	if err := unix.Sethostname([]byte(nodeName)); err != nil {
		return fmt.Errorf("set the node's host name: %w", err)
	}
	// Apart from the host's mounts first, so that nothing reaches them; then shared among the node's own, which
	// mount propagation into pods wants.
	for _, how := range []uintptr{unix.MS_PRIVATE, unix.MS_SHARED} {
		if err := mount("none", "/", "", how|unix.MS_REC, ""); err != nil {
			return err
		}
	}
	if err := mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	if err := mountOwnFolders(p); err != nil {
		return err
	}
	for _, dir := range []string{"lib", "lib/kubelet", "lib/containerd", "log"} {
		if err := os.MkdirAll(statePath(dir), 0o755); err != nil {
			return err
		}
	}
	for source, target := range map[string]string{"lib": "/var/lib", "log": "/var/log"} {
		if err := mount(statePath(source), target, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	return shadowSysctls()
}

// mountOwnFolders mounts an empty /run with the state and cache folders in it. They are held open meanwhile: they
// may lie below what is mounted over.
func mountOwnFolders(p paths) error {
	state, err := os.Open(p.state)
	if err != nil {
		return err
	}
	defer state.Close()
	cache, err := os.Open(p.cache)
	if err != nil {
		return err
	}
	defer cache.Close()
	if err := mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return err
	}
	for target, source := range map[string]*os.File{nodeState: state, nodeCache: cache} {
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		if err := mount(fmt.Sprintf("/proc/self/fd/%d", source.Fd()), target, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	return os.MkdirAll("/run/lock", 0o755)
}

func shadowSysctls() error {
	if err := os.MkdirAll("/run/cluster/sysctl", 0o755); err != nil {
		return err
	}
	for sysctl, value := range kubeletSysctls {
		file := path.Join("/run/cluster/sysctl", path.Base(sysctl))
		if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if err := mount(file, sysctl, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	return nil
}

func mount(source, target, kind string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		return fmt.Errorf("mount %s on %s in the node: %w", source, target, err)
	}
	return nil
}
