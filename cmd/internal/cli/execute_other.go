//go:build !unix

package cli

import (
	"errors"
	"os"
	"os/exec"
)

// execute has another program go on in place of this process, which waits for its
// end and takes its exit code. It returns only if that fails. What interrupts
// this process interrupts the other, too: both read the same console.
func execute(path string, args []string) error {
	c := exec.Command(path, args...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	os.Exit(c.ProcessState.ExitCode())
	return nil
}
