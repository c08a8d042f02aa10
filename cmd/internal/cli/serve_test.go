//go:build unix

package cli

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ossify/gptoss"
	"ossify/internal/modeltest"
	"ossify/tokenizer"
)

// words is a small model of all of harmony's tokens.
func words(t *testing.T) string {
	t.Helper()
	c := modeltest.Tiny(t)
	c.Vocab = tokenizer.VocabSize
	return modeltest.Write(t, c, gptoss.Original, 3)
}

// A serverProcess is the server as a process, and what it says.
type serverProcess struct {
	*exec.Cmd
	url   string
	lines *bufio.Scanner
}

// startServer starts a server of dir at a free port, and waits until it listens.
func startServer(t *testing.T, dir string, args ...string) *serverProcess {
	t.Helper()
	s := &serverProcess{Cmd: exec.Command(os.Args[0], append([]string{"serve", dir, "--addr", "127.0.0.1:0", "--log", "json"}, args...)...)}
	s.Env = append(os.Environ(), "OSSIFY_TEST_PROGRAM=1")
	errs, err := s.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Process.Kill(); s.Wait() })
	s.lines = bufio.NewScanner(errs)
	line := s.said(t, "serving ")
	_, rest, _ := strings.Cut(line, " at ")
	s.url, _, _ = strings.Cut(rest, " ")
	return s
}

// said reads what the server says up to a line that holds part.
func (s *serverProcess) said(t *testing.T, part string) string {
	t.Helper()
	var all []string
	for s.lines.Scan() {
		all = append(all, s.lines.Text())
		if strings.Contains(s.lines.Text(), part) {
			return s.lines.Text()
		}
	}
	t.Fatalf("the server did not say %q: %q", part, all)
	return ""
}

// stream asks for so many tokens as a stream, and returns when the first came.
func (s *serverProcess) stream(t *testing.T, tokens int) *bufio.Reader {
	t.Helper()
	body := fmt.Sprintf(`{"model":"m","prompt":"a","stream":true,"max_tokens":%d,"logit_bias":{"199999":-100,"200002":-100,"200012":-100}}`, tokens)
	resp, err := http.Post(s.url+"/v1/completions", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	r := bufio.NewReader(resp.Body)
	if line, err := r.ReadString('\n'); resp.StatusCode != 200 || err != nil || !strings.HasPrefix(line, "data: {") {
		t.Fatalf("%d %q %v", resp.StatusCode, line, err)
	}
	return r
}

// A signal ends the server when the answers under way are finished or out of
// time, and then it is a success; a second one ends it at once.
func TestServeSignals(t *testing.T) {
	dir := words(t)
	for _, tt := range []struct {
		name   string
		signal syscall.Signal
		grace  string
		tokens int
		twice  bool
		end    string // what the stream ends with; "" for a connection that breaks
	}{
		{"SIGTERM lets a stream finish", syscall.SIGTERM, "5m", 60, false, "data: [DONE]\n\n"},
		{"SIGINT lets a stream finish", syscall.SIGINT, "5m", 60, false, "data: [DONE]\n\n"},
		{"a stream that is out of time is told", syscall.SIGTERM, "50ms", 100_000, false, `"code":"shutting_down"}}` + "\n\n"},
		{"a second signal ends it at once", syscall.SIGTERM, "5m", 100_000, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := startServer(t, dir, "--name", "m", "--grace", tt.grace)
			r := s.stream(t, tt.tokens)
			s.Process.Signal(tt.signal)
			s.said(t, `"msg":"ending"`)
			for start := time.Now(); ; time.Sleep(time.Millisecond) { // it says so before it closes the door
				c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
				if err != nil {
					break
				}
				c.Close()
				if time.Since(start) > 2*time.Minute {
					t.Fatal("new connections are taken")
				}
			}
			if tt.twice {
				s.Process.Signal(tt.signal)
			}
			rest, err := io.ReadAll(r)
			if tt.end == "" {
				if err == nil {
					t.Errorf("the stream ends with %.200q", rest[max(0, len(rest)-200):])
				}
			} else if err != nil || !bytes.HasSuffix(rest, []byte(tt.end)) {
				t.Errorf("the stream ends with %.200q, %v, want %q", rest[max(0, len(rest)-200):], err, tt.end)
			}
			if tt.tokens < 100 && !bytes.Contains(rest, []byte(`"finish_reason":"length"`)) {
				t.Error("the stream came to no end of its own")
			}
			for s.lines.Scan() { // to the end
			}
			err = s.Wait()
			status := s.ProcessState.Sys().(syscall.WaitStatus)
			if tt.twice != (status.Signaled() && status.Signal() == tt.signal) || !tt.twice && err != nil {
				t.Errorf("ended with %v", s.ProcessState)
			}
		})
	}
}

