package store

import (
	"bytes"
	"time"

	bolt "go.etcd.io/bbolt"
)

// txn is one look at the file, or one change of it with the index that goes along. Whoever uses one with an index holds the
// store's mu.
type txn struct {
	sessions, programs, uses *bolt.Bucket
	tx                       *bolt.Tx
	store                    *Store
	index                    *index // nil: it isn't asked
	now                      time.Time
}

func (s *Store) txn(tx *bolt.Tx, x *index, now time.Time) *txn {
	return &txn{
		sessions: tx.Bucket(sessionsBucket), programs: tx.Bucket(programsBucket), uses: tx.Bucket(usesBucket),
		tx: tx, store: s, index: x, now: now,
	}
}

func (t *txn) session(id string) (r sessionRecord, known bool, err error) {
	known, err = load(t.sessions, []byte(id), &r)
	return r, known, err
}

func (t *txn) program(session, id string) (r programRecord, known bool, err error) {
	known, err = load(t.programs, programKey(session, id), &r)
	return r, known, err
}

// use of a session or program; one that was never counted is as old as its record.
func (t *txn) use(key []byte, created time.Time) (useRecord, error) {
	u := useRecord{LastUsedAt: created}
	_, err := load(t.uses, key, &u)
	return u, err
}

func (t *txn) putSession(id string, r sessionRecord) error {
	grown, err := save(t.sessions, []byte(id), r)
	t.index.grow(sessionOwner(id), grown)
	return err
}

func (t *txn) putProgram(session, id string, r programRecord) error {
	grown, err := save(t.programs, programKey(session, id), r)
	t.index.addProgram(session, id, grown)
	return err
}

// count adds one use of a session or program.
func (t *txn) count(key []byte, created time.Time) (useRecord, error) {
	u, err := t.use(key, created)
	if err != nil {
		return u, err
	}
	u = u.again(t.now)
	if _, err := save(t.uses, key, u); err != nil {
		return u, err
	}
	t.index.touch(ownerOf(key), u.LastUsedAt)
	return u, nil
}

// countSession adds one use of a session, which is created if it is new; before that, room was made for it.
func (t *txn) countSession(id string) error {
	r, known, err := t.session(id)
	if err != nil {
		return err
	}
	if !known {
		r = sessionRecord{StartedAt: t.now}
		if err := t.putSession(id, r); err != nil {
			return err
		}
	}
	_, err = t.count([]byte(id), r.StartedAt)
	return err
}

// deleteProgram removes a program that is there.
func (t *txn) deleteProgram(session, id string) error {
	key := programKey(session, id)
	size := len(t.programs.Get(key))
	if err := t.programs.Delete(key); err != nil {
		return err
	}
	t.index.removeProgram(session, id, size)
	return t.uses.Delete(key)
}

// deleteSession removes a session with all that is in it.
func (t *txn) deleteSession(id string) error {
	prefix := programKey(id, "")
	var programs []string
	c := t.programs.Cursor()
	for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = c.Next() {
		programs = append(programs, string(k[len(prefix):]))
	}
	for _, program := range programs {
		if err := t.deleteProgram(id, program); err != nil {
			return err
		}
	}
	if err := t.sessions.Delete([]byte(id)); err != nil {
		return err
	}
	t.index.remove(sessionOwner(id))
	return t.uses.Delete([]byte(id))
}
