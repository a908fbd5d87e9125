package worker

import (
	"bytes"
	"encoding/binary"
	"os"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/frame"
)

// FuzzReply_P34_P36_P42: whatever a worker answers, its caller has a result of its own request or an error with a name,
// and a worker that broke the protocol isn't used again.
func FuzzReply_P34_P36_P42(f *testing.F) {
	first := frame.Frame{Generation: 1, ID: 1}
	f.Add(encode(result(first, `"1"`)))
	f.Add(encode(failure(first, `{"category":"request_error","type":"x","message":"m","context":{}}`)))
	f.Add(encode(failure(first, `{"category":"request_error"}`)))
	f.Add(append(encode(result(first, "1")), 0))
	f.Add([]byte(nil))
	for _, tc := range badReplies {
		f.Add(tc.answer(first))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		if len(answer) > 32<<10 {
			return // a pipe takes no more with nobody reading
		}
		w := scripted(t, 1024, func(requests *frame.Reader, replies *os.File) {
			if requests.Read(new(frame.Frame)) == nil {
				_, _ = replies.Write(answer)
			}
		})
		out := w.try(t, time.Minute)
		kind := byte(0)
		if len(answer) > 4 {
			kind = answer[4]
		}
		if out.Err == nil {
			if kind != byte(frame.Result) || !bytes.Contains(answer, out.Payload) || binary.BigEndian.Uint64(answer[12:]) != 1 {
				t.Fatalf("%x gave the result %q", answer, out.Payload)
			}
			return
		}
		if e := out.Err; e.Category == "" || e.Type == "" || e.Message == "" || e.Context["worker"] != "a-1" {
			t.Fatalf("%x gave an error without its parts: %+v", answer, e)
		}
		if out.Discard == "" && kind != byte(frame.Error) {
			t.Fatalf("%x gave %v, and the worker is used again", answer, out.Err)
		}
	})
}
