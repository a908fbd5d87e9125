package control

import "github.com/prometheus/client_golang/prometheus"

// Metrics of the channel. None has a label per object: a cluster has many pools.
type Metrics struct {
	Connected prometheus.Gauge
	Sent      prometheus.Counter
	Refused   prometheus.Counter
	Rejected  *prometheus.CounterVec // by reason
}

// NewMetrics makes the metrics and registers them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		Connected: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "workerpool_control_routers_connected", Help: "Routers with a stream to this operator.",
		}),
		Sent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "workerpool_control_snapshots_sent_total", Help: "Snapshots sent to routers.",
		}),
		Refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "workerpool_control_snapshots_refused_total", Help: "Snapshots that a router refused.",
		}),
		Rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "workerpool_control_streams_rejected_total", Help: "Streams that weren't let in, by reason.",
		}, []string{"reason"}),
	}
	r.MustRegister(m.Connected, m.Sent, m.Refused, m.Rejected)
	return m
}
