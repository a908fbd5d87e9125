package router

import (
	"context"
	"errors"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/router/slotclient"
	"github.com/dspex/workerpool-operator/internal/router/state"
)

const (
	// firstConfigWait bounds how long a request waits for the router's first configuration.
	firstConfigWait = 5 * time.Second
	// reconnectPause is the wait between tries to reach a slot whose control connection stands and that takes no
	// data connection: it is just going, or just coming.
	reconnectPause = 20 * time.Millisecond
	// maxAttempts bounds how often a request is offered to slots that turn it away unstarted. Tries at a slot that
	// can't be reached don't count: the call's checkout bounds them.
	maxAttempts = 3
)

// call is one request of the application.
type call struct {
	command  string
	payload  []byte
	budget   time.Duration     // asked for by the caller; 0: the pool's checkout and operation timeouts
	version  pool.Version      // asked for by the caller; "": by weight
	session  string            // id; "": anonymous
	affinity pool.AffinityMode // to the worker that served the session last, of the slot that the call goes to
	program  string            // id; "": a plain command
	batch    bool              // payload has the arguments of many calls
	fixed    *pool.Program     // what the program's inputs add to payload; nil for a plain command
	start    time.Time
	sent     time.Time // to a slot, the last time

	idempotent bool // the caller says that it may run more than once
	apart      bool // it doesn't match, and so can't be the canary's
}

// span holds the ends of a call: of waiting for a slot, and of the whole.
type span struct{ checkout, deadline time.Time }

func (c *call) span(l limits) span {
	total := l.checkout + l.operation
	if c.budget > 0 {
		total = min(total, c.budget)
	}
	return span{checkout: c.start.Add(min(l.checkout, total)), deadline: c.start.Add(total)}
}

// do runs one call on the slot that its weight, or its version, says, and tells which that was. A call whose slot
// is away waits for it, or goes to the other one; a call that was sent is never sent again.
func (r *Router) do(ctx context.Context, c call) (slotclient.Reply, *target, error) {
	t, err := r.configured(ctx, &c)
	if err != nil {
		return slotclient.Reply{}, nil, r.count(&c, stable, nil, slotclient.Reply{}, err)
	}
	role, err := r.roleOf(t, &c)
	if err != nil {
		return slotclient.Reply{}, nil, err
	}
	ends := c.span(t.limits)
	to, err := r.await(ctx, &c, role, ends)
	var reply slotclient.Reply
	for attempts := 1; err == nil; {
		reply, err = r.send(ctx, &c, role, to, ends.deadline)
		if errors.Is(err, slotclient.ErrUnreachable) && r.pause(ctx, ends.checkout) {
			to, err = r.await(ctx, &c, role, ends)
			continue
		}
		if turnedAway(err) && ctx.Err() != nil {
			err = gaveUp(&c)
		}
		if turnedAway(err) && to.watch.recalled() && role != pinned {
			to, err = r.await(ctx, &c, role, ends) // the stable, also when that has to be waited for
			continue
		}
		if !turnedAway(err) || attempts >= maxAttempts {
			break
		}
		next := r.elsewhere(to, role, &c)
		if next == nil {
			break
		}
		if r.table.Load().names(to) { // else it is as it should be: requests are leaving that slot
			_ = r.count(&c, role, to, reply, err)
		}
		to, err = next, nil
		attempts++
	}
	return reply, to, r.count(&c, role, to, reply, err)
}

// send runs a call on a slot, unless that has as many as it takes. What asks for the canary's version isn't taken back
// when the canary trips.
func (r *Router) send(ctx context.Context, c *call, role role, to *target, deadline time.Time) (slotclient.Reply, error) {
	defer to.inside.Add(-1)
	if n := to.inside.Add(1); n > int64(to.places) {
		return slotclient.Reply{}, r.full(to, int(n)-1)
	}
	c.sent = time.Now()
	request := slotclient.Request{
		Command: c.command, Payload: c.payload, Program: c.fixed, Session: c.session, ProgramID: c.program, Batch: c.batch,
		Affinity: c.affinity, Idempotent: c.idempotent, Deadline: deadline,
	}
	if to.watch != nil && role != pinned {
		request.Recall = to.watch.recall
	}
	return to.slot.Do(ctx, request)
}

