package convert

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"ossify/checkpoint"
	"ossify/gptoss"
	"ossify/graph"
)

// A form is how a target's bytes follow from the parameter.
type form uint8

const (
	mxfp4     form = iota // blocks, or scales
	values                // rows in bfloat16
	exchanged             // each expert's rows as columns, in bfloat16
	sliced                // of the rows, what a rank has, in bfloat16
)

// A target is a tensor that is written.
type target struct {
	gptoss.Part
	form form

	// What a rank has, if it is sliced: of every group of per rows those from lo
	// to hi, and of these the columns from left to right.
	per, lo, hi, left, right int
}

// targets lists the tensors of the checkpoint that is asked for.
func (s *source) targets(opt Options) ([]target, error) {
	if opt.Ranks != 0 {
		return s.slices(opt)
	}
	parts, err := gptoss.Parts(s.graph, s.config, opt.Layout)
	if err != nil {
		return nil, err
	}
	var list []target
	for _, p := range parts {
		t := target{Part: p, form: values}
		if p.Param.Storage == graph.MXFP4 {
			t.form = mxfp4
			if opt.KeepBF16 && p.Scales {
				continue
			}
			if opt.KeepBF16 {
				t.Entry, t.form = decodedEntry(p, opt.Layout), values
				if opt.Layout == gptoss.HuggingFace {
					t.form = exchanged
				}
			}
		}
		list = append(list, t)
	}
	return list, nil
}

// slices lists the parameters that gpt_oss.torch has on one of several ranks
// (gpt_oss/torch/model.py, Transformer.from_checkpoint): of the experts a run of
// their inner width, everything else whole.
func (s *source) slices(opt Options) ([]target, error) {
	inner := s.config.Inner
	switch {
	case opt.Layout != gptoss.Original:
		return nil, errors.New("convert: slices in the hf layout, want the original: they are those of gpt_oss.torch")
	case opt.Ranks < 1 || inner%opt.Ranks != 0:
		return nil, fmt.Errorf("convert: %d ranks, want a number that divides intermediate_size, %d", opt.Ranks, inner)
	case opt.Rank < 0 || opt.Rank >= opt.Ranks:
		return nil, fmt.Errorf("convert: rank %d, want 0 to %d", opt.Rank, opt.Ranks-1)
	}
	parts, err := gptoss.Parts(s.graph, s.config, gptoss.Original)
	if err != nil {
		return nil, err
	}
	n := inner / opt.Ranks
	var list []target
	for _, p := range parts {
		if p.Scales {
			continue
		}
		t := target{Part: p, form: values}
		if p.Param.Storage == graph.MXFP4 {
			t.Entry = decodedEntry(p, gptoss.Original)
		}
		shape := slices.Clone(t.Shape)
		last := len(shape) - 1
		local := p.Param.Name[strings.LastIndexByte(p.Param.Name, '.')+1:]
		switch local {
		case "mlp1_weight": // rows, gate and linear in pairs
			t.form, t.per, t.lo, t.hi, t.right = sliced, shape[1], 2*n*opt.Rank, 2*n*(opt.Rank+1), shape[2]
			shape[1] = 2 * n
		case "mlp1_bias":
			t.form, t.per, t.hi, t.left, t.right = sliced, 1, 1, 2*n*opt.Rank, 2*n*(opt.Rank+1)
			shape[last] = 2 * n
		case "mlp2_weight": // columns; its bias is added once, after the sum over ranks
			t.form, t.per, t.hi, t.left, t.right = sliced, 1, 1, n*opt.Rank, n*(opt.Rank+1)
			shape[last] = n
		}
		t.Shape = shape
		list = append(list, t)
	}
	return list, nil
}

// A slicer lets through what a rank has of whole rows.
type slicer struct {
	w   io.Writer
	t   target
	row []byte // of cap bytes; what came of the next row
	at  int    // the next row
}

func (s *slicer) Write(p []byte) (int, error) {
	return pieces(&s.row, p, func() (err error) {
		if in := s.at % s.t.per; in >= s.t.lo && in < s.t.hi {
			_, err = s.w.Write(s.row[2*s.t.left : 2*s.t.right])
		}
		s.at++
		return err
	})
}

// smallFiles returns what stands beside the tensors.
func (s *source) smallFiles(opt Options) (map[string][]byte, error) {
	files, err := gptoss.SmallFiles(s.graph, s.config, opt.Layout)
	if err != nil || !opt.KeepBF16 && opt.Ranks == 0 {
		return files, err
	}
	if opt.Layout == gptoss.HuggingFace {
		files[configFile], err = withoutQuantization(files[configFile])
		return files, err
	}
	// A form in which experts are BF16 under their own names.
	types := files["dtypes.json"]
	for _, p := range s.graph.Params {
		if p.Storage == graph.MXFP4 {
			pair := fmt.Sprintf("%q: \"FP4\", %q: \"UE8\"", p.Name+".blocks", p.Name+".scales")
			if !bytes.Contains(types, []byte(pair)) {
				return nil, fmt.Errorf("convert: dtypes.json does not name %s", p.Name)
			}
			types = bytes.Replace(types, []byte(pair), fmt.Appendf(nil, "%q: %q", p.Name, checkpoint.BF16), 1)
		}
	}
	files["dtypes.json"] = types
	return files, nil
}

// withoutQuantization removes quantization_config from a config.json as gptoss
// writes it, indented by two.
func withoutQuantization(config []byte) ([]byte, error) {
	before, rest, ok := bytes.Cut(config, []byte("\n  \"quantization_config\": {"))
	_, after, closed := bytes.Cut(rest, []byte("\n  },"))
	if !ok || !closed {
		return nil, errors.New("convert: config.json: no quantization_config among other keys")
	}
	return slices.Concat(before, after), nil
}
