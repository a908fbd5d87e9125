package worker

import "github.com/dspex/workerpool-operator/internal/cgroup"

// CountKillsIn makes the Host look for the kernel's kills in a group of the test's.
func (h *Host) CountKillsIn(m cgroup.Memory) { h.oom = newOOMCounter(m) }
