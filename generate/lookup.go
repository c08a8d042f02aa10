package generate

import "slices"

// Lengths of the runs by which lookup guesses.
const (
	longestRun  = 4
	shortestRun = 2
)

// lookup guesses the next tokens, n at most: it finds the newest earlier place
// where the last few tokens stand, and returns what followed them there. A
// longer run is believed before a shorter one.
func lookup(tokens []uint32, n int) []uint32 {
	for run := longestRun; run >= shortestRun; run-- {
		if len(tokens) <= run {
			continue
		}
		tail := tokens[len(tokens)-run:]
		for at := len(tokens) - run - 1; at >= 0; at-- {
			if slices.Equal(tokens[at:at+run], tail) {
				from := at + run
				return tokens[from:min(from+n, len(tokens))]
			}
		}
	}
	return nil
}
