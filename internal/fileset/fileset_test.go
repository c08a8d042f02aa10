package fileset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// tree returns what is in a folder: names and contents.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, path)
		switch {
		case err != nil:
			return err
		case d.IsDir():
			got[name] = "/"
		case d.Type()&fs.ModeSymlink != 0:
			to, err := os.Readlink(path)
			got[name] = "-> " + to
			return err
		case d.Type().IsRegular():
			data, err := os.ReadFile(path)
			got[name] = string(data)
			return err
		default:
			got[name] = d.Type().String()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	delete(got, ".")
	return got
}

func want(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	if got := tree(t, dir); fmt.Sprint(got) != fmt.Sprint(files) {
		t.Errorf("got %q\nwant %q", got, files)
	}
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// add writes files into a set.
func add(t *testing.T, s *Set, dir string, names ...string) {
	t.Helper()
	for _, n := range names {
		if err := s.WriteFile(filepath.Join(dir, n), []byte("new "+n)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTogether(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"a": "old a", "stale": "old stale"})
	s := New(t.Context(), Options{Ours: Any})
	defer s.Abort()
	add(t, s, dir, "a", "b")
	if err := s.Remove(filepath.Join(dir, "stale")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "b")); err == nil {
		t.Error("b is there before Commit")
	}
	if a, _ := os.ReadFile(filepath.Join(dir, "a")); string(a) != "old a" {
		t.Errorf("a is %q before Commit", a)
	}
	if err := s.Commit(); err != nil {
		t.Fatal(err)
	}
	want(t, dir, map[string]string{"a": "new a", "b": "new b"})
	if err := s.Commit(); err == nil {
		t.Error("the second Commit succeeds")
	}
	if _, err := s.Create(filepath.Join(dir, "c")); err == nil {
		t.Error("Create after Commit succeeds")
	}
}

func TestWaitLock(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "lock")
	inside, most := 0, 0
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			held, err := WaitLock(t.Context(), path)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			inside++
			most = max(most, inside)
			mu.Unlock()
			time.Sleep(time.Millisecond)
			mu.Lock()
			inside--
			mu.Unlock()
			held.Close()
		})
	}
	wg.Wait()
	if most != 1 {
		t.Errorf("%d had the lock at once", most)
	}
	held, err := WaitLock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := errors.New("ended")
	cancel(ended)
	if _, err := WaitLock(ctx, path); !errors.Is(err, ended) {
		t.Errorf("a lock that another has, and an end: %v", err)
	}
	if _, err := WaitLock(t.Context(), filepath.Join(dir, "none", "lock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}

// Whatever fails, the folder is as before: at each renaming in turn, with what
// was there before and what was not.
func TestRestored(t *testing.T) {
	before := map[string]string{"a": "old a", "c": "old c", "stale": "old stale"}
	names := []string{"a", "b", "c", "d"}
	for at := range names {
		t.Run(names[at], func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, before)
			s := New(t.Context(), Options{Ours: Any})
			add(t, s, dir, names...)
			if err := s.Remove(filepath.Join(dir, "stale")); err != nil {
				t.Fatal(err)
			}
			n, broken := 0, errors.New("broken")
			s.rename = func(from, to string) error {
				if n++; n > at {
					return broken
				}
				return os.Rename(from, to)
			}
			if err := s.Commit(); !errors.Is(err, broken) {
				t.Errorf("got %v, want %v", err, broken)
			}
			want(t, dir, before)
		})
	}
	t.Run("a target that cannot be removed", func(t *testing.T) {
		dir := t.TempDir()
		write(t, dir, before)
		s := New(t.Context(), Options{Ours: Any})
		add(t, s, dir, "a", "b")
		if err := s.Remove(filepath.Join(dir, "stale")); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, "stale")); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(dir, "stale"), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(); err == nil {
			t.Error("no error")
		}
		want(t, dir, map[string]string{"a": "old a", "c": "old c", "stale": "/"})
	})
}

