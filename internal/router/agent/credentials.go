package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"

	"google.golang.org/grpc/credentials"
)

// liveTLS trusts the CA bundle that is in its file when a connection is made: a rotated bundle needs no restart,
// and one that isn't there yet only fails the connection.
type liveTLS struct{ caFile string }

// ClientHandshake implements credentials.TransportCredentials.
func (c *liveTLS) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	pem, err := os.ReadFile(c.caFile)
	if err != nil {
		return nil, nil, fmt.Errorf("the operator's CA bundle: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, nil, fmt.Errorf("the operator's CA bundle: no certificate in %s", c.caFile)
	}
	config := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}
	return credentials.NewTLS(config).ClientHandshake(ctx, authority, raw)
}

// ServerHandshake implements credentials.TransportCredentials.
func (c *liveTLS) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("a router is no server of this channel")
}

// Info implements credentials.TransportCredentials.
func (c *liveTLS) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (c *liveTLS) Clone() credentials.TransportCredentials { return &liveTLS{caFile: c.caFile} }

// OverrideServerName implements credentials.TransportCredentials.
func (c *liveTLS) OverrideServerName(string) error {
	return errors.New("the server's name is the address's host")
}

// bearerFile is the path of a token that its writer replaces before it expires.
type bearerFile string

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (f bearerFile) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	token, err := os.ReadFile(string(f))
	if err != nil {
		return nil, fmt.Errorf("the token for the operator: %w", err)
	}
	return map[string]string{"authorization": "Bearer " + string(bytes.TrimSpace(token))}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials: a token never travels in clear.
func (f bearerFile) RequireTransportSecurity() bool { return true }
