package generate

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"
)

// A Request is an answer to be generated.
type Request struct {
	Prompt  []uint32
	Marks   []int   // rising lengths of the prompt's starts that other prompts may share
	Options Options // Guess does not count
	Owner   string  // whose it is: owners take turns
	Share   string  // only what prompts of the same Share had computed is used again
}

// A Generator answers requests, as a [Scheduler] does. Generate calls emit with
// each token as it comes, from the goroutine that called it. On an error, and
// when ctx ends, the result holds what was emitted until then.
type Generator interface {
	Generate(ctx context.Context, r Request, emit func(Token) error) (Result, error)
}

// A Batcher is a model that computes many sequences at once.
type Batcher interface {
	NewSequence() Sequence

	// Step processes parts together, each of another sequence. A part's logits
	// [Vocab] are those of its last token if it asks for them, else nil; they
	// are valid until the next call. What a sequence gets must not depend on the
	// others.
	Step(ctx context.Context, parts []Part) ([][]float32, error)
}

// A Sequence is one sequence of tokens in a Batcher, as engine.Session is.
type Sequence interface {
	Len() int             // tokens seen
	Least() int           // the fewest but 0 that Truncate can keep
	Truncate(n int) error // forgets all but the first n tokens
	Fork() Sequence       // shares what was computed
	CacheBytes() int64    // held by the sequence, what forks share included
	Close() error
}

// A Part is what one sequence shall process.
type Part struct {
	Sequence Sequence
	Tokens   []uint32
	Logits   bool // those of the last token are wanted
}

// SchedulerOptions bound what a Scheduler takes on.
type SchedulerOptions struct {
	Active  int           // requests computed together; 0 takes 16
	Waiting int           // requests beyond them; 0 takes 256
	Wait    time.Duration // how long one waits at most; 0 is no limit
	Rows    int           // tokens of a step; 0 takes 256
	Kept    int           // sequences kept for later prompts; 0 takes 64, -1 none

	// CacheBytes is what sequences may hold, those that are kept included; what
	// they share counts for each. 0 is no limit. A request alone may exceed it.
	CacheBytes int64
}

// Errors of a Scheduler.
var (
	ErrBusy    = errors.New("generate: too many requests wait")
	ErrWaited  = errors.New("generate: the request waited too long")
	ErrStopped = errors.New("generate: the scheduler has stopped")
)

// A Scheduler answers many requests at once. Requests join and leave between
// steps; a long prompt is processed in chunks beside the tokens of others; what
// an earlier prompt has in common with a new one is not computed again. Each
// gets the tokens that [Run] would give it alone.
type Scheduler struct {
	model Batcher
	o     SchedulerOptions
	wake  chan struct{} // holds one
	ended chan struct{}

	mu      sync.Mutex
	waiting []*job // in order of arrival
	stopped bool
	stats   SchedulerStats

	// Of the goroutine that runs steps.
	active []*job    // in order of admission
	kept   []kept    // in order of use
	turn   int       // who of the prompts goes first
	begun  time.Time // when the last step's model began
}

// SchedulerStats counts what a Scheduler did and does.
type SchedulerStats struct {
	Waiting, Active int   // requests
	Kept            int   // sequences
	CacheBytes      int64 // held by sequences at the last step, what they share counted for each
	Steps           int64
	Prompt          int64 // tokens of prompts processed, those of answers that were put back included
	Cached          int64 // tokens of prompts that were there already
	Generated       int64 // tokens
	PutBack         int64 // requests whose cache was given up for others'
}

// A kept sequence has seen tokens.
type kept struct {
	share  string
	tokens []uint32
	seq    Sequence
	bytes  int64
}

