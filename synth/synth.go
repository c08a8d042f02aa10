// Package synth writes random checkpoints of gpt-oss in the official form.
package synth

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"ossify/checkpoint"
	"ossify/float"
	"ossify/gptoss"
	"ossify/graph"
	"ossify/internal/fileset"
	"ossify/weight"
)

// The recipe of a synthetic checkpoint. It aims at the scales of a trained
// model, because milder weights hide bugs. What it yields was measured in
// gpt_oss/torch/model.py on random tokens, at 4 layers of tiny, 2 of 20b's
// widths and 24 of a fifth of them:
//
//   - The residual stream starts with a deviation of 1; each attention adds
//     about attnPart and each MLP about mlpPart to its variance. Norm scales
//     undo that growth, so that every block sees a deviation of 0.9 to 1.2.
//   - A few channels are massive: massiveLevel in the embedding, and
//     massiveGain times the others in what attention and MLP add. They reach
//     90 to 130; norm scales bring them down to about massiveNorm.
//   - All of that is times residualLevel, so that the eps of a norm counts: it
//     moves the rms by a few parts in 100,000.
//   - Attention logits have a deviation of 2 to 3, sinks lie between 1 and 3
//     in magnitude, of either sign. A query sees 3 to 12 keys (1/Σp²).
//   - Pre-activations of experts have a deviation of 3; 2 to 5% of them are
//     beyond the clamp at 7, the largest at 15 to 40.
//   - The scales of an MXFP4 weight spread over six powers of two, and one
//     block in 256 has scale byte 0, 2^-127. So has the whole row zeroRow of
//     every fourth expert's first matrix, with bias 0: what it yields is tiny
//     and not 0. Every fourth, because PyTorch's bfloat16 products take such
//     weights for 0 where the processor has instructions for them: in tiny
//     that is 1 in 512 of a stage (docs/numerics.md).
//   - Logits have a deviation of 1.4 to 1.9.
//
// Sigmas of matrices are divided by the root of the columns they sum over.
const (
	residualLevel = 0x1p-5
	massiveLevel  = 64
	massiveGain   = 8 // a power of two: in MXFP4 it moves the scales
	massiveNorm   = 2
	massivePart   = 720  // one channel in this many is massive, at least two
	normSpread    = 0.15 // of norm scales, relative
	attnPart      = 0.25
	mlpPart       = 0.45

	qkvSigma   = 1.1
	outSigma   = 0.5
	gateSigma  = 2
	mlp1Sigma  = 3
	mlp2Sigma  = 0.12
	logitSigma = 1.6
	smallBias  = 0.1 // of out
	mlp2Bias   = 0.2
	mediumBias = 0.5 // of qkv, gate and mlp1
	sinkLeast  = 1
	sinkMost   = 3

	codeSigma = 2   // of E2M1 codes before rounding: the largest of a block is 4 or 6
	zeroOneIn = 256 // blocks of scale byte 0
	zeroRow   = 1   // odd: the linear half
)

// Write writes a random checkpoint of the model c into dir, in the exact form of
// the published ones: names, types, shapes, files, order of tensors. It makes
// dir and the folders above it if need be.
//
// Every row of every parameter draws from a stream of its own, keyed by the
// seed, the parameter's path and the row: the two forms of one seed hold the
// same values, and a change to one parameter changes no other. progress may be
// nil; it is told the bytes written and their total. On error, and when ctx is
// done, nothing is left. A folder that holds a checkpoint is refused, and one
// whose file system has not enough room.
func Write(ctx context.Context, dir string, c *gptoss.Config, d gptoss.Dialect, seed uint64, progress func(done, total int64)) error {
	s, done := newSynthesizer(c, seed), int64(0)
	free := newChunks()
	return Fill(ctx, dir, c, d, func(w io.Writer, p gptoss.Part, total int64) error {
		return s.tensor(p).write(ctx, w, free, func(n int) {
			if done += int64(n); progress != nil {
				progress(done, total)
			}
		})
	})
}

// Fill writes a checkpoint as Write does, with what fill writes for each tensor;
// total is the bytes of all.
func Fill(ctx context.Context, dir string, c *gptoss.Config, d gptoss.Dialect, fill func(w io.Writer, p gptoss.Part, total int64) error) error {
	return write(ctx, dir, c, d, true, func(shards *checkpoint.ShardWriter, p gptoss.Part, total int64) error {
		w, err := shards.Tensor(p.Name)
		if err != nil {
			return err
		}
		return fill(w, p, total)
	})
}

