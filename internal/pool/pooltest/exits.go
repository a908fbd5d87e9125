package pooltest

import (
	"path/filepath"
	"strings"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

var exits = map[string]story{
	"TestP77_EndsAreDistinguishable": func(b *bench) {
		s := b.ready()
		for _, end := range []struct {
			how     string
			key     string
			value   any
			message string
		}{
			{"sys.exit", "exit_status", 5, "exited with status 5"},
			{"os._exit", "exit_status", 6, "exited with status 6"},
			{"SIGSEGV", "signal", "SIGSEGV", "was killed by SIGSEGV"},
			{"SIGKILL", "signal", "SIGKILL", "was killed by SIGKILL"},
		} {
			code, _ := end.value.(int)
			_, err := s.call("end", args{"how": end.how, "code": code})
			s.wants(err, pool.CommunicationError, pool.PortExited)
			if err.Context[end.key] != end.value || err.Context["oom"] != false || !strings.Contains(err.Message, end.message) {
				b.Errorf("%s: %q, context %v; want %s %v", end.how, err.Message, err.Context, end.key, end.value)
			}
		}
	},

	"TestP78_GrandchildrenGone": func(b *bench) {
		s := b.ready()
		child, _ := s.must("child", nil).(float64)
		if !alive(int(child)) {
			b.Fatal("no grandchild: the test would show nothing")
		}
		_, err := s.call("end", args{"how": "os._exit"})
		s.wants(err, pool.CommunicationError, pool.PortExited)
		b.until("grandchild gone", func() bool { return !alive(int(child)) })
	},

	"TestP78_StrayHoldsThePipe": func(b *bench) {
		s := b.ready()
		file := filepath.Join(b.TempDir(), "stray")
		begin := time.Now()
		_, err := s.call("stray_then_exit", args{"path": file})
		s.wants(err, pool.CommunicationError, pool.PortExited)
		if took := time.Since(begin); took > 5*time.Second || err.Context["exit_status"] != 7 {
			b.Errorf("took %s, context %v; want soon, exit_status 7", took, err.Context)
		}
		stray := readPID(file)
		if stray == 0 {
			b.Fatal("no stray: the test would show nothing")
		}
		b.until("stray gone", func() bool { return !alive(stray) })
	},
}
