package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/openai/openai-go/v3"
)

// files drives a server's files and batches.
func files(ctx context.Context, c openai.Client) {
	line := func(id, url string, body any) string {
		return string(must(json.Marshal(map[string]any{"custom_id": id, "method": "POST", "url": url, "body": body}))) + "\n"
	}
	ask := func(text string) map[string]any {
		return map[string]any{"model": "gpt-oss", "messages": []any{map[string]any{"role": "user", "content": text}}}
	}
	upload := func(text string) *openai.FileObject {
		return must(c.Files.New(ctx, openai.FileNewParams{File: openai.File(bytes.NewReader([]byte(text)), "in.jsonl", "application/jsonl"), Purpose: openai.FilePurposeBatch}))
	}
	begin := func(file string) *openai.Batch {
		return must(c.Batches.New(ctx, openai.BatchNewParams{InputFileID: file, Endpoint: openai.BatchNewParamsEndpointV1ChatCompletions, CompletionWindow: openai.BatchNewParamsCompletionWindow24h, Metadata: map[string]string{"k": "v"}}))
	}
	end := func(b *openai.Batch) *openai.Batch {
		for b.Status == openai.BatchStatusValidating || b.Status == openai.BatchStatusInProgress || b.Status == openai.BatchStatusFinalizing || b.Status == openai.BatchStatusCancelling {
			time.Sleep(50 * time.Millisecond)
			b = must(c.Batches.Get(ctx, b.ID))
		}
		return b
	}
	content := func(file string) []byte {
		r := must(c.Files.Content(ctx, file))
		defer r.Body.Close()
		return must(io.ReadAll(r.Body))
	}

	f := upload(line("a", "/v1/chat/completions", ask("say Four.")) + line("b", "/v1/chat/completions", map[string]any{"model": "none"}) + "wrong\n")
	check("file", f.Purpose == "batch" && f.Filename == "in.jsonl" && f.Bytes > 0, f)
	check("its content", bytes.HasSuffix(content(f.ID), []byte("wrong\n")), f)
	b := end(begin(f.ID))
	check("batch", b.Status == openai.BatchStatusCompleted && b.RequestCounts.Total == 3 && b.RequestCounts.Completed == 1 && b.RequestCounts.Failed == 2 && b.Metadata["k"] == "v", b)
	var out struct {
		CustomID string `json:"custom_id"`
		Response struct {
			Status int                   `json:"status_code"`
			Body   openai.ChatCompletion `json:"body"`
		}
	}
	err := json.Unmarshal(content(b.OutputFileID), &out)
	check("output", err == nil && out.CustomID == "a" && out.Response.Status == 200 && out.Response.Body.Choices[0].Message.Content == "Four.", out)
	check("errors", bytes.Count(content(b.ErrorFileID), []byte("\n")) == 2, b)
	check("list", must(c.Batches.List(ctx, openai.BatchListParams{})).Data[0].ID == b.ID, nil)
	n := 0
	for pages := c.Files.ListAutoPaging(ctx, openai.FileListParams{Limit: openai.Int(1)}); pages.Next(); {
		n++
	}
	check("pages of files", n >= 3, n)
	check("deleted", must(c.Files.Delete(ctx, f.ID)).Deleted, nil)
	var e *openai.Error
	_, err = c.Files.Get(ctx, f.ID)
	check("gone", errors.As(err, &e) && e.StatusCode == 404, err)

	f = upload(line("c", "/v1/chat/completions", ask("endless")) + line("d", "/v1/chat/completions", ask("say x")))
	b = begin(f.ID)
	for b.RequestCounts.Completed == 0 {
		time.Sleep(20 * time.Millisecond)
		b = must(c.Batches.Get(ctx, b.ID))
	}
	check("cancelling", must(c.Batches.Cancel(ctx, b.ID)).Status == openai.BatchStatusCancelling, b)
	b = end(b)
	check("cancelled", b.Status == openai.BatchStatusCancelled && bytes.Contains(content(b.OutputFileID), []byte(`"custom_id":"d"`)) && bytes.Contains(content(b.ErrorFileID), []byte("batch_cancelled")), b)
}
