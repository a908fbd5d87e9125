package status

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
)

// tokens are the annotations of a pool that are acted upon.
var tokens = []string{
	v1alpha1.RetryAnnotation, v1alpha1.PromoteAnnotation, v1alpha1.AbortAnnotation, v1alpha1.PauseAnnotation, v1alpha1.ResumeAnnotation,
}

// approveAnnotation is one that people know from elsewhere.
const approveAnnotation = v1alpha1.AnnotationPrefix + "approve"

// accepted: every annotation of the operator's on the pool is understood. One that isn't is said, never ignored.
func accepted(pool *v1alpha1.WorkerPool) finding {
	var problems []string
	reason := ""
	for _, name := range slices.Sorted(maps.Keys(pool.Annotations)) {
		why, problem := refusedAnnotation(name, pool.Annotations[name])
		if why == "" {
			continue
		}
		if reason == "" {
			reason = why
		}
		problems = append(problems, problem)
	}
	if len(problems) == 0 {
		return yes(ReasonAllAccepted, "the spec and all annotations %s* are understood", v1alpha1.AnnotationPrefix)
	}
	if more := len(problems) - maxNamed; more > 0 {
		problems = append(problems[:maxNamed], fmt.Sprintf("and %d more", more))
	}
	return no(reason, "%s", strings.Join(problems, "; "))
}

// refusedAnnotation tells why an annotation isn't acted upon; reason empty: it is, or it isn't the operator's.
func refusedAnnotation(name, value string) (reason, problem string) {
	known := slices.Contains(tokens, name)
	switch {
	case !strings.HasPrefix(name, v1alpha1.AnnotationPrefix):
		return "", ""
	case name == approveAnnotation:
		return ReasonUnsupportedAnnotation, fmt.Sprintf("annotation %s: approval gates aren't supported yet; hold a rollout by %s and let it go on by %s, or set spec.paused",
			name, v1alpha1.PauseAnnotation, v1alpha1.ResumeAnnotation)
	case !known:
		return ReasonUnknownAnnotation, fmt.Sprintf("annotation %s means nothing here; remove it, or write one of %s", name, strings.Join(tokens, ", "))
	case len(value) > v1alpha1.MaxToken:
		return ReasonTokenTooLong, fmt.Sprintf("annotation %s has %d bytes and isn't acted upon; a token has at most %d", name, len(value), v1alpha1.MaxToken)
	}
	return "", ""
}
