package cli

import (
	"github.com/spf13/cobra"

	"ossify/harmony"
	"ossify/harmony/serde"
	"ossify/tokenizer"
)

// promptTokens returns the ids of a prompt that ends with the start of the
// assistant's answer: of a text, as one message of the user after the default
// system message, or of a conversation in a JSON file, rendered as
// openai-harmony does by default. One of the two is given.
func promptTokens(c *cobra.Command, prompt, conversationFile string) ([]uint32, error) {
	if (prompt == "") == (conversationFile == "") {
		return nil, usage("give one of --prompt and --conversation")
	}
	e := harmony.New(tokenizer.New())
	if conversationFile == "" {
		return e.RenderUserPrompt(prompt), nil
	}
	conversation, err := parseInput(c, conversationFile, serde.ParseConversation)
	if err != nil {
		return nil, err
	}
	ids, err := e.RenderForCompletion(conversation, harmony.Assistant, harmony.DropAuto)
	if err != nil {
		return nil, inFile(inputName(conversationFile), err)
	}
	return ids, nil
}
