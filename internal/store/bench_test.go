package store

import (
	"fmt"
	"testing"
)

// BenchmarkUse is what an execution, or a command that names its session, costs beside its run.
func BenchmarkUse(b *testing.B) {
	s := newBench(b)
	for _, size := range []int{100, 10_000, 1_000_000} {
		id := fmt.Sprint("of-", size)
		inputs := fmt.Appendf(nil, `{"text": "%0*d"}`, size, 1)
		must[Session](b)(s.UpdateSession(id, inputs, nil))
		must[Program](b)(s.CreateProgram(NewProgram{ID: "p", Session: id, Command: "c", Inputs: inputs}))
		b.Run("program/"+id, func(b *testing.B) {
			for b.Loop() {
				must[Program](b)(s.UseProgram(id, "p"))
			}
		})
		b.Run("session/"+id, func(b *testing.B) {
			for b.Loop() {
				must[Session](b)(s.Touch(id))
			}
		})
	}
}
