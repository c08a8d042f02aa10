package page

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"ossify/parity"
)

// draw adds a chart to a list. note says what its height is.
func draw(list *[]figure, c Chart, note, id string, legend ...legend) error {
	svg, err := c.SVG(id)
	if err == nil {
		*list = append(*list, figure{c.Title, note, legend, svg})
	}
	return err
}

// errors fills the pictures of errors by layer: root mean square of value −
// exact, in units of the stage's rms.
func (v *view) errors(m *model) error {
	relative := func(f *parity.Fit, e float64) float64 {
		if f == nil || !(f.RMS > 0) {
			return math.NaN()
		}
		return e / f.RMS
	}
	for n, k := range m.kinds {
		most, rounding, numbers := 0.0, 0.0, false
		line := errorRow{Kind: k.name}
		var list []Series
		limit := Series{Class: "limit", Values: missing(len(m.layers))}
		for i := range m.r.Columns {
			s := Series{Class: v.Programs[i].Class, Values: missing(len(m.layers))}
			worst, at := 0.0, -1
			for layer, stage := range k.cells[i] {
				f := stage.Fit
				if f == nil {
					continue
				}
				numbers = true
				e := relative(f, f.Error)
				if e > worst || e == worst && layer < at {
					worst, at = e, layer
				}
				rounding = max(rounding, relative(f, f.Rounding))
				if j, ok := slices.BinarySearch(m.layers, layer); ok {
					s.Values[j] = e
					if own := relative(f, f.Rounding); !(own < limit.Values[j]) {
						limit.Values[j] = own // the least: runs differ in rows
					}
				}
			}
			most = max(most, worst)
			text := small(worst)
			if len(k.cells[i]) == 0 {
				text = "–"
			} else if at >= 0 && !k.single {
				text += fmt.Sprintf(" (%d)", at)
			}
			line.Cells = append(line.Cells, text)
			list = append(list, s)
		}
		if !numbers {
			continue
		}
		if most == 0 {
			v.Errors.Exact = append(v.Errors.Exact, k.name)
			continue
		}
		line.Rounding = small(rounding)
		v.Errors.Table = append(v.Errors.Table, line)
		if k.single || len(m.layers) < 2 || most >= math.MaxFloat32 {
			continue
		}
		unit, top, step := scale(max(most, rounding))
		c := Chart{Title: Short(k.name), X: "layer", Labels: numbersOf(m.layers),
			Series: append([]Series{limit}, list...), Max: top, Step: step, Format: Number}
		for _, s := range c.Series {
			for j := range s.Values {
				s.Values[j] *= math.Pow(10, float64(-unit))
			}
		}
		var said []string
		for i, cell := range line.Cells {
			said = append(said, fmt.Sprintf("%s at most %s", m.r.Columns[i].Name, cell))
		}
		c.Desc = fmt.Sprintf("Error of %s by layer, in units of the stage's root mean square, the layer of the largest in brackets: %s; rounding alone %s.", k.name, strings.Join(said, "; "), line.Rounding)
		to := &v.Errors.Figures
		if k.step {
			to = &v.Errors.Steps
		}
		if err := draw(to, c, "10"+superscript(unit)+" of rms", fmt.Sprintf("error-%d", n)); err != nil {
			return err
		}
	}
	return nil
}

