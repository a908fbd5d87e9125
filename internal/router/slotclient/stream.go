package slotclient

import (
	"context"
	"errors"
	"time"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
)

// errUntaken: the caller didn't take an item of its stream.
var errUntaken = errors.New("an item wasn't taken")

// receive reads the answer to a request. Of a stream it hands over the items that come ahead of it, one before the next is
// read, and gives the slot credit for what has been taken.
func (c *Client) receive(ctx context.Context, conn *dataConn, id uint64, req *Request, f *frame.Frame) error {
	err := conn.r.Read(f)
	if req.Stream == nil {
		return err
	}
	ctx, cancel := context.WithDeadline(ctx, req.Deadline)
	defer cancel()
	var window frame.Window
	for err == nil && f.Kind == frame.Chunk && f.ID == id {
		if req.Stream(ctx, f.Payload) != nil || ctx.Err() != nil {
			return errUntaken
		}
		if credit := window.Take(f.Payload); credit > 0 {
			_ = conn.w.Write(frame.NewCredit(0, id, credit)) // a slot that doesn't take it has ended, which the read tells
		}
		err = conn.r.Read(f)
	}
	return err
}

// untaken is what a caller gets that doesn't take its stream, though it hasn't left: it can't, or its time is over.
func (c *Client) untaken(req Request) *pool.Error {
	if time.Now().Before(req.Deadline) {
		return c.cancelled(req, true)
	}
	e := pool.NewError(pool.TimeoutError, pool.CommandTimeout,
		"the items of %s hadn't all been taken at its deadline; take them faster or give it more time", req.Command)
	e.Sent = true
	return e.With("slot", c.opts.Name)
}
