package table

import (
	"fmt"
	"strconv"
)

// Row is one figure with its target.
type Row struct {
	Name   string   // stable, for machines
	What   string   // for people
	Value  *float64 // nil: not measured
	Unit   string
	Target string
	Met    *bool  // nil: not measured
	Note   string // why it wasn't measured
}

// goal is a row before it has a value.
type goal struct {
	name, what, unit string
	atMost, atLeast  float64 // one of them
	value            func(Results) (float64, error)
	missing          string // what has to be built before there is a value
}

// Rows holds the results against the targets. cores is how many cores the machine has for the run.
func Rows(r Results, cores int) []Row {
	goals := goals(cores)
	rows := make([]Row, len(goals))
	for i, g := range goals {
		rows[i] = g.row(r)
	}
	return rows
}

func (g goal) row(r Results) Row {
	row := Row{Name: g.name, What: g.what, Unit: g.unit, Target: g.target()}
	if g.missing != "" {
		row.Note = "not built yet: " + g.missing
		return row
	}
	value, err := g.value(r)
	if err != nil {
		row.Note = "not measured: " + err.Error()
		return row
	}
	met := g.met(value)
	row.Value, row.Met = &value, &met
	return row
}

func (g goal) target() string {
	if g.atLeast > 0 {
		return "≥ " + plain(g.atLeast)
	}
	return "≤ " + plain(g.atMost)
}

func (g goal) met(value float64) bool {
	if g.atLeast > 0 {
		return value >= g.atLeast
	}
	return value <= g.atMost
}

func plain(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

func goals(cores int) []goal {
	var all []goal
	all = append(all, limits()...)
	all = append(all, memory())
	all = append(all, parallel(cores)...)
	all = append(all, peers()...)
	all = append(all, batches()...)
	all = append(all, starts()...)
	all = append(all, missing()...)
	return append(all, goal{
		name: "pool.checkout_wait_p99.256_callers", what: "wait for a worker, p99, V2, 256 callers, echo of 200 B", unit: "ms", atMost: 10,
		value: func(r Results) (float64, error) { return r.value(V2, crowded, waitP99) },
	})
}

// limits compare with what cannot be undercut.
func limits() (goals []goal) {
	for _, size := range sizes[:2] {
		goals = append(goals, goal{
			name: "pool.v2_opaque_over_pingpong_p50." + id(size), what: "V2 opaque / raw ping-pong, p50, one core, " + size, unit: "×", atMost: 1.15,
			value: func(r Results) (float64, error) { return r.ratio(V2Opaque, PingPong, alone(size), median50) },
		})
	}
	for _, size := range sizes[:2] {
		goals = append(goals, goal{
			name: "pool.v2_over_pingpong_same_codec_p50." + id(size), what: "V2 / ping-pong with the same codec, p50, one core, " + size, unit: "×", atMost: 1.3,
			value: func(r Results) (float64, error) { return r.ratio(V2, PingPongJSON, alone(size), median50) },
		})
	}
	return goals
}

// memory compares the ways that large payloads can go.
func memory() goal {
	const size = "256 KB"
	return goal{
		name: "pool.shared_memory_over_pipe." + id(size), what: "V2 opaque, shared memory against pipe, p50, one core, " + size, unit: "×", atLeast: 5,
		value: func(r Results) (float64, error) { return r.ratio(V2OpaquePipe, V2Opaque, alone(size), median50) },
	}
}

// parallel is what V2 is for. Work is shared by cores, waiting isn't.
func parallel(cores int) []goal {
	usable := min(cores, Workers)
	return []goal{
		{
			name: "pool.v2_over_v1_sleep.n4", what: "V2 / V1, 10 ms sleeps, N = 4 (target 0.98 N)", unit: "×", atLeast: 0.98 * Workers,
			value: func(r Results) (float64, error) { return r.ratio(V2, V1, sleeping, perSecond) },
		},
		{
			name: "pool.v2_over_v1_sleep.n16", what: "V2 / V1, 10 ms sleeps, N = 16 (target 0.98 N)", unit: "×", atLeast: 0.98 * manyWorkers,
			value: func(r Results) (float64, error) { return r.ratio(V2, V1, sleepingMany, perSecond) },
		},
		{
			name:    "pool.v2_over_v1_burn.n4",
			what:    fmt.Sprintf("V2 / V1, 5 ms of CPU, N = 4 on %d cores (target 0.97 × cores)", cores),
			unit:    "×",
			atLeast: 0.97 * float64(usable),
			value:   func(r Results) (float64, error) { return r.ratio(V2, V1, burning, perSecond) },
		},
		{
			name: "pool.v2_share_of_ideal_sleep.n4", what: "V2, share of N / 10 ms with 10 ms sleeps, N = 4", unit: "%", atLeast: 97,
			value: func(r Results) (float64, error) {
				v, err := r.value(V2, sleeping, perSecond)
				return 100 * v / ideal(sleeping), err
			},
		},
	}
}

// ideal is how many requests a second N workers could serve if a handler of 10 ms took 10 ms and all else nothing.
func ideal(w Workload) float64 { return float64(w.Workers) * 100 }

func peers() (goals []goal) {
	for _, p := range []struct {
		who, name, what string
		small, kb       float64 // targets at 200 B and 4 KB
	}{
		{Executor, "process_pool_executor", "ProcessPoolExecutor", 6, 4},
		{MPApply, "mp_pool", "multiprocessing.Pool", 3.5, 3.5},
		{MPPipe, "mp_pipe", "hand-written multiprocessing.Pipe pool", 1.5, 1.5},
	} {
		for i, target := range []float64{p.small, p.kb} {
			size := sizes[i]
			goals = append(goals, goal{
				name: "pool.v2_over_" + p.name + "_rps." + id(size), what: "V2 / " + p.what + ", requests/s, 8 callers, " + size,
				unit: "×", atLeast: target,
				value: func(r Results) (float64, error) { return r.ratio(V2, p.who, together(size), perSecond) },
			})
		}
	}
	return goals
}

// batches are many inputs in one call, against what Python has for that.
func batches() (goals []goal) {
	for _, size := range sizes[:2] {
		goals = append(goals, goal{
			name: "pool.batch_over_mp_map_rps." + id(size), what: "V2's batch call / multiprocessing.Pool.map in chunks, inputs/s, " + size, unit: "×", atLeast: 1.3,
			value: func(r Results) (float64, error) { return r.ratio(V2Batch, MPMap, together(size), perSecond) },
		})
	}
	return goals
}

// starts are what a zygote is for.
func starts() []goal {
	return []goal{
		{
			name: "pool.fork_ready.100MB", what: "worker with a heap of 100 MB, from fork to ready, p50 of 16", unit: "ms", atMost: 10,
			value: func(r Results) (float64, error) { return r.value(Forked, starting, startP50) },
		},
		{
			name: "pool.fork_uss.100MB", what: "its private memory after a call", unit: "MB", atMost: 3,
			value: func(r Results) (float64, error) { return r.value(Forked, starting, private) },
		},
	}
}

// missing are rows whose feature doesn't exist: they stand in the table so that nobody takes silence for success.
func missing() []goal {
	return []goal{}
}
