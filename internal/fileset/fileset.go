// Package fileset writes files that appear together or not at all.
//
// Each file of a Set is written under a temporary name beside its target, a
// hidden file that ends in ".ossify-new". Commit puts all of them on disk and
// gives them their names; where that fails half-way, what stood there before
// stands there again. A Set that is aborted leaves the folders as they were.
//
// With Options.Resume the temporary files have names that do not change, and end in
// ".ossify-part": those of a run that was ended stay, and the next one goes on with
// them.
//
// A run that was killed cannot clean up. Its temporary files are removed by the
// next run that writes into the same folder. A run holds a lock on each of its
// files until the end, so that no run removes what another is still writing.
// Killed within Commit, between two renamings, it may leave some files new and
// some as before; each of them is whole.
package fileset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"ossify/internal/quote"
)

// Temporary names: "." target "." 8 hex digits and one of these.
const (
	newSuffix = ".ossify-new" // a file under construction
	oldSuffix = ".ossify-old" // what stood at the target, during Commit
	// Of "." target and this: a file that a later run goes on with.
	partSuffix = ".ossify-part"
	mostName   = 200 // bytes of the target's name; file systems take 255 in all
)

// Options says what a Set may replace. A target that exists must be a regular
// file and none of the Inputs. Without Force it must be Ours too. With it, it
// may be another's, or a symbolic link, which is replaced itself. FIFOs,
// devices and folders are never replaced.
type Options struct {
	Inputs []string               // files that are read meanwhile
	Ours   func(path string) bool // whether a regular file is one that we wrote; nil is none
	Force  bool
	Stdout io.Writer // of the target "-"; nil: there is none

	// Resume makes Create take up what an earlier run, which was ended, left of
	// the file, and Abort leave it. What is written replaces it from the start;
	// what is beyond it in the end is cut off.
	Resume bool
}

// Any is for Options.Ours: every regular file may be replaced.
func Any(string) bool { return true }

// Stdout reports whether a path means standard output: "-" or one of its names
// in /dev.
func Stdout(path string) bool {
	return slices.Contains([]string{"-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"}, path)
}

// A Set is files under construction. It is for one goroutine; what File returns
// is for any.
type Set struct {
	ctx    context.Context
	opt    Options
	files  []*File
	remove []*File         // targets to be removed; no temporary file
	made   []string        // folders, outer before inner
	swept  map[string]bool // folders whose leftovers are gone
	done   bool            // committed or aborted
	rename func(from, to string) error
}

// New starts a set. When ctx ends, writing and Commit fail.
func New(ctx context.Context, opt Options) *Set {
	return &Set{ctx: ctx, opt: opt, swept: map[string]bool{}, rename: os.Rename}
}

// MkdirAll makes a folder and those above it, as os.MkdirAll does. Abort
// removes those that were not there before, unless others put files into them.
func (s *Set) MkdirAll(dir string) error {
	if s.done {
		return errClosed(dir)
	}
	var missing []string
	for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err == nil && !info.IsDir() {
			return fmt.Errorf("fileset: %s: a file, want a folder", quote.Name(at))
		}
		if err == nil || at == filepath.Dir(at) {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("fileset: %w", err)
		}
		missing = append(missing, at)
	}
	for _, at := range slices.Backward(missing) {
		switch err := os.Mkdir(at, 0o777); {
		case err == nil:
			s.made = append(s.made, at)
		case !errors.Is(err, fs.ErrExist): // another run made it just now
			return fmt.Errorf("fileset: %w", err)
		}
	}
	return nil
}

// Create starts a file that Commit will give the name path. Its folder exists.
func (s *Set) Create(path string) (*File, error) {
	if s.done {
		return nil, errClosed(path)
	}
	if s.opt.Stdout != nil && Stdout(path) {
		return &File{set: s, path: path, stream: s.opt.Stdout}, nil
	}
	if err := s.allowed(path); err != nil {
		return nil, err
	}
	for _, f := range s.files {
		if filepath.Clean(f.path) == filepath.Clean(path) {
			return nil, fmt.Errorf("fileset: %s: twice in one set", quote.Name(path))
		}
	}
	s.sweep(filepath.Dir(path))
	f := &File{set: s, path: path}
	if err := f.create(); err != nil {
		return nil, fmt.Errorf("fileset: %w", err)
	}
	s.files = append(s.files, f)
	return f, nil
}

