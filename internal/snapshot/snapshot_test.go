package snapshot_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/control/controlpb"
	"github.com/dspex/workerpool-operator/internal/revision"
	"github.com/dspex/workerpool-operator/internal/rollout"
	"github.com/dspex/workerpool-operator/internal/snapshot"
)

var (
	spec = &v1alpha1.WorkerPoolSpec{
		PoolVersion: v1alpha1.PoolV2, Size: 4, Overflow: 2, QueueLimit: new(int32(0)),
		Worker: v1alpha1.Worker{
			Image: "shop/worker:3", Python: "python3.12", WorkingDir: "/app", Module: "shop",
			Env:   []v1alpha1.EnvVar{{Name: "MODE", Value: "x"}},
			Start: v1alpha1.StartLazy, Preload: v1alpha1.PreloadZygote, Concurrency: 8,
			Recycle: &v1alpha1.Recycle{
				MaxRequests: 1000, MaxAge: &metav1.Duration{Duration: time.Hour}, MaxMemory: new(resource.MustParse("512Mi")),
			},
		},
		Timeouts: v1alpha1.Timeouts{Operation: &metav1.Duration{Duration: 1500 * time.Millisecond}, Start: &metav1.Duration{Duration: 5 * time.Minute}},
	}
	v2 = revision.Of(spec)
	v1 = v2.On(v1alpha1.PoolV1)
)

func wire(t revision.Text) *controlpb.Revision {
	return &controlpb.Revision{
		Hash: t.Hash(), Version: string(t.PoolVersion), Image: "shop/worker:3", Python: "python3.12", WorkingDir: "/app", Module: "shop",
		Env: []*controlpb.EnvVar{{Name: "MODE", Value: "x"}}, Preload: "Zygote", Concurrency: 8,
	}
}

func TestBuild(t *testing.T) {
	limits := &controlpb.Limits{
		QueueLimit: 0, CheckoutMs: 5000, OperationMs: 1500, DrainMs: 30000, StartMs: 300_000, Lazy: true,
		Recycle: &controlpb.Recycle{MaxRequests: 1000, MaxAgeMs: 3600_000, MaxMemoryBytes: 512 << 20},
	}
	canary := rollout.Place(v2, "b")
	for name, tc := range map[string]struct {
		in   snapshot.Input
		want *controlpb.Snapshot
	}{
		"the stable alone, in slot b: the weight means nothing": {
			snapshot.Input{Assignment: rollout.Assignment{Stable: rollout.Place(v2, "b")}, Weight: 500},
			&controlpb.Snapshot{
				Stable: "b", Limits: limits, Trip: &controlpb.TripRule{},
				Slots: []*controlpb.Slot{{Name: "a"}, {Name: "b", Revision: wire(v2), Size: 4, Overflow: 2}},
			},
		},
		"a canary at a quarter of a percent": {
			snapshot.Input{
				Assignment: rollout.Assignment{Stable: rollout.Place(v1, "a"), Canary: &canary},
				Weight:     25, Epoch: 7, Sequence: 3,
			},
			&controlpb.Snapshot{
				Stable: "a", Canary: "b", CanaryWeight: 25, Epoch: 7, Sequence: 3, Limits: limits, Trip: &controlpb.TripRule{},
				Slots: []*controlpb.Slot{
					{Name: "a", Revision: wire(v1), Size: 4, Overflow: 2},
					{Name: "b", Revision: wire(v2), Size: 4, Overflow: 2},
				},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tc.in.Spec, tc.in.Texts = spec, revision.Texts{v1.Hash(): v1, v2.Hash(): v2}
			got, err := snapshot.Build(tc.in)
			if diff := cmp.Diff(tc.want, got, protocmp.Transform()); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

// TestO79_WhatGoesToTheCanary: match and stickiness go with a canary, the rule of trips always.
func TestO79_WhatGoesToTheCanary(t *testing.T) {
	canary := rollout.Place(v2, "b")
	choosy := spec.DeepCopy()
	choosy.Canary = &v1alpha1.Canary{
		Match: &v1alpha1.Match{Commands: []string{"rank"}, Programs: []string{"p-1"}}, Stickiness: v1alpha1.StickinessSession,
	}
	choosy.Rollback.Policy = v1alpha1.RollbackDryRun
	type told struct {
		match      *controlpb.Match
		stickiness controlpb.Stickiness
	}
	for name, tc := range map[string]struct {
		canary *v1alpha1.SlotRevision
		want   told
	}{
		"a canary": {&canary, told{&controlpb.Match{Commands: []string{"rank"}, Programs: []string{"p-1"}}, controlpb.Stickiness_STICKINESS_SESSION}},
		"none":     {nil, told{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := snapshot.Build(snapshot.Input{
				Spec: choosy, Assignment: rollout.Assignment{Stable: rollout.Place(v1, "a"), Canary: tc.canary},
				Texts: revision.Texts{v1.Hash(): v1, v2.Hash(): v2}, TripToken: "again",
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want.match, got.GetMatch(), protocmp.Transform()); diff != "" || got.GetStickiness() != tc.want.stickiness {
				t.Errorf("stickiness %v, match (-want +got):\n%s", got.GetStickiness(), diff)
			}
			if diff := cmp.Diff(&controlpb.TripRule{Token: "again", ReportOnly: true}, got.GetTrip(), protocmp.Transform()); diff != "" {
				t.Errorf("TestO40: the rule of trips (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAMissingTextIsAnError(t *testing.T) {
	_, err := snapshot.Build(snapshot.Input{
		Spec: spec, Assignment: rollout.Assignment{Stable: rollout.Place(v1, "a")}, Texts: revision.Texts{v2.Hash(): v2},
	})
	if err == nil || !strings.Contains(err.Error(), v1.Hash()) {
		t.Errorf("error %v, want one that names revision %s", err, v1.Hash())
	}
}

// The API's defaults hold for a spec that never passed through the API server.
func TestDefaults(t *testing.T) {
	bare := &v1alpha1.WorkerPoolSpec{PoolVersion: v1alpha1.PoolV2, Size: 1, Worker: v1alpha1.Worker{Module: "m"}}
	assignment := rollout.First(bare)
	got, err := snapshot.Build(snapshot.Input{Spec: bare, Assignment: assignment, Texts: assignment.Texts(bare)})
	want := &controlpb.Limits{QueueLimit: 1000, CheckoutMs: 5000, OperationMs: 30000, DrainMs: 30000, StartMs: 120_000}
	if diff := cmp.Diff(want, got.GetLimits(), protocmp.Transform()); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}
