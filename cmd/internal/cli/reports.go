package cli

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"ossify/parity"
)

func newReport() *cobra.Command {
	var asJSON, all, force bool
	var html string
	var notes []string
	c := &cobra.Command{
		Use:   "report [NAME=]FILE...",
		Short: "Put reports of verify --json together as one",
		Long: `Report reads what verify --json printed and prints it again, of several files as
one report. Programs and checks carry the name of the file they come from, or
the NAME before it. The verdict is drawn anew from every stage and check: it is
pass if all of them passed. With --html it writes a page for a browser, too.`,
		Example: `  ossify report bf16.json f32.json
  ossify report pytorch=f32.json onnx=model.json --json
  ossify report bf16.json f32.json --html report.html`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("want files that verify --json wrote")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if force && html == "" {
				return usage("--force is of --html, which is missing")
			}
			var parts []parity.Part
			var names, inputs []string
			seen := map[string]bool{}
			for _, arg := range args {
				name, file, ok := strings.Cut(arg, "=")
				if !ok {
					file = arg
					name = strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
				}
				if name == "" || seen[name] {
					return usage("%s: want another name for each file, NAME=FILE", arg)
				}
				seen[name] = true
				names, inputs = append(names, name), append(inputs, file)
				r, err := parseInput(c, file, parity.ParseReport)
				if err != nil {
					return err
				}
				parts = append(parts, parity.Part{Name: name, Report: r})
			}
			r := parts[0].Report
			if len(parts) > 1 {
				r = parity.Merge(parts...)
			}
			for _, note := range notes {
				name, text, ok := strings.Cut(note, "=")
				if !ok {
					return usage("--note %q, want NAME=TEXT", note)
				}
				r.Facts = append(r.Facts, parity.Fact{Name: name, Text: text})
			}
			var page *reportFile
			var err error
			if html != "" {
				if page, err = createReport(c, "", html, force, inputs...); err != nil {
					return err
				}
				defer page.abort()
			}
			if asJSON {
				err = printJSON(c.OutOrStdout(), r)
			} else {
				err = r.WriteText(c.OutOrStdout(), parity.Text{All: all, Colour: terminalOf(c.OutOrStdout()).colour})
			}
			if err == nil && page != nil {
				err = page.write(pageOf(strings.Join(names, ", "), r))
			}
			if err == nil && r.Verdict != parity.Pass {
				err = fmt.Errorf("report: %s", r.Verdict)
			}
			return err
		},
	}
	f := c.Flags()
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.StringArrayVar(&notes, "note", nil, "NAME=TEXT, for information; may be given again")
	f.StringVar(&html, "html", "", "file for the report as a page, beside what is printed")
	f.BoolVar(&force, "force", false, "replace the --html file though ossify did not write it")
	f.BoolVar(&all, "all", false, "print a line for every stage of every layer")
	return c
}
