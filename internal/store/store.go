package store

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Anonymous is the session that is everyone's; an empty session id means it.
const Anonymous = "anonymous"

// Defaults of Options.
const (
	DefaultMaxBytes  = 24 << 20
	DefaultMaxRecord = 1 << 20
	DefaultMaxIdle   = 24 * time.Hour
	DefaultMinIdle   = time.Minute
)

// fileFactor bounds the file: so many times what is stored in it may be. Pages are half full, what changed leaves
// holes that large records don't fit into, and a change needs room beside what it replaces. A damaged file kept
// beside it may be as large.
const fileFactor = 4

const fileName = "sessions.db"

// Options of a store. Zero values stand for the defaults, but Dir, Log and Now are required.
type Options struct {
	Dir string // exists, is writable, and is no other process's
	Log *slog.Logger
	Now func() time.Time

	MaxBytes  int           // of all sessions and programs; about 0.5 KiB each are added for what finding them takes
	MaxRecord int           // bytes of a session's data, and of a program's inputs
	MaxIdle   time.Duration // after which Sweep ends a session
	MinIdle   time.Duration // within which what was used isn't evicted
}

// Session is what is known of a session.
type Session struct {
	ID        string    `json:"id"`
	StartedAt time.Time `json:"startedAt"`
	// LastUsedAt and Operations count uses of the session; both never go back.
	LastUsedAt time.Time `json:"lastUsedAt"`
	Operations uint64    `json:"operations"`
	// Version of Data; it grows by one with each update, from 0 for a session without data.
	Version  uint64          `json:"version"`
	Data     json.RawMessage `json:"data"` // an object
	Programs int             `json:"programs"`
}

// Program is a command with the part of its arguments that stays the same.
type Program struct {
	ID      string          `json:"id"`
	Session string          `json:"session"`
	Command string          `json:"command"`
	Inputs  json.RawMessage `json:"inputs,omitempty"` // an object
	// Hash identifies command and inputs: a worker that was sent a body of this hash needn't be sent it again.
	Hash       string    `json:"hash"`
	CreatedAt  time.Time `json:"createdAt"`
	LastUsedAt time.Time `json:"lastUsedAt"`
	Operations uint64    `json:"operations"` // how often it was used
}

// NewProgram is what a program is created from.
type NewProgram struct {
	ID      string // empty: a new one is made
	Session string // empty: Anonymous
	Command string
	Inputs  json.RawMessage // an object; empty: {}
}

// Stats are the store's figures.
type Stats struct {
	Sessions  int    `json:"sessions"` // without Anonymous
	Programs  int    `json:"programs"`
	Bytes     int    `json:"bytes"`
	FileBytes int64  `json:"fileBytes"`
	Evicted   uint64 `json:"evicted"`   // sessions and anonymous programs that had to make room, since Open
	Swept     uint64 `json:"swept"`     // sessions that were idle too long, since Open
	Uncounted uint64 `json:"uncounted"` // uses that a full disk kept from being counted, since Open
}

// Store is safe for concurrent use.
type Store struct {
	opts Options
	path string
	db   *bolt.DB

	commits commits

	mu    sync.Mutex // never held while waiting for another change
	index *index     // guarded by mu
	stats Stats      // guarded by mu; only what is counted since Open
}

// Open opens the store in a folder, made when it is new, and recovers what it can when its file is damaged. It fails
// when another process has the file open, or the folder can't be written to; the file is then left as it is.
func Open(o Options) (*Store, error) {
	s := &Store{opts: withDefaults(o), path: filepath.Join(o.Dir, fileName)}
	db, err := s.openFile()
	if err != nil {
		return nil, s.problem(err)
	}
	s.db = db
	if err := s.prepare(); err != nil {
		_ = db.Close()
		return nil, s.problem(err)
	}
	return s, nil
}

func withDefaults(o Options) Options {
	if o.MaxBytes <= 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.MaxRecord <= 0 {
		o.MaxRecord = DefaultMaxRecord
	}
	if o.MaxIdle <= 0 {
		o.MaxIdle = DefaultMaxIdle
	}
	if o.MinIdle <= 0 {
		o.MinIdle = DefaultMinIdle
	}
	return o
}

// prepare makes what a new file lacks, and counts what is there.
func (s *Store) prepare() error {
	s.index = newIndex()
	now := s.opts.Now()
	err := s.db.Update(func(tx *bolt.Tx) error {
		for _, name := range buckets {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		t := s.txn(tx, s.index, now)
		if _, known, err := t.session(Anonymous); known || err != nil {
			return err
		}
		return t.putSession(Anonymous, sessionRecord{StartedAt: now})
	})
	if err != nil {
		return err
	}
	return s.reindex()
}

// Close waits for the changes under way. Later calls fail with store_unavailable. Idempotent.
func (s *Store) Close() error { return s.db.Close() }

// Stats returns the figures.
func (s *Store) Stats() Stats {
	var size int64
	if info, err := os.Stat(s.path); err == nil {
		size = info.Size()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.stats
	out.Sessions, out.Programs, out.Bytes, out.FileBytes = s.index.sessions-1, s.index.programs, s.index.bytes, size
	return out
}
