package harmony

import (
	"fmt"

	"ossify/internal/quote"
)

// An Error is a mistake in a conversation, in its JSON form or in a stream of
// ids. Its words are openai-harmony's own.
type Error struct {
	Text   string // as the reference says it, without the place
	Line   int    // where in a JSON text, from 1; 0 if there is no place
	Column int    // bytes of the line that were read
}

// Error is the message as it may be shown: it quotes roles and the like.
func (e *Error) Error() string { return "harmony: " + quote.Start(e.Reference()) }

// Reference is the reference's whole message, unquoted.
func (e *Error) Reference() string {
	if e.Line == 0 {
		return e.Text
	}
	return fmt.Sprintf("%s at line %d column %d", e.Text, e.Line, e.Column)
}

func errorf(format string, args ...any) *Error {
	return &Error{Text: fmt.Sprintf(format, args...)}
}