// WriteFile adds a file that is in memory already.
func (s *Set) WriteFile(path string, data []byte) error {
	f, err := s.Create(path)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Close()
}

// Remove makes Commit remove a file, such as one that a former version of the
// set had and this one has not. What may not be replaced may not be removed.
func (s *Set) Remove(path string) error {
	if s.done {
		return errClosed(path)
	}
	if err := s.allowed(path); err != nil {
		return err
	}
	s.sweep(filepath.Dir(path))
	s.remove = append(s.remove, &File{set: s, path: path})
	return nil
}

// allowed refuses targets that must stay.
func (s *Set) allowed(path string) error {
	if _, base := filepath.Split(path); base == "" || base == "." || base == ".." {
		return fmt.Errorf("fileset: %s: a folder, want the name of a file", quote.Name(path))
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("fileset: %w", err)
	}
	link := info.Mode()&fs.ModeSymlink != 0
	switch {
	case link && !s.opt.Force:
		return fmt.Errorf("fileset: %s: a symbolic link, want a regular file or a new name", quote.Name(path))
	case !link && !info.Mode().IsRegular():
		return fmt.Errorf("fileset: %s: %s, want a regular file or a new name", quote.Name(path), kind(info.Mode()))
	}
	for _, input := range s.opt.Inputs {
		// Behind a link stands the input itself: the link is only a name of it.
		if in, err := os.Stat(input); err == nil && os.SameFile(info, in) {
			return fmt.Errorf("fileset: %s: is read as %s, want another name", quote.Name(path), quote.Name(input))
		}
		if in, err := os.Lstat(input); err == nil && os.SameFile(info, in) {
			return fmt.Errorf("fileset: %s: is read as %s, want another name", quote.Name(path), quote.Name(input))
		}
	}
	if !s.opt.Force && (s.opt.Ours == nil || !s.opt.Ours(path)) {
		return &ExistsError{path}
	}
	return nil
}

// An ExistsError says that a file is in the way which only Force replaces.
type ExistsError struct{ Path string }

func (e *ExistsError) Error() string {
	return fmt.Sprintf("fileset: %s: exists, and is not one that this command wrote, want a new name", quote.Name(e.Path))
}

// Is makes the error one of fs.ErrExist.
func (e *ExistsError) Is(target error) bool { return target == fs.ErrExist }

func kind(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a folder"
	case m&fs.ModeNamedPipe != 0:
		return "a FIFO"
	case m&fs.ModeSocket != 0:
		return "a socket"
	case m&fs.ModeDevice != 0:
		return "a device"
	}
	return "no regular file"
}

func errClosed(path string) error {
	return fmt.Errorf("fileset: %s: the set is committed or aborted", quote.Name(path))
}

// Commit completes the set: every file is on disk, then every file has its
// name, then what Remove named is gone. If it fails, or if ctx has ended, the
// folders are as before. A second call fails.
func (s *Set) Commit() error {
	if s.done {
		return errors.New("fileset: the set is committed or aborted already")
	}
	err := s.commit()
	s.Abort() // nothing is left to do for it after a success
	return err
}

func (s *Set) commit() error {
	for _, f := range s.files {
		if err := f.Close(); err != nil {
			return err
		}
	}
	if err := context.Cause(s.ctx); err != nil {
		return err
	}
	all := slices.Concat(s.files, s.remove)
	// Again: work takes its time, and what appeared meanwhile is not ours.
	for _, f := range all {
		if err := s.allowed(f.path); err != nil {
			return err
		}
	}
	var err error
	for i := 0; i < len(all) && err == nil; i++ {
		err = all[i].keep()
	}
	for i := 0; i < len(all) && err == nil; i++ {
		err = all[i].publish()
	}
	if err != nil {
		for _, f := range slices.Backward(all) {
			err = errors.Join(err, f.restore())
		}
		return fmt.Errorf("fileset: %w", err)
	}
	for _, f := range all {
		f.forget()
	}
	s.made = nil
	for dir := range s.swept {
		syncDir(dir)
	}
	return nil
}

// Abort gives up: temporary files go, unless they wait for the next run, and
// folders that MkdirAll made. It does nothing after Commit, so that it can be
// deferred.
func (s *Set) Abort() {
	if !s.done {
		s.done = true
		s.discard(s.opt.Resume)
	}
}

// Discard is Abort that leaves nothing for a next run, not even after Abort or a
// Commit that failed.
func (s *Set) Discard() {
	s.done = true
	s.discard(false)
}