// A job is a request under way.
type job struct {
	r       Request
	sampler *Sampler
	seen    map[uint32]int
	arrived time.Time

	// Of the goroutine that runs steps.
	seq    Sequence
	tokens []uint32 // prompt and answer
	cached int
	first  bool // its prompt's end was kept

	// allowed is what the guide lets come next, once thinking is closed.
	allowed  []uint64
	thinking chan struct{} // nil without a guide

	ready chan struct{} // holds one: there is something to take

	mu      sync.Mutex
	out     []Token
	paused  bool // nobody takes out
	dropped bool // nobody waits for more
	done    bool
	reason  Reason
	err     error
}

// most is how many tokens of an answer wait for their reader.
const most = 1024

// NewScheduler returns a Scheduler over a model, which nobody else needs to leave
// alone. Close ends it.
func NewScheduler(m Batcher, o SchedulerOptions) (*Scheduler, error) {
	if o.Active < 0 || o.Waiting < 0 || o.Wait < 0 || o.Rows < 0 || o.Kept < -1 || o.CacheBytes < 0 {
		return nil, fmt.Errorf("generate: %+v, want no negative numbers", o)
	}
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&o.Active, 16)
	def(&o.Waiting, 256)
	def(&o.Rows, 256)
	def(&o.Kept, 64)
	s := &Scheduler{model: m, o: o, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	go s.run()
	return s, nil
}

// Close ends all requests with ErrStopped, and waits for the step under way.
func (s *Scheduler) Close() error {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.signal()
	<-s.ended
	return nil
}

// Stats returns the counts.
func (s *Scheduler) Stats() SchedulerStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Waiting = len(s.waiting)
	return st
}

// Generate implements [Generator]. It fails with ErrBusy at once if too many
// requests wait.
func (s *Scheduler) Generate(ctx context.Context, r Request, emit func(Token) error) (Result, error) {
	var res Result
	sampler, err := NewSampler(r.Options.Sampling)
	if err == nil {
		err = r.Options.check(0, len(r.Prompt))
	}
	if err != nil {
		return res, err
	}
	j := &job{r: r, sampler: sampler, arrived: time.Now(), tokens: slices.Clone(r.Prompt), ready: make(chan struct{}, 1)}
	if r.Options.Sampling.Presence != 0 || r.Options.Sampling.Frequency != 0 {
		j.seen = map[uint32]int{}
	}
	if err := s.enqueue(j); err != nil {
		return res, err
	}
	defer func() {
		j.mu.Lock()
		j.dropped = true
		j.mu.Unlock()
		s.signal()
	}()
	for {
		select {
		case <-j.ready:
		case <-ctx.Done():
			return res, context.Cause(ctx)
		}
		j.mu.Lock()
		out, done, paused := j.out, j.done, j.paused
		reason, err := j.reason, j.err
		res.Cached = j.cached
		j.out, j.paused = nil, false
		j.mu.Unlock()
		if paused {
			s.signal()
		}
		for _, t := range out {
			if ctx.Err() != nil {
				return res, context.Cause(ctx)
			}
			res.Tokens = append(res.Tokens, t.ID)
			switch err := emit(t); {
			case errors.Is(err, ErrDone):
				res.Reason = Told
				return res, nil
			case err != nil:
				return res, err
			}
		}
		if done {
			res.Reason = reason
			return res, err
		}
	}
}

func (s *Scheduler) enqueue(j *job) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopped:
		return ErrStopped
	case len(s.waiting) >= s.o.Waiting+max(0, s.o.Active-s.stats.Active):
		return ErrBusy
	}
	s.waiting = append(s.waiting, j)
	s.signal()
	return nil
}

func (s *Scheduler) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run is the goroutine that runs steps.
func (s *Scheduler) run() {
	defer close(s.ended)
	defer s.stop()
	for {
		if !s.admit() {
			return
		}
		if !s.step() {
			<-s.wake
		}
	}
}

