package pool

import "container/list"

// Program is the part of a request's arguments that stays the same from call to call. Whoever holds its body already
// is told the hash alone. The body is nobody's to change.
type Program struct {
	Hash string // of command and body; no NUL in it
	Body []byte // a JSON object
}

// Recent keeps what was used last, by its key, within bounds on number and size: who holds which programs. Not safe
// for concurrent use.
type Recent[V any] struct {
	maxCount, maxBytes int

	byKey map[string]*list.Element
	order *list.List // of recentEntry, what was used last in front
	bytes int
}

type recentEntry[V any] struct {
	key   string
	value V
	bytes int
}

// NewRecent keeps at most so many entries, and so many bytes unless a single entry has more.
func NewRecent[V any](maxCount, maxBytes int) *Recent[V] {
	return &Recent[V]{maxCount: maxCount, maxBytes: maxBytes, byKey: map[string]*list.Element{}, order: list.New()}
}

// Get returns the value of a key, which counts as a use.
func (r *Recent[V]) Get(key string) (value V, known bool) {
	e := r.byKey[key]
	if e == nil {
		return value, false
	}
	r.order.MoveToFront(e)
	return e.Value.(recentEntry[V]).value, true
}

// Put adds an entry, or replaces that of the same key, and returns the keys that had to go, the longest unused first.
func (r *Recent[V]) Put(key string, value V, bytes int) (gone []string) {
	r.Remove(key)
	r.byKey[key] = r.order.PushFront(recentEntry[V]{key, value, bytes})
	r.bytes += bytes
	for r.order.Len() > 1 && (r.order.Len() > r.maxCount || r.bytes > r.maxBytes) {
		oldest := r.order.Back().Value.(recentEntry[V]).key
		r.Remove(oldest)
		gone = append(gone, oldest)
	}
	return gone
}

// Remove drops a key; one that isn't there is fine.
func (r *Recent[V]) Remove(key string) {
	if e := r.byKey[key]; e != nil {
		r.bytes -= r.order.Remove(e).(recentEntry[V]).bytes
		delete(r.byKey, key)
	}
}
