// Package cli is the command line of the programs in cmd: flags and printing.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"ossify/internal/fileset"
	"ossify/internal/mapped"
	"ossify/internal/quote"
	"ossify/pipeline"
)

// Main runs this process's command line and exits. With a Beam it is the program
// that pipelines on Beam are handed over to, and is its workers, too.
func Main(beam *pipeline.Beam) {
	if beam != nil && beam.Worker(os.Args[1:], kindsOfWorkers()) {
		return
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) { // as under nohup
			signal.Notify(signals, s)
		}
	}
	// A reader of ours that goes away is an error of writing, not our end.
	signal.Ignore(syscall.SIGPIPE)
	go func() {
		s := <-signals
		signal.Stop(signals) // a second one ends the program at once
		cancel(signalled{s})
	}()
	p := program{beam: beam, handOver: func() error { return handOver(os.Args[1:]) }}
	os.Exit(p.run(ctx, os.Args[1:], os.Stdin, stdout{os.Stdout, cancel}, os.Stderr))
}

// A program is what the programs in cmd differ in. The zero program has no Beam,
// and nobody who has.
type program struct {
	beam *pipeline.Beam

	// handOver has the program that has Beam go on with this command line, and
	// returns only if that fails; with errNoBeam if there is none.
	handOver func() error
}

// signalled is why a command was ended from outside.
type signalled struct{ os.Signal }

func (s signalled) Error() string { return s.String() }

// code is what shells know as the exit code of a program that a signal ended.
func (s signalled) code() int {
	if n, ok := s.Signal.(syscall.Signal); ok {
		return 128 + int(n)
	}
	return 1
}

// stdout ends the command when nobody reads what it prints any more.
type stdout struct {
	*os.File
	cancel context.CancelCauseFunc
}

func (s stdout) Write(p []byte) (int, error) {
	n, err := s.File.Write(p)
	if errors.Is(err, syscall.EPIPE) {
		s.cancel(signalled{syscall.SIGPIPE})
	}
	return n, err
}

// errUsage marks an error in how the command was called; it exits with 2.
var errUsage = errors.New("usage")

// run executes one command line and returns its exit code: 0 done, 1 failed,
// 2 called wrongly, 128 and a signal's number if that ended it.
func (p program) run(ctx context.Context, args []string, in io.Reader, out, errors io.Writer) int {
	root := newRoot(p)
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errors)
	// What the shell asks for completion is no command line to be judged.
	var called *cobra.Command
	err := mapped.Catch(func() (err error) {
		if err = helpOfNone(root, args); err == nil {
			called, err = root.ExecuteContextC(ctx)
		}
		return err
	})
	if called == nil {
		called, _, _ = root.Find(args)
	}
	return report(ctx, errors, called, err)
}

// report prints err and returns the exit code it means.
func report(ctx context.Context, w io.Writer, called *cobra.Command, err error) int {
	head := terminalOf(w).paint(red, "ossify:") + " "
	var ended signalled
	var exists *fileset.ExistsError
	switch {
	case err == nil:
		return 0
	case errors.As(context.Cause(ctx), &ended):
		if ended.Signal != syscall.SIGPIPE { // whoever closed the pipe knows
			fmt.Fprintf(w, "%s%v\n", head, ended)
		}
		return ended.code()
	case errors.Is(err, errUsage):
		fmt.Fprintf(w, "%s%s\nSee '%s --help'.\n", head, printable(err), called.CommandPath())
		return 2
	case errors.As(err, &exists) && called.Flags().Lookup("force") != nil:
		err = fmt.Errorf("%w, or --force", err)
	case errors.Is(err, mapped.ErrShortened):
		err = fmt.Errorf("%s: %w; want files that nobody changes meanwhile", called.Name(), mapped.ErrShortened)
	case errors.Is(err, context.Canceled):
		err = errors.New("interrupted")
	}
	fmt.Fprintf(w, "%s%s\n", head, printable(err))
	return 1
}

// printable returns an error's text, in which names may be that came from
// outside: no escape sequence of them reaches the terminal.
func printable(err error) string {
	lines := strings.Split(err.Error(), "\n")
	for i, l := range lines {
		lines[i] = quote.Plain(l)
	}
	return strings.Join(lines, "\n")
}

func newRoot(p program) *cobra.Command {
	root := &cobra.Command{
		Use:           "ossify",
		Short:         "Make gpt-oss models portable, and prove that nothing changed on the way",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          subcommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(flagError)
	root.SetHelpCommand(newHelp())
	root.AddCommand(
		// One line a command, each in a file of its own.
		newBatch(p),
		newBench(),
		newChat(),
		newConform(),
		newConvert(),
		newDemo(),
		newDetokenize(),
		newExport(),
		newGenerate(),
		newHarmony(),
		newInspect(),
		newPull(),
		newReport(),
		newServe(),
		newSweep(p),
		newSynth(),
		newTokenize(),
		newTrace(),
		newVerify(),
		newVersion(),
	)
	root.InitDefaultHelpCmd()
	addCompletion(root)
	return root
}

// usage returns an error that exits with 2.
func usage(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errUsage}, args...)...)
}
