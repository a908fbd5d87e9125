package store

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// StartSession creates a session, or uses the one that is there; an empty id makes a new one.
func (s *Store) StartSession(id string) (Session, error) {
	if id == "" {
		id = newID()
	}
	return s.Touch(id)
}

// Touch counts one use of a session, which is created if it is new.
func (s *Store) Touch(id string) (Session, error) {
	id, err := checkSession(id)
	if err != nil {
		return Session{}, err
	}
	var out Session
	err = s.update(func(t *txn) error {
		err := t.makeRoom(t.sessionCost(id), sessionOwner(id))
		if err == nil {
			err = t.countSession(id)
		}
		if err == nil {
			out, err = t.describeSession(id)
		}
		return err
	})
	if isFull(err) {
		return s.sessionUncounted(id, err)
	}
	return out, err
}

// sessionUncounted is a session that is there, though the store is too full to count its use.
func (s *Store) sessionUncounted(id string, full error) (Session, error) {
	out, err := s.Session(id)
	if err != nil {
		return Session{}, full
	}
	s.uncounted()
	return out, nil
}

func (s *Store) uncounted() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Uncounted++
}

// Session returns a session without using it.
func (s *Store) Session(id string) (Session, error) {
	id, err := checkSession(id)
	if err != nil {
		return Session{}, err
	}
	s.mu.Lock() // the index, too, is read
	defer s.mu.Unlock()
	var out Session
	err = s.view(s.index, func(t *txn) error {
		out, err = t.describeSession(id)
		return err
	})
	return out, err
}

// UpdateSession merges a patch (RFC 7396) into a session's data, and is a use of the session. With an expected
// version it refuses unless the session is at that one, so that no update is lost: 0 for a session without data.
// Without, it merges into whatever is there.
func (s *Store) UpdateSession(id string, patch json.RawMessage, expected *uint64) (Session, error) {
	id, err := checkSession(id)
	if err != nil {
		return Session{}, err
	}
	patch, err = object("the patch", patch, s.opts.MaxRecord)
	if err != nil {
		return Session{}, err
	}
	var out Session
	err = s.update(func(t *txn) error {
		if err := t.updateSession(id, patch, expected); err != nil {
			return err
		}
		out, err = t.describeSession(id)
		return err
	})
	return out, err
}

func (t *txn) updateSession(id string, patch json.RawMessage, expected *uint64) error {
	r, known, err := t.session(id)
	if err != nil {
		return err
	}
	if !known {
		r.StartedAt = t.now
	}
	if expected != nil && *expected != r.Version {
		return versionConflict(id, r.Version, *expected)
	}
	data, err := merge(r.Data, patch)
	if err != nil {
		return invalidObject("the patch", err.Error())
	}
	if limit := t.store.opts.MaxRecord; len(data) > limit {
		return recordTooLarge(fmt.Sprintf("the data of session %q", id), len(data), limit)
	}
	grown := len(data) - len(r.Data) + t.sessionCost(id)
	if err := t.makeRoom(grown, sessionOwner(id)); err != nil {
		return err
	}
	r.Data = data
	r.Version++
	if err := t.putSession(id, r); err != nil {
		return err
	}
	_, err = t.count([]byte(id), r.StartedAt)
	return err
}

// EndSession removes a session with its data and programs. Ending one that isn't there is fine.
func (s *Store) EndSession(id string) error {
	id, err := checkSession(id)
	if err != nil {
		return err
	}
	if id == Anonymous {
		return endOfAnonymous()
	}
	return s.update(func(t *txn) error {
		if _, known, err := t.session(id); !known || err != nil {
			return err
		}
		return t.deleteSession(id)
	})
}

// describeSession returns a session as applications see it.
func (t *txn) describeSession(id string) (Session, error) {
	r, known, err := t.session(id)
	if err != nil {
		return Session{}, err
	}
	if !known {
		return Session{}, sessionNotFound(id)
	}
	u, err := t.use([]byte(id), r.StartedAt)
	if err != nil {
		return Session{}, err
	}
	data := slices.Clone(r.Data)
	if len(data) == 0 {
		data = json.RawMessage("{}")
	}
	return Session{
		ID: id, StartedAt: r.StartedAt, LastUsedAt: u.LastUsedAt, Operations: u.Operations,
		Version: r.Version, Data: data, Programs: t.index.programsOf(id),
	}, nil
}

// sweepBatch bounds the sessions that one commit of Sweep ends, and with them what it makes others wait.
const sweepBatch = 256

// Sweep ends the sessions that have been idle for MaxIdle, and returns how many there were. Call it once a minute.
// Anonymous programs are everyone's and stay; they only make room when the store is full.
func (s *Store) Sweep() (int, error) {
	since := s.opts.Now().Add(-s.opts.MaxIdle)
	s.mu.Lock()
	stale := slices.DeleteFunc(s.index.idle(since), func(o owner) bool { return o.program != "" })
	s.mu.Unlock()
	total := 0
	for some := range slices.Chunk(stale, sweepBatch) {
		ended, err := s.sweep(some, since)
		total += ended
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// sweep ends those of the sessions that weren't used meanwhile.
func (s *Store) sweep(stale []owner, since time.Time) (ended int, err error) {
	err = s.update(func(t *txn) error {
		ended = 0
		for _, o := range stale {
			if h := t.index.owners[o]; h == nil || h.used.After(since) {
				continue
			}
			if err := t.deleteSession(o.session); err != nil {
				return err
			}
			ended++
		}
		t.tx.OnCommit(func() { s.stats.Swept += uint64(ended) })
		return nil
	})
	if err != nil {
		return 0, err
	}
	return ended, nil
}
