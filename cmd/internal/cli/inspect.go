package cli

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"ossify/checkpoint"
	"ossify/gptoss"
	"ossify/internal/quote"
	"ossify/onnx"
)

func newInspect() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "inspect DIR|FILE",
		Short: "Show and check what a checkpoint holds",
		Long: `Inspect opens a checkpoint folder of either layout, checks its headers, index
and config.json, and that it holds exactly the tensors of that model, and
prints the configuration, files and tensors. It does not read the weights.

Of a single safetensors file it prints metadata and tensors; of a .onnx file
inputs and outputs, functions, operators, and where its constants are.`,
		Example: `  ossify inspect /tmp/20b
  ossify inspect --json /tmp/20b | jq '.tensors[0]'
  ossify inspect golden.safetensors
  ossify inspect /tmp/20b/model.onnx`,
		Args: oneArgument("DIR or FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			var r any
			var print func(io.Writer) error
			if strings.EqualFold(filepath.Ext(args[0]), ".onnx") {
				m, err := onnx.Read(args[0])
				if err != nil {
					return err
				}
				s := m.Summary()
				r, print = s, func(w io.Writer) error { return printModel(w, s) }
			} else {
				i, err := inspect(args[0])
				if err != nil {
					return err
				}
				r, print = i, i.print
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), r)
			}
			return print(c.OutOrStdout())
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// An inspection is what inspect prints.
type inspection struct {
	Layout     string                `json:"layout,omitempty"`
	Config     *gptoss.Config        `json:"config,omitempty"`
	Parameters int64                 `json:"parameters,omitempty"` // values of the model
	Metadata   map[string]string     `json:"metadata,omitempty"`
	Files      []inspectedFile       `json:"files"`
	Types      map[string]typeTotals `json:"dtypes"`
	Bytes      int64                 `json:"bytes"` // of all tensors
	Tensors    []inspectedTensor     `json:"tensors"`
}

type inspectedFile struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}

type typeTotals struct {
	Tensors int   `json:"tensors"`
	Bytes   int64 `json:"bytes"`
}

type inspectedTensor struct {
	Name   string `json:"name"`
	Type   string `json:"dtype"`
	Shape  []int  `json:"shape"`
	Bytes  int    `json:"bytes"`
	File   string `json:"file"`
	Offset int64  `json:"offset"`
}

func inspect(path string) (*inspection, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("inspect: %w", err)
	}
	if !info.IsDir() {
		f, err := checkpoint.OpenFile(path)
		if _, none := os.Stat(filepath.Join(filepath.Dir(path), "config.json")); err != nil && none == nil {
			err = fmt.Errorf("%w (%s, its folder, is a checkpoint to inspect)", err, quote.Name(filepath.Dir(path)))
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		r := &inspection{Metadata: f.Metadata(), Files: []inspectedFile{{path, f.Size()}}}
		r.add(f.Tensors())
		return r, nil
	}
	c, err := gptoss.OpenCheckpoint(path)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	r := &inspection{Layout: c.Dialect.String(), Config: c.Config}
	for _, p := range c.Graph.Params {
		n := int64(1)
		for _, d := range p.Shape {
			n *= int64(d)
		}
		r.Parameters += n
	}
	for _, f := range c.Folder.Files() {
		r.Files = append(r.Files, inspectedFile{f.Name, f.Size})
	}
	r.add(c.Folder.Tensors())
	return r, nil
}

func (r *inspection) add(tensors []checkpoint.Tensor) {
	r.Types = make(map[string]typeTotals)
	r.Tensors = make([]inspectedTensor, 0, len(tensors))
	for _, t := range tensors {
		kind := t.Type.String()
		total := r.Types[kind]
		total.Tensors++
		total.Bytes += int64(len(t.Data))
		r.Types[kind] = total
		r.Bytes += int64(len(t.Data))
		r.Tensors = append(r.Tensors, inspectedTensor{t.Name, kind, t.Shape, len(t.Data), t.File, t.Offset})
	}
}

func (r *inspection) print(out io.Writer) error {
	buffered := bufio.NewWriter(out)
	w := tabwriter.NewWriter(buffered, 0, 0, 2, ' ', 0)
	if c := r.Config; c != nil {
		fmt.Fprintf(w, "layout\t%s\n", r.Layout)
		fmt.Fprintf(w, "parameters\t%d\n", r.Parameters)
		fmt.Fprintf(w, "layers\t%d\n", c.Layers)
		fmt.Fprintf(w, "widths\t%d, experts %d\n", c.Dim, c.Inner)
		fmt.Fprintf(w, "vocabulary\t%d\n", c.Vocab)
		fmt.Fprintf(w, "heads\t%d of %d, on %d of keys and values\n", c.Heads, c.HeadDim, c.KVHeads)
		fmt.Fprintf(w, "window\t%d, in every second layer\n", c.Window)
		fmt.Fprintf(w, "experts\t%d, %d a token\n", c.Experts, c.ExpertsPerToken)
		fmt.Fprintf(w, "rope\ttheta %g, factor %g of %d, alpha %g, beta %g\n", c.Theta, c.Factor, c.Context, c.Alpha, c.Beta)
		fmt.Fprintf(w, "rmsnorm\teps %g\n", c.Eps)
		fmt.Fprintf(w, "swiglu\tlimit %g\n", c.Limit)
	}
	for _, k := range slices.Sorted(maps.Keys(r.Metadata)) {
		fmt.Fprintf(w, "metadata\t%q: %q\n", k, r.Metadata[k])
	}
	for _, f := range r.Files {
		fmt.Fprintf(w, "file\t%s, %s\n", quote.Plain(f.Name), decimalBytes(f.Bytes))
	}
	for _, k := range slices.Sorted(maps.Keys(r.Types)) {
		fmt.Fprintf(w, "%s\t%d tensors, %s\n", k, r.Types[k].Tensors, decimalBytes(r.Types[k].Bytes))
	}
	fmt.Fprintf(w, "all\t%d tensors, %s\n", len(r.Tensors), decimalBytes(r.Bytes))
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	fmt.Fprintf(w, "TENSOR\tDTYPE\tSHAPE\tBYTES\tFILE\tOFFSET\n")
	for i, t := range r.Tensors {
		// The tabwriter keeps what it has not aligned yet.
		if i%10000 == 9999 {
			if err := w.Flush(); err != nil {
				return err
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%d\n", quote.Name(t.Name), t.Type, strings.ReplaceAll(fmt.Sprint(t.Shape), " ", ", "), t.Bytes, quote.Plain(t.File), t.Offset)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return buffered.Flush()
}

// decimalBytes formats a size in units of 1000.
func decimalBytes(n int64) string {
	v, unit := float64(n), "B"
	for _, next := range []string{"kB", "MB", "GB"} {
		if v < 1000 {
			break
		}
		v, unit = v/1000, next
	}
	return fmt.Sprintf("%.4g %s", v, unit)
}
