package conform

import (
	"bufio"
	"os"
	"strings"
	"testing"

	"ossify/tokenizer"
)

// The recorded answers, and how many of each there are: a file that was cut
// off must not pass.
func TestGoldens(t *testing.T) {
	c := NewChecker(tokenizer.New())
	for file, want := range map[string]int{
		"../testdata/harmony.jsonl":            201,
		"../testdata/differential.jsonl":       811,
		"../../tokenizer/testdata/o200k.jsonl": 4000,
	} {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<24)
		n := 0
		for ; lines.Scan(); n++ {
			name, diff, err := c.Check(lines.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			if diff != "" {
				t.Errorf("%s: %s:\n%s", file, name, diff)
			}
		}
		if lines.Err() != nil || n != want {
			t.Errorf("%s: %d records and %v, want %d and no error", file, n, lines.Err(), want)
		}
	}
}

func TestCheckFindsDifferences(t *testing.T) {
	c := NewChecker(tokenizer.New())
	for _, test := range []struct{ name, line, want string }{
		{"ids", `{"t":"hello world","ids":[24912,2376]}`, "- [1]: 2376\n+ [1]: 2375\n"},
		{"an id too few", `{"t":"hello world","ids":[24912]}`, "- [1]: (nothing)\n+ [1]: 2375\n"},
		{"error for ids", `{"name":"x","query":{"op":"completion","messages":[],"role":"user"},"result":{"err":"no"}}`,
			"- .err: \"no\"\n+ .err: (nothing)\n- .ok: (nothing)\n+ .ok: [200006,1428]\n"},
		{"equal", `{"t":"hello world","ids":[24912,2375]}`, ""},
	} {
		if _, got, err := c.Check([]byte(test.line)); got != test.want || err != nil {
			t.Errorf("%s: difference %q and error %v, want %q and none", test.name, got, err, test.want)
		}
	}
}

func TestCheckRefusesWhatIsNoRecord(t *testing.T) {
	c := NewChecker(tokenizer.New())
	for line, want := range map[string]string{
		`{`:                                    "unexpected end",
		`{"a":1}`:                              "no record",
		`{"query":{"op":"dance"},"result":{}}`: "unknown op",
		`{"query":{"op":"decode","tokens":[-1]},"result":{}}`:                                     "cannot unmarshal",
		`{"query_raw":"{","result":{}}`:                                                           "unexpected end of JSON input",
		`{"query":{"op":"stream","text":"` + strings.Repeat("x ", streamMost) + `"},"result":{}}`: "want at most 2048",
	} {
		if _, _, err := c.Check([]byte(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", line, err, want)
		}
	}
}
