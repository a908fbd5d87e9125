package controllers

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dspex/workerpool-operator/internal/analysis"
	"github.com/dspex/workerpool-operator/internal/rollout"
)

// Metrics of the rollouts. None has a label per object: a cluster has many pools.
type Metrics struct {
	Rollbacks *prometheus.CounterVec // by reason
}

// NewMetrics makes the metrics and registers them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{Rollbacks: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "workerpool_rollbacks_total", Help: "Canaries that were rolled back, by reason.",
	}, []string{"reason"})}
	for _, reason := range []string{
		string(analysis.ErrorRateExceeded), string(analysis.TimeoutRateExceeded), rollout.ReasonPodsTripped, rollout.ReasonAborted,
	} {
		m.Rollbacks.WithLabelValues(reason) // a series that begins with its first rollback would hide that one from rate()
	}
	r.MustRegister(m.Rollbacks)
	return m
}