// Until Commit has begun, the end of ctx leaves nothing.
func TestCancelled(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancelCause(t.Context())
	s := New(ctx, Options{})
	if err := s.MkdirAll(filepath.Join(dir, "x/y")); err != nil {
		t.Fatal(err)
	}
	f, err := s.Create(filepath.Join(dir, "x/y/a"))
	if err != nil {
		t.Fatal(err)
	}
	hangup := errors.New("hangup")
	cancel(hangup)
	if _, err := f.Write([]byte("x")); err != hangup {
		t.Errorf("Write: got %v, want %v", err, hangup)
	}
	if err := f.Skip(1); err != hangup {
		t.Errorf("Skip: got %v, want %v", err, hangup)
	}
	if err := s.Commit(); err != hangup {
		t.Errorf("Commit: got %v, want %v", err, hangup)
	}
	want(t, dir, map[string]string{})
}

func TestFolders(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "there"), 0o777); err != nil {
		t.Fatal(err)
	}
	write(t, dir, map[string]string{"file": "f"})
	s := New(t.Context(), Options{})
	if err := s.MkdirAll(filepath.Join(dir, "file/x")); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("below a file: got %v", err)
	}
	if err := s.MkdirAll(filepath.Join(dir, "file")); err == nil || !strings.Contains(err.Error(), "want a folder") {
		t.Errorf("a file: got %v", err)
	}
	for _, name := range []string{"there/x/y", "there/x/z", "new"} {
		if err := s.MkdirAll(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, dir, map[string]string{"new/others": "o"})
	s.Abort()
	want(t, dir, map[string]string{"file": "f", "new": "/", "new/others": "o", "there": "/"})

	s = New(t.Context(), Options{})
	if err := s.MkdirAll(filepath.Join(dir, "kept")); err != nil {
		t.Fatal(err)
	}
	add(t, s, dir, "kept/a")
	if err := s.Commit(); err != nil {
		t.Fatal(err)
	}
	want(t, dir, map[string]string{"file": "f", "kept": "/", "kept/a": "new kept/a", "new": "/", "new/others": "o", "there": "/"})
}

// What is refused stays as it is, when the set begins and when it appears later.
func TestRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("needs links and FIFOs")
	}
	base := t.TempDir()
	input := filepath.Join(base, "input")
	write(t, base, map[string]string{"input": "weights"})
	tests := []struct {
		name     string
		make     func(path string) error
		force    bool   // only without it refused
		message  string // part of it
		existing bool   // an ExistsError
	}{
		{"another's file", func(p string) error { return os.WriteFile(p, []byte("x"), 0o666) }, true, "not one that this command wrote", true},
		{"link", func(p string) error { return os.Symlink(input+".other", p) }, true, "a symbolic link", false},
		{"link to an input", func(p string) error { return os.Symlink(input, p) }, true, "a symbolic link", false},
		{"input under another name", func(p string) error { return os.Link(input, p) }, false, "is read as", false},
		{"FIFO", func(p string) error { return exec.Command("mkfifo", p).Run() }, false, "a FIFO", false},
		{"folder", func(p string) error { return os.Mkdir(p, 0o777) }, false, "a folder", false},
	}
	for _, tt := range tests {
		for _, force := range []bool{false, true} {
			if force && tt.force {
				continue
			}
			t.Run(fmt.Sprintf("%s, force %v", tt.name, force), func(t *testing.T) {
				for _, late := range []bool{false, true} {
					dir := t.TempDir()
					path := filepath.Join(dir, "out")
					s := New(t.Context(), Options{Inputs: []string{filepath.Join(base, "none"), input}, Force: force})
					defer s.Abort()
					var err error
					if late {
						add(t, s, dir, "out")
					}
					if err := tt.make(path); err != nil {
						t.Fatal(err)
					}
					before := tree(t, dir)
					for name := range before {
						if name != "out" {
							delete(before, name) // the temporary file
						}
					}
					if late {
						err = s.Commit()
					} else {
						_, err = s.Create(path)
						if removal := s.Remove(path); removal == nil {
							t.Error("Remove takes it")
						}
					}
					if err == nil || !strings.Contains(err.Error(), tt.message) || !strings.Contains(err.Error(), path) {
						t.Errorf("late %v: got %v, want %s", late, err, tt.message)
					}
					if tt.existing != errors.Is(err, fs.ErrExist) {
						t.Errorf("late %v: %v: ErrExist %v, want %v", late, err, !tt.existing, tt.existing)
					}
					want(t, dir, before)
				}
			})
		}
		if tt.force {
			t.Run(tt.name+", replaced with force", func(t *testing.T) {
				dir := t.TempDir()
				if err := tt.make(filepath.Join(dir, "out")); err != nil {
					t.Fatal(err)
				}
				if err := WriteFile(t.Context(), filepath.Join(dir, "out"), []byte("y"), Options{Force: true, Inputs: []string{input}}); err != nil {
					t.Fatal(err)
				}
				want(t, dir, map[string]string{"out": "y"})
			})
		}
	}
	want(t, base, map[string]string{"input": "weights"})
	s := New(t.Context(), Options{Force: true})
	for _, path := range []string{base + "/", base + "/.", "..", ""} {
		if _, err := s.Create(path); err == nil {
			t.Errorf("Create %q succeeds", path)
		}
	}
	if _, err := s.Create("/dev/null"); err == nil || !strings.Contains(err.Error(), "a device") {
		t.Errorf("/dev/null: got %v", err)
	}
	if _, err := s.Create(filepath.Join(base, "no/folder")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: got %v", err)
	}
	add(t, s, base, "twice")
	if _, err := s.Create(base + "/./twice"); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("twice: got %v", err)
	}
	s.Abort()
	want(t, base, map[string]string{"input": "weights"})
}

