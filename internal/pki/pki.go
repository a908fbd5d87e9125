// Package pki plans the operator's own certificates: one authority that signs one serving certificate, for the
// webhook and for the routers' channel alike. It is pure but for the randomness of keys: what is stored, the names and
// the time go in, what is to be stored comes out.
//
// An authority is replaced without a gap: its successor joins the bundle of trusted certificates first, signs only
// after everyone had Propagation to learn of it, and the predecessor is trusted until it expires.
package pki

import (
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Keys of the stored data.
const (
	// BundleKey holds every certificate authority that is to be trusted now, PEM.
	BundleKey = "ca.crt"
	// SignerCertKey and SignerKey hold the authority that signs now.
	SignerCertKey = "signer.crt"
	SignerKey     = "signer.key"
	// NextCertKey and NextKey hold the authority that will sign next, once it is known everywhere.
	NextCertKey = "next.crt"
	NextKey     = "next.key"
	// ServingCertKey and ServingKey hold what the servers present.
	ServingCertKey = "tls.crt"
	ServingKey     = "tls.key"
)

// Lifetimes. A certificate is renewed when a third of its life is left.
const (
	AuthorityLife = 2 * 365 * 24 * time.Hour
	ServingLife   = 90 * 24 * time.Hour
	// Propagation is how long a new authority is only trusted before it signs. The slowest reader is a kubelet that
	// brings a changed ConfigMap into a pod, within minutes.
	Propagation = 24 * time.Hour
	// skew of clocks that certificates allow for: they are valid from that long before they were made.
	skew = 5 * time.Minute
)

// Plan is what is to be stored.
type Plan struct {
	Data map[string][]byte
	// Changes are the reasons why Data differs from what was stored; none: it doesn't.
	Changes []string
	// Next is when to plan again at the latest.
	Next time.Time
}

// For plans the certificates for the DNS names. Stored data that can't be read is replaced as a whole, which cuts off
// whoever trusts it: nothing else is possible.
func For(stored map[string][]byte, names []string, now time.Time) (Plan, error) {
	s, unreadable := parse(stored)
	var changes []string
	if unreadable != nil && len(stored) > 0 {
		changes = append(changes, fmt.Sprintf("the stored certificates are replaced: %v", unreadable))
	}
	for _, step := range []func(*state, []string, time.Time) (string, error){
		ensureSigner, prepareNext, promoteNext, dropExpired, ensureServing,
	} {
		change, err := step(&s, names, now)
		if err != nil {
			return Plan{}, err
		}
		if change != "" {
			changes = append(changes, change)
		}
	}
	data := s.data()
	if len(changes) == 0 && !maps.EqualFunc(stored, data, slices.Equal[[]byte]) {
		changes = append(changes, "the stored data had entries of someone else, or lacked its bundle")
	}
	return Plan{Data: data, Changes: changes, Next: s.nextStep()}, nil
}

// state is the stored data, parsed.
type state struct {
	signer  *authority
	next    *authority
	retired []*x509.Certificate // still trusted
	serving *serving
}

// ensureSigner makes the first authority, or one in the place of one that expired unreplaced.
func ensureSigner(s *state, _ []string, now time.Time) (string, error) {
	if s.signer != nil && now.Before(s.signer.cert.NotAfter) {
		return "", nil
	}
	if s.signer != nil && s.next != nil && now.Before(s.next.cert.NotAfter) {
		return "", nil // promoteNext takes it
	}
	made, err := newAuthority(now)
	if err != nil {
		return "", err
	}
	s.signer, s.next, s.serving = made, nil, nil
	return "new certificate authority", nil
}

// prepareNext makes the successor, which from now on is trusted.
func prepareNext(s *state, _ []string, now time.Time) (string, error) {
	if s.next != nil || now.Before(renewal(s.signer.cert)) {
		return "", nil
	}
	made, err := newAuthority(now)
	if err != nil {
		return "", err
	}
	s.next = made
	return "the next certificate authority is trusted from now on", nil
}

// promoteNext lets the successor sign once it is known everywhere, or at once when the signer has expired.
func promoteNext(s *state, _ []string, now time.Time) (string, error) {
	if s.next == nil || now.Before(promotion(s)) {
		return "", nil
	}
	s.retired = append(s.retired, s.signer.cert)
	s.signer, s.next, s.serving = s.next, nil, nil
	return "the next certificate authority signs from now on", nil
}

// promotion is when the next authority becomes the signer.
func promotion(s *state) time.Time {
	known := s.next.cert.NotBefore.Add(skew + Propagation)
	if s.signer.cert.NotAfter.Before(known) {
		return s.signer.cert.NotAfter
	}
	return known
}

func dropExpired(s *state, _ []string, now time.Time) (string, error) {
	before := len(s.retired)
	s.retired = slices.DeleteFunc(s.retired, func(c *x509.Certificate) bool { return !now.Before(c.NotAfter) })
	if len(s.retired) == before {
		return "", nil
	}
	return "an expired certificate authority is trusted no longer", nil
}

// ensureServing renews the serving certificate when it is old, for other names, or from another authority.
func ensureServing(s *state, names []string, now time.Time) (string, error) {
	reason := ""
	switch {
	case s.serving == nil:
		reason = "new serving certificate"
	case !now.Before(renewal(s.serving.cert)):
		reason = "the serving certificate was due for renewal"
	case !slices.Equal(slices.Sorted(slices.Values(names)), slices.Sorted(slices.Values(s.serving.cert.DNSNames))):
		reason = "the serving certificate was for other names"
	case s.serving.cert.CheckSignatureFrom(s.signer.cert) != nil:
		reason = "the serving certificate was signed by another authority"
	default:
		return "", nil
	}
	made, err := newServing(s.signer, names, now)
	if err != nil {
		return "", err
	}
	s.serving = made
	return reason, nil
}

// nextStep is when the first of the certificates wants something.
func (s *state) nextStep() time.Time {
	steps := []time.Time{renewal(s.serving.cert)}
	if s.next != nil {
		steps = append(steps, promotion(s))
	} else {
		steps = append(steps, renewal(s.signer.cert))
	}
	for _, c := range s.retired {
		steps = append(steps, c.NotAfter)
	}
	return slices.MinFunc(steps, time.Time.Compare)
}

// renewal is when a third of a certificate's life is left.
func renewal(c *x509.Certificate) time.Time {
	return c.NotAfter.Add(-c.NotAfter.Sub(c.NotBefore) / 3)
}
