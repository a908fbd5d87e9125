package router

import (
	"github.com/dspex/workerpool-operator/internal/control/controlpb"
	"github.com/dspex/workerpool-operator/internal/router/split"
	"github.com/dspex/workerpool-operator/internal/store"
)

// match names what may go to the canary; nil: everything.
type match struct{ commands, programs map[string]bool }

func matchOf(m *controlpb.Match) *match {
	if m == nil {
		return nil
	}
	return &match{commands: setOf(m.GetCommands()), programs: setOf(m.GetPrograms())}
}

func setOf(names []string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[name] = true
	}
	return set
}

// allows reports whether a call may go to the canary: by the id of the program that it executes, else by its command.
func (m *match) allows(c *call) bool {
	switch {
	case m == nil:
		return true
	case c.program != "":
		return m.programs[c.program]
	}
	return m.commands[c.command]
}

// roleOf decides once for each call whether it is the canary's. Each command has its own exact share, in which a program
// counts as the command that it executes, and so does a batch. A canary that can't take requests yet doesn't count them
// either, so that its share is exact from its first request on; nor do requests count that don't match, or whose session
// decides for them.
func (r *Router) roleOf(t *table, c *call) (role, error) {
	switch {
	case c.version != "" && t.serving(c.version) == nil:
		return pinned, r.versionNotServed(t, c.version)
	case c.version != "":
		return pinned, nil
	case t.canary == nil:
		return stable, nil
	case t.keeps(c):
		c.apart = !t.match.allows(c)
		return stable, nil
	case t.sticksWith(c):
		return canary, nil
	case t.canaryTakes() && r.split.Next(c.command, t.weight):
		return canary, nil
	}
	return stable, nil
}

// sticksWith reports whether the call's session decides for it.
func (t *table) sticksWith(c *call) bool {
	return t.sticky && c.session != "" && c.session != store.Anonymous
}

// keeps reports whether the stable keeps a call from the canary that there is, however long the stable is away: it doesn't
// match, or its session is the stable's. At the canary's whole weight the stable is about to go, and keeps nothing any
// more. A session of the canary's is served by the stable while the canary can't.
func (t *table) keeps(c *call) bool {
	return t.weight < split.Whole &&
		(!t.match.allows(c) || t.sticksWith(c) && !split.Sticky(c.session, t.canary.revision, t.weight))
}
