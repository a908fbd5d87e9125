package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// machine is what figures depend on.
type machine struct {
	Cores  int
	CPU    string
	Kernel string
	Go     string
	Python string
	Codec  string // of the workers' JSON
	Load   string // average of the minute before the run: of a machine that had nothing else to do it is below 1
	Date   time.Time
	Took   time.Duration
}

// String is a line of facts.
func (m machine) String() string {
	return fmt.Sprintf("%s: %d cores (%s), Linux %s, Python %s, workers with %s, %s; load before the run %s; the run took %s.",
		m.Date.Format(time.DateOnly), m.Cores, m.CPU, m.Kernel, m.Python, m.Codec, m.Go, m.Load, m.Took.Round(time.Second))
}

func describe(cores []int) machine {
	return machine{Cores: len(cores), CPU: cpuModel(), Kernel: kernel(), Go: runtime.Version(), Load: load(), Date: time.Now()}
}

func cpuModel() string {
	data, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func kernel() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(name.Release[:])
}

func load() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Fields(string(data))[0]
}

// allowedCores are those that this process may run on.
func allowedCores() (cores []int, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, err
	}
	for i := 0; len(cores) < set.Count(); i++ {
		if set.IsSet(i) {
			cores = append(cores, i)
		}
	}
	return cores, nil
}
