// Package slotproto holds what router and slot say to each other beside requests: the configuration that the
// router gives and the status that the slot reports. Both travel as JSON in Configure and Status frames.
package slotproto

import (
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// Hello opens a connection. On a data connection the router sends one Request at a time and reads its reply; the
// control connection carries Configure, Cancel and Recall (of a request's id) and Status. When the control
// connection ends, or that router instance opens another, every request of the instance is cancelled, and what is read later
// from data connections that were opened before isn't run.
type Hello struct {
	Role     Role   `json:"role"`
	Instance string `json:"instance"` // of the router process; groups its connections
	// Session counts the instance's control connections, from 1. A data connection belongs to the one that it names. 0, for
	// both: to the one that is there.
	Session  uint64 `json:"session,omitempty"`
	Protocol int    `json:"protocol"` // 1
}

// Role of a connection.
type Role string

// Roles.
const (
	Control Role = "control"
	Data    Role = "data"
	// Probe is Data for Pings only: whether they are answered tells whether requests would be.
	Probe Role = "probe"
)

// Protocol is the version that both sides must speak.
const Protocol = 1

// Config is the whole desired state of a slot. The same Config twice is a no-op. Worker nil: idle, no processes.
type Config struct {
	Pool     string        `json:"pool"` // the WorkerPool's name, for errors and logs
	Revision string        `json:"revision,omitempty"`
	Version  pool.Version  `json:"version,omitempty"`
	Worker   *Worker       `json:"worker,omitempty"`
	Size     int           `json:"size"`
	Overflow int           `json:"overflow"`
	Queue    int           `json:"queueLimit"`
	Checkout time.Duration `json:"checkout"` // ns, as all durations here
	Op       time.Duration `json:"operation"`
	Drain    time.Duration `json:"drain"`
	Start    time.Duration `json:"start,omitempty"` // of a worker; 0: the slot's own default
	Recycle  pool.Recycle  `json:"recycle,omitzero"`
	Lazy     bool          `json:"lazy,omitempty"`
}

// Worker says how a worker process is made; it is part of the revision.
type Worker struct {
	Python     string   `json:"python,omitempty"`
	WorkingDir string   `json:"workingDir,omitempty"`
	Module     string   `json:"module"`
	Env        []EnvVar `json:"env,omitempty"`
	Preload    Preload  `json:"preload,omitempty"`
	// Concurrency is how many requests one worker serves at the same time (V2 only). 0: 1.
	Concurrency int `json:"concurrency,omitempty"`
}

// Preload says how workers come to their imports; "": each imports the module itself.
type Preload string

// PreloadZygote has workers forked from a process that has imported the module.
const PreloadZygote Preload = "Zygote"

// EnvVar is a literal variable.
type EnvVar struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Status is what a slot says at every change, and once a second.
type Status struct {
	Slot     string       `json:"slot"`
	Revision string       `json:"revision,omitempty"` // "" while idle
	Version  pool.Version `json:"version,omitempty"`

	Desired  int `json:"desired"` // after capping
	Starting int `json:"starting"`
	Ready    int `json:"ready"` // idle and able to serve
	Busy     int `json:"busy"`
	Overflow int `json:"overflow"`
	Queued   int `json:"queued"`
	// Unstarted workers are started as soon as requests need them (Config.Lazy): they are as good as ready. 0 while starts
	// fail.
	Unstarted int `json:"unstarted,omitempty"`
	// MaxWorkers is what the container's limits allow (0: no limit); Capped tells that Config asked for more.
	MaxWorkers int  `json:"maxWorkers,omitempty"`
	Capped     bool `json:"capped,omitempty"`

	Boot *pool.BootFailure `json:"boot,omitempty"`
	// Startup is set while workers are starting or missing. Its Line is short, and of printable characters.
	Startup *pool.Startup `json:"startup,omitempty"`
	// Unhealthy is set while no worker answers, though their processes are there.
	Unhealthy *pool.Unhealthy `json:"unhealthy,omitempty"`
	// Exits count by reason how workers of the current pool ended: "memory" (before the container's limit was reached),
	// "oom" (by the kernel), "hung", "timeout", "recycled", a signal, an exit status.
	Exits map[string]uint64 `json:"exits,omitempty"`
	// ForkRefused tells why workers are started one by one although the configuration wants them forked; "": they aren't.
	ForkRefused string `json:"forkRefused,omitempty"`
	// Inactive tells of what the configuration has and this version of the pool doesn't do, one sentence each.
	Inactive []string `json:"inactive,omitempty"`

	// Commands are the names that the revision's workers registered; none before the first worker is up.
	// MoreCommands: there are others too, or they are too long to tell.
	Commands     []string `json:"commands,omitempty"`
	MoreCommands bool     `json:"moreCommands,omitempty"`

	Spawned   uint64 `json:"spawned"`
	Destroyed uint64 `json:"destroyed"`
	Crashed   uint64 `json:"crashed"`
	// PoolCrashed is Crashed without the pools that were replaced, which may still be draining: it is Revision's alone.
	PoolCrashed uint64 `json:"poolCrashed,omitempty"`

	RSS uint64 `json:"rssBytes"` // of the supervisor itself
	// Memory (PSS and swap) and open files of all live workers, as they were a few seconds ago; those of pools that are
	// being drained too. CPU is of all workers since the slot started, those that have ended too.
	Memory uint64  `json:"workersMemoryBytes"`
	FDs    int     `json:"workersOpenFDs"`
	CPU    float64 `json:"workersCPUSeconds"`

	Workers []pool.WorkerStats `json:"workers,omitempty"`

	// Revisions tell apart what is summed up above: by the revisions of pools that are there or ended lately.
	Revisions []RevisionWorkers `json:"revisions,omitempty"`
}

// RevisionWorkers are the workers that a slot has had of one revision since it started. Live, Places, Memory and FDs are
// of those that it has now.
type RevisionWorkers struct {
	Revision  string  `json:"revision"`
	Live      int     `json:"live"`
	Places    int     `json:"places"` // requests that they serve at the same time, at most
	Spawned   uint64  `json:"spawned"`
	Destroyed uint64  `json:"destroyed"`
	Crashed   uint64  `json:"crashed"`
	CPU       float64 `json:"cpuSeconds"`
	Memory    uint64  `json:"memoryBytes"`
	FDs       int     `json:"openFDs"`
}