// stop ends everything.
func (s *Scheduler) stop() {
	s.mu.Lock()
	s.stopped = true
	waiting := s.waiting
	s.waiting = nil
	s.mu.Unlock()
	for _, j := range slices.Concat(waiting, s.active) {
		j.end(0, ErrStopped)
		j.release()
	}
	for _, k := range s.kept {
		k.seq.Close()
	}
	s.active, s.kept = nil, nil
	s.count(func(*SchedulerStats) {})
}

// count changes the counts.
func (s *Scheduler) count(f func(*SchedulerStats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Active, s.stats.Kept = len(s.active), len(s.kept)
	f(&s.stats)
}

// admit drops what nobody waits for, and lets requests in as far as there is
// room. It reports whether the scheduler goes on.
func (s *Scheduler) admit() bool {
	s.active = slices.DeleteFunc(s.active, func(j *job) bool {
		gone := j.gone()
		if gone {
			j.release()
		}
		return gone
	})
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return false
	}
	s.waiting = slices.DeleteFunc(s.waiting, func(j *job) bool {
		if s.o.Wait > 0 && j.cached == 0 && len(j.tokens) == len(j.r.Prompt) && time.Since(j.arrived) > s.o.Wait {
			j.end(0, ErrWaited)
		}
		return j.gone()
	})
	var fresh []*job
	for len(s.active) < s.o.Active && len(s.waiting) > 0 {
		i := s.next()
		fresh = append(fresh, s.waiting[i])
		s.active = append(s.active, s.waiting[i])
		s.waiting = slices.Delete(s.waiting, i, i+1)
	}
	s.stats.Active = len(s.active)
	s.mu.Unlock()
	for _, j := range fresh {
		s.begin(j)
	}
	return true
}

// next returns whose turn it is among those that wait: the first of an owner
// that has the fewest under way.
func (s *Scheduler) next() int {
	have := map[string]int{}
	for _, j := range s.active {
		have[j.r.Owner]++
	}
	best := 0
	for i, j := range s.waiting {
		if have[j.r.Owner] < have[s.waiting[best].r.Owner] {
			best = i
		}
	}
	return best
}

// begin gives a job its sequence: a fork of the kept one that has most in common
// with its tokens, or a new one. One token at least is left to process.
func (s *Scheduler) begin(j *job) {
	best, common := -1, 0
	for i, k := range s.kept {
		if k.share != j.r.Share {
			continue
		}
		n := 0
		for end := min(len(k.tokens), len(j.tokens)-1); n < end && k.tokens[n] == j.tokens[n]; n++ {
		}
		if n > common && n >= k.seq.Least() {
			best, common = i, n
		}
	}
	if best >= 0 {
		k := s.kept[best]
		s.kept = append(slices.Delete(s.kept, best, best+1), k)
		seq := k.seq.Fork()
		if err := seq.Truncate(common); err == nil {
			j.seq = seq
		} else {
			seq.Close()
			common = 0
		}
	}
	if j.seq == nil {
		j.seq = s.model.NewSequence()
	}
	if j.r.Options.Guide != nil && j.thinking == nil {
		s.think(j, false)
	}
	if len(j.tokens) == len(j.r.Prompt) {
		j.mu.Lock()
		j.cached = common
		j.mu.Unlock()
		s.count(func(st *SchedulerStats) { st.Cached += int64(common) })
	}
}

// keep keeps a fork of a job's sequence that has seen tokens, in place of one that has
// seen the same, and of the least used ones beyond the limit.
func (s *Scheduler) keep(j *job, tokens []uint32) {
	if s.o.Kept < 0 {
		return
	}
	for i, k := range s.kept {
		if k.share == j.r.Share && slices.Equal(k.tokens, tokens) {
			s.kept = append(slices.Delete(s.kept, i, i+1), k)
			return
		}
	}
	s.kept = append(s.kept, kept{j.r.Share, slices.Clone(tokens), j.seq.Fork(), j.seq.CacheBytes()})
	for len(s.kept) > s.o.Kept {
		s.forget()
	}
}

