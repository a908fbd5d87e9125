package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

const (
	certificateBlock = "CERTIFICATE"
	keyBlock         = "PRIVATE KEY"
)

// authority signs.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// serving is what the servers present.
type serving struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(now time.Time) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the key of a certificate authority: %w", err)
	}
	template := &x509.Certificate{
		// The date tells authorities apart in the output of openssl; nothing reads it.
		Subject:               pkix.Name{CommonName: "workerpool-operator " + now.UTC().Format(time.DateOnly)},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(AuthorityLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	cert, err := sign(template, template, key, key)
	if err != nil {
		return nil, fmt.Errorf("making a certificate authority: %w", err)
	}
	return &authority{cert, key}, nil
}

// newServing makes a certificate that doesn't outlive its authority.
func newServing(signer *authority, names []string, now time.Time) (*serving, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the key of a serving certificate: %w", err)
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "workerpool-operator"},
		DNSNames:    names,
		NotBefore:   now.Add(-skew),
		NotAfter:    now.Add(ServingLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if template.NotAfter.After(signer.cert.NotAfter) {
		template.NotAfter = signer.cert.NotAfter
	}
	cert, err := sign(template, signer.cert, key, signer.key)
	if err != nil {
		return nil, fmt.Errorf("making a serving certificate: %w", err)
	}
	return &serving{cert, key}, nil
}

func sign(template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// data renders the state as it is stored.
func (s *state) data() map[string][]byte {
	d := map[string][]byte{
		SignerCertKey:  certPEM(s.signer.cert),
		SignerKey:      keyPEM(s.signer.key),
		ServingCertKey: certPEM(s.serving.cert),
		ServingKey:     keyPEM(s.serving.key),
	}
	trusted := []*x509.Certificate{s.signer.cert}
	if s.next != nil {
		trusted = append(trusted, s.next.cert)
		d[NextCertKey], d[NextKey] = certPEM(s.next.cert), keyPEM(s.next.key)
	}
	d[BundleKey] = certPEM(append(trusted, s.retired...)...)
	return d
}

// parse reads what data wrote. On an error the state is empty.
func parse(d map[string][]byte) (state, error) {
	signer, err := parsePair(d, SignerCertKey, SignerKey)
	if err != nil {
		return state{}, err
	}
	leaf, err := parsePair(d, ServingCertKey, ServingKey)
	if err != nil {
		return state{}, err
	}
	s := state{signer: signer, serving: (*serving)(leaf)}
	if len(d[NextCertKey]) > 0 {
		if s.next, err = parsePair(d, NextCertKey, NextKey); err != nil {
			return state{}, err
		}
	}
	bundle, err := parseCerts(d[BundleKey])
	if err != nil {
		return state{}, fmt.Errorf("%s: %w", BundleKey, err)
	}
	for _, c := range bundle {
		if !c.Equal(signer.cert) && (s.next == nil || !c.Equal(s.next.cert)) {
			s.retired = append(s.retired, c)
		}
	}
	return s, nil
}

func parsePair(d map[string][]byte, certKey, keyKey string) (*authority, error) {
	certs, err := parseCerts(d[certKey])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", certKey, err)
	}
	if len(certs) != 1 {
		return nil, fmt.Errorf("%s holds %d certificates instead of one", certKey, len(certs))
	}
	key, err := parseKey(d[keyKey])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keyKey, err)
	}
	if !key.PublicKey.Equal(certs[0].PublicKey) {
		return nil, fmt.Errorf("%s isn't the key of %s", keyKey, certKey)
	}
	return &authority{certs[0], key}, nil
}

func parseCerts(text []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != certificateBlock {
			return nil, fmt.Errorf("a PEM block of type %s instead of %s", block.Type, certificateBlock)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, c)
	}
	return certs, nil
}

// parseKey never has the key's bytes in its error.
func parseKey(text []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != keyBlock {
		return nil, errors.New("no private key in PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("no private key in PKCS #8")
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("not an ECDSA key")
	}
	return ec, nil
}

func certPEM(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: c.Raw})...)
	}
	return out
}

func keyPEM(key *ecdsa.PrivateKey) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(fmt.Sprintf("pki: %v", err)) // a P-256 key: can't happen
	}
	return pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der})
}
