package store

import (
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

// overhead is what a session or program costs besides its record: keys, times, its place in the file and in the
// index.
const overhead = 512 // bytes

// owner is what is evicted as a whole: a session with its programs, or an anonymous program.
type owner struct{ session, program string }

func sessionOwner(id string) owner { return owner{session: id} }

func programOwner(session, id string) owner {
	if session == Anonymous {
		return owner{session: Anonymous, program: id}
	}
	return owner{session: session}
}

// ownerOf a key of the uses bucket.
func ownerOf(key []byte) owner {
	if session, program, ok := splitKey(key); ok {
		return programOwner(session, program)
	}
	return sessionOwner(string(key))
}

// holding is what an owner costs, and when it was used last.
type holding struct {
	used     time.Time
	bytes    int
	programs int
}

// index knows how much is stored and who was idle for how long. It follows from the file.
type index struct {
	owners             map[owner]*holding
	bytes              int
	sessions, programs int
	// inUseUntil: before that time nobody is idle for long enough to make room, so that a full store needn't look at all
	// of them for each change that it refuses.
	inUseUntil time.Time
}

func newIndex() *index { return &index{owners: map[owner]*holding{}} }

// grow adds bytes to an owner, which is new if it isn't known.
func (x *index) grow(o owner, bytes int) {
	h := x.owners[o]
	if h == nil {
		h = &holding{}
		x.owners[o] = h
		if o.program == "" {
			x.sessions++
			bytes += overhead
		}
	}
	h.bytes += bytes
	x.bytes += bytes
}

func (x *index) addProgram(session, id string, bytes int) {
	x.programs++
	x.grow(programOwner(session, id), bytes+overhead)
	x.owners[sessionOwner(session)].programs++
}

func (x *index) removeProgram(session, id string, bytes int) {
	x.programs--
	x.owners[sessionOwner(session)].programs--
	if o := programOwner(session, id); o.program != "" {
		x.remove(o)
		return
	}
	x.grow(sessionOwner(session), -bytes-overhead)
}

func (x *index) remove(o owner) {
	h := x.owners[o]
	if h == nil {
		return
	}
	x.bytes -= h.bytes
	if o.program == "" {
		x.sessions--
	}
	delete(x.owners, o)
}

func (x *index) touch(o owner, used time.Time) {
	if h := x.owners[o]; h != nil && used.After(h.used) {
		h.used = used
	}
}

func (x *index) programsOf(session string) int {
	if h := x.owners[sessionOwner(session)]; h != nil {
		return h.programs
	}
	return 0
}

// idle returns who was used at or before a time, the longest idle first; never Anonymous itself.
func (x *index) idle(since time.Time) []owner {
	var out []owner
	for o, h := range x.owners {
		if o != sessionOwner(Anonymous) && !h.used.After(since) {
			out = append(out, o)
		}
	}
	slices.SortFunc(out, func(a, b owner) int { return x.owners[a].used.Compare(x.owners[b].used) })
	return out
}

// oldest returns when the one was used that is idle longest, leaving out Anonymous itself; zero when there is no other.
func (x *index) oldest() (used time.Time) {
	for o, h := range x.owners {
		if o != sessionOwner(Anonymous) && (used.IsZero() || h.used.Before(used)) {
			used = h.used
		}
	}
	return used
}

// reindex reads the index from the file. The caller holds mu, or is alone.
func (s *Store) reindex() error {
	fresh := newIndex()
	err := s.db.View(func(tx *bolt.Tx) error {
		t := s.txn(tx, fresh, time.Time{})
		err := t.sessions.ForEach(func(k, v []byte) error {
			var r sessionRecord
			if err := unseal(k, v, &r); err != nil {
				return err
			}
			fresh.grow(sessionOwner(string(k)), len(v))
			return t.indexUse(k, r.StartedAt)
		})
		if err != nil {
			return err
		}
		return t.programs.ForEach(func(k, v []byte) error {
			var r programRecord
			if err := unseal(k, v, &r); err != nil {
				return err
			}
			session, id, _ := splitKey(k)
			fresh.addProgram(session, id, len(v))
			return t.indexUse(k, r.CreatedAt)
		})
	})
	if err == nil {
		s.index = fresh
	}
	return err
}

func (t *txn) indexUse(key []byte, created time.Time) error {
	u, err := t.use(key, created)
	t.index.touch(ownerOf(key), u.LastUsedAt)
	return err
}
