//go:build e2e

// Package e2e tells the project's stories on the real local cluster: what a user applies, what the application sees,
// what `kubectl get workerpools` says. Every test has a namespace of its own, under Pod Security "restricted".
//
//	go test -tags e2e -parallel 4 ./test/e2e
//
// world_test.go is what a test has at hand; the sample application and its figures are in config/samples/app.
package e2e

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"testing"

	"github.com/dspex/workerpool-operator/test/e2e/harness"
)

var cluster *harness.Cluster

// TestMain brings up whatever is missing: the cluster, the images, the operator.
func TestMain(m *testing.M) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if cluster, err = harness.Up(ctx, os.Stderr); err == nil {
		err = cluster.DeployOperator(ctx, os.Stderr)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}
