package page

import (
	"encoding/xml"
	"errors"
	"fmt"
	"html/template"
	"io"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/go-analyze/charts"

	"ossify/internal/quote"
)

// A Chart is a picture of numbers. The library lays it out and draws it; its
// colours are then replaced by classes, so that the page's style sheet decides
// them, in the light and in the dark.
type Chart struct {
	Title  string // for those who do not see it
	Desc   string
	X      string // title of the axis
	Labels []string
	Series []Series
	Form   Form
	Min    float64
	Max    float64
	Step   float64 // between the lines of the value axis
	Format func(float64) string
}

// A Series is one program's values; NaN is none.
type Series struct {
	Class  string // decides the colour, as the style sheet has it
	Values []float64
}

// A Form is how a chart shows its series.
type Form int

const (
	Lines Form = iota
	Stacked
)

// Size of a chart in CSS pixels: a phone's width.
const (
	chartWidth  = 352
	chartHeight = 208
)

// SVG draws the chart; id is unique in the page.
func (c Chart) SVG(id string) (template.HTML, error) {
	painter := charts.NewPainter(charts.PainterOptions{OutputFormat: charts.ChartOutputSVG, Width: chartWidth, Height: chartHeight, Theme: theme(len(c.Series))})
	var err error
	switch c.Form {
	case Lines:
		err = painter.LineChart(c.lines())
	case Stacked:
		err = painter.BarChart(c.bars())
	}
	if err != nil {
		return "", fmt.Errorf("page: %s: %w", c.Title, err)
	}
	raw, err := painter.Bytes()
	if err != nil {
		return "", fmt.Errorf("page: %s: %w", c.Title, err)
	}
	out, err := c.restyled(raw, id)
	if err != nil {
		return "", fmt.Errorf("page: %s: %w", c.Title, err)
	}
	return template.HTML(out), nil
}

// values replaces what a chart has no place for.
func (c Chart) values() [][]float64 {
	var all [][]float64
	for _, s := range c.Series {
		list := slices.Clone(s.Values)
		for i, v := range list {
			if v != v || math.IsInf(v, 0) {
				list[i] = charts.GetNullValue()
			} else {
				list[i] = min(max(v, c.Min), c.Max)
			}
		}
		all = append(all, list)
	}
	return all
}

const fontSize = 8 // points: 11 pixels

func font() charts.FontStyle { return charts.FontStyle{FontSize: fontSize} }

func (c Chart) xAxis() charts.XAxisOption {
	labels := slices.Clone(c.Labels)
	every := 1
	for n := len(labels); n/every > 10; {
		every *= 2
	}
	for i := range labels {
		if i%every > 0 {
			labels[i] = "" // for want of room
		}
	}
	return charts.XAxisOption{Title: c.X, TitleFontStyle: font(), Labels: labels, LabelFontStyle: font(), LabelCount: len(labels)}
}

func (c Chart) yAxis() []charts.YAxisOption {
	n := int(math.Round((c.Max-c.Min)/c.Step)) + 1
	return []charts.YAxisOption{{
		LabelFontStyle: font(), ValueFormatter: c.Format, RangeValuePaddingScale: charts.Ptr(0.0),
		Min: charts.Ptr(c.Min), Max: charts.Ptr(c.Max), LabelCount: n, PreferNiceIntervals: charts.Ptr(false), SplitLineShow: charts.Ptr(true),
	}}
}

var noBox = charts.Box{Left: 2, Top: 8, Right: 10, Bottom: 2, IsSet: true}

func (c Chart) lines() charts.LineChartOption {
	o := charts.NewLineChartOptionWithData(c.values())
	o.Theme = theme(len(c.Series))
	o.Padding, o.XAxis, o.YAxis = noBox, c.xAxis(), c.yAxis()
	o.Legend.Show = charts.Ptr(false)
	o.XAxis.BoundaryGap = charts.Ptr(false) // with one, the library would still leave it out where points are close
	o.LineStrokeWidth = 2
	for i := range o.SeriesList {
		o.SeriesList[i].Symbol = charts.Symbol{Shape: charts.SymbolDot, Size: 2.5}
		if strings.HasPrefix(c.Series[i].Class, "limit") {
			o.SeriesList[i].Symbol.Shape = charts.SymbolNone
		}
	}
	return o
}

