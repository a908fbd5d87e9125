package store

import (
	"errors"
	"sync"
	"testing"
)

// TestReadingWhileCommitsFail: a commit that fails counts anew what is stored, and nobody who reads minds.
func TestReadingWhileCommitsFail(t *testing.T) {
	b := newBench(t)
	b.create("s1", "p1")
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for _, read := range []func() error{
		func() error { _, err := b.Program("s1", "p1"); return err },
		func() error { _, err := b.Programs("s1", "", 0); return err },
		func() error { _, err := b.Session("s1"); return err },
	} {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := read(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 200 {
		if err := b.update(func(*txn) error { return errors.New("the disk says no") }); err == nil {
			t.Error("a commit that failed is told as done")
		}
	}
	close(stop)
	readers.Wait()
}
