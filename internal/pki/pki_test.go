package pki

import (
	"bytes"
	"crypto/x509"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	names = []string{"workerpool-webhook.workerpool-system.svc", "workerpool-control.workerpool-system.svc"}
)

const day = 24 * time.Hour

func plan(t *testing.T, stored map[string][]byte, names []string, now time.Time) Plan {
	t.Helper()
	p, err := For(stored, names, now)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// verify checks the serving certificate as a client does that trusts a bundle.
func verify(bundle, serving []byte, name string, now time.Time) error {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	certs, err := parseCerts(serving)
	if err != nil {
		return err
	}
	_, err = certs[0].Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: now})
	return err
}

func TestPlanFromNothing(t *testing.T) {
	p := plan(t, nil, names, start)
	if len(p.Changes) == 0 {
		t.Error("no change is reported though there was nothing")
	}
	for _, name := range names {
		if err := verify(p.Data[BundleKey], p.Data[ServingCertKey], name, start); err != nil {
			t.Errorf("serving certificate for %s: %v", name, err)
		}
	}
	again := plan(t, p.Data, names, start.Add(time.Minute))
	if len(again.Changes) != 0 || !maps.EqualFunc(p.Data, again.Data, bytes.Equal) {
		t.Errorf("a minute later: %v, want no change", again.Changes)
	}
	if want := start.Add(-skew).Add((ServingLife + skew) * 2 / 3); again.Next.Sub(want).Abs() > time.Second {
		t.Errorf("next step at %v, want when a third of the serving certificate's life is left, %v", again.Next, want)
	}
}

func TestPlanRenewsServingCertificate(t *testing.T) {
	first := plan(t, nil, names, start)
	for name, tc := range map[string]struct {
		names  []string
		now    time.Time
		change string // "": none
	}{
		"young":       {names, start.Add(59 * day), ""},
		"other order": {[]string{names[1], names[0]}, start, ""},
		"old":         {names, start.Add(61 * day), "due for renewal"},
		"expired":     {names, start.Add(100 * day), "due for renewal"},
		"other names": {names[:1], start, "other names"},
	} {
		t.Run(name, func(t *testing.T) {
			p := plan(t, first.Data, tc.names, tc.now)
			got := strings.Join(p.Changes, "; ")
			if !strings.Contains(got, tc.change) || (tc.change == "") != (got == "") {
				t.Errorf("changes %q, want %q", got, tc.change)
			}
			if err := verify(first.Data[BundleKey], p.Data[ServingCertKey], tc.names[0], tc.now); err != nil {
				t.Errorf("a client with the bundle of before: %v", err)
			}
		})
	}
}

// TestO47_AuthorityRotatesWithoutAGap lives through six years, a day at a time: whoever took the bundle a day ago
// trusts what is served today, and whoever took it today trusts what was served yesterday.
func TestO47_AuthorityRotatesWithoutAGap(t *testing.T) {
	yesterday := plan(t, nil, names, start)
	signers, largest := 1, 0
	for now := start.Add(day); now.Before(start.Add(6 * 365 * day)); now = now.Add(day) {
		today := plan(t, yesterday.Data, names, now)
		if err := verify(yesterday.Data[BundleKey], today.Data[ServingCertKey], names[0], now); err != nil {
			t.Fatalf("%v: yesterday's bundle, today's certificate: %v (%v)", now, err, today.Changes)
		}
		if err := verify(today.Data[BundleKey], yesterday.Data[ServingCertKey], names[0], now); err != nil {
			t.Fatalf("%v: today's bundle, yesterday's certificate: %v (%v)", now, err, today.Changes)
		}
		if !bytes.Equal(yesterday.Data[SignerCertKey], today.Data[SignerCertKey]) {
			signers++
		}
		largest = max(largest, bytes.Count(today.Data[BundleKey], []byte("BEGIN")))
		yesterday = today
	}
	if signers != 5 {
		t.Errorf("%d authorities signed in six years, want 5 (each replaced after 16 months)", signers)
	}
	if largest > 3 {
		t.Errorf("the bundle grew to %d certificates, want at most 3", largest)
	}
}

func TestPlanAfterALongSleep(t *testing.T) {
	first := plan(t, nil, names, start)
	preparing := plan(t, first.Data, names, start.Add(500*day))
	if _, ok := preparing.Data[NextCertKey]; !ok {
		t.Fatalf("no next authority after 500 days: %v", preparing.Changes)
	}
	for name, stored := range map[string]map[string][]byte{"alone": first.Data, "with a successor": preparing.Data} {
		t.Run(name, func(t *testing.T) {
			now := start.Add(731 * day)
			p := plan(t, stored, names, now)
			if err := verify(p.Data[BundleKey], p.Data[ServingCertKey], names[0], now); err != nil {
				t.Errorf("after the signer expired: %v (%v)", err, p.Changes)
			}
			if n := bytes.Count(p.Data[BundleKey], []byte("BEGIN")); n != 1 {
				t.Errorf("%d authorities in the bundle, want the new one only", n)
			}
		})
	}
}

func TestPlanReplacesWhatItCannotRead(t *testing.T) {
	first, other := plan(t, nil, names, start), plan(t, nil, names, start)
	for name, damage := range map[string]func(map[string][]byte){
		"no signer":          func(d map[string][]byte) { delete(d, SignerCertKey) },
		"garbage in its key": func(d map[string][]byte) { d[SignerKey] = []byte("garbage") },
		"another's key":      func(d map[string][]byte) { d[SignerKey] = other.Data[SignerKey] },
		"certificate as key": func(d map[string][]byte) { d[ServingKey] = d[ServingCertKey] },
		"key as certificate": func(d map[string][]byte) { d[ServingCertKey] = d[ServingKey] },
		"next without a key": func(d map[string][]byte) { d[NextCertKey] = d[SignerCertKey] },
		"broken certificate": func(d map[string][]byte) { d[BundleKey] = certPEM(&x509.Certificate{Raw: []byte("x")}) },
		"another's authority": func(d map[string][]byte) {
			d[ServingCertKey], d[ServingKey] = other.Data[ServingCertKey], other.Data[ServingKey]
		},
		"no bundle":       func(d map[string][]byte) { delete(d, BundleKey) },
		"someone's entry": func(d map[string][]byte) { d["x"] = []byte("y") },
	} {
		t.Run(name, func(t *testing.T) {
			stored := maps.Clone(first.Data)
			damage(stored)
			p := plan(t, stored, names, start)
			if len(p.Changes) == 0 {
				t.Error("no change is reported")
			}
			if strings.Contains(strings.Join(p.Changes, " "), "garbage") {
				t.Errorf("the changes show stored bytes: %q", p.Changes)
			}
			if err := verify(p.Data[BundleKey], p.Data[ServingCertKey], names[0], start); err != nil {
				t.Errorf("after the repair: %v", err)
			}
			if again := plan(t, p.Data, names, start); len(again.Changes) != 0 {
				t.Errorf("the repair doesn't hold: %s", cmp.Diff([]string(nil), again.Changes))
			}
		})
	}
}
