package ort

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// ErrNotFound is in Find's error if there is no library in any place.
var ErrNotFound = errors.New("no ONNX Runtime library")

// DepsFolder is where `make deps` installs the library, below the root of the
// source tree.
const DepsFolder = "build/deps/onnxruntime"

// Find returns the path of ONNX Runtime's shared library: flag if it is not
// empty (the library, or a folder that holds it), else the first that exists
// of
//
//   - the folder of the executable, and [DepsFolder] below it and below the
//     folder above it;
//   - the system's folders for libraries, and /opt/onnxruntime/lib.
//
// The working directory is not searched: a downloaded model's folder must not
// bring its own library. tried lists the folders that were looked into.
func Find(flag string) (path string, tried []string, err error) {
	if flag != "" {
		info, err := os.Stat(flag)
		switch {
		case err != nil:
			return "", []string{flag}, fmt.Errorf("ort: %w", err)
		case !info.IsDir():
			return flag, []string{flag}, nil
		}
		return search([]string{flag})
	}
	var folders []string
	if exe, err := os.Executable(); err == nil {
		if real, err := filepath.EvalSymlinks(exe); err == nil {
			exe = real
		}
		dir := filepath.Dir(exe)
		folders = append(folders, dir, filepath.Join(dir, DepsFolder), filepath.Join(filepath.Dir(dir), DepsFolder))
	}
	return search(append(folders, systemFolders()...))
}

func search(folders []string) (path string, tried []string, err error) {
	for _, dir := range folders {
		if p := libraryIn(dir); p != "" {
			return p, append(tried, dir), nil
		}
		tried = append(tried, dir)
	}
	return "", tried, fmt.Errorf("ort: %w in %s; `make deps` installs one, or give the path of %s from a release of ONNX Runtime %s or newer",
		ErrNotFound, strings.Join(tried, ", "), libraryName(), oldest)
}

// oldest is the first release with the C interface that this package calls.
const oldest = "1.24"

func libraryName() string {
	switch runtime.GOOS {
	case "windows":
		return "onnxruntime.dll"
	case "darwin":
		return "libonnxruntime.dylib"
	}
	return "libonnxruntime.so"
}

// libraryIn returns the library in dir: of the plain name, else the last one
// of a name with a version.
func libraryIn(dir string) string {
	name := libraryName()
	if isFile(filepath.Join(dir, name)) {
		return filepath.Join(dir, name)
	}
	stem, ext := strings.TrimSuffix(name, filepath.Ext(name)), filepath.Ext(name)
	var found []string
	for _, pattern := range []string{stem + ext + ".*", stem + ".*" + ext} { // ELF's and Mach-O's way
		list, _ := filepath.Glob(filepath.Join(dir, pattern)) // of a constant pattern: no error
		found = append(found, list...)
	}
	found = slices.DeleteFunc(found, func(p string) bool { return !isFile(p) })
	if len(found) == 0 {
		return ""
	}
	return slices.Max(found)
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func systemFolders() []string {
	switch runtime.GOOS {
	case "windows":
		return nil
	case "darwin":
		return []string{"/opt/homebrew/lib", "/usr/local/lib", "/opt/onnxruntime/lib"}
	}
	folders := []string{"/usr/local/lib", "/opt/onnxruntime/lib", "/usr/lib64", "/usr/lib"}
	triplet := map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[runtime.GOARCH]
	if triplet != "" {
		folders = append(folders, "/usr/lib/"+triplet)
	}
	return folders
}