func TestStdout(t *testing.T) {
	for _, name := range []string{"-", "/dev/stdout"} {
		var out bytes.Buffer
		s := New(t.Context(), Options{Stdout: &out})
		f, err := s.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(f, "ab")
		if err := f.Skip(1<<16 + 1); err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(f, "c")
		if err := s.Commit(); err != nil {
			t.Fatal(err)
		}
		if got, want := out.String(), "ab"+strings.Repeat("\x00", 1<<16+1)+"c"; got != want {
			t.Errorf("%s: %d bytes, want %d", name, len(got), len(want))
		}
	}
}

func TestSkip(t *testing.T) {
	dir := t.TempDir()
	s := New(t.Context(), Options{})
	f, err := s.Create(filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(f, "ab")
	if err := f.Skip(3); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(f, "c")
	if err := f.Skip(2); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(); err != nil {
		t.Fatal(err)
	}
	want(t, dir, map[string]string{"a": "ab\x00\x00\x00c\x00\x00"})
}

// Killed is run as a process of its own by TestLeftovers: it is killed while it
// holds files that are not finished.
func TestKilled(t *testing.T) {
	dir := os.Getenv("FILESET_TEST_DIR")
	if dir == "" {
		return
	}
	s := New(context.Background(), Options{})
	add(t, s, dir, "a", strings.Repeat("long", 60))
	temporary, err := TempDir("fileset-test")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(temporary.Join("x"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	self.Kill()
	select {}
}

// The next run removes what a killed one left, and nothing that is another's or
// that a live run holds.
func TestLeftovers(t *testing.T) {
	dir, temporary := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", temporary)
	live := New(t.Context(), Options{})
	defer live.Abort()
	add(t, live, dir, "live")
	liveDir, err := TempDir("fileset-test")
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, map[string]string{
		".a.0123456g.ossify-new": "not our form", ".ossify-new": "", "b.01234567.ossify-new": "", ".a.01234567.ossify-new.txt": "",
		".gone.01234567.ossify-old": "gone", ".there.01234567.ossify-old": "old there", "there": "there",
	})
	write(t, temporary, map[string]string{"fileset-test-1": "a file"})
	for _, name := range []string{"fileset-test-", "fileset-test-x", "fileset-testing-1"} {
		if err := os.Mkdir(filepath.Join(temporary, name), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	kept, keptDirs := tree(t, dir), tree(t, temporary)

	killed := exec.Command(os.Args[0], "-test.run=^TestKilled$")
	killed.Env = append(os.Environ(), "FILESET_TEST_DIR="+dir)
	if out, err := killed.CombinedOutput(); err == nil {
		t.Fatalf("not killed: %s", out)
	}
	if got := tree(t, dir); runtime.GOOS != "windows" && len(got) != len(kept)+2-1 { // the first sweep gave gone its name and removed old there
		t.Errorf("the killed run left %d files, want %d: %q", len(got), len(kept)+2-1, got)
	}
	if err := WriteFile(t.Context(), filepath.Join(dir, "a"), []byte("a"), Options{}); err != nil {
		t.Fatal(err)
	}
	delete(kept, ".gone.01234567.ossify-old")
	delete(kept, ".there.01234567.ossify-old")
	kept["gone"], kept["a"] = "gone", "a"
	want(t, dir, kept)

	again, err := TempDir("fileset-test")
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Remove(); err != nil {
		t.Fatal(err)
	}
	want(t, temporary, keptDirs)
	if err := liveDir.Remove(); err != nil {
		t.Fatal(err)
	}
	if err := live.Commit(); err != nil {
		t.Fatal(err)
	}
}

// Many runs in one folder do not take each other's files for leftovers.
func TestAtOnce(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 25 {
				d, err := TempDir("at-once")
				if err != nil {
					t.Error(err)
					return
				}
				s := New(t.Context(), Options{Ours: Any})
				path := filepath.Join(dir, fmt.Sprint("f", i))
				if err := errors.Join(s.WriteFile(path, []byte{byte(j)}), os.WriteFile(d.Join("x"), nil, 0o666), s.Commit(), d.Remove()); err != nil {
					t.Error(err)
				}
				if got, err := os.ReadFile(path); err != nil || !slices.Equal(got, []byte{byte(j)}) {
					t.Errorf("%s: %v, %v", path, got, err)
				}
			}
		})
	}
	all.Wait()
	if got := tree(t, dir); len(got) != 8 {
		t.Errorf("%d files, want 8: %q", len(got), slices.Collect(func(yield func(string) bool) {
			for n := range got {
				yield(n)
			}
		}))
	}
}

// With Resume, what an aborted set wrote waits for the next one, which writes over
// it; Discard leaves nothing, even after a Commit that failed.
func TestResume(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sub", "x")
	opt := Options{Resume: true}
	begin := func() (*Set, *File) {
		t.Helper()
		s := New(t.Context(), opt)
		if err := s.MkdirAll(filepath.Dir(path)); err != nil {
			t.Fatal(err)
		}
		f, err := s.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		return s, f
	}
	write := func(f *File, text string) {
		t.Helper()
		if _, err := f.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	is := func(want map[string]string) {
		t.Helper()
		if got := tree(t, dir); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	part := "sub/.x.ossify-part"

	s, f := begin()
	write(f, "0123456789")
	if _, err := New(t.Context(), opt).Create(path); err == nil || !strings.Contains(err.Error(), "another run is writing it") {
		t.Errorf("two runs at once: %v", err)
	}
	s.Abort()
	is(map[string]string{"sub": "/", part: "0123456789"})

	s, f = begin()
	write(f, "abc")
	s.Abort()
	is(map[string]string{"sub": "/", part: "abc3456789"})

	s, f = begin() // a hole is zeros, whatever was there
	if err := f.Skip(2); err != nil {
		t.Fatal(err)
	}
	s.Abort()
	is(map[string]string{"sub": "/", part: "\x00\x00"})

	s, f = begin() // what is beyond the end goes
	write(f, "1")
	if err := s.Commit(); err != nil {
		t.Fatal(err)
	}
	is(map[string]string{"sub": "/", "sub/x": "1"})
	s.Discard()
	is(map[string]string{"sub": "/", "sub/x": "1"})
	if err := os.RemoveAll(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}

	s, f = begin()
	write(f, "0123456789")
	s.Discard()
	is(map[string]string{})

	s, f = begin()
	write(f, "0123456789")
	s.rename = func(string, string) error { return errors.New("no") }
	if err := s.Commit(); err == nil {
		t.Fatal("committed")
	}
	is(map[string]string{"sub": "/", part: "0123456789"})
	s.Discard()
	is(map[string]string{})

	if runtime.GOOS == "windows" {
		return
	}
	s, _ = begin()
	s.Discard()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), PartName(path)); err != nil {
		t.Fatal(err)
	}
	if _, err := New(t.Context(), opt).Create(path); err == nil || !strings.Contains(err.Error(), "want a regular file or none") {
		t.Errorf("a link: %v", err)
	}
}
