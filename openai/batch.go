package openai

import (
	"ossify/harmony"
)

// A BatchRequest is the body of a request for a batch.
type BatchRequest struct {
	Input    string // the id of a file
	Endpoint string // what its lines ask
	Metadata map[string]string
}

// ParseBatch proves the body of a request for a batch, whose lines may ask some
// endpoints.
func ParseBatch(body []byte, endpoints []string) (*BatchRequest, *Error) {
	v, e := parseObject(body)
	if e != nil {
		return nil, e
	}
	var q BatchRequest
	var window string
	r := &reader{}
	r.members(v, "", true, map[string]set{
		"input_file_id":     r.text(&q.Input),
		"endpoint":          r.choice(&q.Endpoint, endpoints...),
		"completion_window": r.choice(&window, "24h"),
		"metadata":          r.metadata(&q.Metadata),
		"output_expires_after": func(_ harmony.Value, path string) {
			r.fail(unsupported(path, "This is not supported: files stay until they are deleted."))
		},
	})
	for _, m := range []struct{ name, value string }{{"input_file_id", q.Input}, {"endpoint", q.Endpoint}, {"completion_window", window}} {
		if m.value == "" {
			e := Invalid(m.name, "There is no %s.", m.name)
			e.Code = "missing_required_parameter"
			r.fail(e)
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	return &q, nil
}
