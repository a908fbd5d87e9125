package table

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// everything is a run in which all targets that can be measured are just met.
func everything() Results {
	r := Results{
		{V2, sleeping}: served(394), {V1, sleeping}: served(100),
		{V2, sleepingMany}: served(1580), {V1, sleepingMany}: served(100),
		{V2, burning}: served(390), {V1, burning}: served(200),
		{V2, crowded}:      {{WaitP99: 10 * time.Millisecond}},
		{Forked, starting}: {{P50: 10 * time.Millisecond, Private: 3e6}},
	}
	r[Key{V2OpaquePipe, alone("256 KB")}], r[Key{V2Opaque, alone("256 KB")}] = took(500), took(100)
	for _, size := range sizes[:2] {
		r[Key{PingPong, alone(size)}], r[Key{V2Opaque, alone(size)}] = took(100), took(115)
		r[Key{PingPongJSON, alone(size)}], r[Key{V2, alone(size)}] = took(200), took(260)
		r[Key{V2, together(size)}] = served(6000)
		r[Key{Executor, together(size)}] = served(1000)
		r[Key{MPApply, together(size)}] = served(1714)
		r[Key{MPPipe, together(size)}] = served(4000)
		r[Key{V2Batch, together(size)}], r[Key{MPMap, together(size)}] = served(1300), served(1000)
	}
	return r
}

func TestRowsMet(t *testing.T) {
	names := map[string]bool{}
	for _, row := range Rows(everything(), 2) {
		if names[row.Name] {
			t.Errorf("there are two rows %s", row.Name)
		}
		names[row.Name] = true
		switch {
		case strings.HasPrefix(row.Note, "not built yet"):
			if row.Value != nil || row.Met != nil {
				t.Errorf("%s isn't built and has a value", row.Name)
			}
		case row.Value == nil:
			t.Errorf("%s has no value: %s", row.Name, row.Note)
		case !*row.Met:
			t.Errorf("%s = %v isn't met, target %s", row.Name, *row.Value, row.Target)
		}
	}
}

// TestRowsNotMet makes each figure a little worse, and no other.
func TestRowsNotMet(t *testing.T) {
	for name, worsen := range map[string]func(Results){
		"pool.v2_opaque_over_pingpong_p50.200B":       func(r Results) { r[Key{V2Opaque, alone("200 B")}] = took(116) },
		"pool.v2_over_pingpong_same_codec_p50.4KB":    func(r Results) { r[Key{V2, alone("4 KB")}] = took(261) },
		"pool.shared_memory_over_pipe.256KB":          func(r Results) { r[Key{V2OpaquePipe, alone("256 KB")}] = took(499) },
		"pool.v2_over_v1_sleep.n16":                   func(r Results) { r[Key{V1, sleepingMany}] = served(101) },
		"pool.v2_over_v1_burn.n4":                     func(r Results) { r[Key{V2, burning}] = served(387) },
		"pool.v2_over_process_pool_executor_rps.200B": func(r Results) { r[Key{Executor, together("200 B")}] = served(1001) },
		"pool.v2_over_mp_pool_rps.4KB":                func(r Results) { r[Key{MPApply, together("4 KB")}] = served(1716) },
		"pool.v2_over_mp_pipe_rps.4KB":                func(r Results) { r[Key{MPPipe, together("4 KB")}] = served(4001) },
		"pool.checkout_wait_p99.256_callers":          func(r Results) { r[Key{V2, crowded}][0].WaitP99 = 11 * time.Millisecond },
		"pool.batch_over_mp_map_rps.200B":             func(r Results) { r[Key{V2Batch, together("200 B")}] = served(1299) },
		"pool.batch_over_mp_map_rps.4KB":              func(r Results) { r[Key{MPMap, together("4 KB")}] = served(1001) },
		"pool.fork_ready.100MB":                       func(r Results) { r[Key{Forked, starting}][0].P50 += time.Microsecond * 100 },
		"pool.fork_uss.100MB":                         func(r Results) { r[Key{Forked, starting}][0].Private += 1e5 },
		"pool.v2_share_of_ideal_sleep.n4":             func(r Results) { r[Key{V2, sleeping}], r[Key{V1, sleeping}] = served(387), served(98) },
		"pool.v2_over_v1_sleep.n4":                    func(r Results) { r[Key{V1, sleeping}] = served(101) },
		"pool.v2_over_process_pool_executor_rps.4KB":  func(r Results) { r[Key{Executor, together("4 KB")}] = served(1501) },
		"pool.v2_over_pingpong_same_codec_p50.200B":   func(r Results) { r[Key{PingPongJSON, alone("200 B")}] = took(199) },
		"pool.v2_opaque_over_pingpong_p50.4KB":        func(r Results) { r[Key{PingPong, alone("4 KB")}] = took(99) },
		"pool.v2_over_mp_pool_rps.200B":               func(r Results) { r[Key{MPApply, together("200 B")}] = served(1716) },
		"pool.v2_over_mp_pipe_rps.200B":               func(r Results) { r[Key{MPPipe, together("200 B")}] = served(4001) },
	} {
		t.Run(name, func(t *testing.T) {
			r := everything()
			worsen(r)
			for _, row := range Rows(r, 2) {
				if row.Met != nil && *row.Met == (row.Name == name) {
					t.Errorf("%s = %v, target %s: met is %v", row.Name, *row.Value, row.Target, *row.Met)
				}
			}
		})
	}
}

