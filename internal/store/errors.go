package store

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"

	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/dspex/workerpool-operator/internal/pool"
)

func sessionNotFound(id string) *pool.Error {
	return pool.NewError(pool.RequestError, pool.SessionNotFound,
		"session %q doesn't exist: it was never used, was ended, or was idle too long; its next use creates it", id).
		With("session", id)
}

func programNotFound(session, id string) *pool.Error {
	where := fmt.Sprintf("in session %q or among the anonymous ones", session)
	if session == Anonymous {
		where = "among the anonymous ones"
	}
	return pool.NewError(pool.RequestError, pool.ProgramNotFound,
		"program %q doesn't exist %s; create it first", id, where).
		With("session", session).With("program", id)
}

func duplicateProgram(session, id string) *pool.Error {
	return pool.NewError(pool.RequestError, pool.DuplicateProgram,
		"session %q has a program %q already; delete that first, or leave the id out to get a new one", session, id).
		With("session", session).With("program", id)
}

func versionConflict(id string, is, expected uint64) *pool.Error {
	return pool.NewError(pool.RequestError, pool.VersionConflict,
		"session %q is at version %d, not %d: it was updated meanwhile; read it again and repeat the update",
		id, is, expected).
		With("session", id).With("version", is).With("expected", expected)
}

func endOfAnonymous() *pool.Error {
	return pool.NewError(pool.RequestError, pool.InvalidID,
		"session %q is everyone's and can't be ended; delete its programs one by one, or use a session of your own", Anonymous).
		With("session", Anonymous)
}

func recordTooLarge(what string, size, limit int) *pool.Error {
	return pool.NewError(pool.RequestError, pool.RecordTooLarge,
		"%s would take %d bytes, at most %d; keep less in it", what, size, limit).
		With("size", size).With("limit", limit)
}

func invalidObject(what, problem string) *pool.Error {
	return pool.NewError(pool.RequestError, pool.InvalidPayload, "%s must be a JSON object: %s", what, problem)
}

// full: nothing that may go would make room enough.
func (s *Store) full() *pool.Error {
	return pool.NewError(pool.ResourceError, pool.StoreFull,
		"the store of programs and sessions is full (%d bytes) and too little in it has been idle for %s; "+
			"end sessions or delete programs, or retry later", s.opts.MaxBytes, s.opts.MinIdle).
		With("limit", s.opts.MaxBytes).With("retry_after_ms", s.opts.MinIdle.Milliseconds())
}

// problem turns a failure of the file into an error of the store; nil stays nil.
func (s *Store) problem(err error) error {
	var own *pool.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		return own
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return pool.NewError(pool.ResourceError, pool.StoreFull,
			"the disk of %s is full, so nothing can be added to programs and sessions; make room on it (what is stored is kept)",
			s.path)
	case errors.Is(err, bolterrors.ErrMaxSizeReached):
		return pool.NewError(pool.ResourceError, pool.StoreFull,
			"%s is as large as it may be (%d bytes); end sessions or delete programs", s.path, s.maxFile())
	}
	return s.unavailable(err)
}

func (s *Store) unavailable(err error) *pool.Error { return Unavailable(s.path, err) }

// Unavailable is what a router answers for programs and sessions when it has no store, as Open failed.
func Unavailable(path string, err error) *pool.Error {
	way := "see the router's log, and restart its container"
	switch {
	case errors.Is(err, bolterrors.ErrDatabaseNotOpen):
		way = "the router is shutting down; retry"
	case errors.Is(err, bolterrors.ErrTimeout):
		way = "another process has it open; end that one"
	}
	return pool.NewError(pool.ResourceError, pool.StoreUnavailable,
		"programs and sessions in %s can't be used (%v): %s", path, err, way)
}

func isFull(err error) bool {
	var e *pool.Error
	return errors.As(err, &e) && e.Type == pool.StoreFull
}

// maxShown bounds what an error or a log line shows of somebody else's text.
const maxShown = 64 // bytes

// shown cuts a text and leaves no control character in it.
func shown(text string) string {
	cut := strings.ToValidUTF8(text[:min(len(text), maxShown)], "?")
	quoted := strconv.Quote(cut)
	if len(text) > maxShown {
		return quoted[1:len(quoted)-1] + "…"
	}
	return quoted[1 : len(quoted)-1]
}
