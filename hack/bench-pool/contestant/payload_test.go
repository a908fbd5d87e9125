package contestant

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"
)

func TestPayloads(t *testing.T) {
	folder := t.TempDir()
	if err := WritePayloads(folder); err != nil {
		t.Fatal(err)
	}
	for name, size := range Sizes {
		p, err := readPayload(folder, name)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Arguments) != size {
			t.Errorf("the payload of %s has %d bytes", name, len(p.Arguments))
		}
		var arguments map[string]json.RawMessage
		if err := json.Unmarshal(p.Arguments, &arguments); err != nil || len(arguments) != 1 {
			t.Fatalf("%s: %v, %d arguments", name, err, len(arguments))
		}
		if !bytes.Equal(arguments["value"], p.Result) {
			t.Errorf("%s: the result isn't the value", name)
		}
		o := opaque(p)
		if len(o.Arguments) != size || utf8.Valid(o.Arguments) || json.Valid(o.Arguments) {
			t.Errorf("%s: the opaque payload has %d bytes, or is text", name, len(o.Arguments))
		}
	}
}

func TestDiffer(t *testing.T) {
	if err := differ([]byte("same"), []byte("same")); err != nil {
		t.Error(err)
	}
	if differ([]byte("some"), []byte("same")) == nil {
		t.Error("another answer passes")
	}
}