func TestBurnTargetKnowsTheCores(t *testing.T) {
	for cores, want := range map[int]string{1: "≥ 0.97", 2: "≥ 1.94", 64: "≥ 3.88"} {
		for _, row := range Rows(nil, cores) {
			if row.Name == "pool.v2_over_v1_burn.n4" && row.Target != want {
				t.Errorf("with %d cores the target is %s, want %s", cores, row.Target, want)
			}
		}
	}
}

func TestRowsWithoutResults(t *testing.T) {
	for _, row := range Rows(nil, 2) {
		if row.Value != nil || row.Met != nil || row.Note == "" {
			t.Errorf("%s has value %v, met %v, note %q without any result", row.Name, row.Value, row.Met, row.Note)
		}
	}
}

func TestWriteJSON(t *testing.T) {
	value, met := 1.5, false
	var out bytes.Buffer
	err := WriteJSON(&out, []Row{
		{Name: "a", What: "A", Value: &value, Unit: "×", Target: "≤ 1.15", Met: &met},
		{Name: "b", What: "B", Unit: "ms", Target: "≥ 2", Note: "not built yet"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"name":"a","value":1.5,"unit":"×","target":"≤ 1.15","met":false}
{"name":"b","value":null,"unit":"ms","target":"≥ 2","met":null}
`
	if out.String() != want {
		t.Errorf("wrote\n%s\nwant\n%s", &out, want)
	}
	for line := range strings.Lines(out.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("no JSON: %s", line)
		}
	}
}

func TestMarkdown(t *testing.T) {
	r := everything()
	r[Key{Ray, loadOf(Ray, sleeping)}], r[Key{V2, loadOf(Ray, sleeping)}] = served(197), served(394)
	r[Key{V2, crowded}][0].WaitP99 = 20 * time.Millisecond
	delete(r, Key{MPApply, together("4 KB")})
	got := Markdown(Rows(r, 2), r, Absent{UWSGI: "no compiler"})
	for _, want := range []string{
		"| V2 opaque / raw ping-pong, p50, one core, 200 B | 1.15 × | ≤ 1.15 × | met |\n",
		"| 20.00 ms | ≤ 10 ms | **not met** |\n",
		"| V2 / multiprocessing.Pool, requests/s, 8 callers, 4 KB | – | ≥ 3.5 × | not measured: v2 and mp-apply weren't measured in the same rounds |\n",
		"| forked from a zygote | 10.00 | 3.00 |\n",
		"| **V2** (checkout) | 260 | 260 | – | – |\n", // without a factor
		"| raw ping-pong, opaque bytes | 100, 0.38 × | 100, 0.38 × | – | – |\n",
		"| concurrent.futures.ProcessPoolExecutor | 1000, 6.00 × | 1000, 6.00 × | – | – |\n",
		"| Ray actors | 197, 2.00 × | 49.2 % | – |\n",
		"- uWSGI (uwsgi protocol): no compiler\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the tables lack %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "loky") {
		t.Error("who was neither measured nor absent has a line")
	}
}

// TestPhases holds that every row's rounds are taken by some phase.
func TestPhases(t *testing.T) {
	taken := Results{}
	for _, phase := range Phases() {
		for _, w := range phase.Workloads {
			if first := phase.Workloads[0]; w.Workers != first.Workers || w.Pinned != first.Pinned {
				t.Errorf("phase %q: %+v needs other processes than %+v", phase.Title, w, first)
			}
			for _, name := range phase.Contestants {
				if Titles[name] == "" {
					t.Errorf("contestant %q has no title", name)
				}
				if Takes(name, w) {
					taken[Key{name, w}] = []Figures{{Count: 1, Rate: 1, P50: 1, P99: 1, WaitP99: 1}}
				}
			}
		}
	}
	for _, row := range Rows(taken, 2) {
		if strings.HasPrefix(row.Note, "not measured") {
			t.Errorf("%s: %s", row.Name, row.Note)
		}
	}
}
