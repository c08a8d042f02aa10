// Command scripted serves a model that writes what the last message tells it, so
// that clients are tested without one:
//
//	say TEXT           thinks, then answers TEXT
//	call NAME JSON     thinks, then calls a function
//	raw TEXT           writes TEXT, in which special tokens are spelled
//	look QUERY         searches, if the request has web_search
//	endless            goes on until its client goes
//
// To what a function returned it answers "The tool says: ...". With -cases it
// calls what a line of that file wants for its input. It prints its address. With
// -page it serves the page at /, too, with -batches files and batches.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"time"

	"ossify/generate"
	"ossify/generate/script"
	"ossify/harmony"
	"ossify/openai"
	"ossify/server"
	"ossify/server/page"
	"ossify/tokenizer"
)

func main() {
	key := flag.String("key", "", "API key; none lets everybody in")
	said := flag.String("page", "", "JSON of what the page says of verification; none serves no page")
	batches := flag.String("batches", "", "folder for files and batches; none keeps none")
	cases := flag.String("cases", "", "file of lines of JSON with tool_name, input and expected_arguments, as those of openai/gpt-oss's compatibility-test")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *key, *said, *batches, *cases); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, key, said, batches, cases string) error {
	t := tokenizer.New()
	calls, err := readCases(cases)
	if err != nil {
		return err
	}
	o := server.Options{Service: func(done func(openai.Record)) *openai.Service {
		return openai.New(openai.Options{
			Generator: model{t, calls}, Encoding: harmony.New(t), Models: []string{"gpt-oss"}, Context: 131072,
			Store: openai.NewStore(1000, 64<<20), Done: done, Tools: openai.Tools{Browser: func() openai.RunnerSession { return echo{} }},
		})
	}, Grace: time.Second}
	if said != "" {
		about := page.About{Models: []string{"gpt-oss"}, Precision: "bf16", Context: 131072, KeyNeeded: key != "", Tools: []page.Tool{{Type: "web_search", Title: "browser: search and read pages"}}}
		if err := json.Unmarshal([]byte(said), &about.Verification); err != nil {
			return err
		}
		var err error
		if o.Page, err = page.New(about); err != nil {
			return err
		}
	}
	if batches != "" {
		o.Batches = &server.Batches{Dir: batches}
	}
	if key != "" {
		o.Keys = []string{key}
	}
	s, err := server.New(o)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("http://%s\n", l.Addr())
	return s.Serve(ctx, l)
}

// echo is a browser that finds what it is asked for, unless that is "nothing".
type echo struct{}

func (echo) Call(_ context.Context, tool string, arguments []byte) (string, bool, error) {
	if strings.Contains(string(arguments), "nothing") {
		return "There is nothing.", true, nil
	}
	return "<b>Found</b> by " + tool + ": " + string(arguments), false, nil
}

func (echo) Close() {}

// A call is what a case wants.
type call struct {
	Name      string `json:"tool_name"`
	Input     string `json:"input"`
	Arguments string `json:"expected_arguments"`
}

// readCases returns the calls of a file by what a user says; none if there is no
// file.
func readCases(name string) (map[string]call, error) {
	if name == "" {
		return nil, nil
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	all := map[string]call{}
	for line := range strings.Lines(string(data)) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		var c call
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all[c.Input] = c
	}
	return all, nil
}

type model struct {
	t     *tokenizer.Tokenizer
	cases map[string]call
}

func (m model) Generate(ctx context.Context, r generate.Request, emit func(generate.Token) error) (generate.Result, error) {
	prompt, err := m.t.DecodeReplacing(r.Prompt)
	if err != nil {
		return generate.Result{}, err
	}
	messages := strings.Split(prompt, "<|start|>")
	last := messages[max(0, len(messages)-2)]
	header, text, _ := strings.Cut(last, "<|message|>")
	text = strings.TrimSuffix(strings.TrimSuffix(text, "<|end|>"), "<|call|>")
	const thinks = "<|channel|>analysis<|message|>I do as I am told.<|end|><|start|>assistant"
	verb, rest, _ := strings.Cut(text, " ")
	out := thinks + "<|channel|>final<|message|>" + text + "<|return|>"
	if c, ok := m.cases[text]; ok && strings.HasPrefix(header, "user") {
		verb, rest = "call", c.Name+" "+c.Arguments
	}
	switch {
	case strings.HasPrefix(header, "functions."):
		out = thinks + "<|channel|>final<|message|>The tool says: " + text + "<|return|>"
	case strings.HasPrefix(header, "browser."):
		out = thinks + "<|channel|>final<|message|>The browser says: " + text + "<|return|>"
	case verb == "look":
		out = thinks + "<|channel|>analysis to=browser.search code<|message|>{\"query\":\"" + rest + "\"}<|call|>"
	case verb == "say":
		out = thinks + "<|channel|>final<|message|>" + rest + "<|return|>"
	case verb == "call":
		name, args, _ := strings.Cut(rest, " ")
		out = thinks + "<|channel|>commentary to=functions." + name + " <|constrain|>json<|message|>" + args + "<|call|>"
	case verb == "raw":
		out = rest
	case verb == "endless":
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return generate.Result{}, context.Cause(ctx)
			case <-time.After(time.Millisecond):
			}
			ids := m.t.Encode(nil, "<|channel|>final<|message|>", tokenizer.AllSpecials())
			if n > 0 {
				ids = m.t.EncodeOrdinary(nil, " more")
			}
			for _, id := range ids {
				if err := emit(generate.Token{ID: id}); err != nil {
					return generate.Result{}, err
				}
			}
		}
	}
	g := script.Generator(func(context.Context, generate.Request) ([]uint32, error) {
		return m.t.Encode(nil, out, tokenizer.AllSpecials()), nil
	})
	return g.Generate(ctx, r, emit)
}
