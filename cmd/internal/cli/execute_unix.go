//go:build unix

package cli

import (
	"os"
	"syscall"
)

// execute has another program go on in this process. It returns only if that
// fails.
func execute(path string, args []string) error {
	err := syscall.Exec(path, append([]string{path}, args...), os.Environ())
	return &os.PathError{Op: "exec", Path: path, Err: err}
}
