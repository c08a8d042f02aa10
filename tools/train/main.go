// Train makes what the small model learns from, and examines what it learnt.
//
//	go run ./tools/train data -seed 1 -n 100000 -o FILE
//	go run ./tools/train pairs -o FILE
//	go run ./tools/train unpack -o DIR MODEL
//	go run ./tools/train exam -seed 2 -n 2000 DIR
//	go run ./tools/train stats -seed 2 -n 50 DIR
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"os"

	"ossify/gptoss"
	"ossify/harmony"
	"ossify/internal/fileset"
	"ossify/tokenizer"
	"ossify/trained"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "train:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("want data, pairs, unpack, exam or stats")
	}
	f := flag.NewFlagSet(args[0], flag.ExitOnError)
	seed := f.Uint64("seed", 1, "of the conversations")
	n := f.Int("n", 1000, "conversations")
	switch args[0] {
	case "data":
		out := f.String("o", "", "file to write")
		early := f.Int("early", 8000, "conversations of which exercises are the most")
		text := f.Bool("text", false, "print text instead")
		f.Parse(args[1:])
		if *text {
			return show(*seed, *n, *early)
		}
		if *out == "" {
			return fmt.Errorf("want -o FILE")
		}
		return data(ctx, *out, *seed, *n, *early)
	case "pairs":
		out := f.String("o", "", "file to write")
		f.Parse(args[1:])
		if *out == "" {
			return fmt.Errorf("want -o FILE")
		}
		return pairs(ctx, *out)
	case "unpack":
		out := f.String("o", "", "folder to write")
		f.Parse(args[1:])
		if f.NArg() != 1 || *out == "" {
			return fmt.Errorf("want -o DIR and a file that train.py wrote")
		}
		return unpack(ctx, f.Arg(0), *out)
	case "exam":
		precision := f.String("precision", "bf16", "bf16 or f32")
		workers := f.Int("threads", 0, "processors to use; 0 takes all")
		wrong := f.Int("show", 5, "mistakes to print of each kind")
		f.Parse(args[1:])
		if f.NArg() != 1 {
			return fmt.Errorf("want a checkpoint's folder")
		}
		return exam(ctx, f.Arg(0), *precision, *seed, *n, *wrong, *workers)
	case "stats":
		f.Parse(args[1:])
		if f.NArg() != 1 {
			return fmt.Errorf("want a checkpoint's folder")
		}
		return stats(ctx, f.Arg(0), *seed, *n)
	}
	return fmt.Errorf("%q, want data, pairs, unpack, exam or stats", args[0])
}

// items calls each with the ids of n conversations of a course, and with how
// many of them are the prompt.
func items(seed uint64, n, early int, each func(kind kind, ids []uint32, prompt int) error) error {
	src, e := newSource(seed, false), harmony.New(tokenizer.New())
	for i := range n {
		w := course
		if i < early {
			w = exercises
		}
		it := src.next(w)
		prompt, ids, err := render(e, it)
		if err != nil {
			return err
		}
		if err := each(it.kind, ids, len(prompt)); err != nil {
			return err
		}
	}
	return nil
}

// render returns an item's prompt, as generate has it, and the whole.
func render(e *harmony.Encoding, it item) (prompt, whole []uint32, err error) {
	if prompt, err = e.RenderForCompletion(harmony.Conversation{Messages: it.Prompt}, harmony.Assistant, harmony.DropNone); err != nil {
		return nil, nil, err
	}
	all := append(append([]harmony.Message{}, it.Prompt...), it.Want...)
	whole, err = e.RenderForTraining(harmony.Conversation{Messages: all}, harmony.DropNone)
	return prompt, whole, err
}

// data writes a course: for each conversation its kind, the number of ids, how
// many of them are the prompt, and the ids, all as 32-bit numbers.
func data(ctx context.Context, path string, seed uint64, n, early int) error {
	set := fileset.New(ctx, fileset.Options{})
	defer set.Abort()
	file, err := set.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(file)
	err = items(seed, n, early, func(kind kind, ids []uint32, prompt int) error {
		b := binary.LittleEndian.AppendUint32(nil, uint32(kind))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(ids)))
		b = binary.LittleEndian.AppendUint32(b, uint32(prompt))
		for _, id := range ids {
			b = binary.LittleEndian.AppendUint32(b, id)
		}
		_, err := w.Write(b)
		return err
	})
	if err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return set.Commit()
}

// pairs writes the ids of all words that are one token with a space before them
// and without, two and two, as 32-bit numbers.
func pairs(ctx context.Context, path string) error {
	var b []byte
	for _, p := range newLexicon(tokenizer.New()).pairs {
		b = binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(b, p[0]), p[1])
	}
	set := fileset.New(ctx, fileset.Options{})
	defer set.Abort()
	if err := set.WriteFile(path, b); err != nil {
		return err
	}
	return set.Commit()
}

// unpack writes a model as a checkpoint with the whole vocabulary.
func unpack(ctx context.Context, path, dir string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	m, err := trained.Parse(path, data)
	if err != nil {
		return err
	}
	return m.Write(ctx, dir, gptoss.Original, nil)
}

func show(seed uint64, n, early int) error {
	t := tokenizer.New()
	return items(seed, n, early, func(kind kind, ids []uint32, prompt int) error {
		a, err := t.DecodeReplacing(ids[:prompt])
		if err != nil {
			return err
		}
		b, err := t.DecodeReplacing(ids[prompt:])
		fmt.Printf("[%v %d+%d] %s ==> %s\n\n", kind, prompt, len(ids)-prompt, a, b)
		return err
	})
}
