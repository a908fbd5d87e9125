package router

import (
	"io"
	"net/http"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/router/state"
)

// ResetPath has the workers of a slot replaced: POST, with the slot's name as the body; empty: of all that serve.
const ResetPath = "/v1/reset"

// ResetAnswer says whose workers are being replaced.
type ResetAnswer struct {
	Pool  string     `json:"pool"`
	Slots []ServedBy `json:"slots"`
}

func (r *Router) serveReset(w http.ResponseWriter, req *http.Request) {
	x := newExchange(w, req)
	name, _ := io.ReadAll(io.LimitReader(req.Body, maxReason))
	answer, err := r.ResetByHand(string(name))
	if err != nil {
		r.writeError(&x, err)
		return
	}
	x.answer(http.StatusOK, answer)
}

// ResetByHand has the workers of the slot of that name, or of all that serve (""), replaced one after the other. It doesn't
// wait for that; no request fails for it.
func (r *Router) ResetByHand(name string) (*ResetAnswer, error) {
	if name != "" && name != state.SlotA && name != state.SlotB {
		return nil, r.named(pool.NewError(pool.RequestError, pool.InvalidPayload,
			"there is no slot %q; name %s or %s, or none for all that serve", head(name, maxShownPath), state.SlotA, state.SlotB))
	}
	answer := &ResetAnswer{Pool: r.cfg.Pool, Slots: []ServedBy{}}
	t := r.table.Load()
	if t == nil {
		return nil, r.unconfigured()
	}
	for _, to := range []*target{t.stable, t.canary} {
		if to == nil || name != "" && to.slot.Name() != name {
			continue
		}
		if err := to.slot.Reset(); err != nil {
			return nil, err
		}
		r.log.Info("workers are replaced by hand", "slot", to.slot.Name(), "revision", to.revision)
		answer.Slots = append(answer.Slots, servedBy(to))
	}
	if len(answer.Slots) == 0 {
		return nil, r.named(pool.NewError(pool.ResourceError, pool.NotAvailable, "slot %s is idle: it has no workers to replace", name))
	}
	return answer, nil
}
