package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ossify/batch"
)

const url = "/v1/responses"

func requests(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"custom_id":"%d","method":"POST","url":%q,"body":{"n":%d}}`+"\n", i, url, i)
	}
	return b.String()
}

func open(t *testing.T, o Options) *Store {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	o.URLs = []string{url, "/v1/chat/completions"}
	if o.Answer == nil {
		o.Answer = func(_ context.Context, _, _ string, body []byte) (int, []byte) { return 200, body }
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func yes() error { return nil }

func upload(t *testing.T, s *Store, text string) File {
	t.Helper()
	f, err := s.Upload(t.Context(), "", "in.jsonl", strings.NewReader(text), yes)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// until waits for a batch's status.
func until(t *testing.T, s *Store, id string, want ...string) Batch {
	t.Helper()
	for range 6000 {
		b, err := s.Batch("", id)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if b.Status == w {
				return b
			}
		}
		if b.Ended() {
			t.Fatalf("%s, want %v: %+v", b.Status, want, b.Errors)
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("it does not end")
	return Batch{}
}

func lines(t *testing.T, s *Store, id *string) int {
	t.Helper()
	if id == nil {
		return 0
	}
	r, f, err := s.Content("", *id)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var b bytes.Buffer
	if n, _ := b.ReadFrom(r); n != f.Bytes || f.Purpose != "batch_output" {
		t.Errorf("%+v has %d bytes", f, n)
	}
	return bytes.Count(b.Bytes(), []byte("\n"))
}

func TestBatch(t *testing.T) {
	s := open(t, Options{})
	f := upload(t, s, requests(150)+"wrong\n"+strings.Replace(requests(1), url, "/v1/chat/completions", 1))
	b, err := s.Create("", f.ID, url, map[string]string{"a": "b"})
	if err != nil || b.Status != Validating {
		t.Fatalf("%+v, %v", b, err)
	}
	b = until(t, s, b.ID, Completed)
	if b.Counts != (Counts{152, 150, 2}) || lines(t, s, b.Output) != 150 || lines(t, s, b.ErrorFile) != 2 ||
		b.Started == nil || b.Finalizing == nil || b.Completed == nil || b.Failed != nil || b.Metadata["a"] != "b" {
		t.Errorf("%+v", b)
	}
	if _, err := s.Cancel("", b.ID); !errors.Is(err, ErrEnded) {
		t.Errorf("cancelled when it has ended: %v", err)
	}
	next, err := s.Create("", upload(t, s, requests(1)).ID, url, nil) // which begins when all of this one is done
	if err != nil {
		t.Fatal(err)
	}
	next = until(t, s, next.ID, Completed)
	if _, err := os.Stat(s.work(b.ID)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what it worked on is left: %v", err)
	}
	if list := s.Files("", "batch"); len(list) != 2 || len(s.Files("", "")) != 5 || s.Batches("")[0].ID != next.ID && s.Batches("")[1].ID != next.ID {
		t.Errorf("%v", list)
	}
	if err := errors.Join(s.Delete("", f.ID), s.Delete("", *b.Output)); err != nil {
		t.Error(err)
	}
	if err := s.Delete("", f.ID); !errors.Is(err, ErrNone) {
		t.Errorf("deleted twice: %v", err)
	}
	// A file without requests.
	b, err = s.Create("", upload(t, s, "\n\n").ID, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b = until(t, s, b.ID, Failed); b.Errors == nil || b.Errors.Data[0].Code != "invalid_input_file" {
		t.Errorf("%+v", b)
	}
	if _, err := s.Create("", f.ID, url, nil); !errors.Is(err, ErrNone) {
		t.Errorf("of a deleted file: %v", err)
	}
}

// A store that is closed within a batch goes on with it when it is opened again;
// what was answered is not asked again.
func TestReopened(t *testing.T) {
	dir := t.TempDir()
	var asked, half atomic.Int64
	began := make(chan struct{})
	o := Options{Dir: dir, Active: 3, Answer: func(ctx context.Context, _, _ string, body []byte) (int, []byte) {
		if n := asked.Add(1); n == 20 {
			close(began)
		} else if n > 20 && half.Load() == 0 {
			<-ctx.Done()
			return 499, nil
		}
		return 200, body
	}}
	s := open(t, o)
	b, err := s.Create("", upload(t, s, requests(100)).ID, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	<-began
	s.Close()
	before := asked.Load()
	half.Store(1)
	asked.Store(1000)
	s = open(t, o)
	b = until(t, s, b.ID, Completed)
	if b.Counts != (Counts{100, 100, 0}) || lines(t, s, b.Output) != 100 || b.ErrorFile != nil {
		t.Errorf("%+v", b)
	}
	if again := asked.Load() - 1000; before < 20 || again > 83 {
		t.Errorf("%d asked before, %d again", before, again)
	}
}

func TestCancelAndExpiry(t *testing.T) {
	for _, want := range []string{Cancelled, Expired} {
		var asked atomic.Int64
		began := make(chan struct{})
		o := Options{Answer: func(ctx context.Context, _, _ string, body []byte) (int, []byte) {
			if n := asked.Add(1); n == 30 {
				close(began)
			} else if n > 30 {
				<-ctx.Done()
				return 499, nil
			}
			return 200, body
		}}
		if want == Expired {
			o.Now = func() time.Time { return time.Now().Add(2*time.Second - window) }
		}
		s := open(t, o)
		f := upload(t, s, requests(100))
		b, err := s.Create("", f.ID, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if want == Cancelled {
			<-began
			if err := s.Delete("", f.ID); !errors.Is(err, ErrInUse) {
				t.Errorf("deleted while it is read: %v", err)
			}
			if b, err := s.Cancel("", b.ID); err != nil || b.Status != Cancelling {
				t.Errorf("%+v, %v", b, err)
			}
		}
		b = until(t, s, b.ID, want)
		if n := lines(t, s, b.Output); n != b.Counts.Completed || want == Cancelled && n < 20 || lines(t, s, b.ErrorFile) != 100-n || b.Counts.Total != 100 {
			t.Errorf("%s: %d lines, %+v", want, n, b.Counts)
		}
	}
	// One that waits behind another.
	s := open(t, Options{Answer: func(ctx context.Context, _, _ string, body []byte) (int, []byte) { <-ctx.Done(); return 499, nil }})
	f := upload(t, s, requests(3))
	first, _ := s.Create("", f.ID, url, nil)
	second, err := s.Create("", f.ID, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Cancel("", second.ID)
	s.Cancel("", first.ID)
	until(t, s, first.ID, Cancelled)
	if b := until(t, s, second.ID, Cancelled); b.Counts.Completed != 0 {
		t.Errorf("%+v", b)
	}
}

func TestLimits(t *testing.T) {
	s := open(t, Options{File: 1000, Bytes: 1500})
	if _, err := s.Upload(t.Context(), "", "x", strings.NewReader(strings.Repeat("x", 1001)), yes); !errors.Is(err, ErrLarge) {
		t.Errorf("too large: %v", err)
	}
	f := upload(t, s, strings.Repeat("x", 1000))
	if _, err := s.Upload(t.Context(), "", "x", strings.NewReader(strings.Repeat("x", 501)), yes); !errors.Is(err, ErrFull) {
		t.Errorf("no room: %v", err)
	}
	unwanted := errors.New("unwanted")
	if _, err := s.Upload(t.Context(), "", "x", strings.NewReader("x"), func() error { return unwanted }); !errors.Is(err, unwanted) {
		t.Errorf("unwanted: %v", err)
	}
	if err := s.Delete("", f.ID); err != nil {
		t.Fatal(err)
	}
	upload(t, s, strings.Repeat("x", 1000)) // there is room again
	if list, _ := filepath.Glob(filepath.Join(s.o.Dir, "files", "*")); len(list) != 2 {
		t.Errorf("left: %v", list)
	}
	// Failures of the answerer end the batch, not the store.
	told := make(chan error, 1)
	s = open(t, Options{Answer: func(context.Context, string, string, []byte) (int, []byte) { return 503, nil }, Failed: func(_ string, err error) { told <- err }})
	b, err := s.Create("", upload(t, s, requests(1)).ID, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b = until(t, s, b.ID, Failed); b.Errors.Data[0].Code != "server_error" || <-told == nil {
		t.Errorf("%+v", b.Errors)
	}
}

// A folder that somebody wrote into is refused or cleaned, never believed.
func TestFolder(t *testing.T) {
	for name, text := range map[string]string{"files/file-1.json": `{"id":"../../x"}`, "batches/batch_1.json": "{", "files/file-2.json": ""} {
		dir := t.TempDir()
		os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o777)
		os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666)
		_, err := Open(Options{Dir: dir, URLs: []string{url}, Answer: func(context.Context, string, string, []byte) (int, []byte) { return 0, nil }})
		if err == nil || !strings.Contains(err.Error(), filepath.Base(name)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := open(t, Options{})
	os.WriteFile(s.data("file-x"), nil, 0o666)
	s.Close()
	open(t, s.o)
	if _, err := os.Stat(s.data("file-x")); !errors.Is(err, os.ErrNotExist) {
		t.Error("a file that nobody was told of stays")
	}
}

func TestForm(t *testing.T) {
	text, err := json.Marshal(Batch{Errors: &Errors{"list", []*batch.LineError{{Code: "c", Message: "m"}}}})
	const want = `{"id":"","object":"","endpoint":"","errors":{"object":"list","data":[{"code":"c","message":"m"}]},"input_file_id":"","completion_window":"","status":"","output_file_id":null,"error_file_id":null,"created_at":0,"in_progress_at":null,"expires_at":0,"finalizing_at":null,"completed_at":null,"failed_at":null,"expired_at":null,"cancelling_at":null,"cancelled_at":null,"request_counts":{"total":0,"completed":0,"failed":0},"metadata":null}`
	if err != nil || string(text) != want {
		t.Errorf("%s, %v", text, err)
	}
}

// What belongs to an owner is not there for others, whatever is asked of it, in
// this store and the next; the owner "" sees all. What a batch writes belongs to
// whom its file does, and so do its requests.
func TestOwners(t *testing.T) {
	asked := make(chan string, 3)
	o := Options{Dir: t.TempDir(), Answer: func(_ context.Context, owner, _ string, body []byte) (int, []byte) {
		asked <- owner
		return 200, body
	}}
	s := open(t, o)
	f, err := s.Upload(t.Context(), "a", "in.jsonl", strings.NewReader(requests(3)), yes)
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{"b", "ab"} {
		if _, err := s.Create(other, f.ID, url, nil); !errors.Is(err, ErrNone) {
			t.Errorf("%s makes a batch of a's file: %v", other, err)
		}
	}
	b, err := s.Create("a", f.ID, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	b = until(t, s, b.ID, Completed)
	for range 3 {
		if owner := <-asked; owner != "a" {
			t.Errorf("a request of a's batch is asked for %q", owner)
		}
	}
	mine, err := s.Upload(t.Context(), "b", "in.jsonl", strings.NewReader(requests(1)), yes)
	if err != nil {
		t.Fatal(err)
	}
	open1, err := s.Upload(t.Context(), "", "in.jsonl", strings.NewReader(requests(1)), yes)
	if err != nil {
		t.Fatal(err)
	}
	check := func(s *Store) {
		t.Helper()
		for _, c := range []struct {
			owner          string
			files, batches int
		}{{"a", 2, 1}, {"b", 1, 0}, {"c", 0, 0}, {"", 4, 1}} {
			if n := len(s.Files(c.owner, "")); n != c.files {
				t.Errorf("%q sees %d files, want %d", c.owner, n, c.files)
			}
			if n := len(s.Batches(c.owner)); n != c.batches {
				t.Errorf("%q sees %d batches, want %d", c.owner, n, c.batches)
			}
		}
		for _, id := range []string{f.ID, *b.Output, open1.ID} {
			_, err1 := s.File("b", id)
			r, _, err2 := s.Content("b", id)
			if err3 := s.Delete("b", id); !errors.Is(err1, ErrNone) || !errors.Is(err2, ErrNone) || !errors.Is(err3, ErrNone) || r != nil {
				t.Errorf("b and %s: %v, %v, %v", id, err1, err2, err3)
			}
		}
		_, err1 := s.Batch("b", b.ID)
		if _, err2 := s.Cancel("b", b.ID); !errors.Is(err1, ErrNone) || !errors.Is(err2, ErrNone) {
			t.Errorf("b and a's batch: %v, %v", err1, err2)
		}
		_, err1 = s.File("a", *b.Output)
		if _, err2 := s.Batch("a", b.ID); err1 != nil || err2 != nil {
			t.Errorf("a and its own: %v, %v", err1, err2)
		}
	}
	check(s)
	s.Close()
	s = open(t, o)
	check(s)
	if err := errors.Join(s.Delete("a", f.ID), s.Delete("a", *b.Output), s.Delete("b", mine.ID), s.Delete("", open1.ID)); err != nil {
		t.Error(err)
	}
}

// A folder is for one store at a time: a second one says which folder it is, and
// changes nothing in it. When the first is closed there is room.
func TestFolderIsLocked(t *testing.T) {
	s := open(t, Options{})
	f := upload(t, s, requests(1))
	os.WriteFile(s.data("file-x"), nil, 0o666) // as while a file is being uploaded
	second := s.o
	second.Dir = filepath.Join(s.o.Dir, ".", "batches", "..")
	if _, err := Open(second); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), s.o.Dir) {
		t.Errorf("a second store: %v", err)
	}
	if _, err := os.Stat(s.data("file-x")); err != nil {
		t.Errorf("it removed what is being uploaded: %v", err)
	}
	s.Stop() // which does not give it free
	if _, err := Open(second); !errors.Is(err, ErrLocked) {
		t.Errorf("a second store beside one that ends: %v", err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	if _, err := open(t, second).File("", f.ID); err != nil {
		t.Error(err)
	}
}
