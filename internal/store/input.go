package store

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode"
	"unicode/utf8"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// maxID bounds ids and command names: they are part of keys, paths, headers, logs and errors.
const maxID = 256 // bytes

// checkID says what is wrong with an id; what is "session id", "program id" or "command".
func checkID(what, id string) error {
	problem := ""
	switch {
	case id == "":
		problem = "is empty"
	case len(id) > maxID:
		problem = fmt.Sprintf("has %d bytes", len(id))
	case !utf8.ValidString(id):
		problem = "isn't UTF-8"
	case id == "." || id == "..":
		problem = "means a folder in a path"
	default:
		for _, r := range id {
			if !unicode.IsPrint(r) || unicode.IsSpace(r) {
				problem = fmt.Sprintf("has the character %U", r)
				break
			}
		}
	}
	if problem == "" {
		return nil
	}
	return pool.NewError(pool.RequestError, pool.InvalidID,
		"%s \"%s\" %s; use 1 to %d bytes of printable characters without spaces", what, shown(id), problem, maxID)
}

// checkSession returns the session that an id means.
func checkSession(id string) (string, error) {
	if id == "" {
		return Anonymous, nil
	}
	return id, checkID("session id", id)
}

// CheckSession says what is wrong with a session's id; an empty one means Anonymous.
func CheckSession(id string) error {
	_, err := checkSession(id)
	return err
}

// newID is unique and can't be guessed.
func newID() string { return rand.Text() }

// object checks a JSON object of an application and returns it without the spaces between its parts; empty means {}.
func object(what string, text []byte, limit int) (json.RawMessage, error) {
	if len(text) == 0 {
		return json.RawMessage("{}"), nil
	}
	if len(text) > limit {
		return nil, recordTooLarge(what, len(text), limit)
	}
	var compact bytes.Buffer
	switch err := json.Compact(&compact, text); {
	case err != nil:
		return nil, invalidObject(what, err.Error())
	case !utf8.Valid(text):
		return nil, invalidObject(what, "it isn't UTF-8")
	case compact.Bytes()[0] != '{':
		return nil, invalidObject(what, "it is another kind of value")
	}
	return compact.Bytes(), nil
}

// merge applies a JSON merge patch (RFC 7396) to an object: members are replaced, null removes, objects merge.
// Numbers keep the digits that they were written with.
func merge(data, patch json.RawMessage) (json.RawMessage, error) {
	target, err := decodeObject(data)
	if err != nil {
		return nil, err
	}
	changes, err := decodeObject(patch)
	if err != nil {
		return nil, err
	}
	mergeInto(target, changes)
	var out bytes.Buffer
	if err := encode(&out, target); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func mergeInto(target, patch map[string]any) {
	for name, change := range patch {
		if change == nil {
			delete(target, name)
			continue
		}
		inner, isObject := change.(map[string]any)
		if !isObject {
			target[name] = change
			continue
		}
		into, isObject := target[name].(map[string]any)
		if !isObject {
			into = map[string]any{}
			target[name] = into
		}
		mergeInto(into, inner)
	}
}

func decodeObject(text []byte) (map[string]any, error) {
	out := map[string]any{}
	if len(text) == 0 {
		return out, nil
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&out); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more than one value")
	}
	return out, nil
}

// hash identifies a program's body.
func hash(command string, inputs []byte) string {
	h := sha256.New()
	h.Write([]byte(command))
	h.Write([]byte(separator))
	h.Write(inputs)
	return hex.EncodeToString(h.Sum(nil))
}