// Zeros is Write with zeros for values: holes, where the file system has them,
// so that a checkpoint of any size takes a few kilobytes. It shows how programs
// cope with sizes and headers.
func Zeros(ctx context.Context, dir string, c *gptoss.Config, d gptoss.Dialect) error {
	return write(ctx, dir, c, d, false, func(shards *checkpoint.ShardWriter, p gptoss.Part, _ int64) error {
		return shards.Zeros(p.Name)
	})
}

// write writes a checkpoint whose tensors fill writes, in their order. The disk
// must have room for all of them if they are full.
func write(ctx context.Context, dir string, c *gptoss.Config, d gptoss.Dialect, full bool, fill func(shards *checkpoint.ShardWriter, p gptoss.Part, total int64) error) error {
	g, err := gptoss.Build(c)
	if err != nil {
		return err
	}
	parts, err := gptoss.Parts(g, c, d)
	if err != nil {
		return err
	}
	small, err := gptoss.SmallFiles(g, c, d)
	if err != nil {
		return err
	}
	if err := refuse(dir); err != nil {
		return err
	}
	set := fileset.New(ctx, fileset.Options{})
	defer set.Abort()
	shards, err := gptoss.CreateShards(set, dir, d, parts)
	if err != nil {
		return err
	}
	byName, total := map[string]gptoss.Part{}, int64(0)
	for _, p := range parts {
		n, _ := p.Bytes()
		byName[p.Name], total = p, total+n
	}
	if err := set.MkdirAll(dir); err != nil {
		return err
	}
	if full {
		if err := fileset.Room(dir, total); err != nil {
			return err
		}
	}
	for _, e := range shards.Entries() {
		if err := fill(shards, byName[e.Name], total); err != nil {
			return err
		}
	}
	if err := shards.Close(); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(small)) {
		if err := set.WriteFile(filepath.Join(dir, name), small[name]); err != nil {
			return err
		}
	}
	return set.Commit()
}

// refuse refuses a folder with a checkpoint.
func refuse(dir string) error {
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("synth: %w", err)
	}
	for _, e := range list {
		if n := e.Name(); strings.HasSuffix(n, ".safetensors") || n == checkpoint.IndexFile || n == "config.json" {
			return fmt.Errorf("synth: %s: holds %s, want a folder without a checkpoint", dir, n)
		}
	}
	return nil
}

// A fillFunc computes rows [first, first+n) of a parameter into c. It may run on
// several goroutines at once, each with its own chunk.
type fillFunc func(c *chunk, first, n int)

// A chunk is what a worker computes at a time, with what it needs for that.
type chunk struct {
	data   []byte // n rows of bytes
	random rand.ChaCha8
	bits   [2048]byte // random
}

// chunkBytes is how large a chunk is, unless a row is longer.
const chunkBytes = 1 << 18

// A tensor is one to be written: rows of a parameter.
type tensor struct {
	fill        fillFunc
	first, rows int
	row         int // bytes of a row
}

// newChunks returns chunks to compute tensors in: as many as workers may be
// ahead of the file.
func newChunks() chan *chunk {
	n := runtime.GOMAXPROCS(0) + 1
	free := make(chan *chunk, n)
	for range n {
		free <- &chunk{}
	}
	return free
}