// count records the end of a call with its revision, and returns err with what set the time that was over. Calls that
// asked for a version are tests: they must not move the figures that a rollout is decided by, nor trip the canary.
func (r *Router) count(c *call, role role, to *target, reply slotclient.Reply, err error) error {
	now := time.Now()
	end := outcomeOf(reply.Failed, err)
	if err != nil {
		end, err = r.judgeFailure(c, to, reply, end, err, now)
	}
	if to != nil && role != pinned {
		to.counters.record(end, c.apart, now.Sub(c.start), reply.Service)
		r.observe(c, to, reply, end, err, now)
	}
	return err
}

// judgeFailure logs a call that the pool has failed, and returns the outcome and the error that it is for its caller.
func (r *Router) judgeFailure(c *call, to *target, reply slotclient.Reply, end outcome, err error, now time.Time) (outcome, error) {
	if end == infrastructure || end == unavailable {
		r.faults.failed(c, to, asPoolError(err), now)
	}
	t := r.table.Load()
	if t == nil {
		return end, err
	}
	if end == timedOut && c.waitedAway(t.limits, reply.Service, err) {
		end = expired
	}
	return end, c.outOfTime(t.limits, err)
}

// turnedAway reports whether a slot refused a request without starting it, for a reason that is the slot's.
func turnedAway(err error) bool {
	if err == nil {
		return false // and nothing is allocated
	}
	var e *pool.Error
	return errors.As(err, &e) && e.Type == pool.NotAvailable && !e.Sent
}

// elsewhere returns where a call may go that was turned away by from: to what a newer table says, or to the other
// slot of this one; nil when there is nowhere.
func (r *Router) elsewhere(from *target, role role, c *call) *target {
	t := r.table.Load()
	switch {
	case !t.names(from):
		return t.pick(role, c)
	case role == pinned:
		return nil
	}
	return t.other(from, c)
}

// configured returns the table, waiting for the first one.
func (r *Router) configured(ctx context.Context, c *call) (*table, error) {
	if t := r.table.Load(); t != nil {
		return t, nil
	}
	timer := time.NewTimer(waitFor(c.budget, firstConfigWait))
	defer timer.Stop()
	for {
		news := r.news.next()
		if t := r.table.Load(); t != nil {
			return t, nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return nil, gaveUp(c)
		case <-timer.C:
			return nil, r.unconfigured()
		}
	}
}

func waitFor(budget, most time.Duration) time.Duration {
	if budget > 0 {
		return min(budget, most)
	}
	return most
}

// await returns the slot for the call as soon as there is one. When there is none until the call's checkout ends, it
// returns an error, with the slot that was waited for.
func (r *Router) await(ctx context.Context, c *call, role role, ends span) (*target, error) {
	t := r.table.Load()
	if to := t.pick(role, c); to != nil {
		return to, nil
	}
	awaited := t.expected(role, c.version)
	if awaited == nil {
		return nil, r.versionNotServed(t, c.version)
	}
	defer r.waiting.Add(-1)
	if n := r.waiting.Add(1); n > int64(awaited.places) {
		return awaited, r.tooManyWait(awaited.places)
	}
	timer := time.NewTimer(time.Until(ends.checkout))
	defer timer.Stop()
	for {
		news, slotA, slotB := r.news.next(), r.slots[state.SlotA].Changed(), r.slots[state.SlotB].Changed()
		t := r.table.Load()
		if to := t.pick(role, c); to != nil {
			return to, nil
		}
		if awaited = t.expected(role, c.version); awaited == nil {
			return nil, r.versionNotServed(t, c.version)
		}
		select {
		case <-news:
		case <-slotA:
		case <-slotB:
		case <-ctx.Done():
			return awaited, gaveUp(c)
		case <-timer.C:
			return awaited, r.away(awaited, c)
		}
	}
}

// pause waits a moment before the next try; false when the call's checkout has ended.
func (r *Router) pause(ctx context.Context, until time.Time) bool {
	remaining := time.Until(until)
	if remaining <= 0 {
		return false
	}
	timer := time.NewTimer(min(remaining, reconnectPause))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
