// Package ossify_test asserts the rules that hold for the whole tree.
package ossify_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// rooms says which rooms of ours each room may import. Imports run one way, so
// that the rooms below a room are those of its row, and theirs. Programs, which
// nothing imports, may import all.
var rooms = map[string][]string{
	"float":                  {},
	"graph":                  {},
	"tokenizer":              {},
	"generate":               {},
	"harmony/internal/rust":  {},
	"harmony":                {"harmony/internal/rust", "internal/quote", "tokenizer"},
	"harmony/serde":          {"harmony", "harmony/internal/rust"},
	"harmony/conform":        {"harmony", "harmony/serde", "internal/quote", "tokenizer"},
	"internal/fileset":       {},
	"internal/quote":         {},
	"internal/mapped":        {},
	"fault":                  {"graph"},
	"oracle":                 {"graph", "internal/mapped"},
	"kernel":                 {"float"},
	"checkpoint":             {"float", "internal/fileset"},
	"weight":                 {"checkpoint", "float", "graph"},
	"engine/internal/screen": {"float", "kernel"},
	"pull":                   {},
	"engine":                 {"engine/internal/screen", "float", "graph", "internal/mapped", "kernel", "weight"},
	"parity":                 {"checkpoint", "float", "internal/fileset"},
	"gptoss":                 {"checkpoint", "engine", "float", "graph", "internal/fileset", "tokenizer", "weight"},
	"synth":                  {"checkpoint", "float", "gptoss", "graph", "internal/fileset", "weight"},
	"internal/modeltest":     {"gptoss", "synth"},
	"onnx/wire":              {},
	"onnx/build":             {"onnx/wire"},
	"onnx/lower":             {"checkpoint", "float", "graph", "onnx/build", "onnx/wire", "weight"},
	"onnx":                   {"checkpoint", "float", "graph", "internal/fileset", "onnx/build", "onnx/lower", "onnx/wire", "weight"},
	"onnx/examples":          {"graph", "onnx", "onnx/lower"},
	"onnx/pack":              {"checkpoint", "engine", "float", "graph", "gptoss", "harmony", "internal/fileset", "kernel", "onnx", "onnx/build", "onnx/lower", "onnx/wire", "tokenizer", "weight"},
	"onnx/ort":               {"checkpoint", "float"},
	"verify":                 {"checkpoint", "engine", "fault", "gptoss", "graph", "internal/fileset", "onnx", "onnx/lower", "onnx/ort", "oracle", "parity", "weight"},
}

func TestImportsRunOneWay(t *testing.T) {
	const module = "ossify"
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		imports := strings.Fields(line)
		room := strings.TrimPrefix(strings.TrimPrefix(imports[0], module), "/")
		program := func(dir string) bool { return strings.HasPrefix(dir, "cmd/") || strings.HasPrefix(dir, "tools/") }
		allowed, listed := rooms[room]
		seen[room] = true
		if room != "" && !listed && !program(room) {
			t.Errorf("%s is in no row of rooms: say what it may import", room)
		}
		for _, path := range imports[1:] {
			dep, ours := strings.CutPrefix(path, module+"/")
			if !ours {
				continue
			}
			if listed && !slices.Contains(allowed, dep) {
				t.Errorf("%s imports %s, want at most %v", room, dep, allowed)
			}
			if program(dep) || dep == "internal/modeltest" {
				t.Errorf("%s imports %s, which is for nobody but tests and users", room, dep)
			}
		}
	}
	for room, allowed := range rooms {
		if !seen[room] {
			t.Errorf("there is no %s, which has a row in rooms", room)
		}
		for _, dep := range allowed {
			if !seen[dep] {
				t.Errorf("there is no %s, which %s may import", dep, room)
			}
		}
	}
}

// ONNX's wire types stay in onnx, command line and progress bar in cmd, and no
// library reads the environment.
func TestWhatStaysInItsRoom(t *testing.T) {
	walk(t, func(path string, f *ast.File) {
		dir := filepath.ToSlash(filepath.Dir(path))
		for _, imp := range f.Imports {
			p := strings.Trim(imp.Path.Value, `"`)
			if strings.HasPrefix(p, "google.golang.org/protobuf") && dir != "onnx/wire" || p == "ossify/onnx/wire" && !strings.HasPrefix(dir, "onnx") {
				t.Errorf("%s imports %s: the wire form of ONNX stays in onnx", path, p)
			}
			if (strings.HasPrefix(p, "github.com/spf13") || strings.Contains(p, "progressbar")) && !strings.HasPrefix(dir, "cmd/") && !strings.HasPrefix(dir, "tools/") {
				t.Errorf("%s imports %s: flags and printing stay in cmd", path, p)
			}
		}
		if strings.HasPrefix(dir, "cmd/") || strings.HasPrefix(dir, "tools/") || strings.HasSuffix(path, "_test.go") {
			return
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "os" && slices.Contains([]string{"Getenv", "LookupEnv", "Environ"}, s.Sel.Name) {
					t.Errorf("%s reads the environment", path)
				}
			}
			if d, ok := n.(*ast.FuncDecl); ok && d.Recv == nil && d.Name.Name == "init" {
				t.Errorf("%s has an init", path)
			}
			return true
		})
	})
}

// The constants of gpt-oss stand in one place: those of the model in
// gptoss/model.go, those that checkpoints state in gptoss/config.go.
func TestConstantsHaveOneHome(t *testing.T) {
	homes := map[string]string{
		"1.702":  "gptoss/model.go",  // swiglu's alpha
		"150000": "gptoss/config.go", // rope_theta
		"201088": "gptoss/config.go", // vocab_size
		"2880":   "gptoss/config.go", // hidden_size
	}
	places := map[string]int{}
	walk(t, func(path string, f *ast.File) {
		dir := filepath.ToSlash(filepath.Dir(path))
		if strings.HasSuffix(path, "_test.go") || !slices.Contains([]string{"gptoss", "engine", "graph", "oracle", "onnx", "onnx/lower", "checkpoint", "float", "kernel", "verify"}, dir) {
			return
		}
		ast.Inspect(f, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok {
				return true
			}
			if home, ok := homes[lit.Value]; ok {
				places[lit.Value]++
				if filepath.ToSlash(path) != home {
					t.Errorf("%s holds %s, which belongs to %s", path, lit.Value, home)
				}
			}
			return true
		})
	})
	for c, home := range homes {
		if n := places[c]; n < 1 || home == "gptoss/model.go" && n != 1 {
			t.Errorf("%s stands in %d places, want it in %s", c, n, home)
		}
	}
}

// walk parses every Go file of the main module.
func walk(t *testing.T, visit func(path string, f *ast.File)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "build" || d.Name() == "bin" || d.Name() == "node_modules" || path != "." && strings.HasPrefix(d.Name(), ".")) {
			return filepath.SkipDir
		}
		if d.IsDir() && path != "." {
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil {
				return filepath.SkipDir // a module of its own
			}
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		visit(path, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
