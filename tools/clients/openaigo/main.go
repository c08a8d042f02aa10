// Command openaigo asks the scripted server at its first argument, with the key
// that is its second, through github.com/openai/openai-go. It is a module of its
// own: ossify needs no client.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/param"
	"github.com/openai/openai-go/v3/packages/ssestream"
	"github.com/openai/openai-go/v3/responses"
	"github.com/openai/openai-go/v3/shared"
)

const model = "gpt-oss"

var done int

func check(what string, good bool, seen any) {
	if !good {
		b, _ := json.Marshal(seen)
		fmt.Fprintf(os.Stderr, "%s: %v %s\n", what, seen, b)
		os.Exit(1)
	}
	done++
}

func must[T any](v T, err error) T {
	if err != nil {
		var e *openai.Error
		if errors.As(err, &e) {
			err = fmt.Errorf("%w: %s", err, e.RawJSON())
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return v
}

// fails demands an error of a status, and returns it.
func fails(what string, status int, err error) *openai.Error {
	var e *openai.Error
	check(what, errors.As(err, &e) && e.StatusCode == status && e.Message != "" && e.Type != "", err)
	return e
}

// cancelled ends a stream by its context, after some of it came.
func cancelled[T any](stream *ssestream.Stream[T], end context.CancelFunc) {
	for n := 0; stream.Next(); n++ {
		if n == 8 {
			end()
		}
	}
	end()
	check("cancelled stream", errors.Is(stream.Err(), context.Canceled), stream.Err())
}

var parameters = map[string]any{"type": "object", "properties": map[string]any{"city": map[string]any{"type": "string"}}, "required": []string{"city"}, "additionalProperties": false}

func say(text string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{Model: model, Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(text)}}
}

func with(p openai.ChatCompletionNewParams, change func(*openai.ChatCompletionNewParams)) openai.ChatCompletionNewParams {
	change(&p)
	return p
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "want URL and KEY")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	client := openai.NewClient(option.WithBaseURL(os.Args[1]+"/v1/"), option.WithAPIKey(os.Args[2]), option.WithMaxRetries(0))
	chat(ctx, client)
	response(ctx, client)
	files(ctx, client)
	fmt.Printf("Go: openai-go v3: %d checks\n", done)
}