func (c Chart) bars() charts.BarChartOption {
	o := charts.NewBarChartOptionWithData(c.values())
	o.Theme = theme(len(c.Series))
	o.Padding, o.CategoryAxis, o.ValueAxis = noBox, c.xAxis(), c.yAxis()
	o.Legend.Show = charts.Ptr(false)
	o.CategoryAxis.BoundaryGap = charts.Ptr(true)
	o.StackSeries = charts.Ptr(true)
	return o
}

// Colours that stand for classes: what is none of them is a mistake.
const (
	inkAxis = 250 + iota
	inkGrid
	inkText
	inkPaper
)

func ink(n uint8) charts.Color { return charts.Color{R: n, G: 77, B: 33, A: 255} }

// theme gives the series the first inks.
func theme(n int) charts.ColorPalette {
	var list []charts.Color
	for i := range max(n, 1) {
		list = append(list, ink(uint8(i)))
	}
	return charts.MakeTheme(charts.ThemeOption{
		AxisStrokeColor: ink(inkAxis), AxisSplitLineColor: ink(inkGrid), BackgroundColor: ink(inkPaper), TextColor: ink(inkText),
		SeriesColors: list, SeriesTrendColors: list,
	})
}

// class returns the class of a colour of the library's picture.
func (c Chart) class(colour string) (string, error) {
	var n, g, b int
	if _, err := fmt.Sscanf(colour, "rgb(%d,%d,%d)", &n, &g, &b); err != nil || g != 77 || b != 33 {
		return "", fmt.Errorf("colour %q, want one of ours", colour)
	}
	switch n {
	case inkAxis:
		return "axis", nil
	case inkGrid:
		return "grid", nil
	case inkText:
		return "text", nil
	case inkPaper:
		return "paper", nil
	}
	if n >= len(c.Series) {
		return "", fmt.Errorf("colour of series %d, want at most %d", n, len(c.Series)-1)
	}
	return c.Series[n].Class, nil
}

// restyled writes the library's picture with classes for styles, a title and a
// description.
func (c Chart) restyled(raw []byte, id string) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="chart" viewBox="0 0 %d %d" role="img" aria-labelledby="%s-t" aria-describedby="%[3]s-d">`, chartWidth, chartHeight, id)
	fmt.Fprintf(&b, `<title id="%s-t">%s</title><desc id="%[1]s-d">%[3]s</desc>`, id, escaped(quote.Plain(c.Title)), escaped(quote.Plain(c.Desc)))
	d := xml.NewDecoder(strings.NewReader(string(raw)))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", err
		}
		switch t := token.(type) {
		case xml.StartElement:
			if t.Name.Local == "svg" {
				continue
			}
			if err := c.element(&b, t); err != nil {
				return "", err
			}
		case xml.EndElement:
			if t.Name.Local == "text" {
				b.WriteString("</text>")
			}
		case xml.CharData:
			b.WriteString(escaped(string(t)))
		}
	}
	b.WriteString("</svg>")
	return b.String(), nil
}

var gaps = regexp.MustCompile(`\s*([MLQAZ])\s*`)

// element writes a path, circle or text without its style.
func (c Chart) element(b *strings.Builder, e xml.StartElement) error {
	name := e.Name.Local
	if name != "path" && name != "circle" && name != "text" {
		return fmt.Errorf("element %s, want path, circle or text", name)
	}
	style, other := map[string]string{}, ""
	for _, a := range e.Attr {
		switch a.Name.Local {
		case "style":
			for _, part := range strings.Split(a.Value, ";") {
				key, value, _ := strings.Cut(part, ":")
				style[key] = value
			}
		case "d":
			other += ` d="` + gaps.ReplaceAllString(a.Value, "$1") + `"`
		case "x", "y", "cx", "cy", "r", "transform":
			other += " " + a.Name.Local + `="` + escaped(a.Value) + `"`
		default:
			return fmt.Errorf("%s has %s, which the page does not know", name, a.Name.Local)
		}
	}
	var classes []string
	for _, kind := range []string{"stroke", "fill"} {
		if v := style[kind]; v != "" && v != "none" {
			class, err := c.class(v)
			if err != nil {
				return err
			}
			if class == "paper" && name == "path" {
				return nil // the page's own background
			}
			classes = append(classes, map[string]string{"stroke": "l-", "fill": "f-"}[kind]+class)
		}
	}
	fmt.Fprintf(b, `<%s class="%s"%s`, name, strings.Join(classes, " "), other)
	if name == "text" {
		b.WriteByte('>')
	} else {
		b.WriteString("/>")
	}
	return nil
}

func escaped(text string) string { return template.HTMLEscapeString(text) }
