package pack

import (
	"bytes"
	"encoding/json"
	"fmt"

	"ossify/gptoss"
	"ossify/tokenizer"
)

// jsonOf returns v as it stands in a file. v holds nothing that JSON lacks.
func jsonOf(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		panic(fmt.Sprintf("pack: %v", err))
	}
	return b.Bytes()
}

// modelConfig returns config.json as transformers has it, but for how weights
// are quantised: in the model they are as its graph says.
func modelConfig(c *gptoss.Config, p Program, dataFiles int) ([]byte, error) {
	data, err := c.Marshal(gptoss.HuggingFace)
	if err != nil {
		return nil, err
	}
	config := map[string]any{}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&config); err != nil {
		return nil, fmt.Errorf("pack: config.json: %w", err)
	}
	delete(config, "quantization_config")
	if p == TransformersJS {
		config["transformers.js_config"] = map[string]any{"dtype": "fp32", "use_external_data_format": map[string]int{"model.onnx": dataFiles}}
	}
	return jsonOf(config), nil
}

// generationConfig returns generation_config.json: sampling as the official
// checkpoints ask for it, ends of an answer.
func generationConfig(c *gptoss.Config) map[string]any {
	config := map[string]any{"do_sample": true}
	if c.Vocab == tokenizer.VocabSize {
		config["bos_token_id"], config["pad_token_id"], config["eos_token_id"] = tokenizer.StartOfText, tokenizer.EndOfText, stops()
	}
	return config
}

// genaiConfig returns genai_config.json. Caches of the model grow: they are not
// a buffer that input and output share.
func genaiConfig(c *gptoss.Config, library string) map[string]any {
	type object = map[string]any
	session := object{"log_id": "onnxruntime-genai", "provider_options": []object{}}
	if library != "" {
		session["custom_ops_library"] = library
	}
	positions := int(float64(c.Context) * c.Factor)
	bos, pad, eos := tokenizer.StartOfText, tokenizer.EndOfText, stops()
	if c.Vocab != tokenizer.VocabSize { // genai wants ids, and the last is none that matters
		bos, pad, eos = 0, 0, []uint32{uint32(c.Vocab) - 1}
	}
	return object{
		"model": object{
			"type": "gptoss", "vocab_size": c.Vocab, "context_length": positions,
			"bos_token_id": bos, "pad_token_id": pad, "eos_token_id": eos,
			"decoder": object{
				"session_options": session,
				"filename":        "model.onnx",
				"head_size":       c.HeadDim, "hidden_size": c.Dim,
				"num_attention_heads": c.Heads, "num_key_value_heads": c.KVHeads, "num_hidden_layers": c.Layers,
				"inputs": object{
					"input_ids": "input_ids", "attention_mask": "attention_mask",
					"past_key_names": "past_key_values.%d.key", "past_value_names": "past_key_values.%d.value",
				},
				"outputs": object{"logits": "logits", "present_key_names": "present.%d.key", "present_value_names": "present.%d.value"},
			},
		},
		"search": object{
			"do_sample": true, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0, "num_beams": 1, "num_return_sequences": 1,
			"min_length": 0, "max_length": positions, "length_penalty": 1.0, "no_repeat_ngram_size": 0, "early_stopping": true, "diversity_penalty": 0.0,
			"past_present_share_buffer": false,
		},
	}
}
