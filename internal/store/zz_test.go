package store

import (
	"fmt"
	"testing"
	"time"
)

func TestZZ(t *testing.T) {
	b := newBench(t)
	n := 0
	for ; ; n++ {
		if _, err := b.Touch(fmt.Sprintf("s%d", n)); err != nil {
			t.Log(n, err)
			break
		}
	}
	begin := time.Now()
	for i := range 100 {
		_, _ = b.Touch(fmt.Sprintf("t%d", i))
	}
	t.Log("refused touch", time.Since(begin)/100)
	b.clock.advance(time.Hour)
	begin = time.Now()
	_, _ = b.Touch("u")
	t.Log("evicting", time.Since(begin), b.Stats())
}
