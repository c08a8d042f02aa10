package convert

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"ossify/checkpoint"
	"ossify/convert/array"
	"ossify/float"
	"ossify/internal/quote"
)

// An origin is a run of a parameter's rows, as a container holds them.
type origin struct {
	first, rows, cols int // rows of the parameter, and their length
	values            array.Array
	swapped           bool         // the last two dimensions are exchanged: columns lie together
	scales            *array.Array // values are MXFP4 blocks; else nil
}

// place names a block of the parameter for messages.
func (o *origin) place(block int) string {
	per := o.cols / float.BlockSize
	row := block / per
	return fmt.Sprintf("convert: %s: row %v, columns %d to %d", quote.Name(o.values.Name), o.row(row), block%per*float.BlockSize, (block%per+1)*float.BlockSize-1)
}

// row returns the indices of a row among the array's own dimensions.
func (o *origin) row(i int) []int {
	shape := o.values.Shape
	if o.scales != nil {
		shape = shape[:len(shape)-1]
	}
	if len(shape) < 3 {
		return []int{i}
	}
	n := shape[len(shape)-2]
	if o.swapped {
		n = shape[len(shape)-1]
	}
	return []int{i / n, i % n}
}

// A workspace is memory that readers of one conversion use in turn.
type workspace struct {
	panelMost                    int // bytes of rows that are gathered at once
	panel, strip, matrix, turned []byte
}

// take returns n bytes at *buf, which grows if need be.
func take(buf *[]byte, n int) []byte {
	if cap(*buf) < n {
		*buf = make([]byte, n)
	}
	return (*buf)[:n]
}

// open reads rows [first, first+rows) of the origin, counted in the parameter, as
// bfloat16.
func (o *origin) open(w *workspace, first, rows int) (io.ReadCloser, error) {
	first -= o.first
	if o.scales != nil {
		per := int64(o.cols / float.BlockSize)
		blocks, err := span(o.values, int64(first)*per*float.BlockBytes, int64(rows)*per*float.BlockBytes)
		if err != nil {
			return nil, err
		}
		scales, err := span(*o.scales, int64(first)*per, int64(rows)*per)
		if err != nil {
			blocks.Close()
			return nil, err
		}
		return &decoder{blocks: blocks, scales: scales, place: o.place, block: first * int(per)}, nil
	}
	if o.swapped {
		return &turner{w: w, a: o.values, rows: o.cols, next: first, end: first + rows}, nil
	}
	size := int64(o.values.Type.Size())
	r, err := span(o.values, int64(first)*int64(o.cols)*size, int64(rows)*int64(o.cols)*size)
	if err != nil {
		return nil, err
	}
	return narrowed(o.values, r, int64(first)*int64(o.cols)), nil
}

// span reads n bytes from offset on. Where the array ends, it asks for its end.
func span(a array.Array, offset, n int64) (io.ReadCloser, error) {
	r, err := a.Open()
	if err != nil {
		return nil, err
	}
	if err := array.Skip(r, offset); err != nil {
		r.Close()
		return nil, short(err)
	}
	total, _ := a.Entry().Bytes()
	return &part{r, a.Name, n, offset+n == total}, nil
}

// A part is bytes of an array that is open.
type part struct {
	io.ReadCloser
	name string
	left int64
	last bool // the array ends with it
}

func (p *part) Read(b []byte) (int, error) {
	if p.left == 0 {
		if p.last {
			return 0, ended(p.ReadCloser, p.name)
		}
		return 0, io.EOF
	}
	n, err := p.ReadCloser.Read(b[:min(int64(len(b)), p.left)])
	p.left -= int64(n)
	switch {
	case p.left > 0 && err == io.EOF:
		err = fmt.Errorf("convert: %s: ends %d bytes early", quote.Name(p.name), p.left)
	case err == io.EOF && n > 0:
		err = nil
	}
	return n, err
}

// ended returns io.EOF if r ends here, or what is wrong.
func ended(r io.Reader, name string) error {
	var one [1]byte
	switch _, err := io.ReadFull(r, one[:]); err {
	case nil:
		return fmt.Errorf("convert: %s: bytes beyond its end", quote.Name(name))
	default:
		return err // io.EOF, or what the container found wrong
	}
}

