package pool

import (
	"sync"
	"time"

	"github.com/dspex/workerpool-operator/internal/histogram"
)

// Meter counts how operations end. The zero value is ready; safe for concurrent use.
type Meter struct {
	mu      sync.Mutex
	counts  Stats // only the counters that Observe moves
	wait    histogram.Histogram
	service histogram.Histogram
}

// Observe counts one operation. err nil: it succeeded; service 0: it never reached a worker.
func (m *Meter) Observe(reply Reply, err *Error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counts.Requests++
	m.wait.Observe(reply.Wait)
	if reply.Service > 0 {
		m.service.Observe(reply.Service)
	}
	if err == nil {
		if reply.Failed == PythonError {
			m.counts.Errors++
		}
		return
	}
	switch err.Type {
	case PythonError:
		m.counts.Errors++
	case CommandTimeout, DeadlineExceeded:
		m.counts.Timeouts++
	case QueueFull, WorkerBusy, CheckoutTimeout, NotAvailable:
		m.counts.Shed++
	case Cancelled:
		m.counts.Cancelled++
	default:
		if err.Infrastructure() {
			m.counts.Infrastructure++
		}
	}
}

// RetryAfter estimates when one of busy workers will be free: the mean service time, shared by them. Before the
// first operation it is unknownService.
func (m *Meter) RetryAfter(busy int) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.service.Count == 0 {
		return unknownService
	}
	mean := time.Duration(m.service.SumUS/m.service.Count) * time.Microsecond
	return mean / time.Duration(max(1, busy))
}

const unknownService = 250 * time.Millisecond

// Fill copies the counters into s.
func (m *Meter) Fill(s *Stats) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s.Requests, s.Errors, s.Timeouts = m.counts.Requests, m.counts.Errors, m.counts.Timeouts
	s.Shed, s.Cancelled, s.Infrastructure = m.counts.Shed, m.counts.Cancelled, m.counts.Infrastructure
	wait, service := m.wait, m.service
	s.Wait, s.Service = &wait, &service
}
