package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dspex/workerpool-operator/internal/router/trip"
)

// tripFile within the state folder is there as long as there is a trip.
const tripFile = "trip"

// tripMagic opens it, as magic does a snapshot; the body is JSON.
var tripMagic = []byte("workerpool-trip 1\n")

// SaveTrip puts t in place of what was there; nil: there is no trip any more.
func (st *Store) SaveTrip(t *trip.Trip) error {
	if st.dir == "" {
		return nil
	}
	if t == nil {
		return st.removeTrip()
	}
	body, err := json.Marshal(t)
	if err == nil {
		err = st.replace(tripFile, seal(tripMagic, body))
	}
	if err != nil {
		return fmt.Errorf("keep the trip in %s: %w", st.dir, err)
	}
	return nil
}

func (st *Store) removeTrip() error {
	err := os.Remove(filepath.Join(st.dir, tripFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = syncDir(st.dir)
	}
	if err != nil {
		return fmt.Errorf("forget the trip in %s: %w", st.dir, err)
	}
	return nil
}

// LoadTrip returns the trip that was saved last, nil when there is none.
func (st *Store) LoadTrip() (*trip.Trip, error) {
	if st.dir == "" {
		return nil, nil
	}
	text, err := st.read(tripFile)
	if text == nil || err != nil {
		return nil, err
	}
	t, err := decodeTrip(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(st.dir, tripFile), err)
	}
	return t, nil
}

func decodeTrip(text []byte) (*trip.Trip, error) {
	body, err := unseal("trip", tripMagic, text)
	if err != nil {
		return nil, err
	}
	var t trip.Trip
	if err := json.Unmarshal(body, &t); err != nil {
		return nil, fmt.Errorf("its trip can't be read: %w", err)
	}
	if t.Revision == "" {
		return nil, errors.New("its trip is about no revision")
	}
	return &t, nil
}
