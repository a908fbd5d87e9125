package status

import (
	"fmt"
	"strings"
	"time"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
)

// command is the line that gives a pool another token, new with each second.
func command(pool *v1alpha1.WorkerPool, annotation string) string {
	return fmt.Sprintf("kubectl annotate -n %s workerpool %s %s=$(date +%%s) --overwrite", pool.Namespace, pool.Name, annotation)
}

// paused: the rollout is held by spec.paused, by a token, or by rollback.policy Pause.
func paused(in *Input) finding {
	if in.Pool.Spec.Paused {
		return yes(ReasonSpecPaused, "spec.paused is set: nothing is started, raised or promoted; lowering a weight and rolling back go on")
	}
	hold := in.Decision.Hold
	if hold == nil {
		return no(ReasonNotPaused, "nothing holds the rollout")
	}
	said := ""
	if hold.Message != "" {
		said = ": " + hold.Message
	}
	if hold.By == v1alpha1.HeldByPolicy {
		return yes(hold.By, "held by rollback.policy Pause since %s%s. To take it back: %s; to go on all the same: %s",
			since(hold.Since.Time), said, command(in.Pool, v1alpha1.AbortAnnotation), command(in.Pool, v1alpha1.ResumeAnnotation))
	}
	return yes(hold.By, "held by %s since %s%s. To go on: %s",
		v1alpha1.PauseAnnotation, since(hold.Since.Time), said, command(in.Pool, v1alpha1.ResumeAnnotation))
}

// since is a point in time as messages show it: one that says how long ago would be another message every minute.
func since(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// rolledBack: the spec's revision was rolled back and isn't tried again by itself. The message has the evidence and the
// way out.
func rolledBack(in *Input, last *v1alpha1.RollbackStatus) finding {
	if !in.blocked() {
		return no(ReasonNotRolledBack, "the spec's revision wasn't rolled back")
	}
	version := in.Pool.Spec.PoolVersion
	if last == nil || last.Revision != in.Decision.Blocked {
		return yes(ReasonRolledBack, "%s (%s) was rolled back. %s", version, in.Decision.Blocked, wayOut(in))
	}
	evidence := strings.Join(last.Evidence, "; ")
	if evidence == "" {
		evidence = last.Reason
	}
	return yes(last.Reason, "%s", cut(fmt.Sprintf("at %s %%: %s", last.Weight, evidence), maxMessage)+". "+wayOut(in))
}

// wayOut is how a revision that was rolled back is tried again.
func wayOut(in *Input) string {
	text := fmt.Sprintf("To try %s again after a fix: %s, or change spec.worker", in.Pool.Spec.PoolVersion, command(in.Pool, v1alpha1.RetryAnnotation))
	if token := in.Pool.Annotations[v1alpha1.RetryAnnotation]; token != "" && token == in.Decision.Handled.Retry {
		text += fmt.Sprintf(". The retry token %q that the pool has was used already; choose another", cut(token, v1alpha1.MaxToken))
	}
	return text
}

// readyAfterRollback is what Ready says of a revision that was rolled back.
func readyAfterRollback(in *Input) finding {
	stable := &in.Decision.Assignment.Stable
	what := fmt.Sprintf("%s (%s) was rolled back", in.Pool.Spec.PoolVersion, in.Decision.Blocked)
	last := in.Decision.Rollback
	if last == nil {
		last = in.Pool.Status.LastRollback
	}
	if last != nil && last.Revision == in.Decision.Blocked {
		what = fmt.Sprintf("%s at %s (%s)", what, since(last.Time.Time), last.Reason)
	}
	if c := in.Decision.Assignment.Canary; c != nil && in.Decision.Applied > 0 {
		return no(ReasonRolledBack, "%s; not every pod has acknowledged it, up to %s %% may still go to it", what, in.Decision.Applied)
	}
	return no(ReasonRolledBack, "%s; %s (%s) serves", what, stable.Version, stable.Revision)
}

// cut bounds a text, at a character's edge.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "") + "…"
}
