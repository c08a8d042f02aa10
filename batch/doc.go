// Package batch answers files of requests, in the form of OpenAI's batches: JSONL
// whose lines have custom_id, method, url and body. It knows neither a model nor
// HTTP; a function answers a request.
//
// [Index] reads the input once, proves each line and sorts the lines by length
// into shards: a [Plan], which depends on the input alone. A [Runner] computes
// shards, in any order and on any number of machines that see the folder of the
// answers. Of a shard under way, each finished line is in a part file at once; a
// finished shard is a file of answers, and one of errors if there are any, which
// appear whole. So a run that was killed at any moment goes on where it was, and
// every line is answered once. [Plan.Check] counts.
//
// A line that is wrong becomes a line of the errors, and stops no other.
package batch
