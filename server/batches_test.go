package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ossify/batch/store"
	"ossify/server"
)

// form is a body of multipart/form-data: names and values in turns, of which file
// has a name of its own.
func form(fields ...string) (body, media string) {
	var b strings.Builder
	for i := 0; i+1 < len(fields); i += 2 {
		disposition := fmt.Sprintf("form-data; name=%q", fields[i])
		if fields[i] == "file" {
			disposition += `; filename="in.jsonl"`
		}
		fmt.Fprintf(&b, "--B\r\nContent-Disposition: %s\r\n\r\n%s\r\n", disposition, fields[i+1])
	}
	b.WriteString("--B--\r\n")
	return b.String(), "multipart/form-data; boundary=B"
}

func withBatches(t *testing.T) (*server.Server, string) {
	t.Helper()
	o := options(writes(greeting))
	o.Batches = &server.Batches{Dir: t.TempDir(), File: 100_000}
	s, url := start(t, o)
	t.Cleanup(func() { s.Close() })
	return s, url
}

func TestBatches(t *testing.T) {
	_, url := withBatches(t)
	line := `{"custom_id":"%s","method":"POST","url":"/v1/chat/completions","body":%s}` + "\n"
	good := `{"model":"m","messages":[{"role":"user","content":"Hi"}],"seed":1}`
	text := fmt.Sprintf(line, "a", good) + fmt.Sprintf(line, "b", `{"model":"none"}`) + "wrong\n" + fmt.Sprintf(line, "a", good)
	into := func(v any, method, path, body string, header ...string) {
		t.Helper()
		r, answer := ask(t, method, url+path, body, header...)
		if err := json.Unmarshal(answer, v); err != nil || r.StatusCode != 200 {
			t.Fatalf("%s %s: %d %s %v", method, path, r.StatusCode, answer, err)
		}
	}
	var f store.File
	body, media := form("purpose", "batch", "file", text)
	into(&f, "POST", "/v1/files", body, "Content-Type", media)
	if f.Name != "in.jsonl" || f.Bytes != int64(len(text)) || f.Purpose != "batch" {
		t.Errorf("%+v", f)
	}
	var second store.File
	body, media = form("file", text, "purpose", "batch") // in the other order
	into(&second, "POST", "/v1/files", body, "Content-Type", media)
	var b store.Batch
	into(&b, "POST", "/v1/batches", `{"input_file_id":"`+f.ID+`","endpoint":"/v1/chat/completions","completion_window":"24h","metadata":{"k":"v"}}`)
	for !b.Ended() {
		time.Sleep(10 * time.Millisecond)
		into(&b, "GET", "/v1/batches/"+b.ID, "")
	}
	if b.Status != store.Completed || b.Counts != (store.Counts{Total: 4, Completed: 1, Failed: 3}) || b.Output == nil || b.ErrorFile == nil {
		t.Fatalf("%+v", b)
	}
	_, served := ask(t, "POST", url+"/v1/chat/completions", good)
	_, output := ask(t, "GET", url+"/v1/files/"+*b.Output+"/content", "")
	var l struct {
		Response struct{ Body json.RawMessage }
	}
	if err := json.Unmarshal(output, &l); err != nil || !bytes.Equal(normal(l.Response.Body), normal(served)) {
		t.Errorf("batch %s\nserve %s", output, served)
	}
	_, failed := ask(t, "GET", url+"/v1/files/"+*b.ErrorFile+"/content", "")
	for _, want := range []string{`"status_code":404`, `"code":"invalid_json_line"`, `"code":"duplicate_custom_id"`} {
		if !strings.Contains(string(failed), want) || bytes.Count(failed, []byte("\n")) != 3 {
			t.Errorf("errors %s, want %s", failed, want)
		}
	}
	var page struct {
		Object string
		Data   []store.File
		More   bool   `json:"has_more"`
		Last   string `json:"last_id"`
	}
	into(&page, "GET", "/v1/files?limit=3", "")
	first := page
	into(&page, "GET", "/v1/files?limit=3&after="+first.Last, "")
	if first.Object != "list" || len(first.Data) != 3 || !first.More || len(page.Data) != 1 || page.More {
		t.Errorf("%+v, then %+v", first, page)
	}
	into(&page, "GET", "/v1/files?purpose=batch_output&order=asc", "")
	if len(page.Data) != 2 {
		t.Errorf("%+v", page)
	}
	var gone struct{ Deleted bool }
	if into(&gone, "DELETE", "/v1/files/"+f.ID, ""); !gone.Deleted {
		t.Error("not deleted")
	}
	into(&page, "GET", "/v1/batches", "")
}

