package worker

import "os"

// pipes are the three between supervisor and worker. Ours are non-blocking and close on exec; theirs are made
// blocking by the call of Fd when the process starts.
type pipes struct {
	requests, requestsTheirs *os.File
	replies, repliesTheirs   *os.File
	output, outputTheirs     *os.File
}

func newPipes() (p *pipes, err error) {
	p = &pipes{}
	defer func() {
		if err != nil {
			p.closeOurs()
			p.closeTheirs()
		}
	}()
	if p.requestsTheirs, p.requests, err = os.Pipe(); err != nil {
		return nil, err
	}
	if p.replies, p.repliesTheirs, err = os.Pipe(); err != nil {
		return nil, err
	}
	p.output, p.outputTheirs, err = os.Pipe()
	return p, err
}

func (p *pipes) closeOurs()   { closeAll(p.requests, p.replies, p.output) }
func (p *pipes) closeTheirs() { closeAll(p.requestsTheirs, p.repliesTheirs, p.outputTheirs) }

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close()
		}
	}
}

// countingWriter knows whether any byte of the current frame went out.
type countingWriter struct {
	file *os.File
	n    int
}

func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.file.Write(b)
	c.n += n
	return n, err
}