// forget gives up the kept sequence that was not used for longest.
func (s *Scheduler) forget() {
	s.kept[0].seq.Close()
	s.kept = slices.Delete(s.kept, 0, 1)
}

// fit gives up sequences until the rest hold no more than they may: kept ones
// first, then those of the youngest requests, which start over when there is
// room: the tokens stay the same.
func (s *Scheduler) fit() {
	bytes := int64(0)
	for _, k := range s.kept {
		bytes += k.bytes
	}
	for _, j := range s.active {
		bytes += j.seq.CacheBytes()
	}
	back := int64(0)
	for limit := s.o.CacheBytes; limit > 0 && bytes > limit; {
		if len(s.kept) > 0 {
			bytes -= s.kept[0].bytes
			s.forget()
			continue
		}
		last := len(s.active) - 1
		if last < 1 {
			break
		}
		j := s.active[last]
		bytes -= j.seq.CacheBytes()
		j.release()
		s.active = s.active[:last]
		s.mu.Lock()
		s.waiting = slices.Insert(s.waiting, 0, j)
		s.mu.Unlock()
		back++
	}
	s.count(func(st *SchedulerStats) { st.CacheBytes = bytes; st.PutBack += back })
}

// step runs one step of the requests that are under way. It reports whether
// there was something to do.
func (s *Scheduler) step() bool {
	s.fit()
	var jobs []*job
	var parts []Part
	rows := s.o.Rows
	add := func(j *job, most int) {
		left := j.tokens[j.seq.Len():]
		n := min(len(left), most)
		for _, m := range j.r.Marks {
			if at := m - j.seq.Len(); at > 0 && at < n {
				n = at
			}
		}
		jobs = append(jobs, j)
		parts = append(parts, Part{j.seq, left[:n:n], n == len(left)})
		rows -= n
	}
	var prompts []*job
	for _, j := range s.active {
		switch left := len(j.tokens) - j.seq.Len(); {
		case j.waits():
		case j.thinks() && left <= max(rows, 1): // a token would have to be picked
		case left == 1:
			add(j, 1)
		default:
			prompts = append(prompts, j)
		}
	}
	for i := range prompts {
		if rows > 0 || len(jobs) == 0 {
			j, most := prompts[(s.turn+i)%len(prompts)], max(rows, 1)
			if j.thinks() {
				most = min(most, len(j.tokens)-j.seq.Len()-1)
			}
			add(j, most)
		}
	}
	if len(jobs) == 0 {
		return false
	}
	s.turn++

	s.begun = time.Now()
	logits, err := s.compute(parts)
	if err != nil {
		for _, j := range jobs {
			j.end(0, err)
		}
		return true
	}
	s.remember(jobs)
	picked := s.pick(jobs, parts, logits)
	s.count(func(st *SchedulerStats) {
		st.Steps++
		st.Generated += int64(picked)
		for i, p := range parts {
			if n := len(p.Tokens); n > 1 || len(jobs[i].tokens) == len(jobs[i].r.Prompt) {
				st.Prompt += int64(n)
			}
		}
	})
	return true
}

// compute is the model's Step, whose panic is an error of these requests.
func (s *Scheduler) compute(parts []Part) (logits [][]float32, err error) {
	defer contain(&err)
	return s.model.Step(context.Background(), parts)
}

// contain makes an error of a panic.
func contain(err *error) {
	if p := recover(); p != nil {
		buf := make([]byte, 4<<10)
		*err = &PanicError{Value: p, Stack: string(buf[:runtime.Stack(buf, false)])}
	}
}

// A PanicError is a panic while a request was computed.
type PanicError struct {
	Value any
	Stack string
}

func (e *PanicError) Error() string { return fmt.Sprintf("generate: panic: %v", e.Value) }

// remember keeps the sequences that have come to a mark, or to the prompt's end.
func (s *Scheduler) remember(jobs []*job) {
	for _, j := range jobs {
		n := j.seq.Len()
		end := n >= len(j.r.Prompt) && !j.first
		if j.first = j.first || end; end || slices.Contains(j.r.Marks, n) {
			s.keep(j, j.tokens[:n])
		}
	}
}

