// Package server serves a model over HTTP as OpenAI does: chat completions,
// responses, completions, with streams; models, tokens, health and metrics.
//
// Package openai proves requests and makes answers; this one is what HTTP needs:
// keys, limits, time-outs, logs without prompts, an orderly end. A request that
// fails in any way gets a status and a JSON error of OpenAI's form, and harms no
// other.
package server
