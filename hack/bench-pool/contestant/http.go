package contestant

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strconv"
)

// httpClient speaks as little of HTTP/1.1 as these servers need, so that their peers aren't measured against the cost
// of a general client. A connection is kept when the server keeps it.
type httpClient struct {
	socket     string
	connection net.Conn
	reader     *bufio.Reader
}

func newHTTPClient(socket string) client { return &httpClient{socket: socket} }

func (c *httpClient) post(path string, body []byte) ([]byte, error) {
	if c.connection == nil {
		if err := c.connect(); err != nil {
			return nil, err
		}
	}
	request := make([]byte, 0, 128+len(body))
	request = fmt.Appendf(request, "POST %s HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", path, len(body))
	if _, err := c.connection.Write(append(request, body...)); err != nil {
		c.close()
		return nil, err
	}
	answer, keep, err := readResponse(c.reader)
	if err != nil || !keep {
		c.close()
	}
	return answer, err
}

func (c *httpClient) connect() (err error) {
	c.connection, err = net.Dial("unix", c.socket)
	if err == nil {
		c.reader = bufio.NewReaderSize(c.connection, 64<<10)
	}
	return err
}

func (c *httpClient) close() {
	if c.connection != nil {
		_ = c.connection.Close()
		c.connection = nil
	}
}

// readResponse returns the body of a response of status 200 and whether the server keeps the connection.
func readResponse(r *bufio.Reader) (body []byte, keep bool, err error) {
	status, err := r.ReadSlice('\n')
	if err != nil {
		return nil, false, err
	}
	if fields := bytes.Fields(status); len(fields) < 2 || string(fields[1]) != "200" {
		return nil, false, fmt.Errorf("the server answered %q", bytes.TrimSpace(status))
	}
	length, keep := -1, true
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return nil, false, err
		}
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return nil, false, fmt.Errorf("the server's Content-Length: %w", err)
			}
		case bytes.EqualFold(name, []byte("Connection")):
			keep = !bytes.EqualFold(value, []byte("close"))
		}
	}
	if length < 0 {
		return nil, false, fmt.Errorf("the server's answer has no Content-Length")
	}
	body = make([]byte, length)
	_, err = io.ReadFull(r, body)
	return body, keep, err
}

// uwsgiClient speaks uWSGI's protocol: a connection for each request, a header of four bytes, variables, the body.
type uwsgiClient struct{ socket string }

func newUWSGIClient(socket string) client { return &uwsgiClient{socket: socket} }

func (*uwsgiClient) close() {}

func (c *uwsgiClient) post(path string, body []byte) ([]byte, error) {
	connection, err := net.Dial("unix", c.socket)
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	if _, err := connection.Write(append(uwsgiHeader(path, len(body)), body...)); err != nil {
		return nil, err
	}
	answer, _, err := readResponse(bufio.NewReader(connection))
	return answer, err
}

func uwsgiHeader(path string, length int) []byte {
	header := make([]byte, 4, 256)
	for _, variable := range [][2]string{
		{"REQUEST_METHOD", "POST"}, {"REQUEST_URI", path}, {"PATH_INFO", path}, {"QUERY_STRING", ""}, {"SERVER_NAME", "bench"},
		{"SERVER_PORT", "80"}, {"SERVER_PROTOCOL", "HTTP/1.1"}, {"CONTENT_TYPE", "application/json"}, {"CONTENT_LENGTH", strconv.Itoa(length)},
	} {
		for _, s := range variable {
			header = binary.LittleEndian.AppendUint16(header, uint16(len(s)))
			header = append(header, s...)
		}
	}
	binary.LittleEndian.PutUint16(header[1:], uint16(len(header)-4))
	return header
}