// short turns an end that came too early into an error of its own.
func short(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// narrowed makes bfloat16 of float32, if that is what r reads; element at is the
// first.
func narrowed(a array.Array, r io.ReadCloser, at int64) io.ReadCloser {
	if a.Type != checkpoint.F32 {
		return r
	}
	return &narrower{ReadCloser: r, name: a.Name, at: at}
}

// A narrower reads float32 values that bfloat16 holds, as bfloat16.
type narrower struct {
	io.ReadCloser
	name string
	at   int64 // element, of the next to be read
	buf  [1 << 13]byte
	out  []byte // of buf, still to be read
}

func (n *narrower) Read(p []byte) (int, error) { return read(p, &n.out, n.fill) }

func (n *narrower) fill() error {
	got, err := io.ReadFull(n.ReadCloser, n.buf[:])
	if err != nil && err != io.ErrUnexpectedEOF {
		return err
	}
	if got%4 != 0 {
		return io.ErrUnexpectedEOF
	}
	for i := 0; i < got; i += 4 {
		bits := binary.LittleEndian.Uint32(n.buf[i:])
		if bits&0xffff != 0 {
			return fmt.Errorf("convert: %s: element %d is %v, want a value that bfloat16 holds", quote.Name(n.name), n.at+int64(i/4), math.Float32frombits(bits))
		}
		binary.LittleEndian.PutUint16(n.buf[i/2:], uint16(bits>>16))
	}
	n.at += int64(got / 4)
	n.out = n.buf[:got/2]
	return nil
}

// read takes from out, which fill fills anew when it is empty.
func read(p []byte, out *[]byte, fill func() error) (int, error) {
	if len(*out) == 0 {
		if err := fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, *out)
	*out = (*out)[n:]
	return n, nil
}

const (
	panelMost  = 256 << 20 // of a workspace: an expert of any model, a fifth of 20b's unembedding
	stripLines = 32        // lines of the array that are read for a panel at once
)

// A turner reads an array [.., Lines, Rows] as rows of [.., Rows, Lines]: it
// gathers a panel of rows from all lines of a matrix. Of a matrix that is larger
// than a panel the lines are read once for each.
type turner struct {
	w    *workspace
	a    array.Array
	rows int // of bfloat16 values a row: the array's lines
	next int // row that the next panel begins with, over all matrices
	end  int // row to stop before

	r   io.ReadCloser // of the array
	at  int64         // element that r reads next
	out []byte        // of the panel, still to be read
}

func (t *turner) Read(p []byte) (int, error) { return read(p, &t.out, t.fill) }

// fill gathers the next panel.
func (t *turner) fill() error {
	if t.next == t.end {
		return io.EOF
	}
	lines, width := t.rows, t.a.Shape[len(t.a.Shape)-1]
	matrix, row := t.next/width, t.next%width
	n := min(max(1, t.w.panelMost/2/lines), width-row, t.end-t.next)
	start := int64(matrix) * int64(lines) * int64(width)
	if t.r == nil || t.at > start {
		t.Close()
		r, err := t.a.Open()
		if err != nil {
			return err
		}
		t.r, t.at = narrowed(t.a, r, 0), 0
	}
	if err := array.Skip(t.r, 2*(start-t.at)); err != nil {
		return short(err)
	}
	t.at = start
	panel := take(&t.w.panel, 2*n*lines)
	for line := 0; line < lines; line += stripLines {
		strip := take(&t.w.strip, 2*width*min(stripLines, lines-line))
		if _, err := io.ReadFull(t.r, strip); err != nil {
			return short(err)
		}
		turn(panel[2*line:], 2*lines, strip[2*row:], 2*width, n, len(strip)/2/width)
	}
	t.at += int64(lines) * int64(width)
	t.next += n
	t.out = panel
	if total, _ := t.a.Entry().Bytes(); t.at*int64(t.a.Type.Size()) == total {
		if err := ended(t.r, t.a.Name); err != io.EOF {
			return err
		}
	}
	return nil
}

// turn writes the 2-byte elements [line][row] of src to [row][line] of dst.
// Steps are bytes from a row of dst, or a line of src, to the next.
func turn(dst []byte, dstStep int, src []byte, srcStep, rows, lines int) {
	for i := range rows {
		to := dst[i*dstStep : i*dstStep+2*lines]
		from := src[2*i:]
		for j := 0; j < len(to); j += 2 {
			to[j], to[j+1] = from[0], from[1]
			from = from[min(srcStep, len(from)):]
		}
	}
}

func (t *turner) Close() error {
	if t.r == nil {
		return nil
	}
	err := t.r.Close()
	t.r = nil
	return err
}