// ulps fills the histograms of errors in units in the last place.
func (v *view) ulps(m *model) error {
	for n, k := range m.kinds {
		bins, off := 0, false
		counts := make([][parity.ULPBins]int, len(m.r.Columns))
		totals := make([]int, len(m.r.Columns))
		for i := range m.r.Columns {
			for _, s := range k.cells[i] {
				if s.Fit == nil {
					continue
				}
				for b, c := range s.Fit.ULPs[:min(len(s.Fit.ULPs), parity.ULPBins)] {
					counts[i][b] += c
					totals[i] += c
					if c > 0 {
						bins = max(bins, b+1)
						off = off || b > 0
					}
				}
			}
		}
		if !off {
			continue
		}
		bins = max(bins, 4)
		c := Chart{Title: Short(k.name), X: "units in the last place", Labels: ULPLabels[:bins], Form: Lines,
			Min: -7, Max: 0, Step: 1, Format: Power}
		line := row{Kind: k.name}
		var said []string
		for i := range m.r.Columns {
			s := Series{Class: v.Programs[i].Class, Values: missing(bins)}
			for b := range bins {
				if counts[i][b] > 0 {
					s.Values[b] = math.Log10(float64(counts[i][b]) / float64(totals[i]))
				}
			}
			c.Series = append(c.Series, s)
			line.Cells = append(line.Cells, cell{Text: Share(counts[i][0], totals[i])})
			if totals[i] > 0 {
				said = append(said, fmt.Sprintf("%s %s", m.r.Columns[i].Name, Share(counts[i][0], totals[i])))
			}
		}
		c.Desc = fmt.Sprintf("How far numbers of %s are from the exact ones, all layers. The very rounding of the exact number are: %s. The farthest are %s off.", k.name, strings.Join(said, "; "), ulpWords(bins-1))
		v.ULPs.Table = append(v.ULPs.Table, line)
		to := &v.ULPs.Figures
		if k.step {
			to = &v.ULPs.Steps
		}
		if err := draw(to, c, "share of numbers", fmt.Sprintf("ulp-%d", n)); err != nil {
			return err
		}
	}
	return nil
}

// ULPLabels name the bins of parity.Fit.ULPs.
var ULPLabels = []string{"0", "1", "2", "4", "8", "16", "32", "64", "128", "256", "512", "1k", "2k", "4k", "8k", "more"}

func ulpWords(bin int) string {
	if bin == parity.ULPBins-1 {
		return "more than 8192"
	}
	return "at most " + ULPLabels[max(bin, 0)]
}

// Share is a part of all in percent, and never 100% if it is not all.
func Share(n, of int) string {
	if of == 0 {
		return "–"
	}
	if n == of {
		return "100%"
	}
	p := 100 * float64(n) / float64(of)
	for digits := 1; digits < 7; digits++ {
		if s := strconv.FormatFloat(p, 'f', digits, 64); !strings.HasPrefix(s, "100") {
			return s + "%"
		}
	}
	return "almost 100%"
}

type routingSection struct {
	Judged  string // the program whose gaps are shown
	Other   string // the run that is compared with the reference, if any
	Figures []figure
	Rows    []routingRow
	Turned  string
}

type routingRow struct {
	Layer               int
	Rows, Right         int
	Ties                int
	LeastGap, MedianGap string
	Free                string
}

