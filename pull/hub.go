package pull

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// hub is where one request's files are.
type hub struct {
	q      Request
	base   *url.URL
	client *http.Client
	commit string

	mu          sync.Mutex
	done, total int64
	fetched     int64
}

func newHub(q Request) (*hub, error) {
	base, err := url.Parse(q.Endpoint)
	if err != nil || base.Scheme != "https" && base.Scheme != "http" || base.Host == "" || base.RawQuery != "" || base.User != nil {
		return nil, fmt.Errorf("pull: endpoint %.200q, want an address such as https://host", q.Endpoint)
	}
	owner, name, ok := strings.Cut(q.Repo, "/")
	if !ok || !plain(owner) || !plain(name) {
		return nil, fmt.Errorf("pull: repository %.200q, want owner/name", q.Repo)
	}
	if q.Revision == "" {
		q.Revision = "main"
	}
	if q.Parallel == 0 {
		q.Parallel = 4
	}
	if q.Parallel < 1 || q.Parallel > 64 {
		return nil, fmt.Errorf("pull: %d ranges at a time, want 1 to 64", q.Parallel)
	}
	if q.rangeBytes == 0 {
		q.rangeBytes = 32 << 20
	}
	if q.patience == 0 {
		q.patience = time.Second
	}
	h := &hub{q: q, base: base, client: q.client}
	if h.client == nil {
		h.client = &http.Client{Transport: &http.Transport{
			Proxy:                 q.Proxy,
			DialContext:           (&net.Dialer{Timeout: 20 * time.Second}).DialContext,
			TLSHandshakeTimeout:   20 * time.Second,
			ResponseHeaderTimeout: 60 * time.Second,
			MaxIdleConnsPerHost:   q.Parallel,
		}}
	}
	return h, nil
}

func (h *hub) tell(n int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.done += n
	h.fetched += max(n, 0)
	if h.q.Progress != nil {
		h.q.Progress(h.done, h.total)
	}
}

func (h *hub) warn(format string, args ...any) {
	if h.q.Warn != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.q.Warn(fmt.Sprintf(format, args...))
	}
}

// listMost bounds the answer that lists a repository, in bytes, and pages of it.
const (
	listMost  = 16 << 20
	pagesMost = 100
)

// list returns the commit that the revision is, and all its files.
func (h *hub) list(ctx context.Context) (commit string, files []file, err error) {
	info := struct {
		SHA string `json:"sha"`
	}{}
	at := h.base.JoinPath("api", "models", h.q.Repo, "revision", h.q.Revision)
	if _, err := h.json(ctx, at, &info); err != nil {
		return "", nil, err
	}
	if len(info.SHA) != 40 || strings.Trim(info.SHA, "0123456789abcdef") != "" {
		return "", nil, fmt.Errorf("pull: %s: the hub names commit %.80q, want 40 hex digits", h.q.Repo, info.SHA)
	}
	next := h.base.JoinPath("api", "models", h.q.Repo, "tree", info.SHA)
	next.RawQuery = "recursive=true"
	for page := 0; next != nil; page++ {
		if page == pagesMost {
			return "", nil, fmt.Errorf("pull: %s: the hub lists more than %d pages of files", h.q.Repo, pagesMost)
		}
		var some []file
		link, err := h.json(ctx, next, &some)
		if err != nil {
			return "", nil, err
		}
		files = append(files, some...)
		if next, err = h.next(next, link); err != nil {
			return "", nil, err
		}
	}
	for _, f := range files {
		if f.Size < 0 {
			return "", nil, fmt.Errorf("pull: %s: the hub lists %.200q with %d bytes", h.q.Repo, f.Path, f.Size)
		}
	}
	return info.SHA, files, nil
}