// write computes the tensor on all processors and writes it in order.
func (t tensor) write(ctx context.Context, w io.Writer, free chan *chunk, wrote func(n int)) error {
	step := max(1, chunkBytes/t.row)
	count := (t.rows + step - 1) / step
	// Numbers are taken in order, by who holds a chunk: so there are never more
	// on their way than places.
	places := make([]chan *chunk, cap(free))
	for i := range places {
		places[i] = make(chan *chunk, 1)
	}
	var next atomic.Int64
	var workers sync.WaitGroup
	defer workers.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	for range min(count, runtime.GOMAXPROCS(0)) {
		workers.Go(func() {
			for {
				var c *chunk
				select {
				case c = <-free:
				case <-ctx.Done():
					return
				}
				i := int(next.Add(1) - 1)
				if i >= count {
					free <- c
					return
				}
				n := min(step, t.rows-i*step)
				if cap(c.data) < n*t.row {
					c.data = make([]byte, max(n*t.row, chunkBytes))
				}
				c.data = c.data[:n*t.row]
				t.fill(c, t.first+i*step, n)
				places[i%len(places)] <- c
			}
		})
	}
	for i := range count {
		var c *chunk
		select {
		case c = <-places[i%len(places)]:
		case <-ctx.Done():
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := w.Write(c.data); err != nil {
			return err
		}
		wrote(len(c.data))
		free <- c
	}
	return ctx.Err()
}

// A synthesizer holds what all parameters share. Where its arithmetic converts
// a product to float64, that keeps processors that can from fusing it with the
// sum: the bytes are the same everywhere.
type synthesizer struct {
	c        *gptoss.Config
	seed     uint64
	massive  map[int]float64 // channel → sign
	normal   []float64       // quantiles of the normal distribution, 65536
	codes    [1 << 16]byte   // two E2M1 codes for each 16 random bits
	codesRMS float64         // root mean square of the codes' values

	// Of the parameter that is written, kept for the next.
	numbers []byte          // of a vector
	table   [1 << 16]uint16 // a matrix's number for each 16 random bits
	scales  [1 << 16]byte   // an MXFP4 matrix's scale
}

func newSynthesizer(c *gptoss.Config, seed uint64) *synthesizer {
	s := &synthesizer{c: c, seed: seed, massive: map[int]float64{}, normal: make([]float64, 1<<16)}
	for i := range s.normal {
		p := (float64(i) + 0.5) / float64(len(s.normal))
		s.normal[i] = math.Sqrt2 * math.Erfinv(2*p-1)
	}
	var one [256]byte
	for i := range one {
		z := math.Sqrt2 * math.Erfinv((float64(i)+0.5)/128-1)
		one[i] = float.ToE2M1(float32(codeSigma * z))
		v := float64(float.E2M1(one[i]))
		s.codesRMS += v * v / 256
	}
	s.codesRMS = math.Sqrt(s.codesRMS)
	for i := range s.codes {
		s.codes[i] = one[i&255] | one[i>>8]<<4
	}
	r := rand.New(s.stream("massive channels").at(0))
	for len(s.massive) < max(2, c.Dim/massivePart) {
		sign := float64(2*r.IntN(2) - 1)
		s.massive[r.IntN(c.Dim)] = sign
	}
	return s
}

// tensor returns how a tensor of the checkpoint is filled.
func (s *synthesizer) tensor(p gptoss.Part) tensor {
	fill := s.filler(p.Param)
	n, _ := p.Bytes()
	t := tensor{fill.data, p.First, p.Rows, int(n) / p.Rows}
	if p.Scales {
		t.fill = fill.scales
	}
	return t
}

// A stream is the random source of one parameter.
type stream [32]byte

func (s *synthesizer) stream(path string) stream {
	h := sha256.New()
	fmt.Fprintf(h, "ossify synth 1\n%d\n%s", s.seed, path)
	return stream(h.Sum(nil))
}

// at returns the source of one row; key is that of the stream.
func (key stream) at(row int) *rand.ChaCha8 {
	var r rand.ChaCha8
	key.seek(&r, row)
	return &r
}

// seek makes r the source of one row.
func (key stream) seek(r *rand.ChaCha8, row int) {
	binary.LittleEndian.PutUint64(key[24:], binary.LittleEndian.Uint64(key[24:])+uint64(row))
	r.Seed(key)
}

// residual returns the deviation of an ordinary channel of the residual stream
// before a layer's attention or MLP, and its rms over all channels.
func (s *synthesizer) residual(layer int, mlp bool) (sigma, rms float64) {
	variance := 1 + float64(layer)*(attnPart+mlpPart)
	level := massiveLevel*massiveLevel + float64(layer)*(attnPart+mlpPart)*massiveGain*massiveGain
	if mlp {
		variance += attnPart
		level += attnPart * massiveGain * massiveGain
	}
	m := float64(len(s.massive)) / float64(s.c.Dim)
	return math.Sqrt(variance), math.Sqrt(float64((1-m)*variance) + float64(m*level))
}

// fillers compute the tensors of a parameter; scales is nil unless it is MXFP4.
type fillers struct{ data, scales fillFunc }

// filler returns how parameter p is filled.
func (s *synthesizer) filler(p graph.Param) fillers {
	name, layer, mlp := p.Name, 0, false
	if rest, ok := strings.CutPrefix(name, "block."); ok {
		number, local, _ := strings.Cut(rest, ".")
		layer, _ = strconv.Atoi(number) // Build wrote it
		name = local
		mlp = strings.HasPrefix(local, "mlp.")
	}
	if name == "norm.scale" {
		layer = s.c.Layers
	}
	in := math.Sqrt(float64(weight.Columns(p))) // of a matrix
	key := s.stream(p.Name)
	// What a row feeds is a channel of the residual stream, if massive is set.
	matrix := func(sigma float64, massive bool) fillers { return fillers{data: s.matrix(key, p, sigma, massive)} }
	vector := func(value func(i int, z float64) float64) fillers { return fillers{data: s.vector(key, p, value)} }
	bias := func(sigma float64) fillers {
		return vector(func(_ int, z float64) float64 { return sigma * z })
	}
	switch name {
	case "embedding.weight":
		return fillers{data: s.embedding(key, p)}
	case "unembedding.weight":
		return matrix(logitSigma/in, false)
	case "norm.scale", "attn.norm.scale", "mlp.norm.scale":
		sigma, rms := s.residual(layer, mlp)
		return vector(func(i int, z float64) float64 {
			level := rms / sigma
			if s.massive[i] != 0 {
				level = massiveNorm * rms / massiveLevel
			}
			// Never near 0 or negative, like a trained scale.
			return level * (1 + float64(normSpread*max(-3, min(z, 3))))
		})
	case "attn.qkv.weight":
		return matrix(qkvSigma/in, false)
	case "attn.qkv.bias", "mlp.gate.bias":
		return bias(mediumBias)
	case "attn.sinks":
		return vector(func(_ int, z float64) float64 {
			size := sinkLeast + float64((sinkMost-sinkLeast)*math.Erf(math.Abs(z)/math.Sqrt2)) // uniform
			return math.Copysign(size, z)
		})
	case "attn.out.weight":
		return matrix(residualLevel*outSigma/in, true)
	case "attn.out.bias":
		return bias(residualLevel * smallBias)
	case "mlp.gate.weight":
		return matrix(gateSigma/in, false)
	case "mlp.mlp1_weight":
		return s.mxfp4(key, p, mlp1Sigma/in, func(row int) (gain int, zero bool) { return 0, s.zeroRow(row) })
	case "mlp.mlp1_bias":
		return vector(func(i int, z float64) float64 {
			if s.zeroRow(i) {
				return 0
			}
			return mediumBias * z
		})
	case "mlp.mlp2_weight":
		return s.mxfp4(key, p, residualLevel*mlp2Sigma/in, func(row int) (gain int, zero bool) {
			if s.massive[row%s.c.Dim] != 0 {
				gain = int(math.Log2(massiveGain))
			}
			return gain, false
		})
	case "mlp.mlp2_bias":
		return bias(residualLevel * mlp2Bias)
	}
	panic("synth: no recipe for " + p.Name) // a test writes every parameter
}

// zeroRow reports whether row i of all experts' first matrices is one of those
// whose scales are 0.
func (s *synthesizer) zeroRow(i int) bool {
	expert, row := i/(2*s.c.Inner), i%(2*s.c.Inner)
	return row == zeroRow && expert%4 == 1
}

// matrix fills a BF16 matrix with normal values.
func (s *synthesizer) matrix(key stream, p graph.Param, sigma float64, massive bool) fillFunc {
	for i, z := range s.normal {
		s.table[i] = float.ToBF16(float32(sigma * z))
	}
	row, table := 2*weight.Columns(p), &s.table
	return func(c *chunk, first, n int) {
		for i := range n {
			b := c.data[i*row : (i+1)*row]
			key.seek(&c.random, first+i)
			c.random.Read(b)
			for j := 0; j < len(b); j += 2 {
				binary.LittleEndian.PutUint16(b[j:], table[binary.LittleEndian.Uint16(b[j:])])
			}
			if massive && s.massive[first+i] != 0 {
				for j := 0; j < len(b); j += 2 {
					v := float.FromBF16(binary.LittleEndian.Uint16(b[j:]))
					binary.LittleEndian.PutUint16(b[j:], float.ToBF16(v*massiveGain))
				}
			}
		}
	}
}

// embedding fills a matrix of deviation residualLevel whose massive channels
// hold a level of one sign, with a tenth of it as deviation.
func (s *synthesizer) embedding(key stream, p graph.Param) fillFunc {
	fill := s.matrix(key, p, residualLevel, false)
	row := 2 * weight.Columns(p)
	return func(c *chunk, first, n int) {
		fill(c, first, n)
		for i := range n {
			for channel, sign := range s.massive {
				at := c.data[i*row+2*channel:]
				z := float64(float.FromBF16(binary.LittleEndian.Uint16(at)))
				binary.LittleEndian.PutUint16(at, float.ToBF16(float32(sign*residualLevel*massiveLevel*(1+z/10/residualLevel))))
			}
		}
	}
}

// vector fills a BF16 parameter that is small enough to be computed at once,
// each element from a normal value of its own: a vector, or [Experts, D].
func (s *synthesizer) vector(key stream, p graph.Param, value func(i int, z float64) float64) fillFunc {
	r := key.at(0)
	size := 2 * weight.Rows(p) * weight.Columns(p)
	s.numbers = slices.Grow(s.numbers[:0], size)
	all := s.numbers[:size]
	r.Read(all)
	for i := 0; i < len(all); i += 2 {
		z := s.normal[binary.LittleEndian.Uint16(all[i:])]
		binary.LittleEndian.PutUint16(all[i:], float.ToBF16(float32(value(i/2, z))))
	}
	row := 2 * weight.Columns(p)
	return func(c *chunk, first, n int) { copy(c.data, all[first*row:(first+n)*row]) }
}

// mxfp4 fills blocks and scales so that values have a deviation of sigma, times
// 2^gain in rows that say so. All scales of zero rows are byte 0.
func (s *synthesizer) mxfp4(key stream, p graph.Param, sigma float64, special func(row int) (gain int, zero bool)) fillers {
	cols := weight.Columns(p)
	blocks := func(c *chunk, first, n int) {
		row := cols / 2
		for i := range n {
			key.seek(&c.random, 2*(first+i))
			c.lookUp(c.data[i*row:(i+1)*row], &s.codes)
		}
	}
	s.fillScales(sigma)
	scales := func(c *chunk, first, n int) {
		row := cols / float.BlockSize
		for i := range n {
			b := c.data[i*row : (i+1)*row]
			gain, zero := special(first + i)
			if zero {
				clear(b)
				continue
			}
			key.seek(&c.random, 2*(first+i)+1)
			c.lookUp(b, &s.scales)
			for j := range b {
				if b[j] != 0 {
					b[j] += byte(gain)
				}
			}
		}
	}
	return fillers{blocks, scales}
}

// lookUp fills b with what a table of 65536 has for each 16 random bits.
func (c *chunk) lookUp(b []byte, table *[1 << 16]byte) {
	for len(b) > 0 {
		n := min(len(b), len(c.bits)/2)
		bits := &c.bits
		c.random.Read(bits[:2*n])
		for j := range b[:n] {
			b[j] = table[binary.LittleEndian.Uint16(bits[2*j:])]
		}
		b = b[n:]
	}
}

// fillScales makes the table of a scale byte for each 16 random bits: powers of two
// around the one that gives values a deviation of sigma, and one in zeroOneIn
// of byte 0.
func (s *synthesizer) fillScales(sigma float64) {
	// Exponents lie at -2 to 2 from a base, with these weights of 16.
	spread := [5]int{1, 4, 6, 4, 1}
	var power float64 // mean of 4^exponent
	for i, w := range spread {
		power += float64(w) / 16 * math.Pow(4, float64(i-2))
	}
	// The base is one of two neighbours, the higher with a chance that makes
	// the mean square right: 1 + 3·chance = (ratio/2^low)².
	ratio := sigma / (s.codesRMS * math.Sqrt(power))
	low := math.Floor(math.Log2(ratio))
	chance := (math.Pow(ratio/math.Pow(2, low), 2) - 1) / 3
	table, at := &s.scales, 0
	fill := func(exponent int, share float64) {
		for end := min(len(table), at+int(math.Round(share*float64(len(table))))); at < end; at++ {
			table[at] = byte(127 + int(low) + exponent)
		}
	}
	at = len(table) / zeroOneIn // byte 0
	for i, w := range spread {
		share := float64(w) / 16 * (1 - 1.0/zeroOneIn)
		fill(i-2, share*(1-chance))
		fill(i-1, share*chance)
	}
	for ; at < len(table); at++ { // what rounding left
		table[at] = byte(127 + int(low))
	}
}
