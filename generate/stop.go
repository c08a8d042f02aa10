package generate

import "strings"

// A StopText finds where one of some texts first ends in a text that comes in
// pieces; if several end there, the longest counts. So it does not matter how
// the text was cut. The zero value finds none.
type StopText struct {
	Texts []string // to stop at; an empty one never is

	held string // the end of what came that may begin one of Texts
}

// Push takes the next piece. It returns what is certain to come before any of
// Texts, and whether one was found: then nothing more is to be pushed, and
// what came with and after it is dropped.
func (s *StopText) Push(piece string) (text string, found bool) {
	s.held += piece
	start, end := 0, len(s.held)+1
	for _, t := range s.Texts {
		i := strings.Index(s.held, t)
		if t == "" || i < 0 {
			continue
		}
		if e := i + len(t); e < end || e == end && i < start {
			start, end = i, e
		}
	}
	if end <= len(s.held) {
		text, s.held = s.held[:start], ""
		return text, true
	}
	keep := 0
	for _, t := range s.Texts {
		for n := min(len(t)-1, len(s.held)); n > keep; n-- {
			if strings.HasSuffix(s.held, t[:n]) {
				keep = n
			}
		}
	}
	cut := len(s.held) - keep
	text, s.held = s.held[:cut], s.held[cut:]
	return text, false
}

// Flush returns what was held back: no more pieces come.
func (s *StopText) Flush() string {
	text := s.held
	s.held = ""
	return text
}
