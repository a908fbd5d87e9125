package router

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/store"
)

// maxRecordBody bounds the body of a request that stores something, in bytes: the largest record and what is around it.
const maxRecordBody = store.DefaultMaxRecord + 64<<10

// readRecord reads the body of a request that stores something; what names that in errors. Only the fields in names may
// be in it; each of refused is one that may not, with the reason. The caller must call release when the fields are of no
// more use.
func (r *Router) readRecord(x *exchange, what string, names []string, refused map[string]string) (f fields, release func(), err error) {
	c := call{command: what, start: x.start}
	in := intake{x: x, c: &c, most: maxRecordBody, record: true}
	in.arriveBy, in.roomBy = bodyBounds(&c, nil)
	if release, err = r.receive(&in); err != nil {
		return f, nil, err
	}
	if f, err = parseFields(what, c.payload, names, refused); err != nil {
		release()
		return f, nil, err
	}
	return f, release, nil
}

// fields are the members of a JSON object. Unlike encoding/json's structs they don't take "ID" for "id".
type fields struct {
	what    string
	members map[string]json.RawMessage
}

func parseFields(what string, body []byte, names []string, refused map[string]string) (fields, error) {
	f := fields{what: what}
	if !utf8.Valid(body) {
		return f, f.invalid("", "it isn't UTF-8")
	}
	if err := json.Unmarshal(body, &f.members); err != nil {
		return f, f.invalid("", "it must be a JSON object: "+problemOf(err))
	}
	if f.members == nil {
		return f, f.invalid("", "it must be a JSON object, not null")
	}
	for _, name := range slices.Sorted(maps.Keys(f.members)) {
		if reason := refused[name]; reason != "" {
			return f, f.invalid(name, reason)
		}
		if !slices.Contains(names, name) {
			return f, f.invalid(name, "there is no such field; it takes "+strings.Join(names, ", "))
		}
	}
	return f, nil
}

// has reports whether the field is there; null counts as absent.
func (f fields) has(name string) bool {
	value, there := f.members[name]
	return there && string(value) != "null"
}

// get reads a field, if it is there, into a pointer.
func (f fields) get(name, kind string, into any) error {
	if !f.has(name) {
		return nil
	}
	if err := json.Unmarshal(f.members[name], into); err != nil {
		return f.invalid(name, "it must be "+kind)
	}
	return nil
}

func (f fields) invalid(name, problem string) *pool.Error {
	if name == "" {
		return pool.NewError(pool.RequestError, pool.InvalidPayload, "the body of %s: %s", f.what, problem)
	}
	name = head(name, maxShownPath)
	return pool.NewError(pool.RequestError, pool.InvalidPayload, "field %q in the body of %s: %s", name, f.what, problem).
		With("field", name)
}

// problemOf says what encoding/json found, without the names of Go types.
func problemOf(err error) string {
	if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
		return "it is " + wrong.Value
	}
	return err.Error()
}

func bodyTooLarge(what string) *pool.Error {
	return pool.NewError(pool.RequestError, pool.RecordTooLarge,
		"the body of %s is over %d bytes; keep less", what, maxRecordBody).With("limit", maxRecordBody)
}
