package analysis

import "time"

// Alpha bounds the chance that a rollout whose canary is no worse than allowed is ever rolled back: half of the
// 0.1 % that the project promises, for what the binomial model leaves out.
const Alpha = 0.0005

// DefaultInterval is the time between looks. Looking often costs no level, which is divided among the looks that test,
// and finds what is badly wrong while few requests have met it.
const DefaultInterval = 2 * time.Second

// Grid is the times at which a rollout is looked at: Start + k·Interval for k = 1, 2, … It has no memory, so a
// restarted operator comes to the same looks.
type Grid struct {
	// Start is when the analysis began. It must survive a restart unchanged; a status keeps whole seconds.
	Start time.Time
	// Interval between looks; 0: DefaultInterval.
	Interval time.Duration
}

func (g Grid) interval() time.Duration {
	if g.Interval <= 0 {
		return DefaultInterval
	}
	return g.Interval
}

// Number of the last look whose time has come; 0 before the first.
func (g Grid) Number(now time.Time) int {
	return int(max(0, now.Sub(g.Start)/g.interval()))
}

// Next is when the look after now is due.
func (g Grid) Next(now time.Time) time.Time {
	return g.Start.Add(time.Duration(g.Number(now)+1) * g.interval())
}

// Progress is what must be remembered between looks. Who has lost it goes on with Unknown.
type Progress struct {
	Looked int // number of the last look
	Tested int // number of the last look that had samples enough to test; at most Looked
}

// Unknown is the progress of somebody who doesn't know which looks were made before now, such as a new leader: all of
// them, and each a test. What they may have spent isn't spent again, so that Alpha holds over any number of restarts;
// what they didn't spend is lost, which costs power and nothing else. That the clocks of two leaders differ by less
// than a look is taken for granted: by as many looks as the new one is behind, levels are given twice.
func (g Grid) Unknown(now time.Time) Progress {
	n := g.Number(now)
	return Progress{Looked: n, Tested: n}
}

// Due tells whether there is a look that wasn't made. Looks that were missed are made up for by one, with the level
// of all.
func (g Grid) Due(p Progress, now time.Time) bool { return g.Number(now) > p.Looked }

// level is the part of Alpha that a test of one metric at a look gets; 0 if the look has been tested.
func level(p Progress, look int) float64 {
	if look <= p.Tested {
		return 0
	}
	return Alpha / float64(len(metrics)) * (1/float64(p.Tested+1) - 1/float64(look+1))
}
