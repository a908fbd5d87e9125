package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/dspex/workerpool-operator/test/e2e/harness"
)

// perPod is how many sessions, and how many programs, the application keeps in each pod.
const perPod = 10

// record is what the router answers of a session or of a program: what must outlive everything, and how often it was
// used.
type record struct {
	ID         string          `json:"id"`
	StartedAt  time.Time       `json:"startedAt"` // of a session
	Version    uint64          `json:"version"`   // of a session's data
	Data       json.RawMessage `json:"data"`
	Command    string          `json:"command"` // of a program
	Inputs     json.RawMessage `json:"inputs"`
	CreatedAt  time.Time       `json:"createdAt"`
	Operations uint64          `json:"operations"`
}

// keeps reports whether a record is the one that it was.
func (r record) keeps(now record) bool {
	return now.ID == r.ID && now.StartedAt.Equal(r.StartedAt) && now.Version == r.Version && bytes.Equal(now.Data, r.Data) &&
		now.Command == r.Command && bytes.Equal(now.Inputs, r.Inputs) && now.CreatedAt.Equal(r.CreatedAt) &&
		now.Operations >= r.Operations
}

// stored are a pod's records by the path that reads them.
type stored map[string]record

// store makes the application's sessions and programs in every pod, and remembers what each is.
func (d *demo) store(ctx context.Context) error {
	d.stored = make([]stored, len(d.apps))
	return d.each(func(i int, app *harness.App) error {
		d.stored[i] = stored{}
		for n := range perPod {
			session, program := fmt.Sprintf("/v1/sessions/demo-%d", n), fmt.Sprintf("/v1/programs/demo-%d", n)
			if err := makeRecords(ctx, app, n, session); err != nil {
				return err
			}
			for _, path := range []string{session, program} {
				var r record
				if err := app.Pool(ctx, http.MethodGet, path, nil, &r); err != nil {
					return err
				}
				d.stored[i][path] = r
			}
		}
		return nil
	})
}

func makeRecords(ctx context.Context, app *harness.App, n int, session string) error {
	type body map[string]any
	id := fmt.Sprintf("demo-%d", n)
	for _, request := range []struct {
		method, path string
		body         body
	}{
		{http.MethodPost, "/v1/sessions", body{"id": id}},
		{http.MethodPatch, session, body{"patch": body{"n": n}}},
		{http.MethodPost, "/v1/programs", body{"id": id, "command": "echo", "inputs": body{"n": n}}},
	} {
		if err := app.Pool(ctx, request.method, request.path, request.body, &record{}); err != nil {
			return err
		}
	}
	return nil
}

// recall reads every record again, runs every program, and counts those that aren't what they were.
func (d *demo) recall(ctx context.Context) error {
	var mu sync.Mutex
	return d.each(func(i int, app *harness.App) error {
		for path, before := range d.stored[i] {
			problem := check(ctx, app, path, before)
			mu.Lock()
			d.measured.stored++
			if problem != nil {
				d.measured.lostRecords = append(d.measured.lostRecords, problem.Error())
			}
			mu.Unlock()
		}
		return ctx.Err()
	})
}

func check(ctx context.Context, app *harness.App, path string, before record) error {
	var now record
	if err := app.Pool(ctx, http.MethodGet, path, nil, &now); err != nil {
		return err
	}
	if !before.keeps(now) {
		return fmt.Errorf("%s in %s isn't what it was", path, app.Pod)
	}
	if before.Command == "" {
		return nil
	}
	var answer struct {
		N    *int `json:"n"`
		More bool `json:"more"`
	}
	if err := app.Pool(ctx, http.MethodPost, path+"/execute", map[string]any{"more": true}, &answer); err != nil {
		return err
	}
	if answer.N == nil || !answer.More {
		return fmt.Errorf("%s in %s runs without its inputs", path, app.Pod)
	}
	return nil
}
