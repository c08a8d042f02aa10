package openai

// guided gives the job what its answer must be.
func (j *job) guided(c *conversation, choice toolChoice) *Error {
	switch {
	case c.format.isJSON():
		return unsupported("response_format", "This is not supported.")
	case choice.mode == "required", choice.mode == "function":
		return unsupported("tool_choice", "This is not supported.")
	}
	return nil
}
