package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// App is the sample application (config/samples/app) in one pod, reached through the API server.
type App struct {
	Pod     string
	cluster *Cluster
	base    string
}

// App returns the sample application in a pod.
func (c *Cluster) App(pod *corev1.Pod) *App {
	return &App{
		Pod:     pod.Name,
		cluster: c,
		base: fmt.Sprintf("%s/api/v1/namespaces/%s/pods/%s:8080/proxy",
			strings.TrimSuffix(c.Config.Host, "/"), pod.Namespace, pod.Name),
	}
}

// Apps returns the sample application in each of the pods.
func (c *Cluster) Apps(pods []corev1.Pod) []*App {
	var apps []*App
	for i := range pods {
		apps = append(apps, c.App(&pods[i]))
	}
	return apps
}

// Load is what the application can be told to do: see Load in config/samples/app.
type Load struct {
	Callers int            `json:"callers"`
	Command string         `json:"command"`
	Args    map[string]any `json:"args,omitempty"`
	Turns   []Turn         `json:"turns,omitempty"`
	Rate    float64        `json:"rate,omitempty"`
	Count   int64          `json:"count,omitempty"`
	Seconds float64        `json:"seconds,omitempty"`
	Version string         `json:"version,omitempty"`
	Wait    bool           `json:"wait,omitempty"`
}

// Turn is a request of one kind, of a load that has several.
type Turn struct {
	Command string         `json:"command"`
	Args    map[string]any `json:"args,omitempty"`
}

// Figures are what the application counted.
type Figures struct {
	Requests uint64                    `json:"requests"`
	Lost     uint64                    `json:"lost"` // no response, or a status of 500 or more
	Versions map[string]VersionFigures `json:"versions"`
	Errors   map[string]uint64         `json:"errors"`
	Seconds  float64                   `json:"seconds"`
	Running  bool                      `json:"running"`
	Now      time.Time                 `json:"now"` // by the pod's clock, as the versions' times
}

// VersionFigures are those of one version; "none" had no answer from a worker.
type VersionFigures struct {
	Requests uint64  `json:"requests"`
	Errors   uint64  `json:"errors"`
	P50      float64 `json:"p50ms"`
	P95      float64 `json:"p95ms"`

	FirstError time.Time `json:"firstError"` // zero: none
	LastReply  time.Time `json:"lastReply"`
}

// Total are the figures since the application started.
func (a *App) Total(ctx context.Context) (Figures, error) {
	stats, err := a.stats(ctx)
	return stats.Total, err
}

// Current are the figures of the load that runs or ran last.
func (a *App) Current(ctx context.Context) (Figures, error) {
	stats, err := a.stats(ctx)
	return stats.Load, err
}

type appStats struct {
	Total Figures `json:"total"`
	Load  Figures `json:"load"`
}

func (a *App) stats(ctx context.Context) (appStats, error) {
	var stats appStats
	return stats, a.do(ctx, http.MethodGet, "/stats", nil, &stats)
}

// Begin replaces the application's load.
func (a *App) Begin(ctx context.Context, load Load) error {
	load.Wait = false
	return a.do(ctx, http.MethodPost, "/load", load, &Figures{})
}

// Run replaces the application's load by one that ends, waits for its end, and returns its figures.
func (a *App) Run(ctx context.Context, load Load) (Figures, error) {
	load.Wait = true
	var figures Figures
	return figures, a.do(ctx, http.MethodPost, "/load", load, &figures)
}

// End ends the application's load once its requests in flight have ended, and returns its figures.
func (a *App) End(ctx context.Context) (Figures, error) {
	var figures Figures
	return figures, a.do(ctx, http.MethodDelete, "/load", nil, &figures)
}

func (a *App) do(ctx context.Context, method, path string, body, answer any) error {
	var content []byte
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return err
		}
	}
	response, err := a.send(ctx, method, path, bytes.NewReader(content), nil)
	if err != nil {
		return err
	}
	if response.Status/100 != 2 {
		return fmt.Errorf("application in %s: %s %s: status %d: %s", a.Pod, method, path, response.Status, response.Body)
	}
	if err := json.Unmarshal(response.Body, answer); err != nil {
		return fmt.Errorf("application in %s: %s %s: %w", a.Pod, method, path, err)
	}
	return nil
}

