package graph

// Names of the steps within an operation whose result a program rounds, below
// the operation's path.
const (
	StepScores  = ".scores"  // of Attend [T, Query, keys]: q·k, 0 for a key that is not in view
	StepScaled  = ".scaled"  // of Attend, alike: times 1/√Dim
	StepWeights = ".weights" // of Attend, alike: softmax with the sink, without its column
	StepProduct = ".product" // of ExpertLinear [T, K, N]: before the bias
)

// Steps returns the names of the steps within n, in order; most operations
// round once and have none.
func (n *Node) Steps() []string {
	switch {
	case n.Op == Attend:
		return []string{StepScores, StepScaled, StepWeights}
	case n.Op == ExpertLinear && len(n.Params) > 1:
		return []string{StepProduct}
	}
	return nil
}