func (s *Set) discard(keep bool) {
	for _, f := range s.files {
		f.discard(keep)
	}
	for _, dir := range slices.Backward(s.made) {
		os.Remove(dir) // refuses if it is not empty
	}
}

// A File is one file of a Set. Its bytes are written in order by Write and
// Skip, or at will through OS.
type File struct {
	set    *Set
	path   string
	stream io.Writer // standard output, else nil
	temp   string    // "" when it is the target, or gone
	file   *os.File  // holds the lock; nil when closed
	synced bool

	old    string   // name of what stood at path; "" if nothing did
	moved  bool     // old has path's name no more
	lock   *os.File // of old
	placed bool     // path is the new file, or removed
}

// Name returns the path that the file will have.
func (f *File) Name() string { return f.path }

// OS returns the temporary file, to write it at any place; nil if the file is
// standard output. It must not be closed.
func (f *File) OS() *os.File { return f.file }

// Write appends p.
func (f *File) Write(p []byte) (int, error) {
	if err := context.Cause(f.set.ctx); err != nil {
		return 0, err
	}
	var w io.Writer = f.file
	if f.stream != nil {
		w = f.stream
	}
	n, err := w.Write(p)
	if err != nil {
		err = fmt.Errorf("fileset: %w", err)
	}
	return n, err
}

// Skip appends n zero bytes: a hole, where the file system has them.
func (f *File) Skip(n int64) error {
	if err := context.Cause(f.set.ctx); err != nil {
		return err
	}
	if f.stream != nil {
		zeros := make([]byte, 1<<16)
		for n > 0 {
			w, err := f.Write(zeros[:min(n, int64(len(zeros)))])
			if err != nil {
				return err
			}
			n -= int64(w)
		}
		return nil
	}
	end, err := f.file.Seek(n, io.SeekCurrent)
	if err == nil && f.set.opt.Resume { // what was there is no zeros
		err = f.file.Truncate(end - n)
	}
	if err == nil {
		err = f.file.Truncate(end)
	}
	if err != nil {
		return fmt.Errorf("fileset: %w", err)
	}
	return nil
}

// Close says that the file is complete, and puts it on disk. Commit does it for
// those that were not closed: to close them earlier lets the disk work on.
func (f *File) Close() error {
	if f.stream != nil || f.synced {
		return nil
	}
	if f.file == nil {
		return errClosed(f.path)
	}
	if f.set.opt.Resume {
		end, err := f.file.Seek(0, io.SeekCurrent)
		if err == nil {
			err = f.file.Truncate(end)
		}
		if err != nil {
			return fmt.Errorf("fileset: %w", err)
		}
	}
	if err := f.file.Sync(); err != nil {
		return fmt.Errorf("fileset: %w", err)
	}
	f.synced = true
	return nil
}

// create opens and locks a temporary file.
func (f *File) create() error {
	if f.set.opt.Resume {
		return f.resume()
	}
	const tries = 100
	for try := 1; ; try++ {
		temp := tempName(f.path, newSuffix)
		file, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		if errors.Is(err, fs.ErrExist) && try < tries {
			continue
		}
		if err != nil {
			return err
		}
		// Between the two, another run may have taken the file for a leftover.
		if locked := lock(file) && same(file, temp); !locked && try < tries {
			file.Close()
			continue
		}
		f.temp, f.file = temp, file
		return nil
	}
}

// resume opens and locks the temporary file that an earlier run may have left.
func (f *File) resume() error {
	temp := PartName(f.path)
	if info, err := os.Lstat(temp); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s: %s, want a regular file or none", quote.Name(temp), kind(info.Mode()))
	}
	file, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	if !lock(file) || !same(file, temp) {
		file.Close()
		return fmt.Errorf("%s: another run is writing it", quote.Name(f.path))
	}
	f.temp, f.file = temp, file
	return nil
}

// PartName returns the name that a file has until Commit, with Options.Resume.
func PartName(path string) string {
	dir, base := filepath.Split(path)
	return dir + "." + base + partSuffix
}

// tempName returns a name beside path that nothing has, most likely.
func tempName(path, suffix string) string {
	dir, base := filepath.Split(path)
	if len(base) > mostName {
		base = strings.ToValidUTF8(base[:mostName], "_")
	}
	return dir + fmt.Sprintf(".%s.%08x%s", base, rand.Uint32(), suffix)
}

