package main

import (
	"context"
	"fmt"
	"time"

	"github.com/dspex/workerpool-operator/hack/bench-pool/contestant"
	"github.com/dspex/workerpool-operator/hack/bench-pool/table"
)

// phase starts the contestants, gives each its turns, and ends them. Whoever fails is absent from what follows, with
// the reason; the others go on.
func (b *bench) phase(ctx context.Context, phase table.Phase) error {
	first := phase.Workloads[0]
	up := map[string]*process{}
	defer func() {
		for _, p := range up {
			p.end()
		}
	}()
	fmt.Printf("%s ", phase.Title)
	start := time.Now()
	for _, name := range phase.Contestants {
		if !b.takesPart(name) {
			continue
		}
		p, err := b.begin(ctx, name, first.Workers, first.Pinned)
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			b.drop(name, err)
			continue
		}
		up[name] = p
	}
	for _, workload := range phase.Workloads {
		if err := b.turns(ctx, phase.Contestants, up, workload); err != nil {
			return err
		}
	}
	fmt.Printf(" %.0f s\n", time.Since(start).Seconds())
	return nil
}

// turns are the rounds of one workload. Each round begins with another contestant, so that none always follows the
// same one.
func (b *bench) turns(ctx context.Context, names []string, up map[string]*process, w table.Workload) error {
	for round := range b.turnsOf(w) {
		fmt.Print(".")
		for i := range names {
			name := names[(i+round)%len(names)]
			p := up[name]
			if p == nil || !table.Takes(name, w) {
				continue
			}
			figures, err := p.round(ctx, w, b.turn(w))
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil {
				b.drop(name, fmt.Errorf("%s of %s: %w", w.Command, w.Size, err))
				p.end()
				delete(up, name)
				continue
			}
			key := table.Key{Contestant: name, Workload: w}
			b.results[key] = append(b.results[key], figures)
		}
	}
	return nil
}

// turnsOf is fewer for payloads of which a few calls take all the time of a turn, and more, and where workers start.
func (b *bench) turnsOf(w table.Workload) int {
	if contestant.Sizes[w.Size] >= 1<<20 || w.Command == table.Start {
		return min(b.rounds, 3)
	}
	return b.rounds
}

// turn is how long one lasts. Calls that take long need more time for the same number of them.
func (b *bench) turn(w table.Workload) time.Duration {
	if w.Command == "echo" {
		return b.length
	}
	return 4 * b.length
}

func (b *bench) drop(name string, why error) {
	fmt.Printf("\n%s: %v\n", name, why)
	b.absent[name] = why.Error()
}