// next returns the page that a Link header names as the next, on the same host.
func (h *hub) next(from *url.URL, link string) (*url.URL, error) {
	for part := range strings.SplitSeq(link, ",") {
		target, rel, ok := strings.Cut(part, ">")
		if !ok || !strings.Contains(rel, `rel="next"`) {
			continue
		}
		u, err := from.Parse(strings.TrimPrefix(strings.TrimSpace(target), "<"))
		if err != nil || u.Host != h.base.Host || u.Scheme != h.base.Scheme {
			return nil, fmt.Errorf("pull: %s: the hub's list goes on at %.200q, want an address of its own", h.q.Repo, target)
		}
		return u, nil
	}
	return nil, nil
}

// json gets a JSON document, and the Link header beside it.
func (h *hub) json(ctx context.Context, u *url.URL, into any) (link string, err error) {
	err = h.patient(ctx, func() (bool, error) {
		res, err := h.get(ctx, u, "")
		if err != nil {
			return false, err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(io.LimitReader(res.Body, listMost+1))
		if err != nil {
			return false, &temporary{err: errCut}
		}
		if len(body) > listMost {
			return false, fmt.Errorf("pull: %s: a list of more than %d bytes", h.q.Repo, listMost)
		}
		if err := json.Unmarshal(body, into); err != nil {
			return false, fmt.Errorf("pull: %s: %s answers what is no list of files (%v): want a hub's address", h.q.Repo, u.Host, err)
		}
		link = res.Header.Get("Link")
		return true, nil
	})
	return link, err
}

// get sends one request. The response is 200, or 206 if span is given. Errors
// that another try may mend are *temporary.
func (h *hub) get(ctx context.Context, u *url.URL, span string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("pull: %w", err)
	}
	req.Header.Set("User-Agent", "ossify")
	if h.q.Token != "" {
		req.Header.Set("Authorization", "Bearer "+h.q.Token) // the client drops it where a redirect leaves the host
	}
	if span != "" {
		req.Header.Set("Range", span)
		req.Header.Set("Accept-Encoding", "identity")
	}
	res, err := h.client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		var e *url.Error // its text holds the whole address, which may be signed
		if errors.As(err, &e) {
			err = e.Err
		}
		return nil, &temporary{err: &OfflineError{u.Host, err}}
	}
	switch code := res.StatusCode; {
	case code == http.StatusOK || code == http.StatusPartialContent && span != "":
		return res, nil
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		err = &AccessError{h.q.Repo, res.Status, h.q.Token != ""}
	case code == http.StatusNotFound:
		err = fmt.Errorf("pull: %s: the hub has no such repository, or no revision %.80q of it (%s)", h.q.Repo, h.q.Revision, res.Status)
	case code == http.StatusTooManyRequests || code >= 500:
		err = &temporary{err: fmt.Errorf("pull: %s: the hub says %s", h.q.Repo, res.Status), wait: retryAfter(res.Header.Get("Retry-After"))}
	default:
		err = fmt.Errorf("pull: %s: the hub says %s, want 200", h.q.Repo, res.Status)
	}
	res.Body.Close()
	return nil, err
}

// A temporary error may be gone at the next try.
type temporary struct {
	err  error
	wait time.Duration // the least, if the hub asked for one
}

func (t *temporary) Error() string { return t.err.Error() }
func (t *temporary) Unwrap() error { return t.err }

// waitMost bounds what a hub can make us wait.
const waitMost = 5 * time.Minute

// retryAfter reads the seconds of a header; a date or nothing is 0.
func retryAfter(text string) time.Duration {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0
	}
	return min(time.Duration(n)*time.Second, waitMost)
}

// patient calls try until it does not fail with a *temporary error, waiting
// longer each time. It gives up after some tries of which none moved.
func (h *hub) patient(ctx context.Context, try func() (moved bool, err error)) error {
	wait := h.q.patience
	for left := tries; ; {
		moved, err := try()
		var t *temporary
		if err == nil || !errors.As(err, &t) {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		left--
		if moved {
			left, wait = tries, h.q.patience
		}
		if left == 0 {
			return t.err
		}
		pause := max(wait, t.wait)
		if wait *= 2; wait > time.Minute {
			wait = time.Minute
		}
		if pause >= time.Second {
			h.warn("%v; trying again in %s", t.err, pause.Round(time.Second))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}