// keep gives what stands at path a second name, which it loses in forget.
func (f *File) keep() error {
	if _, err := os.Lstat(f.path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if in, err := os.Open(f.path); err == nil {
		lock(in)
		f.lock = in
	}
	old := tempName(f.path, oldSuffix)
	if os.Link(f.path, old) == nil {
		f.old = old
		return nil
	}
	// File systems without hard links: for a moment nothing has the name.
	if runtime.GOOS == "windows" {
		f.lock.Close()
		f.lock = nil
	}
	if err := os.Rename(f.path, old); err != nil {
		return err
	}
	f.old, f.moved = old, true
	return nil
}

// publish gives the file its name, or removes what has it.
func (f *File) publish() error {
	var err error
	switch {
	case f.temp != "":
		if runtime.GOOS == "windows" { // which renames no open file
			f.file.Close()
			f.file = nil
		}
		err = f.set.rename(f.temp, f.path)
	case !f.moved:
		err = os.Remove(f.path)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err == nil {
		f.placed, f.temp = true, ""
	}
	return err
}

// restore undoes keep and publish.
func (f *File) restore() error {
	var err error
	switch {
	case f.old != "" && (f.placed || f.moved):
		err = os.Rename(f.old, f.path)
	case f.old != "":
		err = os.Remove(f.old)
	case f.placed:
		err = os.Remove(f.path)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	f.old = ""
	f.unlock()
	return err
}

// forget removes what stood at path before.
func (f *File) forget() {
	if f.old != "" {
		os.Remove(f.old)
		f.old = ""
	}
	f.unlock()
	if f.file != nil {
		f.file.Close()
		f.file = nil
	}
}

func (f *File) unlock() {
	if f.lock != nil {
		f.lock.Close()
		f.lock = nil
	}
}

func (f *File) discard(keep bool) {
	if f.file != nil {
		f.file.Close()
		f.file = nil
	}
	if f.temp != "" && !keep {
		os.Remove(f.temp)
		f.temp = ""
	}
}

// same reports whether path is the open file still.
func same(file *os.File, path string) bool {
	a, err := file.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(path)
	return err == nil && os.SameFile(a, b)
}

// sweep removes what killed runs left in a folder. What was a target during
// their Commit gets its name back if nothing has it.
func (s *Set) sweep(dir string) {
	if s.swept[dir] {
		return
	}
	s.swept[dir] = true
	list, err := os.ReadDir(dir)
	if err != nil {
		return // writing will say so
	}
	for _, e := range list {
		target, suffix, ok := leftover(e.Name())
		if !ok || !e.Type().IsRegular() {
			continue
		}
		path := filepath.Join(dir, e.Name())
		file, err := os.Open(path)
		if err != nil {
			continue
		}
		if abandoned := tryLock(file) && same(file, path); abandoned {
			if runtime.GOOS == "windows" { // which renames and removes no open file
				file.Close()
			}
			_, missing := os.Lstat(filepath.Join(dir, target))
			if suffix == oldSuffix && errors.Is(missing, fs.ErrNotExist) {
				os.Rename(path, filepath.Join(dir, target))
			} else {
				os.Remove(path)
			}
		}
		file.Close()
	}
}

// leftover reports whether a name is one that tempName gave, and of what.
func leftover(name string) (target, suffix string, ok bool) {
	for _, suffix := range []string{newSuffix, oldSuffix} {
		rest, found := strings.CutSuffix(name, suffix)
		if !found || len(rest) < len(".x.01234567") || rest[0] != '.' {
			continue
		}
		target, id := rest[1:len(rest)-9], rest[len(rest)-9:]
		if id[0] == '.' && strings.Trim(id[1:], "0123456789abcdef") == "" {
			// Of a name that was cut it is not known whose it is.
			return target, suffix, suffix == newSuffix || len(target) < mostName
		}
	}
	return "", "", false
}

// syncDir makes renamings in a folder durable where the system can do that; not
// every system can, and the files themselves are on disk already.
func syncDir(dir string) {
	if d, err := os.Open(dir); err == nil {
		d.Sync()
		d.Close()
	}
}

// WriteFile writes one small file as a set of its own.
func WriteFile(ctx context.Context, path string, data []byte, opt Options) error {
	s := New(ctx, opt)
	defer s.Abort()
	if err := s.WriteFile(path, data); err != nil {
		return err
	}
	return s.Commit()
}
