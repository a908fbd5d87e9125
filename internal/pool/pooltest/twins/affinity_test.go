package twins

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/affinity"
	"github.com/dspex/workerpool-operator/internal/pool/checkout"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
	"github.com/dspex/workerpool-operator/internal/pool/pooltest"
)

func sharedV2(ctx context.Context, name string, l crew.Launch, limits pool.Limits, log *slog.Logger) pool.Pool {
	limits.Concurrency = 2
	return checkout.NewShared(ctx, name, l, limits, log)
}

// A key whose worker is busy with others is refused by strict-now, until it wasn't used for so long.
func TestP69_AffinityEndsWithItsIdleTime(t *testing.T) {
	for name, tc := range map[string]struct {
		open   pooltest.Factory
		places int // of one worker
	}{"v1": {v1, 1}, "v2": {v2, 1}, "v2, shared": {sharedV2, 2}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := keyed{t, tc.open(t.Context(), name, (&stage{}).launch, roomy(1, 0), slog.New(slog.DiscardHandler))}
				synctest.Wait()
				p.used("a")
				if err := p.afterIdle("a", affinity.IdleTime-1, tc.places); err == nil {
					t.Error("forgotten too early")
				}
				p.used("a")
				if err := p.afterIdle("a", affinity.IdleTime, tc.places); err != nil {
					t.Errorf("after its idle time: %v", err)
				}
				if err := p.Close(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// keyed is a pool whose requests have keys.
type keyed struct {
	*testing.T
	pool.Pool
}

func (p keyed) ask(key string, mode pool.AffinityMode, service time.Duration) error {
	payload, err := json.Marshal(operation{Kind: "echo", Service: service})
	if err != nil {
		p.Fatal(err)
	}
	_, err = p.Do(p.Context(), pool.Request{Command: "echo", Payload: payload, Affinity: pool.Affinity{Key: key, Mode: mode}})
	return err
}

func (p keyed) used(key string) {
	p.Helper()
	if err := p.ask(key, pool.AffinityStrict, time.Second); err != nil {
		p.Fatal(err)
	}
}

// afterIdle asks with strict-now for the key, unused for so long, while another key has all places.
func (p keyed) afterIdle(key string, idle time.Duration, places int) (err error) {
	time.Sleep(idle - time.Second)
	var others sync.WaitGroup
	for range places {
		others.Go(func() {
			if err := p.ask("other", pool.AffinityStrict, 2*time.Second); err != nil {
				p.Error(err)
			}
		})
	}
	time.Sleep(time.Second)
	err = p.ask(key, pool.AffinityStrictNow, time.Second)
	others.Wait()
	return err
}