// routing fills what is known of the choice of experts.
func (v *view) routing(m *model) error {
	s := &routingSection{}
	free := map[string]parity.Routing{}
	for _, r := range m.r.Routing {
		free[r.Stage] = r
	}
	var same, turned [parity.GapBins]int
	rows, others := 0, 0
	for i, c := range m.r.Columns {
		for _, stage := range c.Stages {
			ch := stage.Choice
			if ch == nil || len(ch.Gaps) == 0 {
				continue
			}
			if s.Judged == "" {
				s.Judged = v.Programs[i].Name
			}
			if s.Judged != v.Programs[i].Name {
				continue
			}
			line := routingRow{Layer: layerOf(stage.Name), Rows: ch.Rows, Right: ch.Rows - ch.Wrong, Ties: len(ch.Ties), LeastGap: small(ch.LeastGap), MedianGap: small(ch.MedianGap), Free: "–"}
			gaps := ch.Gaps
			if f, ok := free[stage.Name]; ok && f.Rows > 0 {
				line.Free = fmt.Sprintf("%s of %s", Count(f.Same), Count(f.Rows))
				gaps, rows, others = f.Gaps, rows+f.Rows, others+f.Rows-f.Same
				for b, n := range f.Turned[:min(len(f.Turned), parity.GapBins)] {
					turned[b] += n
					same[b] -= n
				}
			}
			for b, n := range gaps[:min(len(gaps), parity.GapBins)] {
				same[b] += n
			}
			s.Rows = append(s.Rows, line)
		}
	}
	if len(s.Rows) == 0 {
		return nil
	}
	v.Routing = s
	first, last, most := parity.GapBins, 0, 0
	for b := range parity.GapBins {
		if n := same[b] + turned[b]; n > 0 {
			first, last, most = min(first, b), max(last, b), max(most, n)
		}
	}
	if first > last {
		return nil
	}
	_, top, step := scale(float64(most))
	unit := math.Pow(10, math.Floor(math.Log10(float64(most))))
	c := Chart{Title: "Rows by gap", X: "gap less than", Form: Stacked, Labels: gapLabels()[first : last+1], Max: top * unit, Step: step * unit, Format: Number,
		Series: []Series{{Class: "same"}, {Class: "turned"}}}
	for b := first; b <= last; b++ {
		c.Series[0].Values = append(c.Series[0].Values, float64(max(same[b], 0)))
		c.Series[1].Values = append(c.Series[1].Values, float64(turned[b]))
	}
	c.Desc = fmt.Sprintf("Histogram of the gap between the last gate value that is chosen and the next, over all layers, from %s to %s.", gapLabels()[first], gapLabels()[last])
	if rows > 0 {
		s.Other = "free"
		s.Turned = fmt.Sprintf("%s of %s rows choose other experts than the reference in the free run", Count(others), Count(rows))
		c.Desc += " " + s.Turned + "."
	} else {
		c.Series = c.Series[:1]
	}
	key := []legend{{"same", "same experts in the free run"}, {"turned", "others"}}
	if s.Other == "" {
		key = nil
	}
	if err := draw(&s.Figures, c, "rows, of all layers", "routing-gaps", key...); err != nil {
		return err
	}
	if len(s.Rows) < 2 {
		return nil
	}
	least, median := Series{Class: "turned"}, Series{Class: "same"}
	low := 0.0
	c = Chart{Title: "Gap by layer", X: "layer", Step: 2, Format: power2}
	for i, stage := range s.gaps(m) {
		c.Labels = append(c.Labels, strconv.Itoa(s.Rows[i].Layer))
		for _, x := range []struct {
			to  *Series
			gap float64
		}{{&least, stage.LeastGap}, {&median, stage.MedianGap}} {
			value := math.NaN()
			if x.gap > 0 {
				value = math.Log2(x.gap)
				low = min(low, value)
				c.Max = max(c.Max, value)
			}
			x.to.Values = append(x.to.Values, value)
		}
	}
	c.Min, c.Max = 2*math.Floor(max(low, -24)/2), 2*math.Ceil(min(c.Max, 24)/2)
	if c.Max-c.Min > 12 {
		c.Step = 4
		c.Min, c.Max = 4*math.Floor(c.Min/4), 4*math.Ceil(c.Max/4)
	}
	if c.Max <= c.Min {
		c.Max = c.Min + c.Step
	}
	for _, s := range []Series{least, median} { // no gap is at the bottom
		for i, v := range s.Values {
			if v != v {
				s.Values[i] = c.Min
			}
		}
	}
	c.Series = []Series{median, least}
	c.Desc = "Median and least gap of each layer, as the table below has them."
	return draw(&s.Figures, c, "of gate values", "routing-layers", legend{"same", "median"}, legend{"turned", "least"})
}

// gaps returns the choices of the program whose rows are shown.
func (s *routingSection) gaps(m *model) (all []*parity.Choice) {
	for _, c := range m.r.Columns {
		if c.Name != s.Judged {
			continue
		}
		for _, stage := range c.Stages {
			if stage.Choice != nil && len(stage.Choice.Gaps) > 0 {
				all = append(all, stage.Choice)
			}
		}
		break
	}
	return all[:min(len(all), len(s.Rows))]
}

// gapLabels name the bins of parity.GapBin.
func gapLabels() []string {
	list := []string{"0"}
	for b := 1; b < parity.GapBins-1; b++ {
		list = append(list, power2(float64(b-14)))
	}
	return append(list, "∞")
}

type edgeSection struct {
	Window  int
	Layers  int
	Figures []figure
	Rows    []edgeRow
}

type edgeRow struct {
	Position, Keys                int
	Oldest, Sink, Wider, Narrower string
	Errors                        []string
}

