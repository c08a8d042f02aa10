package openai

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"net/http"
	"slices"
	"sync"
	"time"

	"ossify/generate"
	"ossify/grammar"
	"ossify/harmony"
	"ossify/tokenizer"
)

// Options are what a Service answers with.
type Options struct {
	Generator generate.Generator
	Encoding  *harmony.Encoding

	// Vocabulary is what grammars look tokens up in; nil makes it at first use.
	Vocabulary *grammar.Vocabulary

	// Grammars is how many bytes the grammars of schemas may take together; 0
	// is 512 MiB.
	Grammars int64

	Models      []string // names that requests may give the model; the first is its own
	Context     int      // tokens of prompt and answer
	Most        int      // tokens of an answer, at most; 0 is no limit but Context
	Fingerprint string   // of what computes: answers of the same one are the same

	// What may differ from run to run has one place each; nil takes what the
	// comment says.
	Now  func() time.Time             // time.Now
	ID   func(prefix string) string   // prefix and 24 random digits
	Seed func(prompt []uint32) uint64 // of a request without one: random

	// Done is told of each answer, if it is not nil. It may be called by
	// several goroutines.
	Done func(Record)

	Store *Store // of responses; nil keeps none

	Tools Tools // that responses may ask the server to run; by default none
}

// A Record is what an answer took.
type Record struct {
	Path      string
	Usage     Usage
	Finish    string        // why it ended; "" after an error
	First     time.Duration // to the first token; 0 if there was none
	Total     time.Duration
	Cancelled bool
}

// Usage counts tokens.
type Usage struct {
	Prompt     int
	Cached     int // of Prompt: those that were there already
	Completion int // those that were sampled, all of them
	Reasoning  int // of Completion: those of messages that are reasoning
}

// A Service answers requests. It is safe for use by several goroutines.
type Service struct {
	o        Options
	grammars grammars
}

// New returns a Service.
func New(o Options) *Service {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.ID == nil {
		o.ID = randomID
	}
	if o.Seed == nil {
		o.Seed = randomSeed
	}
	if o.Grammars == 0 {
		o.Grammars = 512 << 20
	}
	o.Tools.defaults()
	o.Models = slices.Clone(o.Models)
	return &Service{o: o, grammars: grammars{
		vocabulary: sync.OnceValue(func() *grammar.Vocabulary {
			if o.Vocabulary != nil {
				return o.Vocabulary
			}
			return grammar.NewVocabulary(o.Encoding.Tokenizer())
		}),
		budget: grammar.NewBudget(o.Grammars),
		known:  map[[sha256.Size]byte]*grammar.Grammar{},
	}}
}

func randomID(prefix string) string {
	var b [12]byte
	rand.Read(b[:]) // never fails
	return prefix + hex.EncodeToString(b[:])
}

func randomSeed([]uint32) uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:])
}

// A Call is a request that was proved.
type Call interface {
	// Stream reports whether its answer is to come as events.
	Stream() bool

	// Answer returns the whole answer as JSON.
	Answer(ctx context.Context) ([]byte, *Error)

	// Events sends the answer as events, each with a name, "" for none. An
	// error before the first event is returned and not sent; a later one is
	// sent, too. It ends early if send fails.
	Events(ctx context.Context, send func(name string, data []byte) error) *Error
}

// The paths of requests that a Service answers.
const (
	PathChat        = "/v1/chat/completions"
	PathResponses   = "/v1/responses"
	PathCompletions = "/v1/completions"
	PathTokenize    = "/tokenize"
	PathDetokenize  = "/detokenize"
)

// A Client is who asks.
type Client struct {
	Turn  string // clients of one turn take it together where requests wait
	Owner string // whom what is stored belongs to: it is not there for others
}

// Parse proves a client's request that was posted to a path.
func (s *Service) Parse(path string, body []byte, client Client) (Call, *Error) {
	v, err := parseObject(body)
	if err != nil {
		return nil, err
	}
	switch path {
	case PathChat:
		return s.parseChat(v, client)
	case PathResponses:
		return s.parseResponse(v, client)
	case PathCompletions:
		return s.parseCompletion(v, client)
	case PathTokenize:
		return s.parseTokenize(v)
	case PathDetokenize:
		return s.parseDetokenize(v)
	case "/v1/embeddings":
		e := NotFound("This model makes no embeddings: it writes text. See /v1/chat/completions.")
		e.Code = "unsupported_endpoint"
		return nil, e
	}
	return nil, NotFound("There is nothing at %s.", shown(path))
}

// Do answers a request of a batch, which is not streamed and not left to the
// background: it returns the HTTP status and the JSON of the answer, or of an error.
func (s *Service) Do(ctx context.Context, path string, body []byte, client Client) (status int, answer []byte) {
	e := contained(func() *Error {
		call, e := s.Parse(path, body, client)
		if e != nil {
			return e
		}
		if call.Stream() {
			return unsupported("stream", "This answer cannot be streamed.")
		}
		if r, ok := call.(*responseCall); ok && r.background {
			return unsupported("background", "This answer cannot be left to the background.")
		}
		answer, e = call.Answer(ctx)
		return e
	})
	if e != nil {
		return e.Status, encode(e)
	}
	return http.StatusOK, answer
}

// A base is what requests for text have in common.
type base struct {
	svc    *Service
	path   string
	client Client
	model  string
	stream bool
	job    job
}

func (b *base) Stream() bool { return b.stream }

// checkModel proves the model's name.
func (s *Service) checkModel(r *reader, name string) {
	switch {
	case name == "":
		e := Invalid("model", "There is no model, want one of those that /v1/models lists.")
		e.Code = "missing_required_parameter"
		r.fail(e)
	case !slices.Contains(s.o.Models, name):
		e := NotFound("There is no model %s, want one of those that /v1/models lists.", shown(name))
		e.Code, e.Param = "model_not_found", "model"
		r.fail(e)
	}
}

// stopTokens end an answer.
func stopTokens() []uint32 {
	return append(harmony.StopTokensForAssistantActions(), tokenizer.EndOfText)
}
