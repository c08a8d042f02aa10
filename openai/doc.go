// Package openai answers requests of OpenAI's API: chat completions, responses
// and completions, and what belongs to them.
//
// A request is proved at the door and becomes one internal job: a prompt of
// harmony, options of package generate. What the model writes is read by
// harmony's Recovery, so that nothing malformed is an error and no text is lost,
// and becomes segments: reasoning, text, calls. Each API has its own form of
// them, whole or as events.
//
// It knows no HTTP: package server does, and a batch of requests needs none.
package openai