// normal leaves out what may differ.
func normal(answer []byte) []byte {
	var v map[string]any
	json.Unmarshal(answer, &v)
	delete(v, "id")
	delete(v, "created")
	delete(v, "usage")
	text, _ := json.Marshal(v)
	return text
}

func TestBatchesRefuse(t *testing.T) {
	_, url := withBatches(t)
	part := func(fields ...string) [2]string { b, m := form(fields...); return [2]string{b, m} }
	const jsonType = "application/json"
	for _, c := range []struct {
		name, method, path string
		body               [2]string
		status             int
		says               string
	}{
		{"no form", "POST", "/v1/files", [2]string{"{}", jsonType}, 415, "multipart"},
		{"no boundary", "POST", "/v1/files", [2]string{"", "multipart/form-data"}, 415, "multipart"},
		{"an empty form", "POST", "/v1/files", part(), 400, "no file"},
		{"no purpose", "POST", "/v1/files", part("file", "x"), 400, "purpose"},
		{"another purpose", "POST", "/v1/files", part("purpose", "fine-tune", "file", "x"), 400, "batches alone"},
		{"another purpose behind", "POST", "/v1/files", part("file", "x", "purpose", "vision"), 400, "batches alone"},
		{"two files", "POST", "/v1/files", part("purpose", "batch", "file", "x", "file", "y"), 400, "two files"},
		{"two purposes", "POST", "/v1/files", part("purpose", "batch", "purpose", "batch", "file", "y"), 400, "twice"},
		{"expires_after", "POST", "/v1/files", part("purpose", "batch", "expires_after[seconds]", "3600", "file", "y"), 400, "not supported"},
		{"cut off", "POST", "/v1/files", [2]string{part("purpose", "batch", "file", "x")[0][:80], "multipart/form-data; boundary=B"}, 400, "ends early"},
		{"cut off within the file", "POST", "/v1/files", [2]string{strings.TrimSuffix(part("purpose", "batch", "file", "xyz")[0], "\r\n--B--\r\n"), "multipart/form-data; boundary=B"}, 400, "ends early"},
		{"too large", "POST", "/v1/files", part("purpose", "batch", "file", strings.Repeat("x", 100_001)), 413, "too large"},
		{"far too large", "POST", "/v1/files", part("purpose", "batch", "file", strings.Repeat("x", 3_000_000)), 413, "too large"},
		{"no such file", "GET", "/v1/files/file-1", [2]string{}, 404, "id"},
		{"a path for an id", "GET", "/v1/files/..%2f..%2fetc%2fpasswd/content", [2]string{}, 404, "id"},
		{"no such content", "GET", "/v1/files/file-1/content", [2]string{}, 404, "id"},
		{"nothing to delete", "DELETE", "/v1/files/file-1", [2]string{}, 404, "id"},
		{"no such batch", "GET", "/v1/batches/batch_1", [2]string{}, 404, "id"},
		{"nothing to cancel", "POST", "/v1/batches/batch_1/cancel", [2]string{}, 404, "id"},
		{"a batch of nothing", "POST", "/v1/batches", [2]string{"{}", jsonType}, 400, "input_file_id"},
		{"of no file", "POST", "/v1/batches", [2]string{`{"input_file_id":"x","endpoint":"/v1/responses","completion_window":"24h"}`, jsonType}, 404, "file"},
		{"of embeddings", "POST", "/v1/batches", [2]string{`{"input_file_id":"x","endpoint":"/v1/embeddings","completion_window":"24h"}`, jsonType}, 400, "want one of"},
		{"of another window", "POST", "/v1/batches", [2]string{`{"input_file_id":"x","endpoint":"/v1/responses","completion_window":"1h"}`, jsonType}, 400, "want one of"},
		{"an unknown member", "POST", "/v1/batches", [2]string{`{"input_file_id":"x","endpoint":"/v1/responses","completion_window":"24h","priority":1}`, jsonType}, 400, "Unknown"},
		{"no limit", "GET", "/v1/batches?limit=0", [2]string{}, 400, "1 to 100"},
		{"no order", "GET", "/v1/files?order=up", [2]string{}, 400, "asc"},
		{"after nothing", "GET", "/v1/files?after=x", [2]string{}, 400, "id"},
		{"another method", "PUT", "/v1/files", [2]string{}, 405, "takes"},
	} {
		r, body := ask(t, c.method, url+c.path, c.body[0], "Content-Type", c.body[1])
		if r.StatusCode != c.status || !isError(body) || !strings.Contains(string(body), c.says) {
			t.Errorf("%s: %d %s, want %d, %q", c.name, r.StatusCode, body, c.status, c.says)
		}
	}
	_, off := start(t, options(writes(greeting)))
	if r, body := ask(t, http.MethodPost, off+"/v1/batches", "{}"); r.StatusCode != 404 || !isError(body) {
		t.Errorf("without a folder: %d %s", r.StatusCode, body)
	}
}

