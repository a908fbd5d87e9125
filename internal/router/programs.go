package router

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/store"
)

// notYet are the fields of a program that DSPy knows and this version doesn't.
var notYet = map[string]string{
	"signature":    "it isn't supported yet; use command, with the fixed part of its arguments in inputs",
	"program_type": "it isn't supported yet; use command, with the fixed part of its arguments in inputs",
}

// createProgram answers POST /v1/programs.
func (r *Router) createProgram(x *exchange) error {
	records, err := r.records.use()
	if err != nil {
		return err
	}
	f, release, err := r.readRecord(x, "POST /v1/programs", []string{"command", "id", "inputs", "session"}, notYet)
	if err != nil {
		return err
	}
	defer release()
	p, err := readProgram(x, f)
	if err != nil {
		return err
	}
	if err := r.checkServed(p.Command); err != nil {
		return err
	}
	created, err := records.CreateProgram(p)
	if err != nil {
		return err
	}
	x.w.Header().Set("Location", "/v1/programs/"+url.PathEscape(created.ID))
	x.answer(http.StatusCreated, created)
	return nil
}

func readProgram(x *exchange, f fields) (p store.NewProgram, err error) {
	for name, into := range map[string]*string{"command": &p.Command, "id": &p.ID, "session": &p.Session} {
		if err := f.get(name, "a string", into); err != nil {
			return p, err
		}
	}
	if f.has("id") && p.ID == "" {
		return p, f.invalid("id", "it is empty; leave it out to get a new one")
	}
	if p.Session, err = x.session(p.Session); err != nil {
		return p, err
	}
	if f.has("inputs") {
		p.Inputs = f.members["inputs"]
	}
	if p.Command == "" {
		return p, f.invalid("command", "it is missing; name a command of the pool's module")
	}
	return p, checkCommand(p.Command)
}

// session returns the one session that the request names: in its body, as a parameter, or by header; "" when nowhere.
func (x *exchange) session(inBody string) (string, error) {
	named := inBody
	for _, other := range []string{x.query.Get("session"), x.req.Header.Get(headerSession)} {
		if other != "" && named != "" && other != named {
			return "", pool.NewError(pool.RequestError, pool.InvalidID,
				"the request names two sessions, %q and %q; name one", head(named, maxShownPath), head(other, maxShownPath))
		}
		if named == "" {
			named = other
		}
	}
	return named, nil
}

// checkServed refuses a command that none of the revisions in force has. One that hasn't told its commands yet, as no
// worker of it was up, may have any: then the program's first execution will tell.
func (r *Router) checkServed(command string) error {
	t := r.table.Load()
	if t == nil {
		return nil
	}
	known := []string{}
	for _, to := range []*target{t.stable, t.canary} {
		if to == nil {
			continue
		}
		st := to.slot.State().Status
		told := st.Revision == to.revision && len(st.Commands) > 0 && !st.MoreCommands
		if !told || slices.Contains(st.Commands, command) {
			return nil
		}
		known = append(known, st.Commands...)
	}
	slices.Sort(known)
	return r.named(pool.NewError(pool.RequestError, pool.UnknownCommand,
		"Unknown command: %s; pool %s has no such command to make a program of, see the context for those it has", command, r.cfg.Pool)).
		With("commands", slices.Compact(known))
}

// programList is the answer to GET /v1/programs.
type programList struct {
	Programs []store.Program `json:"programs"`
	Next     string          `json:"next,omitempty"` // the "after" of the following page; absent: there is none
}

// programsOf returns the store, and the session whose programs a request without a session in its body speaks of.
func (r *Router) programsOf(x *exchange) (*store.Store, string, error) {
	records, err := r.records.use()
	if err != nil {
		return nil, "", err
	}
	session, err := x.session("")
	return records, session, err
}

// listPrograms answers GET /v1/programs.
func (r *Router) listPrograms(x *exchange) error {
	records, session, err := r.programsOf(x)
	if err != nil {
		return err
	}
	limit := store.MaxListed
	if text := x.query.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > store.MaxListed {
			return invalidParameter("limit", text, "use 1 to "+strconv.Itoa(store.MaxListed))
		}
	}
	programs, err := records.Programs(session, x.query.Get("after"), limit)
	if err != nil {
		return err
	}
	list := programList{Programs: programs}
	if len(programs) == limit {
		list.Next = programs[limit-1].ID
	}
	x.answer(http.StatusOK, list)
	return nil
}

// getProgram answers GET /v1/programs/{id}.
func (r *Router) getProgram(x *exchange) error {
	records, session, err := r.programsOf(x)
	if err != nil {
		return err
	}
	program, err := records.Program(session, x.id)
	if err != nil {
		return err
	}
	x.answer(http.StatusOK, program)
	return nil
}

// deleteProgram answers DELETE /v1/programs/{id}.
func (r *Router) deleteProgram(x *exchange) error {
	records, session, err := r.programsOf(x)
	if err != nil {
		return err
	}
	if err := records.DeleteProgram(session, x.id); err != nil {
		return err
	}
	x.done()
	return nil
}

// executeProgram answers POST /v1/programs/{id}/execute as a command would be: the body is the call's own inputs.
func (r *Router) executeProgram(x *exchange) error { return r.execute(x, false) }

// executeBatch answers POST /v1/programs/{id}/batch: the body is {"inputs": [..]}, with the own inputs of many calls.
func (r *Router) executeBatch(x *exchange) error { return r.execute(x, true) }

func (r *Router) execute(x *exchange, batch bool) error {
	records, session, err := r.programsOf(x)
	if err != nil {
		return err
	}
	program, err := records.UseProgram(session, x.id)
	if err != nil {
		return err
	}
	c := call{command: program.Command, program: program.ID, session: session, batch: batch, start: x.start}
	var release func()
	c.fixed, release = r.held.take(program.Hash, program.Inputs)
	defer release()
	r.serveCall(x, &c)
	return nil
}
