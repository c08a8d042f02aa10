package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newHelp is cobra's help command, which takes no topic that is none.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Show what a command does",
		ValidArgsFunction: func(c *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			at, _, err := c.Root().Find(args)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return names(at), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(c *cobra.Command, args []string) error {
			at := c.Root()
			for _, name := range args {
				next := slices.IndexFunc(at.Commands(), func(c *cobra.Command) bool { return c.Name() == name })
				if next < 0 {
					return unknown(at, name)
				}
				at = at.Commands()[next]
			}
			at.InitDefaultHelpFlag()
			return at.Help()
		},
	}
}

// addCompletion adds cobra's completion command, hidden, and lets it refuse
// what it cannot do.
func addCompletion(root *cobra.Command) {
	root.CompletionOptions.HiddenDefaultCmd = true
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			c.Args = subcommand
			c.RunE = func(c *cobra.Command, _ []string) error {
				return usage("completion: want one of %s", strings.Join(names(c), " "))
			}
		}
	}
}

// subcommand refuses words that name no command below c.
func subcommand(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return unknown(c, args[0])
	}
	return nil
}

// unknown is the error of a command that is none.
func unknown(c *cobra.Command, name string) error {
	_, of, below := strings.Cut(c.CommandPath(), " ")
	if below {
		of = " of " + of
	}
	return usage("no command %q%s%s", cut(name), of, didYouMean(name, names(c)))
}

// helpOfNone is the error of --help beside a word that names no command, which
// cobra would answer with the help of the command above it.
func helpOfNone(root *cobra.Command, args []string) error {
	if !slices.Contains(args, "--help") && !slices.Contains(args, "-h") {
		return nil
	}
	at, rest, err := root.Find(args)
	if err != nil || !at.HasSubCommands() || len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd) {
		return nil
	}
	return subcommand(at, slices.DeleteFunc(slices.Clone(rest), func(word string) bool { return strings.HasPrefix(word, "-") }))
}

// names returns the commands below c that help lists.
func names(c *cobra.Command) []string {
	var list []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			list = append(list, sub.Name())
		}
	}
	return list
}

// flagError is the error of a flag that is none or has a bad value.
func flagError(c *cobra.Command, err error) error {
	var missing *pflag.NotExistError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &missing) && missing.GetSpecifiedShortnames() == "":
		name, flags := missing.GetSpecifiedName(), []string(nil)
		c.Flags().VisitAll(func(f *pflag.Flag) { flags = append(flags, "--"+f.Name) })
		return usage("no flag --%s of %s%s", cut(name), c.Name(), didYouMean("--"+name, flags))
	case errors.As(err, &invalid):
		return usage("--%s %.80q: %w", invalid.GetFlag().Name, invalid.GetValue(), invalid.Unwrap())
	}
	return usage("%v", err)
}

// didYouMean returns a question about the nearest of the words, if one is near.
func didYouMean(word string, words []string) string {
	best, least := "", 3
	for _, w := range words {
		d := distance(word, w)
		if len(word) > 1 && strings.HasPrefix(w, word) {
			d = 1
		}
		if d < least && 2*d < len(w) {
			best, least = w, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

// distance is the number of letters to add, drop, change or swap with their
// neighbour that makes one word of another.
func distance(a, b string) int {
	if len(a) > 2*len(b)+4 {
		return len(a)
	}
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	for j := range rows[1] {
		rows[1][j] = j
	}
	for i := range len(a) {
		before, last, row := rows[0], rows[1], rows[2]
		row[0] = i + 1
		for j := range len(b) {
			change := 1
			if a[i] == b[j] {
				change = 0
			}
			row[j+1] = min(last[j]+change, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		rows = [3][]int{last, row, before}
	}
	return rows[1][len(b)]
}

// cut returns a word of the command line as it may stand in a message.
func cut(word string) string {
	const most = 80
	if len(word) > most {
		return word[:most] + "..."
	}
	return word
}

// A choice is a flag that takes one of a few values.
type choice struct {
	value  *string
	values []string
}

// chooseVar defines a flag that takes one of values, completes them, and lists
// them in its help.
func chooseVar(c *cobra.Command, value *string, name, byDefault string, values []string, help string) {
	*value = byDefault
	c.Flags().Var(choice{value, values}, name, help+": "+strings.Join(values, ", "))
	c.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)) // fails of a flag that is not there
}

func (c choice) String() string {
	if c.value == nil { // as pflag makes one to know the zero value
		return ""
	}
	return *c.value
}

func (c choice) Type() string { return "name" }

func (c choice) Set(s string) error {
	if !slices.Contains(c.values, s) {
		return fmt.Errorf("want one of %s%s", strings.Join(c.values, " "), didYouMean(s, c.values))
	}
	*c.value = s
	return nil
}
