package store

import (
	"bytes"
	"fmt"
	"slices"
)

// MaxListed bounds what one call of Programs returns.
const MaxListed = 1000

// CreateProgram keeps a program, and is a use of its session, which is created if it is new.
func (s *Store) CreateProgram(p NewProgram) (Program, error) {
	session, err := checkSession(p.Session)
	if err != nil {
		return Program{}, err
	}
	id := p.ID
	if id == "" {
		id = newID()
	}
	if err := checkID("program id", id); err != nil {
		return Program{}, err
	}
	if err := checkID("command", p.Command); err != nil {
		return Program{}, err
	}
	inputs, err := object(fmt.Sprintf("the inputs of program %q", id), p.Inputs, s.opts.MaxRecord)
	if err != nil {
		return Program{}, err
	}
	record := programRecord{Command: p.Command, Inputs: inputs, Hash: hash(p.Command, inputs)}
	var out Program
	err = s.update(func(t *txn) error {
		r := record
		r.CreatedAt = t.now
		if err := t.createProgram(session, id, r); err != nil {
			return err
		}
		out, err = t.showProgram(session, id)
		return err
	})
	return out, err
}

func (t *txn) createProgram(session, id string, r programRecord) error {
	if t.programs.Get(programKey(session, id)) != nil {
		return duplicateProgram(session, id)
	}
	cost := t.sessionCost(session) + overhead + len(r.Inputs) + recordText
	if err := t.makeRoom(cost, sessionOwner(session)); err != nil {
		return err
	}
	if err := t.countSession(session); err != nil {
		return err
	}
	if err := t.putProgram(session, id, r); err != nil {
		return err
	}
	t.index.touch(programOwner(session, id), t.now)
	return nil
}

// Program returns a program of a session, or the anonymous one of that id, without using it.
func (s *Store) Program(session, id string) (Program, error) {
	session, err := checkProgram(session, id)
	if err != nil {
		return Program{}, err
	}
	var out Program
	err = s.view(nil, func(t *txn) error {
		at, err := t.find(session, id)
		if err == nil {
			out, err = t.showProgram(at, id)
		}
		return err
	})
	return out, err
}

func checkProgram(session, id string) (string, error) {
	session, err := checkSession(session)
	if err == nil {
		err = checkID("program id", id)
	}
	return session, err
}

// UseProgram returns what Program does, and counts one use of the program and of the session, which is created if it
// is new.
func (s *Store) UseProgram(session, id string) (Program, error) {
	session, err := checkProgram(session, id)
	if err != nil {
		return Program{}, err
	}
	var out Program
	err = s.update(func(t *txn) error {
		at, err := t.find(session, id)
		if err == nil {
			out, err = t.useProgram(session, at, id)
		}
		return err
	})
	if isFull(err) {
		return s.programUncounted(session, id, err)
	}
	return out, err
}

func (t *txn) useProgram(session, at, id string) (Program, error) {
	if err := t.makeRoom(t.sessionCost(session), sessionOwner(session), programOwner(at, id)); err != nil {
		return Program{}, err
	}
	if err := t.countSession(session); err != nil {
		return Program{}, err
	}
	p, err := t.showProgram(at, id)
	if err != nil {
		return Program{}, err
	}
	u, err := t.count(programKey(at, id), p.CreatedAt)
	p.LastUsedAt, p.Operations = u.LastUsedAt, u.Operations
	return p, err
}

// programUncounted is a program of a session, both there, though the store is too full to count their use.
func (s *Store) programUncounted(session, id string, full error) (Program, error) {
	if _, err := s.Session(session); err != nil {
		return Program{}, full
	}
	out, err := s.Program(session, id)
	if err == nil {
		s.uncounted()
	}
	return out, err
}

// Programs returns a session's programs in the order of their ids, without their inputs: at most limit (1 to
// MaxListed; 0: MaxListed) from the one after an id on. A session that doesn't exist has none.
func (s *Store) Programs(session, after string, limit int) ([]Program, error) {
	session, err := checkSession(session)
	if err != nil {
		return nil, err
	}
	if limit <= 0 || limit > MaxListed {
		limit = MaxListed
	}
	out := []Program{}
	err = s.view(nil, func(t *txn) error {
		prefix := programKey(session, "")
		from := programKey(session, after)
		c := t.programs.Cursor()
		for k, _ := c.Seek(from); bytes.HasPrefix(k, prefix) && len(out) < limit; k, _ = c.Next() {
			if after != "" && bytes.Equal(k, from) {
				continue
			}
			p, err := t.describeProgram(session, string(k[len(prefix):]))
			if err != nil {
				return err
			}
			p.Inputs = nil
			out = append(out, p)
		}
		return nil
	})
	return out, err
}

// DeleteProgram removes a program of this very session, and is a use of the session. An anonymous program isn't
// deleted by way of another session.
func (s *Store) DeleteProgram(session, id string) error {
	session, err := checkProgram(session, id)
	if err != nil {
		return err
	}
	return s.update(func(t *txn) error {
		if t.programs.Get(programKey(session, id)) == nil {
			return programNotFound(session, id)
		}
		if err := t.deleteProgram(session, id); err != nil {
			return err
		}
		return t.countSession(session)
	})
}

// find returns the session that has the program: this one, or Anonymous.
func (t *txn) find(session, id string) (string, error) {
	for _, at := range []string{session, Anonymous} {
		if t.programs.Get(programKey(at, id)) != nil {
			return at, nil
		}
	}
	return "", programNotFound(session, id)
}

// showProgram returns a program as applications see it.
func (t *txn) showProgram(session, id string) (Program, error) {
	p, err := t.describeProgram(session, id)
	p.Inputs = slices.Clone(p.Inputs)
	return p, err
}

// describeProgram is showProgram whose inputs end with the transaction.
func (t *txn) describeProgram(session, id string) (Program, error) {
	r, known, err := t.program(session, id)
	if err != nil {
		return Program{}, err
	}
	if !known {
		return Program{}, programNotFound(session, id)
	}
	u, err := t.use(programKey(session, id), r.CreatedAt)
	return Program{
		ID: id, Session: session, Command: r.Command, Inputs: r.Inputs, Hash: r.Hash,
		CreatedAt: r.CreatedAt, LastUsedAt: u.LastUsedAt, Operations: u.Operations,
	}, err
}
