package openai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"ossify/generate"
	"ossify/grammar"
	"ossify/internal/quote"
)

// An Error is an answer that says why there is none.
type Error struct {
	Status  int // of HTTP
	Type    string
	Code    string // "" for none
	Param   string // the member at fault, as messages[2].content; "" for none
	Message string
	Cause   error // not told to the client
}

func (e *Error) Error() string {
	if e.Param != "" {
		return "openai: " + e.Param + ": " + e.Message
	}
	return "openai: " + e.Message
}

func (e *Error) Unwrap() error { return e.Cause }

// MarshalJSON returns the error in OpenAI's form.
func (e *Error) MarshalJSON() ([]byte, error) {
	return encode(map[string]any{"error": e.object()}), nil
}

type errorObject struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    *string `json:"code"`
}

func (e *Error) object() errorObject {
	return errorObject{e.Message, e.Type, optional(e.Param), optional(e.Code)}
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// Invalid returns the error of a request that is wrong at a member.
func Invalid(param, format string, args ...any) *Error {
	return &Error{Status: http.StatusBadRequest, Type: "invalid_request_error", Code: "invalid_value", Param: param, Message: fmt.Sprintf(format, args...)}
}

// unsupported returns the error of a request for what there is not.
func unsupported(param, format string, args ...any) *Error {
	e := Invalid(param, format, args...)
	e.Code = "unsupported_value"
	return e
}

// NotFound returns the error of a thing that is not there.
func NotFound(format string, args ...any) *Error {
	return &Error{Status: http.StatusNotFound, Type: "invalid_request_error", Code: "not_found", Message: fmt.Sprintf(format, args...)}
}

// ErrTimeout is the cause of a context that ends because a request took too long.
var ErrTimeout = errors.New("openai: the request took too long")

// StatusClientGone is the status of a request whose client went away; nobody
// gets it.
const StatusClientGone = 499

// failure is what a generator's error means to a client.
func failure(err error) *Error {
	var known *Error
	var full *generate.ContextError
	e := &Error{Type: "server_error", Cause: err}
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &full):
		return tooLong("messages", full.Tokens, full.Context)
	case errors.Is(err, generate.ErrBusy):
		e.Status, e.Code, e.Message = http.StatusTooManyRequests, "rate_limit_exceeded", "Too many requests wait. Try again later."
	case errors.Is(err, generate.ErrWaited):
		e.Status, e.Code, e.Message = http.StatusServiceUnavailable, "overloaded", "The request waited too long for its turn. Try again later."
	case errors.Is(err, generate.ErrStopped):
		e.Status, e.Code, e.Message = http.StatusServiceUnavailable, "shutting_down", "The server is shutting down."
	case errors.Is(err, grammar.ErrTooLarge):
		e = Invalid("", "What the schema allows has too many states.")
		e.Code, e.Cause = "invalid_json_schema", err
	case errors.Is(err, grammar.ErrNoMemory):
		e.Status, e.Code, e.Message = http.StatusServiceUnavailable, "overloaded", "The schemas of requests take too much memory. Try again later."
	case errors.Is(err, ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		e.Status, e.Code, e.Message = http.StatusGatewayTimeout, "timeout", "The request took too long."
	case errors.Is(err, context.Canceled):
		e.Status, e.Code, e.Message = StatusClientGone, "cancelled", "The request was cancelled."
	default:
		e.Status, e.Code, e.Message = http.StatusInternalServerError, "internal_error", "The request could not be computed."
	}
	return e
}

func tooLong(param string, tokens, context int) *Error {
	e := Invalid(param, "This model's context is %d tokens; the prompt has %d, and at least one must be left for the answer.", context, tokens)
	e.Code = "context_length_exceeded"
	return e
}

// encode returns a value as JSON, with nothing escaped for HTML.
func encode(v any) []byte {
	var b buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // a value of ours that is no JSON
	}
	return b[:len(b)-1]
}

type buffer []byte

func (b *buffer) Write(p []byte) (int, error) { *b = append(*b, p...); return len(p), nil }

// shown is a text of a request as it may stand in a message.
func shown(text string) string { return quote.Value(text) }
