package cli

import (
	"fmt"
	"net/http"
	"os"

	"github.com/spf13/cobra"

	"ossify/internal/fileset"
	"ossify/pull"
)

// hubAddress is where OpenAI publishes the models.
const hubAddress = "https://huggingface.co"

func newPull() *cobra.Command {
	var q pull.Request
	var layout, endpoint string
	c := &cobra.Command{
		Use:   "pull OWNER/NAME DIR",
		Short: "Download a checkpoint from a model hub",
		Long: `Pull downloads a checkpoint: config.json, the weights, and the tokenizer's and
licence files beside them. Every file is compared with the hash that the hub
states before it gets its name. What came of a file stays when pull is ended, and
the next run goes on with it.

The hub is ` + hubAddress + `, or --endpoint, or what HF_ENDPOINT in the
environment says: a mirror that answers as it does. A token for repositories that
are not public is read from HF_TOKEN, and sent to that host alone.`,
		Example: `  ossify pull openai/gpt-oss-20b ~/models/20b
  ossify pull openai/gpt-oss-20b ~/models/20b-original --layout original
  ossify pull openai/gpt-oss-120b /data/120b --endpoint https://mirror.example`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usage("%d arguments, want OWNER/NAME and DIR", len(args))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if layout == "original" {
				q.Layout = pull.Original
			}
			q.Repo, q.Dir, q.Token = args[0], args[1], os.Getenv("HF_TOKEN")
			q.Proxy = http.ProxyFromEnvironment
			q.Endpoint = hubEndpoint(endpoint)
			q.Room = fileset.Room
			progress, finish := progressOf(c.ErrOrStderr(), "pull")
			q.Progress = progress
			q.Warn = func(text string) { fmt.Fprintln(c.ErrOrStderr(), "ossify: "+text) }
			r, err := pull.Run(c.Context(), q)
			finish()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s at %s: %d files, %d bytes, %d of them fetched now, in %s\n", q.Repo, r.Commit, len(r.Files), r.Bytes, r.Fetched, q.Dir)
			return err
		},
	}
	f := c.Flags()
	chooseVar(c, &layout, "layout", "hf", []string{"hf", "original"}, "form of the checkpoint")
	f.StringVar(&q.Revision, "revision", "main", "branch, tag or commit")
	f.StringVar(&endpoint, "endpoint", "", "the hub's address")
	f.IntVar(&q.Parallel, "parallel", 4, "ranges of a file at a time")
	return c
}
