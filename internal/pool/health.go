package pool

import (
	"fmt"
	"time"
)

// Heartbeat says how workers show that they can still serve. Any operation that ends does; one that has had none for
// Every is sent a ping, which takes a moment in which it serves nobody. One that doesn't answer it within Patience is
// replaced. A worker that serves is sent none: its operation has a deadline.
type Heartbeat struct {
	Every    time.Duration // 0: DefaultHeartbeat.Every
	Patience time.Duration // 0: DefaultHeartbeat.Patience
}

// DefaultHeartbeat is used where Limits have none.
var DefaultHeartbeat = Heartbeat{Every: 10 * time.Second, Patience: 5 * time.Second}

// OrDefault fills in what isn't set.
func (h Heartbeat) OrDefault() Heartbeat {
	if h.Every <= 0 {
		h.Every = DefaultHeartbeat.Every
	}
	if h.Patience <= 0 {
		h.Patience = DefaultHeartbeat.Patience
	}
	return h
}

// Unhealthy is a state: whatever was asked of the workers, as many times as there were workers, took all of its time, and
// nothing has ended well since, neither an operation nor a ping. The processes are replaced meanwhile, and their number
// looks right.
type Unhealthy struct {
	Reason  string    `json:"reason"`  // WorkersHung
	Message string    `json:"message"` // one line: what and the way out
	Since   time.Time `json:"since"`   // when the first of these ran out of its time
	// Missed are the operations and pings that have since.
	Missed int `json:"missed"`
}

// ReasonWorkersHung is the state's name, as conditions show it.
const ReasonWorkersHung = "WorkersHung"

// NewUnhealthy tells of so many operations and pings that weren't answered.
func NewUnhealthy(missed int, since time.Time) *Unhealthy {
	return &Unhealthy{
		Reason: ReasonWorkersHung, Since: since, Missed: missed,
		Message: fmt.Sprintf("no worker has answered since %s: whatever was asked of them took all of its time, and those that had it are replaced; "+
			"look at what the handlers wait for, and at the slot's log", since.UTC().Format(time.RFC3339)),
	}
}