// edge fills the rows beside the window's edge: means of the layers.
func (v *view) edge(m *model) error {
	if len(m.r.Edges) == 0 {
		return nil
	}
	s := &edgeSection{Window: m.r.Edges[0].Window, Layers: len(m.r.Edges)}
	errors := func(program int, stage string, position int) float64 {
		for _, row := range m.stage(program, stage).Rows {
			if row.Position == position && row.RMS > 0 {
				return row.Error / row.RMS
			}
		}
		return math.NaN()
	}
	var positions []int
	for _, e := range m.r.Edges {
		for _, r := range e.Rows {
			if !slices.Contains(positions, r.Position) {
				positions = append(positions, r.Position)
			}
		}
	}
	slices.Sort(positions)
	for _, p := range positions {
		line, n := edgeRow{Position: p}, 0.0
		var oldest, sink, wider, narrower float64
		for _, e := range m.r.Edges {
			for _, r := range e.Rows {
				if r.Position == p {
					n++
					line.Keys = r.Keys
					oldest, sink, wider, narrower = oldest+r.Oldest, sink+r.Sink, wider+r.Wider, narrower+r.Narrower
				}
			}
		}
		line.Oldest, line.Sink, line.Wider, line.Narrower = percent(oldest/n), percent(sink/n), small(wider/n), small(narrower/n)
		for i := range m.r.Columns {
			total, n := 0.0, 0.0
			for _, e := range m.r.Edges {
				if x := errors(i, e.Stage, p); x == x {
					total, n = total+x, n+1
				}
			}
			if n == 0 {
				line.Errors = append(line.Errors, "–")
			} else {
				line.Errors = append(line.Errors, small(total/n))
			}
		}
		s.Rows = append(s.Rows, line)
	}
	v.Edge = s
	if len(m.r.Edges) < 2 {
		return nil
	}
	// The first row that does not see all before it.
	c := Chart{Title: fmt.Sprintf("A wrong window at position %d", s.Window), X: "layer with a window", Step: 2, Format: Power,
		Series: []Series{{Class: "wide"}, {Class: "narrow"}}}
	for i := range m.r.Columns {
		c.Series = append(c.Series, Series{Class: v.Programs[i].Class})
	}
	low := 0.0
	for _, e := range m.r.Edges {
		i := slices.IndexFunc(e.Rows, func(r parity.EdgeRow) bool { return r.Position == e.Window })
		if i < 0 {
			continue
		}
		c.Labels = append(c.Labels, strconv.Itoa(layerOf(e.Stage)))
		values := []float64{e.Rows[i].Wider, e.Rows[i].Narrower}
		for p := range m.r.Columns {
			values = append(values, errors(p, e.Stage, e.Window))
		}
		for j, x := range values {
			y := math.NaN()
			if x > 0 {
				y = math.Log10(x)
				low = min(low, y)
				c.Max = max(c.Max, y)
			}
			c.Series[j].Values = append(c.Series[j].Values, y)
		}
	}
	if len(c.Labels) < 2 {
		return nil
	}
	c.Min, c.Max = 2*math.Floor(max(low, -16)/2), 2*math.Ceil(min(c.Max, 8)/2)
	if c.Max <= c.Min {
		c.Max = c.Min + c.Step
	}
	c.Desc = fmt.Sprintf("What one key more or fewer would change in the row at position %d, beside the errors that were measured there. The table has the means.", s.Window)
	key := []legend{{"wide", "with a key more"}, {"narrow", "a key fewer"}}
	for _, p := range v.Programs {
		key = append(key, legend{p.Class, p.Name + ", measured"})
	}
	if err := draw(&s.Figures, c, "change of the row, of rms", "edge", key...); err != nil {
		return err
	}

	c = Chart{Title: fmt.Sprintf("Where position %d looks", s.Window), X: "layer with a window", Format: Number,
		Series: []Series{{Class: "same"}, {Class: "turned"}}}
	most := 0.0
	for _, e := range m.r.Edges {
		if i := slices.IndexFunc(e.Rows, func(r parity.EdgeRow) bool { return r.Position == e.Window }); i >= 0 {
			c.Labels = append(c.Labels, strconv.Itoa(layerOf(e.Stage)))
			c.Series[0].Values = append(c.Series[0].Values, 100*e.Rows[i].Oldest)
			c.Series[1].Values = append(c.Series[1].Values, 100*e.Rows[i].Sink)
			most = max(most, 100*e.Rows[i].Oldest, 100*e.Rows[i].Sink)
		}
	}
	unit, top, step := scale(min(most, 100))
	power := math.Pow(10, float64(unit))
	c.Max, c.Step = top*power, step*power
	c.Desc = fmt.Sprintf("Shares of attention's weight in the row at position %d: of the oldest key in view, and of the sinks. The table has the means.", s.Window)
	return draw(&s.Figures, c, "percent of the weight", "edge-weight", legend{"same", "oldest key in view"}, legend{"turned", "sinks"})
}

