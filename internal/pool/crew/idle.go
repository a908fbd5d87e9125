package crew

import (
	"slices"
	"time"
)

// Idle holds the members that have nothing to do, the longest idle first. The zero value is empty; its owner
// guards it.
type Idle struct{ members []*Member }

// Len is how many are idle.
func (i *Idle) Len() int { return len(i.members) }

// Push adds a member that is idle from now on.
func (i *Idle) Push(m *Member, now time.Time) {
	m.idle, m.idleSince = true, now
	i.members = append(i.members, m)
}

// PopNewest takes the member whose caches are warmest; nil when there is none.
func (i *Idle) PopNewest() *Member {
	if len(i.members) == 0 {
		return nil
	}
	last := len(i.members) - 1
	m := i.members[last]
	i.members[last] = nil
	i.members = i.members[:last]
	m.idle = false
	return m
}

// PopOldest takes the member that has been idle longest; nil when there is none.
func (i *Idle) PopOldest() *Member {
	if len(i.members) == 0 {
		return nil
	}
	m := i.members[0]
	i.members = slices.Delete(i.members, 0, 1)
	m.idle = false
	return m
}

// Has reports whether m is idle.
func (*Idle) Has(m *Member) bool { return m.idle }

// Remove takes m out and reports whether it was in.
func (i *Idle) Remove(m *Member) bool {
	if !m.idle {
		return false
	}
	at := slices.Index(i.members, m)
	i.members = slices.Delete(i.members, at, at+1)
	m.idle = false
	return true
}

// RemoveIdleSince takes out the member that has been idle longest, if it has been since t or earlier; else nil.
func (i *Idle) RemoveIdleSince(t time.Time) *Member {
	if since := i.Since(); since.IsZero() || since.After(t) {
		return nil
	}
	return i.PopOldest()
}

// Since is when the member that has been idle longest became so; zero when none is idle.
func (i *Idle) Since() time.Time {
	if len(i.members) == 0 {
		return time.Time{}
	}
	return i.members[0].idleSince
}

// All returns the idle members, and since when they are.
func (i *Idle) All() map[*Member]time.Time {
	all := make(map[*Member]time.Time, len(i.members))
	for _, m := range i.members {
		all[m] = m.idleSince
	}
	return all
}
