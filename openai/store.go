package openai

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
)

// A Store keeps responses in memory, the newest of them. Each belongs to whoever
// asked for it; to others it is not there.
type Store struct {
	most  int
	bytes int64

	mu      sync.Mutex
	all     map[string]*stored
	order   []string // oldest first
	size    int64
	running map[string]context.CancelCauseFunc // in the background
	idle    sync.WaitGroup
	closed  bool
}

// A stored response never changes.
type stored struct {
	owner    string
	response *response
	input    []*item
	fresh    int // where the items of its own request begin
	size     int64
}

// mostBackground is how many responses are computed in the background.
const mostBackground = 64

// NewStore returns a store of so many responses of so many bytes together, at
// most.
func NewStore(most int, bytes int64) *Store {
	return &Store{most: most, bytes: bytes, all: map[string]*stored{}, running: map[string]context.CancelCauseFunc{}}
}

// Close ends what runs in the background.
func (s *Store) Close() {
	if s == nil {
		return
	}
	s.mu.Lock()
	s.closed = true
	for _, cancel := range s.running {
		cancel(context.Canceled)
	}
	s.mu.Unlock()
	s.idle.Wait()
}

// Len returns the number of responses.
func (s *Store) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

// bytes is about what an item takes.
func (i *item) bytes() int64 {
	n := 256 + len(i.ID) + len(i.Text) + len(i.CallID) + len(i.Name) + len(i.Arguments)
	for _, p := range i.LogProbs {
		n += p.bytes()
	}
	return int64(n)
}

func (p *logProb) bytes() int {
	n := 96 + len(p.Token) + 8*len(p.Bytes)
	for i := range p.Top {
		n += p.Top[i].bytes()
	}
	return n
}

// bytes is about what a response takes without its items: what a client may
// make long is counted.
func (r *response) bytes() int64 {
	n := 1024
	for _, s := range []*string{r.Instructions, r.User, r.PreviousResponseID} {
		if s != nil {
			n += len(*s)
		}
	}
	for name, v := range r.Metadata {
		n += 64 + len(name) + len(v)
	}
	for _, t := range r.Tools {
		n += 128 + len(t.Name) + len(t.Description) + len(t.Parameters)
	}
	if f, ok := r.Text.Format.(map[string]any); ok {
		if v, ok := f["schema"].(json.RawMessage); ok {
			n += len(v)
		}
		if s, ok := f["description"].(*string); ok && s != nil {
			n += len(*s)
		}
	}
	return int64(n)
}

func (s *Store) put(r *stored) {
	// Items of earlier responses are shared with them, and counted again: they
	// stay when those go.
	r.size = r.response.bytes()
	for _, i := range r.input {
		r.size += i.bytes()
	}
	for _, i := range r.response.Output {
		r.size += i.bytes()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := r.response.ID
	if old, ok := s.all[id]; ok {
		s.size -= old.size
	} else if !(r.response.Background && r.response.Status != "queued") { // deleted meanwhile
		s.order = append(s.order, id)
	} else {
		return
	}
	s.all[id] = r
	s.size += r.size
	for len(s.order) > 1 && (len(s.order) > s.most || s.size > s.bytes) {
		s.drop(s.order[0])
	}
}

func (s *Store) drop(id string) {
	s.size -= s.all[id].size
	delete(s.all, id)
	if i := slices.Index(s.order, id); i >= 0 {
		s.order = slices.Delete(s.order, i, i+1)
	}
}

func (s *Store) get(id, owner string) (*stored, *Error) {
	if s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if r, ok := s.all[id]; ok && r.of(owner) {
			return r, nil
		}
	}
	return nil, NotFound("There is no response %s.", shown(id))
}

// of reports whether the response is an owner's.
func (r *stored) of(owner string) bool {
	return subtle.ConstantTimeCompare([]byte(r.owner), []byte(owner)) == 1
}

