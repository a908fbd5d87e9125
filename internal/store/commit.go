package store

import (
	"errors"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// maxBatch bounds the changes of one commit, and with them what one waits for the others.
const maxBatch = 64

// commits lets changes that arrive during a commit share the next one: no timer, no goroutine; of those that wait
// the first commits for all.
type commits struct {
	mu      sync.Mutex
	busy    bool      // guarded by mu: somebody commits, and will wake the first of waiting
	waiting []*change // guarded by mu
}

// change is one caller's. Its apply looks first and writes last: when it refuses, with a *pool.Error, it has written
// nothing and the other changes go on; any other error undoes the commit. It may be called more than once.
type change struct {
	apply func(*txn) error
	now   time.Time
	said  error // what apply said last; it holds once the commit has
	err   error
	wake  chan bool // true: commit; false: it is done, see err
}

// errInterrupted is what callers get whose commit ended in a panic.
var errInterrupted = pool.NewError(pool.SystemError, pool.Internal, "the store's commit was interrupted; retry")

// update applies a change and returns when it is in the file, or refused.
func (s *Store) update(apply func(*txn) error) error {
	c := &change{apply: apply, now: s.opts.Now(), err: errInterrupted, wake: make(chan bool, 1)}
	q := &s.commits
	q.mu.Lock()
	q.waiting = append(q.waiting, c)
	if q.busy {
		q.mu.Unlock()
		if leads := <-c.wake; !leads {
			return c.err
		}
		q.mu.Lock()
	}
	q.busy = true
	n := min(len(q.waiting), maxBatch)
	batch := q.waiting[:n:n] // c is its first
	q.waiting = slices.Clone(q.waiting[n:])
	q.mu.Unlock()
	defer q.handOver(batch[1:])
	s.commit(batch)
	return c.err
}

// handOver wakes those whose changes are done, and the next to commit.
func (q *commits) handOver(done []*change) {
	for _, c := range done {
		c.wake <- false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) > 0 {
		q.waiting[0].wake <- true
		return
	}
	q.busy = false
}

// commit applies changes in one transaction. If that fails, each is tried by itself: one that is too large for the
// disk shall not take the small ones with it.
func (s *Store) commit(batch []*change) {
	err := s.tryCommit(batch)
	switch {
	case err == nil:
		for _, c := range batch {
			c.err = c.said
		}
	case len(batch) == 1:
		batch[0].err = s.problem(err)
	default:
		for _, c := range batch {
			s.commit([]*change{c})
		}
	}
}

// tryCommit leaves file and index as they were when it fails.
func (s *Store) tryCommit(batch []*change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.db.Update(func(tx *bolt.Tx) error {
		for _, c := range batch {
			if err := c.run(s.txn(tx, s.index, c.now)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return errors.Join(err, s.reindex())
	}
	return nil
}

// run applies a change; it returns only errors that undo the whole commit.
func (c *change) run(t *txn) error {
	c.said = c.apply(t)
	var refused *pool.Error
	if c.said != nil && !errors.As(c.said, &refused) {
		return c.said
	}
	return nil
}

// view reads a consistent state: of the file, and of the index unless that is nil; else the caller holds mu.
func (s *Store) view(x *index, read func(*txn) error) error {
	err := s.db.View(func(tx *bolt.Tx) error { return read(s.txn(tx, x, s.opts.Now())) })
	var refused *pool.Error
	if err == nil || errors.As(err, &refused) {
		return err
	}
	return s.problem(err)
}
