// Package serde reads and writes conversations as JSON, the wire form of
// openai-harmony 0.0.8: what the reference accepts is accepted, what it
// refuses is refused with its own words, which are serde_json's and serde's,
// at the same line and column. What it writes has the same bytes.
//
// Package harmony needs none of this: it turns messages into ids and back.
package serde