// items returns those items of an owner's responses that have one of the ids, of
// the newest response that has one. It looks at each once, however many are asked
// for.
func (s *Store) items(ids map[string]bool, owner string) map[string]*item {
	found := map[string]*item{}
	if s == nil || len(ids) == 0 {
		return found
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, at := range slices.Backward(s.order) {
		r := s.all[at]
		if !r.of(owner) {
			continue
		}
		for _, list := range [][]*item{r.response.Output, r.input} {
			for _, i := range list {
				if ids[i.ID] && found[i.ID] == nil {
					found[i.ID] = i
				}
			}
		}
	}
	return found
}

func (s *Store) remove(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.all[id]; !ok {
		return false
	}
	s.drop(id)
	return true
}

func (s *Store) begin(id string, cancel context.CancelCauseFunc) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.running) >= mostBackground {
		return false
	}
	s.running[id] = cancel
	s.idle.Add(1)
	return true
}

func (s *Store) end(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.running, id)
	s.idle.Done()
}

// GetResponse returns a stored response of an owner as JSON.
func (s *Service) GetResponse(id, owner string) ([]byte, *Error) {
	r, err := s.o.Store.get(id, owner)
	if err != nil {
		return nil, err
	}
	return encode(r.response), nil
}

// DeleteResponse forgets a stored response of an owner, and ends it if it is under
// way.
func (s *Service) DeleteResponse(id, owner string) ([]byte, *Error) {
	if _, err := s.o.Store.get(id, owner); err != nil {
		return nil, err
	}
	s.o.Store.cancel(id)
	s.o.Store.remove(id)
	return encode(map[string]any{"id": id, "object": "response", "deleted": true}), nil
}

func (s *Store) cancel(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel, ok := s.running[id]; ok {
		cancel(context.Canceled)
	}
}

// CancelResponse ends a response of an owner that is computed in the background.
// One that has ended stays as it is.
func (s *Service) CancelResponse(id, owner string) ([]byte, *Error) {
	r, err := s.o.Store.get(id, owner)
	if err != nil {
		return nil, err
	}
	if !r.response.Background {
		return nil, Invalid("", "The response %s is not in the background: only such can be cancelled.", shown(id))
	}
	a := *r.response
	if a.Status == "queued" || a.Status == "in_progress" {
		s.o.Store.cancel(id)
		a.Status = "cancelled"
	}
	return encode(&a), nil
}

// InputItems returns a page of the input of a stored response of an owner as JSON:
// items after one of them, at most limit, newest first unless order is asc.
func (s *Service) InputItems(id, owner, after, order string, limit int) ([]byte, *Error) {
	r, err := s.o.Store.get(id, owner)
	if err != nil {
		return nil, err
	}
	items := slices.Clone(r.input)
	switch order {
	case "", "desc":
		slices.Reverse(items)
	case "asc":
	default:
		return nil, Invalid("order", "This is %s, want asc or desc.", shown(order))
	}
	if limit < 1 || limit > 100 {
		return nil, Invalid("limit", "This is %d, want 1 to 100.", limit)
	}
	if after != "" {
		at := slices.IndexFunc(items, func(i *item) bool { return i.ID == after })
		if at < 0 {
			return nil, Invalid("after", "There is no item %s.", shown(after))
		}
		items = items[at+1:]
	}
	more := len(items) > limit
	items = items[:min(limit, len(items))]
	list := map[string]any{"object": "list", "data": append([]*item{}, items...), "has_more": more, "first_id": nil, "last_id": nil}
	if len(items) > 0 {
		list["first_id"], list["last_id"] = items[0].ID, items[len(items)-1].ID
	}
	return encode(list), nil
}

// Models returns the list of models as JSON, or one of them.
func (s *Service) Models() []byte {
	list := []any{}
	for _, name := range s.o.Models {
		list = append(list, model(name))
	}
	return encode(map[string]any{"object": "list", "data": list})
}

// GetModel returns one model as JSON.
func (s *Service) GetModel(name string) ([]byte, *Error) {
	if !contains(s.o.Models, name) {
		return nil, &Error{Status: http.StatusNotFound, Type: "invalid_request_error", Code: "model_not_found", Param: "model", Message: "There is no model " + shown(name) + "."}
	}
	return encode(model(name)), nil
}

func model(name string) any {
	return map[string]any{"id": name, "object": "model", "created": 0, "owned_by": "ossify"}
}
