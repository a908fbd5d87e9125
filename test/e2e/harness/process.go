package harness

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Process is one process of a pod, as this machine sees it: the node is a tree of processes of this machine.
type Process struct {
	PID       int
	Args      []string
	Container string // name in the pod
	UID       int    // real user id
	RSS       uint64 // bytes
}

// Runs reports whether the process is program with these first arguments, for example Runs("poold", "router").
func (p Process) Runs(program string, args ...string) bool {
	if len(p.Args) < 1+len(args) || filepath.Base(p.Args[0]) != program {
		return false
	}
	for i, arg := range args {
		if p.Args[i+1] != arg {
			return false
		}
	}
	return true
}

// IsWorker reports whether the process is a Python worker: the supervisor tells each which descriptors to use.
func (p Process) IsWorker() bool {
	for _, arg := range p.Args {
		if arg == "--fds" {
			return true
		}
	}
	return false
}

// Processes returns the processes of a pod's containers.
func Processes(pod *corev1.Pod) ([]Process, error) {
	if wantsExisting() {
		return nil, ErrNotThisMachine
	}
	names := map[string]string{}
	for _, s := range append(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses...) {
		if _, id, ok := strings.Cut(s.ContainerID, "://"); ok {
			names[id] = s.Name
		}
	}
	folders, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var found []Process
	for _, folder := range folders {
		if name := containerOf(folder, names); name != "" {
			if p, err := readProcess(folder); err == nil { // else it has just ended
				p.Container = name
				found = append(found, p)
			}
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no process of pod %s on this machine: the cluster must run on it", pod.Name)
	}
	return found, nil
}

// containerOf finds whose container a process is in: its cgroup's path ends with the container's id.
func containerOf(folder string, names map[string]string) string {
	cgroups, err := os.ReadFile(filepath.Join(folder, "cgroup"))
	if err != nil {
		return ""
	}
	for id, name := range names {
		if bytes.Contains(cgroups, []byte(id)) {
			return name
		}
	}
	return ""
}

func readProcess(folder string) (Process, error) {
	pid, err := strconv.Atoi(filepath.Base(folder))
	if err != nil {
		return Process{}, err
	}
	args, err := os.ReadFile(filepath.Join(folder, "cmdline"))
	if err != nil {
		return Process{}, err
	}
	status, err := os.ReadFile(filepath.Join(folder, "status"))
	if err != nil {
		return Process{}, err
	}
	p := Process{PID: pid, Args: strings.Split(strings.TrimSuffix(string(args), "\x00"), "\x00")}
	for line := range strings.Lines(string(status)) {
		fields := strings.Fields(line)
		switch {
		case len(fields) > 1 && fields[0] == "Uid:":
			p.UID, err = strconv.Atoi(fields[1])
		case len(fields) > 1 && fields[0] == "VmRSS:":
			p.RSS, err = strconv.ParseUint(fields[1], 10, 64)
			p.RSS <<= 10
		}
		if err != nil {
			return Process{}, err
		}
	}
	return p, nil
}
