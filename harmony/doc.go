// Package harmony is the conversation format of gpt-oss: messages to ids and
// back, as openai-harmony 0.0.8 does it.
//
// [Encoding] renders conversations; [Parser] reads what a model sampled. Both
// are exact: the same ids, messages, visible states and error texts as the
// reference, its quirks included. The reference's parser raises errors on
// headers that models do write, and loses text; a server wants [Recovery],
// which never fails and keeps every byte.
//
// The JSON form of conversations is package serde's.
//
// Where the reference takes only UTF-8, text that is not becomes U+FFFD, one
// for every maximal ill-formed subpart.
package harmony
