// Package pack exports a checkpoint as a folder that other programs load:
// onnxruntime-genai, transformers.js, optimum, Triton. Everything they read beside the
// model is written from the configuration and from our own vocabulary.
package pack

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"ossify/checkpoint"
	"ossify/gptoss"
	"ossify/onnx"
	"ossify/tokenizer"
)

// A Program is one that loads folders.
type Program string

// The programs. None wants nothing but the model.
const (
	None           Program = ""
	GenAI          Program = "genai"
	TransformersJS Program = "transformersjs"
	Optimum        Program = "optimum"
	Triton         Program = "triton"
)

// Programs lists the programs.
func Programs() []Program { return []Program{GenAI, TransformersJS, Optimum, Triton} }

// ParseProgram reads the name of a program, "" for None.
func ParseProgram(s string) (Program, error) {
	if s == "" || slices.Contains(Programs(), Program(s)) {
		return Program(s), nil
	}
	return None, fmt.Errorf("pack: program %q, want genai, transformersjs, optimum or triton", s)
}

// A Package is what is exported for a program.
type Package struct {
	Program Program
	Library string // path of an operator library that the program is to load; genai and triton only
}

// DefaultWeights names the [onnx.Options.Weights] that suit the program: builds
// of ONNX Runtime for browsers have no bfloat16.
func (p Program) DefaultWeights() string {
	if p == TransformersJS {
		return "f32"
	}
	return "bf16"
}

// TransformersJSShard is the shard size for transformers.js, bytes: browsers
// read a file into one buffer, which is of less than 2 GiB.
const TransformersJSShard = 2_000_000_000

// Export writes the model of the checkpoint in folder from, which is open as
// ck, into dir, with what p's program loads besides. Titles, Name, Metadata and Files of
// opt are set here.
func Export(ctx context.Context, ck *gptoss.Checkpoint, from string, p Package, opt onnx.Options, dir string) (*onnx.Result, error) {
	config, err := checkpoint.ReadFile(from, "config.json", 1<<20)
	if err != nil {
		return nil, err
	}
	real, err := filepath.Abs(from)
	if err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	opt.Name = filepath.Base(real)
	opt.Metadata = map[string]string{"ossify.source": opt.Name, "ossify.source.config": string(config)}
	// The class names of gpt_oss/torch/model.py; what is there a function has a
	// name that no operator has.
	opt.Titles = map[string]string{"block": "TransformerBlock", "attn": "AttentionBlock", "mlp": "MLPBlock", "swiglu": "ClampedSwiGLU"}
	opt.Inputs = append(opt.Inputs, filepath.Join(from, "config.json"))
	if p.Library != "" {
		switch {
		case p.Program == Triton: // which runs elsewhere, and takes the path as it stands
			if !path.IsAbs(p.Library) || strings.ContainsFunc(p.Library, unicode.IsControl) || !utf8.ValidString(p.Library) {
				return nil, fmt.Errorf("pack: operator library %q, want an absolute path where Triton runs", p.Library)
			}
		case p.Program != GenAI:
			return nil, fmt.Errorf("pack: an operator library for program %q, want genai or triton: others are given it in their own code", p.Program)
		default:
			if p.Library, err = library(p.Library); err != nil {
				return nil, err
			}
		}
	}
	if p.Program == Triton {
		if opt.InPlace {
			return nil, fmt.Errorf("pack: triton wants the model in the folder 1, and in place it is beside the checkpoint: want a folder of its own")
		}
		opt.Folder = "1" // the model's version
	}
	if p.Program == TransformersJS {
		if opt.InPlace {
			return nil, fmt.Errorf("pack: transformers.js wants the model in the folder onnx, and in place it is beside the checkpoint: want a folder of its own")
		}
		opt.Folder = "onnx"
		if opt.ShardSize == 0 {
			opt.ShardSize = TransformersJSShard
		}
	}
	if p.Program != None {
		opt.Files = files(ck.Config, p)
	}
	return onnx.Export(ctx, ck.Graph, ck.Weights, opt, dir)
}

// library returns the absolute path of a file.
func library(file string) (string, error) {
	info, err := os.Stat(file)
	if err != nil {
		return "", fmt.Errorf("pack: %w", err)
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("pack: %q: not a regular file, want an operator library", file)
	}
	if file, err = filepath.Abs(file); err != nil {
		return "", fmt.Errorf("pack: %w", err)
	}
	return file, nil
}

// files returns what p's program loads beside the model.
func files(c *gptoss.Config, p Package) []onnx.File {
	if p.Program == Triton {
		return []onnx.File{{Name: "config.pbtxt", Make: func(m onnx.Made) ([]byte, error) { return tritonConfig(m, p.Library) }}}
	}
	made := func(name string, of func() (any, error)) onnx.File {
		return onnx.File{Name: name, Make: func(onnx.Made) ([]byte, error) {
			v, err := of()
			if err != nil {
				return nil, err
			}
			return jsonOf(v), nil
		}}
	}
	all := []onnx.File{
		{Name: "config.json", Make: func(m onnx.Made) ([]byte, error) { return modelConfig(c, p.Program, len(m.Data)) }},
		made("generation_config.json", func() (any, error) { return generationConfig(c), nil }),
	}
	if p.Program == GenAI {
		all = append(all, made("genai_config.json", func() (any, error) { return genaiConfig(c, p.Library), nil }))
	}
	if c.Vocab != tokenizer.VocabSize {
		return all // of a model for tests, whose ids are no text
	}
	t := tokenizer.New(tokenizer.WithEndOfPrompt())
	return append(all,
		onnx.File{Name: "tokenizer.json", Make: func(onnx.Made) ([]byte, error) { return tokenizerJSON(t), nil }},
		made("tokenizer_config.json", func() (any, error) {
			template, err := chatTemplate(t)
			return tokenizerConfig(t, template), err
		}),
		made("special_tokens_map.json", func() (any, error) { return specialTokens(t), nil }),
		onnx.File{Name: "chat_template.jinja", Make: func(onnx.Made) ([]byte, error) {
			template, err := chatTemplate(t)
			return []byte(template), err
		}})
}