// Response is what the pool answered to one request.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// PoolError is the body of a failed request.
type PoolError struct {
	Category string         `json:"category"`
	Type     string         `json:"type"`
	Message  string         `json:"message"`
	Context  map[string]any `json:"context"`
}

// Error reads the four parts of a failed request; a part that is missing is empty, a missing context nil.
func (r Response) Error() PoolError {
	var body struct {
		Error PoolError `json:"error"`
	}
	_ = json.Unmarshal(r.Body, &body)
	return body.Error
}

// Call sends one command to the pool, as it is, from inside the pod.
func (a *App) Call(ctx context.Context, command string, body io.Reader, header http.Header) (Response, error) {
	return a.send(ctx, http.MethodPost, "/pool/v1/commands/"+command, body, header)
}

// Ask makes one request of the pool's API from inside the pod, as it is, for example GET /v1/sessions/one.
func (a *App) Ask(ctx context.Context, method, path string, body io.Reader, header http.Header) (Response, error) {
	return a.send(ctx, method, "/pool"+path, body, header)
}

// Pool sends a request to the pod's router, for example POST /v1/sessions, and decodes what it answers.
func (a *App) Pool(ctx context.Context, method, path string, body, answer any) error {
	return a.do(ctx, method, "/pool"+path, body, answer)
}

func (a *App) send(ctx context.Context, method, path string, body io.Reader, header http.Header) (Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, a.base+path, body)
	if err != nil {
		return Response{}, err
	}
	for name, values := range header {
		request.Header[name] = values
	}
	response, err := a.cluster.http.Do(request)
	if err != nil {
		return Response{}, fmt.Errorf("application in %s: %w", a.Pod, err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return Response{Status: response.StatusCode, Header: response.Header, Body: content}, err
}

// RouterStatus is what of the router's own status the tests look at: see Status in internal/router.
type RouterStatus struct {
	OperatorConnected bool    `json:"operatorConnected"`
	Stable            string  `json:"stable"`
	Canary            string  `json:"canary"`
	CanaryWeight      float64 `json:"canaryWeight"` // percent
	Trip              *Trip   `json:"trip"`         // nil: it didn't trip
	Slots             []Slot  `json:"slots"`
}

// Trip is the router's own decision against the canary.
type Trip struct {
	Revision string `json:"revision"`
	Reason   string `json:"reason"`
	ByHand   bool   `json:"byHand"`
}

// Slot is one of the pod's two slots.
type Slot struct {
	Name     string `json:"name"`
	Version  string `json:"version"`
	Desired  int    `json:"desired"`
	Starting int    `json:"starting"`
	Ready    int    `json:"ready"` // idle
	Busy     int    `json:"busy"`
	Overflow int    `json:"overflow"`
	Queued   int    `json:"queued"`
	Boot     string `json:"boot"` // why workers don't come up
	Spawned  uint64 `json:"spawned"`
	// Exits count by reason how workers ended.
	Exits map[string]uint64 `json:"exits"`
	// ForkRefused is why workers aren't forked although they should be.
	ForkRefused string `json:"forkRefused"`
	// Inactive is what its version doesn't do of what is configured.
	Inactive []string `json:"inactive"`
	Crashed  uint64   `json:"crashed"`
}

// Serving is the number of workers that can take a request or are serving one.
func (s Slot) Serving() int { return s.Ready + s.Busy }

// Slot returns a slot by its name; empty when there is none.
func (s RouterStatus) Slot(name string) Slot {
	for _, slot := range s.Slots {
		if slot.Name == name {
			return slot
		}
	}
	return Slot{}
}

// Router asks the pod's router for its status.
func (a *App) Router(ctx context.Context) (RouterStatus, error) {
	var status RouterStatus
	return status, a.do(ctx, http.MethodGet, "/pool/v1/status", nil, &status)
}

// FollowLogs reads a container's log as it is written, until the container ends.
func (c *Cluster) FollowLogs(ctx context.Context, pod *corev1.Pod, container string) (io.ReadCloser, error) {
	url := fmt.Sprintf("%s/api/v1/namespaces/%s/pods/%s/log?follow=true&container=%s",
		strings.TrimSuffix(c.Config.Host, "/"), pod.Namespace, pod.Name, container)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		_ = response.Body.Close()
		return nil, fmt.Errorf("logs of %s in %s: %s", container, pod.Name, response.Status)
	}
	return response.Body, nil
}