func chat(ctx context.Context, client openai.Client) {
	c := &client.Chat.Completions
	seeded := with(say("say Four, Köln 😀."), func(p *openai.ChatCompletionNewParams) { p.Seed = openai.Int(1) })
	a := must(c.New(ctx, seeded))
	m := a.Choices[0].Message
	check("text", m.Content == "Four, Köln 😀." && a.Choices[0].FinishReason == "stop", a)
	var thoughts string
	json.Unmarshal([]byte(m.JSON.ExtraFields["reasoning"].Raw()), &thoughts)
	check("reasoning", thoughts == "I do as I am told.", m.RawJSON())
	check("usage", a.Usage.TotalTokens == a.Usage.PromptTokens+a.Usage.CompletionTokens && a.Usage.CompletionTokensDetails.ReasoningTokens > 5, a.Usage)
	again := must(c.New(ctx, seeded))
	check("the same seed", again.Choices[0].Message.Content == m.Content && again.Usage.CompletionTokens == a.Usage.CompletionTokens, again)

	stream := c.NewStreaming(ctx, with(seeded, func(p *openai.ChatCompletionNewParams) {
		p.StreamOptions = openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)}
	}))
	all := openai.ChatCompletionAccumulator{}
	for stream.Next() {
		all.AddChunk(stream.Current())
	}
	check("stream", stream.Err() == nil && all.Choices[0].Message.Content == m.Content && all.Choices[0].FinishReason == "stop", all)
	check("stream's usage", all.Usage.TotalTokens == a.Usage.TotalTokens, all.Usage)

	tools := []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{Name: "weather", Description: openai.String("Tells it."), Parameters: parameters, Strict: openai.Bool(true)})}
	call := with(say(`call weather {"city":"Ulm"}`), func(p *openai.ChatCompletionNewParams) { p.Tools = tools })
	a = must(c.New(ctx, call))
	calls := a.Choices[0].Message.ToolCalls
	check("call", len(calls) == 1 && calls[0].Function.Name == "weather" && calls[0].Function.Arguments == `{"city":"Ulm"}` && a.Choices[0].FinishReason == "tool_calls", a)
	a = must(c.New(ctx, with(call, func(p *openai.ChatCompletionNewParams) {
		p.Messages = append(p.Messages, a.Choices[0].Message.ToParam(), openai.ToolMessage("rain", calls[0].ID))
	})))
	check("after a call", a.Choices[0].Message.Content == "The tool says: rain", a)
	stream = c.NewStreaming(ctx, call)
	all = openai.ChatCompletionAccumulator{}
	finished := ""
	for stream.Next() {
		all.AddChunk(stream.Current())
		if f, ok := all.JustFinishedToolCall(); ok {
			finished = f.Arguments
		}
	}
	check("streamed call", stream.Err() == nil && all.Choices[0].Message.ToolCalls[0].Function.Arguments == `{"city":"Ulm"}` && finished == `{"city":"Ulm"}`, all)

	a = must(c.New(ctx, with(say(`say {"city":"Ulm"}`), func(p *openai.ChatCompletionNewParams) {
		p.ResponseFormat.OfJSONSchema = &shared.ResponseFormatJSONSchemaParam{JSONSchema: shared.ResponseFormatJSONSchemaJSONSchemaParam{Name: "place", Schema: parameters, Strict: openai.Bool(true)}}
	})))
	check("structured", a.Choices[0].Message.Content == `{"city":"Ulm"}`, a)
	a = must(c.New(ctx, with(say("say one two"), func(p *openai.ChatCompletionNewParams) {
		p.Logprobs, p.TopLogprobs = openai.Bool(true), openai.Int(2)
	})))
	var told []string
	for _, t := range a.Choices[0].Logprobs.Content {
		told = append(told, t.Token)
	}
	check("log probabilities", strings.Join(told, "|") == "one| two", a)
	a = must(c.New(ctx, with(say("say one two three"), func(p *openai.ChatCompletionNewParams) { p.Stop.OfStringArray = []string{" thr"} })))
	check("stop", a.Choices[0].Message.Content == "one two", a)
	a = must(c.New(ctx, with(say("say one two three"), func(p *openai.ChatCompletionNewParams) { p.MaxCompletionTokens = openai.Int(3) })))
	check("length", a.Choices[0].FinishReason == "length" && a.Usage.CompletionTokens == 3, a)
	a = must(c.New(ctx, with(say("say x"), func(p *openai.ChatCompletionNewParams) { p.N = openai.Int(3) })))
	check("n", len(a.Choices) == 3, a)

	_, err := c.New(ctx, with(say("x"), func(p *openai.ChatCompletionNewParams) { p.Temperature = openai.Float(9) }))
	check("its param", fails("bad value", 400, err).Param == "temperature", err)
	_, err = c.New(ctx, with(say("x"), func(p *openai.ChatCompletionNewParams) { p.Model = "gpt-9" }))
	check("its code", fails("no model", 404, err).Code == "model_not_found", err)
	_, err = client.Embeddings.New(ctx, openai.EmbeddingNewParams{Model: model, Input: openai.EmbeddingNewParamsInputUnion{OfString: openai.String("x")}})
	fails("no embeddings", 404, err)
	_, err = client.Models.List(ctx, option.WithAPIKey("wrong"))
	fails("bad key", 401, err)
	stream = c.NewStreaming(ctx, with(say("x"), func(p *openai.ChatCompletionNewParams) { p.TopP = openai.Float(2) }))
	check("no stream after an error", !stream.Next(), nil)
	fails("the error of a stream", 400, stream.Err())

	ending, end := context.WithCancel(ctx)
	cancelled(c.NewStreaming(ending, say("endless")), end)
	list := must(client.Models.List(ctx))
	check("models", len(list.Data) == 1 && list.Data[0].ID == model, list)
	check("model", must(client.Models.Get(ctx, model)).ID == model, nil)
	old := must(client.Completions.New(ctx, openai.CompletionNewParams{Model: model, Prompt: openai.CompletionNewParamsPromptUnion{OfString: openai.String("say x")}, MaxTokens: openai.Int(40)}))
	check("completions", old.Choices[0].Text != "", old)
}

