package main

import (
	"os"

	"ossify/harmony"
	"ossify/harmony/serde"
	"ossify/tokenizer"
)

// promptTokens returns the ids of a prompt that ends with the start of the
// assistant's answer: of a text, as one message of the user after the default
// system message, or of a conversation in a JSON file, rendered as
// openai-harmony does by default. One of the two is given.
func promptTokens(prompt, conversationFile string) ([]uint32, error) {
	if (prompt == "") == (conversationFile == "") {
		return nil, usage("give one of --prompt and --conversation")
	}
	e := harmony.New(tokenizer.New())
	if conversationFile == "" {
		return e.RenderUserPrompt(prompt), nil
	}
	text, err := os.ReadFile(conversationFile)
	if err != nil {
		return nil, err
	}
	c, err := serde.ParseConversation(text)
	if err != nil {
		return nil, inFile(conversationFile, err)
	}
	ids, err := e.RenderForCompletion(c, harmony.Assistant, harmony.DropAuto)
	if err != nil {
		return nil, inFile(conversationFile, err)
	}
	return ids, nil
}
