package engine

// FewRows is how many rows a pass may have for weights to be asked for ahead,
// AheadBytes how many bytes each worker asks for.
const (
	FewRows    = fewRows
	AheadBytes = aheadBytes
)

// A Watch looks into a model's passes.
type Watch struct{ r *runner }

func NewWatch(m *Model) Watch {
	r := <-m.turn
	m.turn <- r
	return Watch{r}
}

// Step identifies the step that calls a kernel.
func (w Watch) Step() any { return w.r.crew.step }

// Ahead returns what each worker was to ask for, by step.
func (w Watch) Ahead() map[any][][]byte {
	all := map[any][][]byte{}
	for i, shares := range w.r.upcoming {
		if shares != nil {
			all[w.r.plan.steps[i]] = shares
		}
	}
	return all
}
