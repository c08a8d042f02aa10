package cli

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"ossify/internal/quote"
	"ossify/onnx"
)

// printModel prints what is in an ONNX model.
func printModel(out io.Writer, s *onnx.Summary) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "producer\t%s\n", quote.Name(s.Producer))
	fmt.Fprintf(w, "IR version\t%d\n", s.IR)
	for _, d := range slices.Sorted(maps.Keys(s.Opsets)) {
		name := d
		if name == "" {
			name = "ai.onnx"
		}
		fmt.Fprintf(w, "opset\t%s %d\n", quote.Name(name), s.Opsets[d])
	}
	for _, k := range slices.Sorted(maps.Keys(s.Metadata)) {
		fmt.Fprintf(w, "metadata\t%q: %q\n", k, s.Metadata[k])
	}
	for _, p := range s.Inputs {
		fmt.Fprintf(w, "input\t%s %s%s\n", quote.Name(p.Name), p.Type, quote.Plain("["+strings.Join(p.Shape, ", ")+"]"))
	}
	for _, p := range s.Outputs {
		fmt.Fprintf(w, "output\t%s %s%s\n", quote.Name(p.Name), p.Type, quote.Plain("["+strings.Join(p.Shape, ", ")+"]"))
	}
	files := map[string]int64{}
	var total int64
	for _, in := range s.Initializers {
		files[in.File] += in.Bytes
		total += in.Bytes
	}
	for _, f := range slices.Sorted(maps.Keys(files)) {
		place := "in " + quote.Name(f)
		if f == "" {
			place = "in the model itself"
		}
		fmt.Fprintf(w, "constants\t%s %s\n", decimalBytes(files[f]), place)
	}
	fmt.Fprintf(w, "all\t%d constants, %s; %d nodes in the main graph\n", len(s.Initializers), decimalBytes(total), s.Nodes)
	if err := w.Flush(); err != nil {
		return err
	}

	if len(s.Functions) > 0 {
		fmt.Fprintf(w, "\nFUNCTION\tNODES\tCALLS\tINPUTS\n")
		for _, f := range s.Functions {
			fmt.Fprintf(w, "%s\t%d\t%d\t%s\n", quote.Name(f.Name), f.Nodes, f.Calls, quote.Plain(strings.Join(f.Inputs, ", ")))
		}
	}
	fmt.Fprintf(w, "\nOPERATOR\tCOUNT\n")
	for _, op := range slices.Sorted(maps.Keys(s.Operators)) {
		fmt.Fprintf(w, "%s\t%d\n", quote.Name(op), s.Operators[op])
	}
	fmt.Fprintf(w, "\nCONSTANT\tTYPE\tSHAPE\tBYTES\tFILE\tOFFSET\n")
	for _, in := range s.Initializers {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%d\n", quote.Name(in.Name), in.Type, strings.ReplaceAll(fmt.Sprint(in.Shape), " ", ", "), in.Bytes, quote.Name(in.File), in.Offset)
	}
	return w.Flush()
}
