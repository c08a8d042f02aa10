package cli

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// A build is what is known of how this program was built.
type build struct {
	Version  string `json:"version"` // of the module; (devel) from a work tree
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Cgo      bool   `json:"cgo"`              // with ONNX Runtime
	Commit   string `json:"commit,omitempty"` // git's
	Time     string `json:"time,omitempty"`   // of the commit
	Modified bool   `json:"modified"`         // the work tree was not the commit
}

func thisBuild() build {
	b := build{Version: "(unknown)"}
	if info, ok := debug.ReadBuildInfo(); ok {
		b = buildOf(info)
	}
	b.Go, b.Platform = runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH
	return b
}

// buildOf returns what a program of ossify's says of its build, but for its platform.
func buildOf(info *debug.BuildInfo) build {
	b := build{Version: cmp.Or(info.Main.Version, "(devel)"), Go: info.GoVersion}
	for _, s := range info.Settings {
		switch s.Key {
		case "CGO_ENABLED":
			b.Cgo = s.Value == "1"
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func (b build) String() string {
	s := fmt.Sprintf("ossify %s, %s, %s", b.Version, b.Go, b.Platform)
	if !b.Cgo {
		s += ", without cgo"
	}
	if b.Commit != "" {
		s += fmt.Sprintf("\ncommit %s of %s", b.Commit, b.Time)
	}
	if b.Modified {
		s += ", modified"
	}
	return s
}

// source says what was built.
func (b build) source() string {
	s := b.Version
	if b.Commit != "" {
		s += " of commit " + b.Commit
	}
	if b.Modified {
		s += ", modified"
	}
	return s
}

// version is that of the module the program was built from.
func version() string { return thisBuild().Version }

func newVersion() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "version",
		Short: "Show which build of ossify this is",
		Example: `  ossify version
  ossify version --json`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if asJSON {
				return printJSON(c.OutOrStdout(), thisBuild())
			}
			_, err := fmt.Fprintln(c.OutOrStdout(), thisBuild())
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