// stage returns a program's stage of that name.
func (m *model) stage(program int, name string) parity.StageReport {
	j, ok := m.at[parity.Kind(name)]
	if !ok {
		return parity.StageReport{}
	}
	return m.kinds[j].cells[program][layerOf(name)]
}

func percent(v float64) string {
	if v > 0 && v < 0.0001 {
		return small(v*100) + "%"
	}
	return strconv.FormatFloat(v*100, 'f', 2, 64) + "%"
}

type faultSection struct {
	Caught, All int
	Kinds       []string
	Rows        []faultRow
}

type faultRow struct {
	Name, At, Want, Where, Why string
	OK                         bool
	Cells                      []faultCell
}

type faultCell struct {
	Text  string // how many layers fail
	First bool   // the fault is first seen here
	Want  bool   // and sits here
}

// faults fills the matrix: where each fault showed.
func (v *view) faults(m *model) {
	if len(m.r.Faults) == 0 {
		return
	}
	s := &faultSection{All: len(m.r.Faults)}
	seen := map[string]bool{}
	note := func(stage string) {
		if stage != "" {
			seen[parity.Kind(stage)] = true
		}
	}
	for _, f := range m.r.Faults {
		note(f.Want)
		note(f.At)
		for _, stage := range f.Stages {
			note(stage)
		}
	}
	for _, k := range m.kinds { // in execution order
		if seen[k.name] {
			s.Kinds = append(s.Kinds, k.name)
			delete(seen, k.name)
		}
	}
	var rest []string
	for k := range seen {
		rest = append(rest, k)
	}
	slices.Sort(rest)
	s.Kinds = append(s.Kinds, rest...)
	for _, f := range m.r.Faults {
		line := faultRow{Name: f.Name, At: f.At, Want: f.Want, Where: f.Where, Why: f.Why, OK: f.OK()}
		if line.OK {
			s.Caught++
		}
		layers := map[string]int{}
		for _, stage := range f.Stages {
			layers[parity.Kind(stage)]++
		}
		for _, k := range s.Kinds {
			c := faultCell{First: f.At != "" && parity.Kind(f.At) == k, Want: parity.Kind(f.Want) == k || f.Step != "" && parity.Kind(f.Want+f.Step) == k}
			if n := max(layers[k], b2i(c.First)); n > 0 {
				c.Text = strconv.Itoa(n)
			}
			line.Cells = append(line.Cells, c)
		}
		s.Rows = append(s.Rows, line)
	}
	for i, k := range s.Kinds {
		s.Kinds[i] = Short(k)
	}
	v.Faults = s
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// scale chooses an axis from 0 for values up to most: a power of ten as unit,
// and in that unit the top and the step.
func scale(most float64) (unit int, top, step float64) {
	if !(most > 0) {
		return 0, 1, 1
	}
	unit = int(math.Floor(math.Log10(most)))
	x := most / math.Pow(10, float64(unit)) // 1 to 10
	step = 2
	for _, s := range []float64{0.2, 0.25, 0.5, 1} {
		if x <= 6*s {
			step = s
			break
		}
	}
	return unit, step * math.Ceil(x/step-1e-9), step
}

func missing(n int) []float64 {
	list := make([]float64, n)
	for i := range list {
		list[i] = math.NaN()
	}
	return list
}

func numbersOf(list []int) (out []string) {
	for _, n := range list {
		out = append(out, strconv.Itoa(n))
	}
	return out
}

// Number is the label of an axis of numbers.
func Number(v float64) string {
	return strconv.FormatFloat(math.Round(v*1000)/1000, 'f', -1, 64)
}

// Power is the label of an axis of logarithms.
func Power(v float64) string { return "10" + superscript(int(math.Round(v))) }

func power2(v float64) string { return "2" + superscript(int(math.Round(v))) }
