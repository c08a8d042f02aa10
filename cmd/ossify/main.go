// Command ossify makes gpt-oss models portable and proves that nothing changed
// on the way.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() { os.Exit(run(os.Args[1:])) }

// errUsage marks an error in how the command was called; it exits with 2.
var errUsage = errors.New("usage")

// run executes one command line and returns its exit code: 0 done, 1 failed,
// 2 called wrongly.
func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintf(os.Stderr, "ossify: %v\nSee 'ossify --help'.\n", err)
		return 2
	}
	fmt.Fprintf(os.Stderr, "ossify: %v\n", err)
	return 1
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "ossify",
		Short:         "Make gpt-oss models portable, and prove that nothing changed on the way",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage("%v", err) })
	root.AddCommand(
		// One line a command, each in a file of its own.
		newConform(),
		newDetokenize(),
		newExport(),
		newHarmony(),
		newInspect(),
		newSynth(),
		newTokenize(),
		newTrace(),
		newVerify(),
	)
	return root
}

// usage returns an error that exits with 2.
func usage(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errUsage}, args...)...)
}
