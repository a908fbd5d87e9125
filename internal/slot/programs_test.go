package slot_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/slot/slotproto"
)

// execute sends a request of a program, with its body ahead unless that is empty.
func (c *client) execute(hash, body, inputs string) (string, *pool.Error) {
	c.Helper()
	if body != "" {
		c.send(frame.Frame{Kind: frame.Program, Meta: []byte(hash), Payload: []byte(body)})
	}
	c.id++
	call := frame.Call{Command: "show", Hash: hash}
	c.send(frame.Frame{Kind: frame.Request, ID: c.id, Flags: call.Flags(), Meta: call.Meta(), Payload: []byte(inputs)})
	return c.reply(c.id)
}

func TestProgramsAreHeldForAllConnections(t *testing.T) {
	for _, version := range []pool.Version{pool.V1, pool.V2} {
		t.Run(string(version), func(t *testing.T) {
			r := newRig(t, nil)
			control := r.connect(slotproto.Control, "router")
			if err := control.configure(r.config(func(c *slotproto.Config) { c.Version = version })); err != nil {
				t.Fatal(err)
			}
			st := control.awaitReady(1)
			if !strings.Contains(strings.Join(st.Commands, " "), " echo ") || st.MoreCommands {
				t.Errorf("the status tells commands %v, more: %v", st.Commands, st.MoreCommands)
			}
			one, other := r.connect(slotproto.Data, "router"), r.connect(slotproto.Data, "router")
			_, err := one.execute("h1", "", `{}`)
			wants(t, err, pool.ProgramNotHeld)
			if err.Sent {
				t.Error("a program that isn't held is said to have been sent")
			}
			shows := func(c *client, body, inputs, want string) {
				t.Helper()
				if got, err := c.execute("h1", body, inputs); err != nil || !strings.Contains(got, want) {
					t.Errorf("got %s, %v; want %s", got, err, want)
				}
			}
			shows(one, `{"a":1}`, `{"b":2}`, `{\"a\": 1, \"b\": 2}`)
			shows(other, "", `{"a":3}`, `{\"a\": 3}`)
			for n := range 12 { // more than the slot holds: the first has to go
				body := fmt.Sprintf(`{"text":%q}`, strings.Repeat("x", 1<<20))
				if _, err := other.execute(fmt.Sprint("large", n), body, `{"text":""}`); err != nil {
					t.Fatal(err)
				}
			}
			_, err = one.execute("h1", "", `{}`)
			wants(t, err, pool.ProgramNotHeld)
			shows(one, `{"a":1}`, `{}`, `{\"a\": 1}`)
		})
	}
}
