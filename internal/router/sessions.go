package router

import (
	"net/http"
	"net/url"

	"github.com/dspex/workerpool-operator/internal/store"
)

// startSession answers POST /v1/sessions: 201 for a new session, 200 for one that was there.
func (r *Router) startSession(x *exchange) error {
	records, err := r.records.use()
	if err != nil {
		return err
	}
	f, release, err := r.readRecord(x, "POST /v1/sessions", []string{"id"}, nil)
	if err != nil {
		return err
	}
	defer release()
	id := ""
	if err := f.get("id", "a string", &id); err != nil {
		return err
	}
	if f.has("id") && id == "" {
		return f.invalid("id", "it is empty; leave it out to get a new one")
	}
	session, err := records.StartSession(id)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if session.Operations == 1 && session.ID != store.Anonymous {
		status = http.StatusCreated
	}
	x.w.Header().Set("Location", "/v1/sessions/"+url.PathEscape(session.ID))
	x.answer(status, session)
	return nil
}

// getSession answers GET /v1/sessions/{id}.
func (r *Router) getSession(x *exchange) error {
	records, err := r.records.use()
	if err != nil {
		return err
	}
	session, err := records.Session(x.id)
	if err != nil {
		return err
	}
	x.answer(http.StatusOK, session)
	return nil
}

// updateSession answers PATCH /v1/sessions/{id}: {"patch": merge patch of the data, "expectedVersion": n}.
func (r *Router) updateSession(x *exchange) error {
	records, err := r.records.use()
	if err != nil {
		return err
	}
	f, release, err := r.readRecord(x, "PATCH /v1/sessions/{id}", []string{"expectedVersion", "patch"}, nil)
	if err != nil {
		return err
	}
	defer release()
	var expected *uint64
	if err := f.get("expectedVersion", "a whole number, 0 or more", &expected); err != nil {
		return err
	}
	if !f.has("patch") {
		return f.invalid("patch", "it is missing; give the members of the session's data that change, null removes one")
	}
	session, err := records.UpdateSession(x.id, f.members["patch"], expected)
	if err != nil {
		return err
	}
	x.answer(http.StatusOK, session)
	return nil
}

// endSession answers DELETE /v1/sessions/{id}; a session that isn't there has ended.
func (r *Router) endSession(x *exchange) error {
	records, err := r.records.use()
	if err != nil {
		return err
	}
	if err := records.EndSession(x.id); err != nil {
		return err
	}
	x.done()
	return nil
}
