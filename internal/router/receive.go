package router

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

const (
	// bodiesAtOnce is how many bodies of the largest size may be in memory at the same time; each is there twice
	// while it is sent.
	bodiesAtOnce = 4
	// smallBody needs no room, in bytes: the queue limit bounds them well enough.
	smallBody = 64 << 10
	// firstRead is what is allocated before anything has arrived, in bytes: a length that was told is no byte yet.
	firstRead = 4 << 10
	// bodyTimeout bounds how long a request's body may take to arrive.
	bodyTimeout = 30 * time.Second
	// roomTimeout bounds how long a body waits for room when no checkout timeout does.
	roomTimeout = 5 * time.Second
)

// intake is the arrival of one body.
type intake struct {
	x    *exchange
	c    *call
	most int // bytes that are taken
	// arriveBy and roomBy are the ends of the body's arrival and of its waits for room, with what sets them.
	arriveBy, roomBy bound
	record           bool // the body is to be stored

	body    []byte
	takes   *roomed   // nil: it is small
	waiting time.Time // for room, since when
}

// receive reads the call's payload, of at most so many bytes. The caller must call release when the payload is of no more
// use; again does nothing.
func (r *Router) receive(in *intake) (release func(), err error) {
	if in.x.req.ContentLength > int64(in.most) {
		return nil, r.tooLarge(in)
	}
	release = func() {}
	if in.x.req.ContentLength != 0 {
		_ = in.x.control.SetReadDeadline(in.arriveBy.at)
		err = in.read(r.bodies)
		if in.takes != nil {
			release = in.takes.leave
		}
		if err != nil {
			release()
			return nil, r.notReceived(in, err)
		}
		if in.takes != nil {
			in.takes.settle(int64(cap(in.body)))
		}
		in.x.unread = false
		_ = in.x.control.SetReadDeadline(time.Time{}) // from here on, reading only notices that the caller went away
	}
	if in.c.payload = in.body; len(in.body) == 0 {
		in.c.payload = []byte("{}")
	}
	return release, nil
}

// Why a body isn't read to its end, beside what net/http says.
var (
	errOverLimit = errors.New("over the limit")
	errNoRoom    = errors.New("no room")
)

// read reads the body to its end, with no more memory at a time than a small multiple of what has arrived.
func (in *intake) read(room *room) error {
	src, length := in.x.req.Body, int(in.x.req.ContentLength)
	first := firstRead
	if length >= 0 {
		first = min(first, length)
	}
	in.body = make([]byte, 0, min(first, in.most))
	for len(in.body) != length {
		if len(in.body) == cap(in.body) {
			if len(in.body) == in.most {
				return in.mustEnd(src)
			}
			if err := in.grow(room, length); err != nil {
				return err
			}
		}
		n, err := src.Read(in.body[len(in.body):cap(in.body)])
		in.body = in.body[:len(in.body)+n]
		if in.takes != nil {
			in.takes.arrived.Store(int64(len(in.body)))
		}
		switch {
		case errors.Is(err, io.EOF) && (length < 0 || len(in.body) == length):
			return nil
		case err != nil:
			return err
		}
	}
	return nil
}

// mustEnd reads the end of a body that has as many bytes as are taken.
func (in *intake) mustEnd(src io.Reader) error {
	var more [1]byte
	for {
		switch n, err := src.Read(more[:]); {
		case n > 0:
			return errOverLimit
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// grow makes space for more of the body, once there is room for it. Of one whose length is told a quarter has to be there
// before the whole is allocated, so that little is copied.
func (in *intake) grow(room *room, length int) error {
	size := 2 * cap(in.body)
	if length >= 0 {
		size = min(max(4*cap(in.body), smallBody), length)
	}
	size = min(size, in.most)
	if size > smallBody {
		if in.takes == nil {
			most := in.most
			if length >= 0 {
				most = length
			}
			in.takes = room.enter(int64(most), in.c.start, hurrying(in.x.control))
		}
		if err := in.takeRoom(int64(size)); err != nil {
			return err
		}
	}
	grown := make([]byte, len(in.body), size)
	copy(grown, in.body)
	in.body = grown
	return nil
}

// hurrying returns what ends the arrival of a body.
func hurrying(control *http.ResponseController) func() {
	return func() { _ = control.SetReadDeadline(past) }
}

func (in *intake) takeRoom(size int64) error {
	in.waiting = time.Now()
	if in.takes.take(size, in.waiting) || in.takes.await(in.x.req.Context(), in.roomBy.at, in.x.left) {
		return nil
	}
	if in.takes.wasEvicted() {
		return os.ErrDeadlineExceeded // as its next read would
	}
	return errNoRoom
}

// notReceived is what a call gets whose body couldn't be read, for the reason err. The connection can't be used again.
func (r *Router) notReceived(in *intake, err error) *pool.Error {
	in.x.abandon()
	switch {
	case errors.Is(err, errOverLimit):
		return r.tooLarge(in)
	case errors.Is(err, errNoRoom) && (in.x.req.Context().Err() != nil || in.x.left()):
		return gaveUp(in.c)
	case errors.Is(err, errNoRoom):
		return r.noRoom(in)
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return pool.NewError(pool.RequestError, pool.InvalidPayload, "the body of %s ended early", in.c.command)
	case in.takes != nil && in.takes.wasEvicted():
		return r.tooSlow(in)
	}
	return r.notArrived(in)
}
