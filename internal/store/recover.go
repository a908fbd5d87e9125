package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Beside the file: a damaged one, until the next; and one that is being made from a damaged one.
const (
	tornSuffix = ".torn"
	newSuffix  = ".new"
)

// lockWait bounds how long Open waits for the process that had the file before: it is dying, or none should be there.
const (
	lockWait = 2 * time.Second
	lockPoll = 20 * time.Millisecond
)

// maxFile is the largest that the file may become.
func (s *Store) maxFile() int { return max(fileFactor*s.opts.MaxBytes, 1<<20) }

// openFile opens the file, and before that replaces it if it is damaged. The lock is taken first and kept: a file
// that somebody writes looks damaged.
func (s *Store) openFile() (*bolt.DB, error) {
	f, err := lock(s.path)
	if err != nil {
		return nil, err
	}
	kept, damage, err := inspect(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if damage == nil {
		return s.open(s.path, f)
	}
	defer f.Close()
	if err := s.replace(kept, damage); err != nil {
		return nil, err
	}
	if f, err = lock(s.path); err != nil {
		return nil, err
	}
	return s.open(s.path, f)
}

// lock opens a file, which is made if it is new, for this process alone.
func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for waited := time.Duration(0); ; waited += lockPoll {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return f, nil
		case !errors.Is(err, syscall.EWOULDBLOCK):
			return nil, errors.Join(err, f.Close())
		case waited >= lockWait:
			return nil, errors.Join(bolterrors.ErrTimeout, f.Close())
		}
		time.Sleep(lockPoll)
	}
}

// open hands a locked file to bbolt, which closes it. No list of free pages is written: it is found again in
// milliseconds. The mapping is made for the largest file at once, so that growing never waits for readers.
func (s *Store) open(path string, f *os.File) (*bolt.DB, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{
		OpenFile:        func(string, int, os.FileMode) (*os.File, error) { return f, nil },
		Timeout:         lockWait,
		NoSync:          true,
		NoGrowSync:      true,
		NoFreelistSync:  true,
		NoStatistics:    true,
		FreelistType:    bolt.FreelistMapType,
		InitialMmapSize: s.maxFile(),
		MaxSize:         s.maxFile(),
	})
	if err != nil {
		return nil, err
	}
	db.AllocSize = os.Getpagesize() // what the file grows by when it is full
	return db, nil
}

// contents of a file: sealed records by bucket and key.
type contents map[string]map[string][]byte

func (c contents) add(bucket, key, value []byte) {
	if c[string(bucket)] == nil {
		c[string(bucket)] = map[string][]byte{}
	}
	c[string(bucket)][string(key)] = append([]byte(nil), value...)
}

func (c contents) count() int {
	n := 0
	for _, bucket := range c {
		n += len(bucket)
	}
	return n
}

// inspect reads a file and says what is damaged in it, and then what is intact. An empty file is a new one.
func inspect(f *os.File) (kept contents, damage, err error) {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return nil, nil, err
	}
	roots := metas(f)
	if len(roots) == 0 {
		return nil, fmt.Errorf("none of its two roots is whole, in %d bytes", info.Size()), nil
	}
	check := func(_, key, value []byte) error { return intact(key, value) }
	if damage = scan(f, info.Size(), roots[0], check); damage == nil {
		return nil, nil, nil
	}
	for _, root := range roots { // the older one may be of more use
		found := contents{}
		_ = scan(f, info.Size(), root, func(bucket, key, value []byte) error {
			if err := intact(key, value); err != nil {
				return err
			}
			found.add(bucket, key, value)
			return nil
		})
		if found.count() > kept.count() {
			kept = found
		}
	}
	return kept, damage, nil
}

// replace puts a new file with what is kept in the place of the damaged one, which stays beside it. When that fails,
// as on a full disk, the damaged one stays where it is.
func (s *Store) replace(kept contents, damage error) error {
	fresh, torn := s.path+newSuffix, s.path+tornSuffix
	if err := removeAll(fresh, torn); err != nil {
		return err
	}
	f, err := lock(fresh)
	if err != nil {
		return err
	}
	db, err := s.open(fresh, f)
	if err != nil {
		return err
	}
	emptied, err := kept.replaceLostSessions()
	if err == nil {
		err = restore(db, kept)
	}
	err = errors.Join(err, db.Close())
	if err == nil {
		err = os.Link(s.path, torn) // not renamed: at every moment there is a file to open
	}
	if err == nil {
		err = os.Rename(fresh, s.path)
	}
	if err != nil {
		return errors.Join(err, removeAll(fresh))
	}
	s.opts.Log.Error("the file of programs and sessions was damaged: what is intact was kept, the rest is lost",
		"file", s.path, "damage", damage.Error(), "damagedFile", torn, "sessions", len(kept[string(sessionsBucket)]),
		"sessionsWithoutTheirData", emptied, "programs", len(kept[string(programsBucket)]))
	return nil
}

func removeAll(paths ...string) error {
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// restore writes what was kept of a damaged file.
func restore(db *bolt.DB, kept contents) error {
	return db.Update(func(tx *bolt.Tx) error {
		for _, name := range buckets {
			b, err := tx.CreateBucketIfNotExists(name)
			if err != nil {
				return err
			}
			for key, value := range kept[string(name)] {
				if bytes.Equal(name, usesBucket) && !kept.has(key) {
					continue
				}
				if err := b.Put([]byte(key), value); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// has tells whether the session or program of a key is there.
func (c contents) has(key string) bool {
	return c[string(sessionsBucket)][key] != nil || c[string(programsBucket)][key] != nil
}

// replaceLostSessions gives programs whose session was lost a new one, and returns how many those are.
func (c contents) replaceLostSessions() (emptied int, err error) {
	for key, value := range c[string(programsBucket)] {
		session, _, _ := splitKey([]byte(key))
		if c[string(sessionsBucket)][session] != nil {
			continue
		}
		var p programRecord
		if err := unseal([]byte(key), value, &p); err != nil {
			return emptied, err
		}
		value, err := seal([]byte(session), sessionRecord{StartedAt: p.CreatedAt})
		if err != nil {
			return emptied, err
		}
		c.add(sessionsBucket, []byte(session), value)
		emptied++
	}
	return emptied, nil
}