// pick draws the next token of each job whose logits came, on all processors.
func (s *Scheduler) pick(jobs []*job, parts []Part, logits [][]float32) (picked int) {
	var wg sync.WaitGroup
	limit := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i, j := range jobs {
		if !parts[i].Logits {
			continue
		}
		picked++
		limit <- struct{}{}
		wg.Go(func() {
			j.next(logits[i])
			<-limit
		})
	}
	wg.Wait()
	s.await(jobs, parts)
	for i, j := range jobs {
		if parts[i].Logits && j.finished() {
			s.keep(j, j.tokens[:j.seq.Len()])
		}
	}
	return picked
}

// await lets guides find what may come after the tokens that were picked. That
// is quick where they know it already. Those that take longer than the model
// did sit out the next steps: nobody else waits for them.
func (s *Scheduler) await(jobs []*job, parts []Part) {
	timer := time.NewTimer(max(time.Since(s.begun), 5*time.Millisecond))
	defer timer.Stop()
	var thinking []*job
	for i, j := range jobs {
		if parts[i].Logits && j.r.Options.Guide != nil && !j.gone() {
			s.think(j, true)
			thinking = append(thinking, j)
		}
	}
	for _, j := range thinking {
		select {
		case <-j.thinking:
		case <-timer.C:
			return
		}
	}
}

// think has a job's guide find what may come next, after its last token if that
// is of the answer.
func (s *Scheduler) think(j *job, accept bool) {
	done := make(chan struct{})
	j.thinking = done
	last := j.tokens[len(j.tokens)-1]
	go func() {
		defer s.signal()
		defer close(done)
		var err error
		defer func() {
			if err != nil {
				j.end(0, err)
			}
		}()
		defer contain(&err)
		if accept {
			if err = j.r.Options.Guide.Accept(last); err != nil {
				return
			}
		}
		j.allowed, err = j.r.Options.Guide.Allowed()
	}()
}

// thinks reports whether a job's guide is at work.
func (j *job) thinks() bool {
	if j.thinking == nil {
		return false
	}
	select {
	case <-j.thinking:
		return false
	default:
		return true
	}
}

// next takes the next token of a job.
func (j *job) next(logits []float32) {
	var t Token
	var err error
	func() {
		defer contain(&err)
		t, err = pick(j.sampler, j.r.Options, logits, len(j.tokens), j.seen, j.allowed)
	}()
	if err != nil {
		j.end(0, err)
		return
	}
	j.tokens = append(j.tokens, t.ID)
	if j.seen != nil {
		j.seen[t.ID]++
	}
	reason := j.r.Options.Ends(t.ID, len(j.r.Prompt), len(j.tokens)-len(j.r.Prompt))
	j.mu.Lock()
	j.out = append(j.out, t)
	j.paused = len(j.out) >= most
	j.mu.Unlock()
	if reason != 0 {
		j.end(reason, nil)
		return
	}
	j.signal()
}

// end says that no more tokens come.
func (j *job) end(r Reason, err error) {
	j.mu.Lock()
	if !j.done {
		j.done, j.reason, j.err = true, r, err
	}
	j.mu.Unlock()
	j.signal()
}

func (j *job) signal() {
	select {
	case j.ready <- struct{}{}:
	default:
	}
}

// gone reports whether a job needs no more steps.
func (j *job) gone() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.done || j.dropped
}

// finished reports whether a job came to its end.
func (j *job) finished() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.done && j.err == nil
}

// waits reports whether a job must not go on now.
func (j *job) waits() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.done || j.dropped || j.paused
}

// release gives up a job's sequence.
func (j *job) release() {
	if j.seq != nil {
		j.seq.Close()
		j.seq = nil
	}
}
