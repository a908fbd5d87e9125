package main

import (
	"flag"
	"fmt"
	"os"
)

// down is the command.
func down(p paths, args []string) error {
	flags := flag.NewFlagSet("down", flag.ContinueOnError)
	purge := flags.Bool("purge-cache", false, "also remove what was built")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := needRoot(); err != nil {
		return err
	}
	unlock, err := p.lock(p.clusterName())
	if err != nil {
		return err
	}
	defer unlock()
	wasUp := p.findNode() != 0
	if err := p.clean(); err != nil {
		return err
	}
	if wasUp {
		say("down")
	} else {
		say("no cluster runs")
	}
	if *purge {
		say("removing %s", p.cache)
		return os.RemoveAll(p.cache)
	}
	return nil
}

// clean removes all that a cluster of this state folder has, or had before it was killed or the machine rebooted.
// With the node's pid 1 end its processes, mounts, interfaces and packet filters.
func (p paths) clean() error {
	if pid := p.findNode(); pid != 0 {
		if err := killNode(pid); err != nil {
			return err
		}
	}
	cgroups, err := p.findCgroups()
	if err == nil {
		err = cgroups.remove()
	}
	if err != nil {
		return err
	}
	if err := os.RemoveAll(p.state); err != nil {
		return fmt.Errorf("remove the cluster's state: %w", err)
	}
	return nil
}