// certificate writes a certificate for 127.0.0.1 with its key.
func certificate(t *testing.T, dir, name string) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+"-key.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(cert, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600); err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return cert, key, pool
}

func TestServeTLS(t *testing.T) {
	in := t.TempDir()
	cert, key, pool := certificate(t, in, "right")
	_, otherKey, _ := certificate(t, in, "other")
	rubbish := filepath.Join(in, "rubbish.pem")
	if err := os.WriteFile(rubbish, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, want string
		code       int
		args       []string
	}{
		{"no key", "want both of --tls-cert and --tls-key", 2, []string{"--tls-cert", cert}},
		{"no certificate", "want both of --tls-cert and --tls-key", 2, []string{"--tls-key", key}},
		{"a file that is not there", "no such file", 1, []string{"--tls-cert", filepath.Join(in, "none.pem"), "--tls-key", key}},
		{"no PEM", "are no certificate with its key", 1, []string{"--tls-cert", rubbish, "--tls-key", key}},
		{"no PEM as key", "are no certificate with its key", 1, []string{"--tls-cert", cert, "--tls-key", rubbish}},
		{"another's key", "are no certificate with its key", 1, []string{"--tls-cert", cert, "--tls-key", otherKey}},
		{"the two exchanged", "are no certificate with its key", 1, []string{"--tls-cert", key, "--tls-key", cert}},
		{"a folder", "is a directory", 1, []string{"--tls-cert", in, "--tls-key", key}},
	} {
		code, stdout, stderr := ossify(t, "", append([]string{"serve", in}, tt.args...)...)
		if code != tt.code || stdout != "" || !strings.Contains(stderr, tt.want) {
			t.Errorf("%s: %d %q %q, want %d %q", tt.name, code, stdout, stderr, tt.code, tt.want)
		}
	}

	s := startServer(t, words(t), "--tls-cert", cert, "--tls-key", key)
	ask := func(c *tls.Config) (*http.Response, error) {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: c}}
		defer client.CloseIdleConnections()
		resp, err := client.Get(s.url + "/health")
		if err == nil {
			resp.Body.Close()
		}
		return resp, err
	}
	if !strings.HasPrefix(s.url, "https://127.0.0.1:") {
		t.Errorf("serves at %s", s.url)
	}
	if resp, err := ask(&tls.Config{RootCAs: pool}); err != nil || resp.StatusCode != 200 {
		t.Errorf("%v %v", resp, err)
	}
	if _, err := ask(&tls.Config{RootCAs: x509.NewCertPool()}); err == nil {
		t.Error("another authority's client is content")
	}
	if _, err := ask(&tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	if resp, err := http.Get(strings.Replace(s.url, "https", "http", 1) + "/health"); err == nil {
		resp.Body.Close()
		if resp.StatusCode == 200 {
			t.Error("answers without TLS")
		}
	}
	s.Process.Signal(syscall.SIGTERM)
	s.said(t, `"msg":"ended"`)
}

// Tools are looked for when the server starts.
func TestServeTools(t *testing.T) {
	dir, nobody := words(t), "http://127.0.0.1:1/mcp"
	for _, tt := range []struct {
		name, want string
		code       int
		args       []string
	}{
		{"an address that is none", "want http://HOST:PORT/PATH", 2, []string{"--browser", "localhost:8000"}},
		{"a program", "want http://HOST:PORT/PATH", 2, []string{"--python", "python3 -m tools"}},
		{"nobody there", "--python: mcp: the server at " + nobody, 1, []string{"--python", nobody}},
		{"no calls", "--tool-calls is not positive", 2, []string{"--browser", nobody, "--tool-calls", "0"}},
	} {
		code, _, stderr := ossify(t, "", append([]string{"serve", dir}, tt.args...)...)
		if code != tt.code || !strings.Contains(stderr, tt.want) {
			t.Errorf("%s: %d %q, want %d %q", tt.name, code, stderr, tt.code, tt.want)
		}
	}
}

// A folder of batches is for one server. One that was killed leaves it free.
func TestServeFolderIsLocked(t *testing.T) {
	dir, batches := words(t), filepath.Join(t.TempDir(), "kept")
	first := startServer(t, dir, "--batches", batches)
	code, stdout, stderr := ossify(t, "", "serve", dir, "--addr", "127.0.0.1:0", "--batches", batches)
	if code != 1 || stdout != "" || !strings.Contains(stderr, batches) || !strings.Contains(stderr, "another server uses this folder") {
		t.Errorf("a second server: %d %q %q", code, stdout, stderr)
	}
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for first.lines.Scan() { // to the end
	}
	first.Wait()
	second := startServer(t, dir, "--batches", batches)
	second.Process.Signal(syscall.SIGTERM)
	second.said(t, `"msg":"ended"`)
	for second.lines.Scan() {
	}
	if err := second.Wait(); err != nil {
		t.Fatal(err)
	}
	startServer(t, dir, "--batches", batches)
}
