package crew

import "slices"

// Lend implements Line.
func (g *Gate) Lend(m *Member) bool {
	g.Mu.Lock()
	defer g.Mu.Unlock()
	return g.Idle.Remove(m)
}

// Restore implements Line.
func (g *Gate) Restore(m *Member) bool {
	g.Mu.Lock()
	defer g.Mu.Unlock()
	if g.queue.Len() > 0 && !g.Paused() {
		return false
	}
	g.Idle.Restore(m)
	return true
}

// Restore puts a member back that was removed, in its place: it has been idle since it was pushed.
func (i *Idle) Restore(m *Member) {
	at := slices.IndexFunc(i.members, func(other *Member) bool { return other.idleSince.After(m.idleSince) })
	if at < 0 {
		at = len(i.members)
	}
	i.members = slices.Insert(i.members, at, m)
	m.idle = true
}
