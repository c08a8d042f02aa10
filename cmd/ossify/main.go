// Command ossify makes gpt-oss models portable and proves that nothing changed
// on the way.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	// The handler goes away with the first signal: a second one ends the program
	// at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// errUsage marks an error in how the command was called; it exits with 2.
var errUsage = errors.New("usage")

// run executes one command line and returns its exit code: 0 done, 1 failed,
// 2 called wrongly.
func run(ctx context.Context, args []string, in io.Reader, out, errors io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errors)
	return report(errors, root.ExecuteContext(ctx))
}

// report prints err and returns the exit code it means.
func report(w io.Writer, err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintf(w, "ossify: %v\nSee 'ossify --help'.\n", err)
		return 2
	case errors.Is(err, context.Canceled):
		err = errors.New("interrupted")
	}
	fmt.Fprintf(w, "ossify: %v\n", err)
	return 1
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "ossify",
		Short:         "Make gpt-oss models portable, and prove that nothing changed on the way",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("no command %q", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage("%v", err) })
	root.AddCommand(
		// One line a command, each in a file of its own.
		newConform(),
		newDemo(),
		newDetokenize(),
		newExport(),
		newHarmony(),
		newInspect(),
		newPull(),
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