func response(ctx context.Context, client openai.Client) {
	c := &client.Responses
	input := func(text string) responses.ResponseNewParams {
		return responses.ResponseNewParams{Model: model, Input: responses.ResponseNewParamsInputUnion{OfString: openai.String(text)}}
	}
	ask := func(p responses.ResponseNewParams, change func(*responses.ResponseNewParams)) *responses.Response {
		if change != nil {
			change(&p)
		}
		return must(c.New(ctx, p))
	}
	r := ask(input("say Four."), func(p *responses.ResponseNewParams) { p.Metadata = shared.Metadata{"a": "b"} })
	check("response", r.OutputText() == "Four." && r.Status == "completed" && r.Output[0].Type == "reasoning" && r.Metadata["a"] == "b", r)
	check("its usage", r.Usage.TotalTokens == r.Usage.InputTokens+r.Usage.OutputTokens && r.Usage.OutputTokensDetails.ReasoningTokens > 0, r.Usage)
	check("stored", must(c.Get(ctx, r.ID, responses.ResponseGetParams{})).OutputText() == "Four.", nil)
	items := must(c.InputItems.List(ctx, r.ID, responses.InputItemListParams{}))
	check("input items", len(items.Data) == 1, items)
	q := ask(input("say Five."), func(p *responses.ResponseNewParams) { p.PreviousResponseID = openai.String(r.ID) })
	check("previous", q.OutputText() == "Five.", q)
	if err := c.Delete(ctx, r.ID); err != nil {
		must(0, err)
	}
	_, err := c.Get(ctx, r.ID, responses.ResponseGetParams{})
	fails("deleted", 404, err)

	stream := c.NewStreaming(ctx, input("say Four."))
	var text, thoughts strings.Builder
	last, number := "", int64(-1)
	for stream.Next() {
		e := stream.Current()
		check("its number", e.SequenceNumber == number+1, e)
		number, last = e.SequenceNumber, e.Type
		switch e := e.AsAny().(type) {
		case responses.ResponseTextDeltaEvent:
			text.WriteString(e.Delta)
		case responses.ResponseReasoningTextDeltaEvent:
			thoughts.WriteString(e.Delta)
		}
	}
	check("events", stream.Err() == nil && text.String() == "Four." && thoughts.String() == "I do as I am told." && last == "response.completed", last)

	tools := []responses.ToolUnionParam{responses.ToolParamOfFunction("weather", parameters, true)}
	r = ask(input(`call weather {"city":"Ulm"}`), func(p *responses.ResponseNewParams) { p.Tools = tools })
	call := r.Output[len(r.Output)-1]
	check("function call", call.Type == "function_call" && call.Name == "weather" && call.AsFunctionCall().Arguments == `{"city":"Ulm"}`, r)
	result := responses.ResponseInputItemParamOfFunctionCallOutput("rain")
	result.OfFunctionCallOutput.CallID = param.NewOpt(call.AsFunctionCall().CallID)
	q = ask(responses.ResponseNewParams{Model: model, PreviousResponseID: openai.String(r.ID), Input: responses.ResponseNewParamsInputUnion{OfInputItemList: []responses.ResponseInputItemUnionParam{result}}}, nil)
	check("its output", q.OutputText() == "The tool says: rain", q)
	stream = c.NewStreaming(ctx, func() responses.ResponseNewParams {
		p := input(`call weather {"city":"Ulm"}`)
		p.Tools = tools
		return p
	}())
	arguments := ""
	for stream.Next() {
		if e, ok := stream.Current().AsAny().(responses.ResponseFunctionCallArgumentsDoneEvent); ok {
			arguments = e.Arguments
		}
	}
	check("streamed call", stream.Err() == nil && arguments == `{"city":"Ulm"}`, arguments)
	r = ask(input(`say {"city":"Ulm"}`), func(p *responses.ResponseNewParams) {
		p.Text.Format = responses.ResponseFormatTextConfigParamOfJSONSchema("place", parameters)
	})
	check("structured", r.OutputText() == `{"city":"Ulm"}`, r)
	r = ask(input("say one two"), func(p *responses.ResponseNewParams) { p.TopLogprobs = openai.Int(1) })
	check("log probabilities", len(r.Output[len(r.Output)-1].Content[0].AsOutputText().Logprobs) == 2, r)
	r = ask(input("say one two three"), func(p *responses.ResponseNewParams) { p.MaxOutputTokens = openai.Int(16) })
	check("incomplete or whole", r.Status == "completed" || r.IncompleteDetails.Reason == "max_output_tokens", r)
	r = ask(input("endless"), func(p *responses.ResponseNewParams) { p.Background = openai.Bool(true) })
	check("queued", r.Status == "queued", r)
	check("cancelled", must(c.Cancel(ctx, r.ID)).Status == "cancelled", nil)
	_, err = c.New(ctx, func() responses.ResponseNewParams {
		p := input("x")
		p.PreviousResponseID = openai.String("resp_none")
		return p
	}())
	fails("no previous one", 404, err)
	ending, end := context.WithCancel(ctx)
	cancelled(c.NewStreaming(ending, input("endless")), end)
}
