package table

// Names of contestants, as Serve and peers.py know them.
const (
	V1           = "v1"
	V2           = "v2"
	V2Opaque     = "v2-opaque"
	V2JSON       = "v2-json"
	V2OpaquePipe = "v2-opaque-pipe"
	V2Batch      = "v2-batch"
	PingPong     = "pingpong"
	PingPongJSON = "pingpong-json"
	Sleepers     = "sleepers"
	Executor     = "executor"
	MPApply      = "mp-apply"
	MPMap        = "mp-map"
	MPPipe       = "mp-pipe"
	Loky         = "loky"
	Ray          = "ray"
	Gunicorn     = "gunicorn"
	Uvicorn      = "uvicorn"
	UWSGI        = "uwsgi"
	Forked       = "forked"
	Spawned      = "spawned"
)

// Titles are how tables call the contestants.
var Titles = map[string]string{
	V1: "**V1** (serial)", V2: "**V2** (checkout)", V2Opaque: "**V2**, opaque bytes", V2JSON: "**V2**, the standard library's json", V2Batch: "**V2**, batches of 64", PingPong: "raw ping-pong, opaque bytes",
	PingPongJSON: "raw ping-pong with the workers' codec", Sleepers: "bare processes that sleep and echo, in a Go channel", Executor: "concurrent.futures.ProcessPoolExecutor",
	V2OpaquePipe: "**V2**, opaque bytes, through pipes whatever their size",
	MPApply:      "multiprocessing.Pool.apply_async", MPMap: "multiprocessing.Pool.map, batches of 1024", MPPipe: "hand-written multiprocessing.Pipe pool",
	Loky: "loky", Ray: "Ray actors", Gunicorn: "gunicorn (sync)", Uvicorn: "uvicorn (uvloop, httptools)", UWSGI: "uWSGI (uwsgi protocol)",
	Forked: "forked from a zygote", Spawned: "spawned",
}

// Workers that every contestant has, where nothing else is said, and callers of the loads that want them all.
const (
	Workers = 4
	Callers = 8
)

// Many workers, and callers enough for them, for what can't be told from 4.
const (
	manyWorkers = 16
	manyCallers = 32
	crowd       = 256
)

// Start is the command of rounds in which workers are started, one after the other, and called once each.
const Start = "start"

var sizes = []string{"200 B", "4 KB", "256 KB", "4 MB"}

func alone(size string) Workload {
	return Workload{Command: "echo", Size: size, Callers: 1, Workers: Workers, Pinned: true}
}

func together(size string) Workload {
	return Workload{Command: "echo", Size: size, Callers: Callers, Workers: Workers}
}

func waiting(workers, callers int) Workload {
	return Workload{Command: "sleep", Size: "200 B", Callers: callers, Workers: workers}
}

var (
	sleeping     = waiting(Workers, Callers)
	sleepingMany = waiting(manyWorkers, manyCallers)
	burning      = Workload{Command: "burn", Size: "200 B", Callers: Callers, Workers: Workers}
	crowded      = Workload{Command: "echo", Size: "200 B", Callers: crowd, Workers: Workers}
	starting     = Workload{Command: Start, Size: "200 B", Callers: 1, Workers: manyWorkers}
)

// Phase is a set of contestants that are up at the same time, and what they do by turns.
type Phase struct {
	Title       string
	Contestants []string
	Workloads   []Workload
}

// Phases are the whole measurement. Ray has processes that are busy even when nobody calls, so it is alone with V2.
func Phases() []Phase {
	each := func(of func(string) Workload) (loads []Workload) {
		for _, size := range sizes {
			loads = append(loads, of(size))
		}
		return loads
	}
	pools := []string{V2, V1, Executor, MPApply, MPPipe, Loky, Gunicorn, Uvicorn, UWSGI}
	withRay := func(w Workload) Workload { w.Beside = Ray; return w }
	return []Phase{
		{"one caller, all on one core", append([]string{PingPong, V2Opaque, V2OpaquePipe, PingPongJSON, V2JSON}, pools...), each(alone)},
		{"8 callers, 4 workers", append([]string{V2Opaque, MPMap, V2Batch, V2JSON}, pools...), each(together)},
		{"handlers that wait or compute", append([]string{Sleepers}, pools...), []Workload{sleeping, burning}},
		{"16 workers that wait", []string{V1, V2}, []Workload{sleepingMany}},
		{"256 callers, 4 workers", []string{V2}, []Workload{crowded}},
		{"starts of 16 workers with a heap of 100 MB", []string{Forked, Spawned}, []Workload{starting}},
		{"Ray", []string{V2, Ray}, append(each(func(s string) Workload { return withRay(together(s)) }), withRay(sleeping), withRay(burning))},
	}
}

// Takes reports whether a contestant can do a workload at all.
func Takes(who string, w Workload) bool {
	switch who {
	case V2Opaque, V2OpaquePipe:
		return w.Command == "echo"
	case PingPong, PingPongJSON:
		return w.Command == "echo" && w.Callers == 1
	case Sleepers:
		return w.Command == "sleep"
	case MPMap, V2Batch: // whose batches of large values would be gigabytes
		return w.Command == "echo" && (w.Size == "200 B" || w.Size == "4 KB")
	}
	return true
}
