// Package mcp runs the built-in tools of gpt-oss, browser and python, in servers
// of the Model Context Protocol that an operator names. The model's code and
// addresses run and open there, never here.
//
// It is the one room that knows the protocol's library. What a server answers
// is bounded in bytes and in time, and is text at last.
package mcp

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"ossify/internal/quote"
)

// A Server is an MCP server's address with the tools that are asked for there.
type Server struct {
	o      Options
	client *sdk.Client
	web    *http.Client
}

// Options say where tools run.
type Options struct {
	// Address is the server's, http or https: of the streamable transport, or of
	// the older one of events if its path ends in /sse.
	Address string

	// Tools are the names of those that the server must have.
	Tools []string

	// Answer is how many bytes an HTTP answer may have; 0 is 8 MiB.
	Answer int64

	// Version is our program's.
	Version string
}

// defaultAnswer is the default of [Options.Answer].
const defaultAnswer = 8 << 20

// New returns a Server. It asks nothing of it.
func New(o Options) (*Server, error) {
	u, err := url.Parse(o.Address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Fragment != "" {
		return nil, fmt.Errorf("mcp: address %s, want http://HOST:PORT/PATH or https", quote.Value(o.Address))
	}
	if o.Answer == 0 {
		o.Answer = defaultAnswer
	}
	if o.Answer < 0 || len(o.Tools) == 0 {
		return nil, errors.New("mcp: want tools, and a positive bound")
	}
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.MaxResponseHeaderBytes = 64 << 10
	return &Server{
		o: o,
		// No roots, no sampling, no elicitation: the server is to answer, not to ask.
		client: sdk.NewClient(&sdk.Implementation{Name: "ossify", Version: o.Version}, &sdk.ClientOptions{Capabilities: &sdk.ClientCapabilities{}}),
		web:    &http.Client{Transport: bounded{base, o.Answer}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}, nil
}

// bounded is a transport whose answers end with an error after so many bytes.
type bounded struct {
	http.RoundTripper
	most int64
}

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = &body{resp.Body, b.most}
	}
	return resp, err
}

type body struct {
	io.ReadCloser
	left int64
}

// errLarge is the error of an answer of too many bytes.
var errLarge = errors.New("mcp: the answer is too large")

func (b *body) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errLarge
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// Check connects, and fails unless the server has the tools.
func (s *Server) Check(ctx context.Context) error {
	session, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer session.Close()
	var there []string
	for cursor, pages := "", 0; ; pages++ {
		list, err := session.ListTools(ctx, &sdk.ListToolsParams{Cursor: cursor})
		if err != nil {
			return s.failed(err)
		}
		for _, t := range list.Tools {
			there = append(there, t.Name)
		}
		if cursor = list.NextCursor; cursor == "" || pages == 100 {
			break
		}
	}
	for _, want := range s.o.Tools {
		if !slices.Contains(there, want) {
			return fmt.Errorf("mcp: the server at %s has no tool %s, want %s", s.o.Address, want, strings.Join(s.o.Tools, ", "))
		}
	}
	return nil
}

func (s *Server) connect(ctx context.Context) (*sdk.ClientSession, error) {
	var t sdk.Transport = &sdk.StreamableClientTransport{
		Endpoint: s.o.Address, HTTPClient: s.web, MaxRetries: -1, DisableStandaloneSSE: true, MaxEventSize: int(s.o.Answer),
	}
	if u, err := url.Parse(s.o.Address); err == nil && strings.HasSuffix(u.Path, "/sse") {
		t = &sdk.SSEClientTransport{Endpoint: s.o.Address, HTTPClient: s.web, MaxEventSize: int(s.o.Answer)}
	}
	session, err := s.client.Connect(ctx, t, nil)
	if err != nil {
		return nil, s.failed(err)
	}
	return session, nil
}

func (s *Server) failed(err error) error {
	return fmt.Errorf("mcp: the server at %s: %w", s.o.Address, err)
}

// A Session is the state of one conversation at the server: pages that were
// opened, variables that were set. It begins with its first call.
type Session struct {
	s       *Server
	session *sdk.ClientSession
	end     context.CancelFunc
}

// Session returns a new session, to be closed at the end.
func (s *Server) Session() *Session { return &Session{s: s} }

// closing is how long a server may take to let a session go.
const closing = 5 * time.Second

// Close ends the session. It does not wait for the server to agree.
func (c *Session) Close() {
	if c.session == nil {
		return
	}
	session, end := c.session, c.end
	c.session = nil
	timer := time.AfterFunc(closing, end)
	go func() {
		session.Close()
		timer.Stop()
		end()
	}()
}

// Call calls a tool by its name with arguments, an object of JSON. It returns
// the text that the tool answered, and whether the tool says that it failed.
// Calls of a session come one after another.
func (c *Session) Call(ctx context.Context, tool string, arguments []byte) (text string, failed bool, err error) {
	if !slices.Contains(c.s.o.Tools, tool) {
		return "", false, fmt.Errorf("mcp: no tool %s", quote.Value(tool))
	}
	if c.session == nil {
		// A session outlives the call that opens it.
		life, end := context.WithCancel(context.WithoutCancel(ctx))
		stop := context.AfterFunc(ctx, end)
		session, err := c.s.connect(life)
		if !stop() || err != nil {
			end()
			if session != nil {
				session.Close()
			}
			return "", false, cmp.Or(context.Cause(ctx), err)
		}
		c.session, c.end = session, end
	}
	r, err := c.session.CallTool(ctx, &sdk.CallToolParams{Name: tool, Arguments: json.RawMessage(arguments)})
	if err != nil {
		return "", false, cmp.Or(context.Cause(ctx), c.s.failed(err))
	}
	var b strings.Builder
	for i, content := range r.Content {
		if i > 0 {
			b.WriteByte('\n')
		}
		switch t := content.(type) {
		case *sdk.TextContent:
			b.WriteString(t.Text)
		case *sdk.EmbeddedResource:
			if t.Resource != nil && t.Resource.Text != "" {
				b.WriteString(t.Resource.Text)
				continue
			}
			b.WriteString("[a resource that is no text]")
		default:
			fmt.Fprintf(&b, "[%s, which is no text]", strings.TrimPrefix(fmt.Sprintf("%T", content), "*mcp."))
		}
	}
	return strings.ToValidUTF8(b.String(), "\uFFFD"), r.IsError, nil
}
