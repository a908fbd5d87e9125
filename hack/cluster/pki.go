package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"
)

// validity is that of all certificates: longer than any cluster lives, which ends with `down`.
const validity = 10 * 365 * 24 * time.Hour

// An identity is one certificate and what it is for.
type identity struct {
	file    string
	subject pkix.Name
	usages  []x509.ExtKeyUsage
	names   []string
	ips     []string
}

var (
	asClient = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	asServer = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
)

// The groups that Kubernetes reads from a certificate.
const (
	masters = "system:masters"
	nodes   = "system:nodes"
)

// subject is a user and its groups, in the words of X.509.
func subject(user string, groups ...string) pkix.Name {
	return pkix.Name{CommonName: user, Organization: groups}
}

func identities() []identity {
	return []identity{
		{
			file: "apiserver", subject: subject("kube-apiserver"), usages: asServer,
			names: []string{
				"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
				"kubernetes.default.svc." + domain,
			},
			ips: []string{"127.0.0.1", nodeIP, serviceIP},
		},
		{
			file: "kubelet-server", subject: subject("system:node:"+nodeName, nodes),
			usages: asServer, names: []string{nodeName, "localhost"}, ips: []string{"127.0.0.1", nodeIP},
		},
		{file: "apiserver-kubelet-client", usages: asClient,
			subject: subject("apiserver-kubelet-client", masters)},
		{file: "front-proxy-client", usages: asClient, subject: subject("front-proxy-client")},
		{file: "admin", usages: asClient, subject: subject("admin", masters)},
		{file: "kube-controller-manager", usages: asClient,
			subject: subject("system:kube-controller-manager")},
		{file: "kube-scheduler", usages: asClient, subject: subject("system:kube-scheduler")},
		{file: "kube-proxy", usages: asClient, subject: subject("system:kube-proxy")},
		{file: "kubelet", usages: asClient,
			subject: subject("system:node:"+nodeName, nodes)},
	}
}

// A keyPair is a certificate or key pair in PEM.
type keyPair struct{ cert, key []byte }

// An authority signs the cluster's certificates. There is one: this is a cluster for an hour, on one machine.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  keyPair
}

// writePKI makes a new authority, all identities and the key of service account tokens, below pki/, and returns the
// authority's certificate and the pairs by file name.
func writePKI(p paths) (ca []byte, pairs map[string]keyPair, err error) {
	auth, err := newAuthority()
	if err != nil {
		return nil, nil, fmt.Errorf("make the cluster's authority: %w", err)
	}
	pairs = map[string]keyPair{}
	for _, id := range identities() {
		if pairs[id.file], err = auth.issue(id); err != nil {
			return nil, nil, fmt.Errorf("issue the certificate of %s: %w", id.file, err)
		}
	}
	tokens, err := newTokenKey()
	if err != nil {
		return nil, nil, fmt.Errorf("make the key of service account tokens: %w", err)
	}
	for name, pair := range pairs {
		if err := writePair(p, name+".crt", name+".key", pair); err != nil {
			return nil, nil, err
		}
	}
	if err := writePair(p, "ca.crt", "ca.key", auth.pem); err != nil {
		return nil, nil, err
	}
	return auth.pem.cert, pairs, writePair(p, "tokens.pub", "tokens.key", tokens)
}

func writePair(p paths, certName, keyName string, pair keyPair) error {
	if err := writeFile(p.inState("pki/"+certName), pair.cert, 0o644); err != nil {
		return err
	}
	return writeFile(p.inState("pki/"+keyName), pair.key, 0o600)
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	cert, err := certificate(subject("workerpool-cluster"))
	if err != nil {
		return nil, err
	}
	cert.IsCA, cert.BasicConstraintsValid = true, true
	cert.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	pair, err := encode(der, key)
	return &authority{cert: cert, key: key, pem: pair}, err
}

func (a *authority) issue(id identity) (keyPair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return keyPair{}, err
	}
	cert, err := certificate(id.subject)
	if err != nil {
		return keyPair{}, err
	}
	cert.KeyUsage, cert.ExtKeyUsage = x509.KeyUsageDigitalSignature, id.usages
	cert.DNSNames = id.names
	for _, ip := range id.ips {
		cert.IPAddresses = append(cert.IPAddresses, net.ParseIP(ip))
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return keyPair{}, err
	}
	return encode(der, key)
}

func certificate(subject pkix.Name) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      subject,
		NotBefore:    now.Add(-time.Hour), // a clock set back a little doesn't end the cluster
		NotAfter:     now.Add(validity),
	}, nil
}

// newTokenKey makes the pair that signs and checks service account tokens; its public half stands as a bare key.
func newTokenKey() (keyPair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return keyPair{}, err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return keyPair{}, err
	}
	pair, err := encode(nil, key)
	pair.cert = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	return pair, err
}

func encode(certDER []byte, key *ecdsa.PrivateKey) (keyPair, error) {
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return keyPair{}, err
	}
	return keyPair{
		cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certDER}),
		key:  pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}),
	}, nil
}
