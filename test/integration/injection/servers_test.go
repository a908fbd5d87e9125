//go:build integration

package injection

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// trusting is a client's TLS for the operator's servers.
func trusting(t *testing.T, protocols ...string) *tls.Config {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(awaitBundle(t, nil))
	return &tls.Config{RootCAs: roots, ServerName: "localhost", NextProtos: protocols}
}

func TestO59_NoHTTP2(t *testing.T) {
	for name, address := range map[string]string{
		"webhook": net.JoinHostPort("127.0.0.1", strconv.Itoa(first.webhookPort)),
		"metrics": first.metrics,
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := tls.Dial("tcp", address, trusting(t, "h2", "http/1.1"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if got := conn.ConnectionState(); got.NegotiatedProtocol != "http/1.1" || got.Version != tls.VersionTLS13 {
				t.Errorf("negotiated %q over TLS %x, want http/1.1 over TLS 1.3", got.NegotiatedProtocol, got.Version)
			}
		})
	}
}

// TestO59_MetricsAskWhoAndWhether: no token, a token without the right, a token with it.
func TestO59_MetricsAskWhoAndWhether(t *testing.T) {
	namespace := server.Namespace(t, nil)
	role := &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: namespace},
		Rules:      []rbacv1.PolicyRule{{NonResourceURLs: []string{"/metrics"}, Verbs: []string{"get"}}},
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: namespace},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: "scraper"}},
	}
	if err := server.Client.Create(t.Context(), role); err != nil {
		t.Fatal(err)
	}
	if err := server.Client.Create(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		account string
		want    int
	}{
		"nobody":   {"", http.StatusUnauthorized},
		"stranger": {"stranger", http.StatusForbidden},
		"scraper":  {"scraper", http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("https://%s/metrics", first.metrics), nil)
			if err != nil {
				t.Fatal(err)
			}
			if tc.account != "" {
				request.Header.Set("Authorization", "Bearer "+tokenOf(t, namespace, tc.account))
			}
			transport := &http.Transport{TLSClientConfig: trusting(t)}
			defer transport.CloseIdleConnections()
			response, err := transport.RoundTrip(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if response.StatusCode != tc.want {
				t.Errorf("%s, want %d", response.Status, tc.want)
			}
		})
	}
}

// tokenOf makes a service account and asks for its token.
func tokenOf(t *testing.T, namespace, name string) string {
	t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	if err := server.Client.Create(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	request := &authenticationv1.TokenRequest{}
	if err := server.Client.SubResource("token").Create(t.Context(), account, request); err != nil {
		t.Fatal(err)
	}
	return request.Status.Token
}