// What a key made is not there for another: it gets what it would get of an id
// that does not exist. Without keys all is everybody's.
func TestOwners(t *testing.T) {
	const mine, other = "key-one-0123456789", "key-two-0123456789"
	dir := t.TempDir()
	serve := func(keys ...string) (*server.Server, string) {
		o := options(writes(greeting))
		o.Keys = keys
		o.Batches = &server.Batches{Dir: dir, File: 100_000}
		return start(t, o)
	}
	s, url := serve(mine, other)
	as := func(key, method, path, body string, header ...string) (int, string) {
		t.Helper()
		r, answer := ask(t, method, url+path, body, append(header, "Authorization", "Bearer "+key)...)
		return r.StatusCode, string(answer)
	}
	must := func(v any, key, method, path, body string, header ...string) {
		t.Helper()
		status, answer := as(key, method, path, body, header...)
		if err := json.Unmarshal([]byte(answer), v); err != nil || status != 200 {
			t.Fatalf("%s %s: %d %s", method, path, status, answer)
		}
	}
	type made struct{ ID string }
	var response, later made
	must(&response, mine, "POST", "/v1/responses", `{"model":"m","input":[{"type":"message","id":"msg_mine","role":"user","content":"a secret"}]}`)
	must(&later, mine, "POST", "/v1/responses", `{"model":"m","input":"x","background":true}`)

	// A batch, of which one line goes on from the response.
	line := `{"custom_id":"%s","method":"POST","url":"/v1/responses","body":{"model":"m","input":"x","previous_response_id":"%s"}}` + "\n"
	run := func(key string) (f made, b store.Batch) {
		t.Helper()
		body, media := form("purpose", "batch", "file", fmt.Sprintf(line, "a", response.ID))
		must(&f, key, "POST", "/v1/files", body, "Content-Type", media)
		must(&b, key, "POST", "/v1/batches", `{"input_file_id":"`+f.ID+`","endpoint":"/v1/responses","completion_window":"24h"}`)
		for !b.Ended() {
			time.Sleep(10 * time.Millisecond)
			must(&b, key, "GET", "/v1/batches/"+b.ID, "")
		}
		return f, b
	}
	f, b := run(mine)
	if b.Counts != (store.Counts{Total: 1, Completed: 1}) || b.Output == nil {
		t.Fatalf("%+v", b)
	}
	if _, theirs := run(other); theirs.Counts != (store.Counts{Total: 1, Failed: 1}) {
		t.Errorf("another key's batch goes on from the response: %+v", theirs)
	}
	_, output := as(mine, "GET", "/v1/files/"+*b.Output+"/content", "")
	var answered struct{ Response struct{ Body made } }
	if err := json.Unmarshal([]byte(output), &answered); err != nil {
		t.Fatal(err)
	}
	checks := []struct{ method, path, body, id, none string }{
		{"GET", "/v1/files/%s", "", f.ID, "file-0"},
		{"GET", "/v1/files/%s/content", "", f.ID, "file-0"},
		{"GET", "/v1/files/%s/content", "", *b.Output, "file-0"},
		{"DELETE", "/v1/files/%s", "", f.ID, "file-0"},
		{"DELETE", "/v1/files/%s", "", *b.Output, "file-0"},
		{"GET", "/v1/files?after=%s", "", f.ID, "file-0"},
		{"POST", "/v1/batches", `{"input_file_id":"%s","endpoint":"/v1/responses","completion_window":"24h"}`, f.ID, "file-0"},
		{"GET", "/v1/batches/%s", "", b.ID, "batch_0"},
		{"POST", "/v1/batches/%s/cancel", "", b.ID, "batch_0"},
		{"GET", "/v1/batches?after=%s", "", b.ID, "batch_0"},
		{"GET", "/v1/responses/%s", "", response.ID, "resp_0"},
		{"GET", "/v1/responses/%s", "", answered.Response.Body.ID, "resp_0"},
		{"GET", "/v1/responses/%s/input_items", "", response.ID, "resp_0"},
		{"POST", "/v1/responses/%s/cancel", "", later.ID, "resp_0"},
		{"DELETE", "/v1/responses/%s", "", response.ID, "resp_0"},
		{"POST", "/v1/responses", `{"model":"m","input":"x","previous_response_id":"%s"}`, response.ID, "resp_0"},
		{"POST", "/v1/responses", `{"model":"m","input":[{"type":"item_reference","id":"%s"}]}`, "msg_mine", "msg_none"},
	}
	for _, c := range checks {
		do := func(key, id string) (int, string) {
			path, body := c.path, c.body
			if strings.Contains(path, "%s") {
				path = fmt.Sprintf(path, id)
			} else {
				body = fmt.Sprintf(body, id)
			}
			status, answer := as(key, c.method, path, body)
			return status, strings.ReplaceAll(answer, id, "ID")
		}
		status, answer := do(other, c.id)
		want, same := do(other, c.none)
		if status != want || answer != same || status/100 != 4 {
			t.Errorf("%s %s: another key gets %d %s, of an id that does not exist %d %s", c.method, c.path, status, answer, want, same)
		}
	}
	for _, path := range []string{"/v1/files", "/v1/batches"} {
		if status, list := as(other, "GET", path, ""); status != 200 || strings.Contains(list, f.ID) || strings.Contains(list, b.ID) || !strings.Contains(list, `"id"`) {
			t.Errorf("%s lists %s", path, list)
		}
	}
	// All of it is there for its own key: nothing was deleted above.
	for _, c := range checks {
		path, body := strings.ReplaceAll(c.path, "%s", c.id), strings.ReplaceAll(c.body, "%s", c.id)
		if status, answer := as(mine, c.method, path, body); status != 200 && c.method != "DELETE" && !strings.HasSuffix(path, "/cancel") {
			t.Errorf("%s %s: its own key gets %d %s", c.method, path, status, answer)
		}
		if c.method == "DELETE" && strings.HasPrefix(path, "/v1/files") {
			break // the rest is of the file
		}
	}
	// On disk there is no key.
	s.Close()
	for _, name := range tree(t, dir) {
		text, err := os.ReadFile(name)
		if err != nil || bytes.Contains(text, []byte(mine)) || bytes.Contains(text, []byte(other)) {
			t.Errorf("%s holds a key, %v", name, err)
		}
	}
	// Keys in another order are the same keys; without keys all is everybody's.
	s, url = serve(other, mine)
	if status, _ := as(mine, "GET", "/v1/batches/"+b.ID, ""); status != 200 {
		t.Errorf("after the keys changed places the batch is %d for its own", status)
	}
	if status, _ := as(other, "GET", "/v1/batches/"+b.ID, ""); status != 404 {
		t.Errorf("after the keys changed places the batch is %d for another", status)
	}
	s.Close()
	_, url = serve()
	if status, _ := as("", "GET", "/v1/batches/"+b.ID, ""); status != 200 {
		t.Errorf("without keys the batch is %d", status)
	}
	if _, list := as("", "GET", "/v1/batches", ""); strings.Count(list, `"object":"batch"`) != 2 {
		t.Errorf("without keys the list is %s", list)
	}
}

// tree returns the files below a folder.
func tree(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			names = append(names, path)
		}
		return err
	})
	if err != nil || len(names) < 5 {
		t.Fatalf("%q, %v", names, err)
	}
	return names
}
