// Command packcheck writes packages of a small model into a folder, and beside
// them expected.json: what the programs they are for have to answer. check.py
// and check.mjs ask them.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"ossify/engine"
	"ossify/gptoss"
	"ossify/harmony"
	"ossify/onnx"
	"ossify/onnx/pack"
	"ossify/synth"
	"ossify/tokenizer"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	preset := flag.String("preset", "tiny", "model, of the full vocabulary")
	programs := flag.String("for", "genai transformersjs optimum triton", "programs whose packages to write")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: packcheck [-preset NAME] [-for 'NAME ...'] DIR")
		os.Exit(2)
	}
	if err := run(ctx, *preset, strings.Fields(*programs), flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "packcheck:", err)
		os.Exit(1)
	}
}

// Answers are greedy, of so many tokens.
const answer = 64

type expected struct {
	Prompts [][]uint32 `json:"prompts"`
	Answers [][]uint32 `json:"answers"`
	Chats   []chat     `json:"chats"`
	Texts   []text     `json:"texts"`
}

type chat struct {
	Messages []map[string]string `json:"messages"`
	Effort   string              `json:"reasoning_effort"`
	Date     string              `json:"current_date"`
	IDs      []uint32            `json:"ids"`
}

type text struct {
	Text string   `json:"text"`
	IDs  []uint32 `json:"ids"`
}

func run(ctx context.Context, preset string, programs []string, dir string) error {
	var wanted []pack.Program
	for _, name := range programs {
		p, err := pack.ParseProgram(name)
		if err != nil {
			return err
		}
		if !slices.Contains(wanted, p) {
			wanted = append(wanted, p)
		}
	}
	from := filepath.Join(dir, "checkpoint")
	config, err := gptoss.Preset(preset)
	if err != nil {
		return err
	}
	config.Vocab = tokenizer.VocabSize
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := synth.Write(ctx, from, config, gptoss.HuggingFace, 31337, nil); err != nil {
		return err
	}
	ck, err := gptoss.OpenCheckpoint(from)
	if err != nil {
		return err
	}
	defer ck.Close()
	for _, p := range wanted {
		weights, err := onnx.ParseWeights(p.DefaultWeights())
		if err != nil {
			return err
		}
		if _, err := pack.Export(ctx, ck, from, pack.Package{Program: p}, onnx.Options{Weights: weights, LastOnly: p == pack.GenAI}, filepath.Join(dir, string(p))); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}

	t := tokenizer.New(tokenizer.WithEndOfPrompt())
	e := expected{}
	for _, s := range []string{"Hello, world!", " 3.14159 = π\n\n\tdéjà vu's ", "<|start|>system", "你好，世界 🏳️‍🌈", "   \r\n x"} {
		e.Texts = append(e.Texts, text{s, t.Encode(nil, s, tokenizer.AllSpecials())})
	}
	if e.Chats, err = chats(t); err != nil {
		return err
	}
	model, err := ck.Engine(ctx, engine.Options{Precision: engine.F32})
	if err != nil {
		return err
	}
	for _, s := range []string{"The quick brown fox jumps over the lazy dog, and then", "Once", "One two three four"} {
		prompt := t.EncodeOrdinary(nil, s)
		session, next := model.NewSession(), prompt
		var ids []uint32
		for range answer {
			logits, err := session.Next(ctx, next)
			if err != nil {
				return err
			}
			best := 0
			for i, v := range logits {
				if v > logits[best] {
					best = i
				}
			}
			if slices.Contains([]uint32{tokenizer.Return, tokenizer.Call, tokenizer.EndOfText}, uint32(best)) {
				return fmt.Errorf("the answer to %q ends early: want another prompt", s)
			}
			next = []uint32{uint32(best)}
			ids = append(ids, next...)
		}
		e.Prompts, e.Answers = append(e.Prompts, prompt), append(e.Answers, ids)
	}
	data, err := json.MarshalIndent(e, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "expected.json"), append(data, '\n'), 0o666)
}

// chats are conversations with the ids that package harmony renders for them.
func chats(t *tokenizer.Tokenizer) ([]chat, error) {
	list := []chat{
		{Messages: []map[string]string{{"role": "user", "content": "What is 2 + 2?"}}},
		{Effort: "high", Date: "2025-06-28", Messages: []map[string]string{
			{"role": "system", "content": "Answer in \"French\".\nAlways."}, {"role": "user", "content": "Hi"},
			{"role": "assistant", "content": "Salut \\ !"}, {"role": "user", "content": " und jetzt? "},
		}},
		{Effort: "low", Messages: []map[string]string{{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "<b>&amp;</b>\n"}}},
	}
	efforts := map[string]harmony.ReasoningEffort{"low": harmony.Low, "": harmony.Medium, "high": harmony.High}
	for i, c := range list {
		system := harmony.NewSystemContent().WithReasoningEffort(efforts[c.Effort])
		if c.Date != "" {
			system = system.WithConversationStartDate(c.Date)
		}
		conversation := harmony.Conversation{Messages: []harmony.Message{harmony.NewMessage(harmony.System, system)}}
		for _, m := range c.Messages {
			var message harmony.Message
			switch m["role"] {
			case "user":
				message = harmony.NewMessage(harmony.User, harmony.Text(m["content"]))
			case "assistant":
				message = harmony.NewMessage(harmony.Assistant, harmony.Text(m["content"])).WithChannel(harmony.Final)
			default:
				message = harmony.NewMessage(harmony.Developer, harmony.DeveloperContent{}.WithInstructions(m["content"]))
			}
			conversation.Messages = append(conversation.Messages, message)
		}
		ids, err := harmony.New(t).RenderForCompletion(conversation, harmony.Assistant, harmony.DropAuto)
		if err != nil {
			return nil, err
		}
		list[i].IDs = ids
	}
	return list, nil
}
