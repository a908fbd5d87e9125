//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dspex/workerpool-operator/test/e2e/harness"
)

// sleeping is a load of so many callers of a command that takes 10 ms, until it is ended.
func sleeping(callers int) harness.Load {
	return harness.Load{Callers: callers, Command: "sleep", Args: map[string]any{"ms": 10}}
}

// begin starts a load in each of the pods.
func (w *world) begin(apps []*harness.App, load harness.Load) {
	w.Helper()
	for _, app := range apps {
		w.must(app.Begin(w.ctx, load))
	}
}

// run makes a load that ends and returns its figures.
func (w *world) run(app *harness.App, load harness.Load) harness.Figures {
	w.Helper()
	figures, err := app.Run(w.ctx, load)
	w.must(err)
	return figures
}

// end ends the load of each of the pods and adds up what it came to.
func (w *world) end(apps []*harness.App) harness.Figures {
	w.Helper()
	sum := harness.Figures{Versions: map[string]harness.VersionFigures{}, Errors: map[string]uint64{}}
	for _, app := range apps {
		f, err := app.End(w.ctx)
		w.must(err)
		sum.Requests += f.Requests
		sum.Lost += f.Lost
		for version, v := range f.Versions {
			all := sum.Versions[version]
			all.Requests += v.Requests
			all.Errors += v.Errors
			sum.Versions[version] = all
		}
		for problem, n := range f.Errors {
			sum.Errors[problem] += n
		}
	}
	return sum
}

// lostNone fails the test when a request was lost, or when there were none to lose.
func lostNone(t *testing.T, figures harness.Figures) {
	t.Helper()
	if figures.Lost != 0 || figures.Requests == 0 {
		t.Errorf("lost %d of %d requests (%v), want none lost of some", figures.Lost, figures.Requests, figures.Errors)
	}
}

// call sends one command; the headers are name, value, name, value...
func (w *world) call(app *harness.App, command, body string, headers ...string) harness.Response {
	w.Helper()
	header := http.Header{}
	for i := 0; i+1 < len(headers); i += 2 {
		header.Set(headers[i], headers[i+1])
	}
	response, err := app.Call(w.ctx, command, strings.NewReader(body), header)
	w.must(err)
	return response
}

// router returns what a pod's router says of itself.
func (w *world) router(app *harness.App) harness.RouterStatus {
	w.Helper()
	status, err := app.Router(w.ctx)
	w.must(err)
	return status
}

// watchReadiness notes every moment at which a pod isn't ready, until the function that it returns is called.
func (w *world) watchReadiness(pod *corev1.Pod) (interruptions func() []string) {
	w.Helper()
	changes, err := cluster.Watch(w.ctx, &corev1.PodList{}, client.InNamespace(pod.Namespace),
		client.MatchingFields{"metadata.name": pod.Name})
	w.must(err)
	var seen []string
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for change := range changes.ResultChan() {
			if p, ok := change.Object.(*corev1.Pod); ok && !harness.PodReady(p) {
				seen = append(seen, time.Now().Format(time.StampMilli)+" not ready")
			}
		}
	}()
	return func() []string {
		changes.Stop()
		<-ended
		return seen
	}
}

// stable returns the slot that serves as the stable one in a pod.
func (w *world) stable(app *harness.App) harness.Slot {
	w.Helper()
	status := w.router(app)
	return status.Slot(status.Stable)
}

func show(value any) string { return fmt.Sprintf("%+v", value) }
