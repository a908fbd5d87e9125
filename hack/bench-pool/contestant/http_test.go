package contestant

import (
	"bufio"
	"encoding/binary"
	"strings"
	"testing"
)

func TestReadResponse(t *testing.T) {
	for name, tc := range map[string]struct {
		response string
		body     string
		keep     bool
		fails    bool
	}{
		"kept":            {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokrest", "ok", true, false},
		"closed":          {"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", "ok", false, false},
		"an error":        {"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n", "", false, true},
		"without length":  {"HTTP/1.1 200 OK\r\n\r\nok", "", false, true},
		"a wrong length":  {"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nok", "", false, true},
		"cut in headers":  {"HTTP/1.1 200 OK\r\nContent-Le", "", false, true},
		"cut in the body": {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", "", false, true},
		"nothing":         {"", "", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			body, keep, err := readResponse(bufio.NewReader(strings.NewReader(tc.response)))
			if (err != nil) != tc.fails {
				t.Fatalf("error %v", err)
			}
			if err == nil && (string(body) != tc.body || keep != tc.keep) {
				t.Errorf("body %q, keep %v", body, keep)
			}
		})
	}
}

func TestUWSGIHeader(t *testing.T) {
	header := uwsgiHeader("/echo", 200)
	if size := int(binary.LittleEndian.Uint16(header[1:])); size != len(header)-4 || header[0] != 0 || header[3] != 0 {
		t.Errorf("header % x announces %d bytes of %d", header[:4], size, len(header)-4)
	}
	if !strings.Contains(string(header), "PATH_INFO\x05\x00/echo") || !strings.Contains(string(header), "CONTENT_LENGTH\x03\x00200") {
		t.Errorf("variables %q", header[4:])
	}
}
