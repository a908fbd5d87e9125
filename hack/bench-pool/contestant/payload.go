package contestant

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Sizes of payloads by the names that tables use, in bytes of their JSON.
var Sizes = map[string]int{"200 B": 200, "4 KB": 4 << 10, "256 KB": 256 << 10, "4 MB": 4 << 20}

// Payload is the JSON of a command's arguments and of the result that echo, sleep and burn give for them.
type Payload struct {
	Arguments []byte
	Result    []byte
}

const (
	before = `{"value":`
	after  = `}`
)

// WritePayloads writes a document of each size into folder, for readPayload and for peers.py.
func WritePayloads(folder string) error {
	for name, size := range Sizes {
		if err := os.WriteFile(payloadFile(folder, name), document(size), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func payloadFile(folder, size string) string {
	return filepath.Join(folder, strings.ReplaceAll(size, " ", "")+".json")
}

func readPayload(folder, size string) (Payload, error) {
	data, err := os.ReadFile(payloadFile(folder, size))
	if err != nil {
		return Payload{}, err
	}
	if len(data) < len(before)+len(after) {
		return Payload{}, fmt.Errorf("the payload of %s has %d bytes", size, len(data))
	}
	return Payload{Arguments: data, Result: data[len(before) : len(data)-len(after)]}, nil
}

// textShare is how much text a record has, as a multiple of all else in it: two thirds of a document are text. It decides
// what codecs cost: with it Python's json takes about 30 µs for 4 KB, there and back.
const textShare = 2

// document is a JSON object of exactly size bytes with what requests are made of: an array of records with numbers,
// names and text. It is in the form in which Python's encoder writes it, so that an echo can be compared byte by byte.
func document(size int) []byte {
	var b bytes.Buffer
	b.WriteString(before + "[")
	for n := 0; ; n++ {
		record := fmt.Sprintf(`{"id":%d,"name":"record %d","score":0.%d5,"tags":["a","b"],"parent":null,"text":"`, n, n, n%9)
		const end = `"}`
		room := size - b.Len() - len(record) - len(end) - len("]"+after)
		b.WriteString(record)
		if room < (textShare+2)*len(record) { // not enough for text and another record: the text takes what is left
			b.WriteString(text(room))
			b.WriteString(end)
			break
		}
		b.WriteString(text(textShare * len(record)))
		b.WriteString(end + ",")
	}
	b.WriteString("]" + after)
	return b.Bytes()
}

func text(n int) string {
	words := strings.Repeat("the quick brown fox jumps over the lazy dog ", n/44+1)
	return words[:n]
}

// opaque is a payload of the size of p that is no JSON, nor any other text: whoever looks inside fails.
func opaque(p Payload) Payload {
	data := make([]byte, len(p.Arguments))
	for i := range data {
		data[i] = byte(i*7 + i>>8)
	}
	data[0] = 0xff
	return Payload{Arguments: data, Result: data}
}

// differ says in what an answer isn't the one that is wanted; nil: in nothing.
func differ(got, want []byte) error {
	if bytes.Equal(got, want) {
		return nil
	}
	return fmt.Errorf("the answer has %d bytes and begins with %s; want %d bytes that begin with %s",
		len(got), beginning(got), len(want), beginning(want))
}

func beginning(b []byte) string { return strconv.QuoteToASCII(string(b[:min(len(b), 60)])) }
