// Package ossify_test asserts the rules that hold for the whole tree.
package ossify_test

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"math"
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
	"generate/onengine":      {"engine", "generate"},
	"generate/onruntime":     {"generate", "onnx/ort"},
	"generate/script":        {"generate"},
	"server":                 {"batch/store", "generate", "openai"},
	"server/mcp":             {"internal/quote"},
	"server/page":            {},
	"pipeline":               {},
	"pipeline/beam":          {"pipeline"},
	"batch":                  {"internal/fileset", "internal/quote", "pipeline"},
	"sweep":                  {"internal/fileset", "internal/quote", "parity", "pipeline"},
	"sweep/page":             {"internal/quote", "parity", "parity/page", "sweep"},
	"batch/store":            {"batch", "internal/fileset", "internal/quote", "pipeline"},
	"batch/worker":           {"batch", "engine", "generate", "generate/onengine", "gptoss", "harmony", "internal/fileset", "openai", "pipeline", "pull", "tokenizer", "verify"},
	"grammar":                {"harmony", "internal/quote", "tokenizer"},
	"openai":                 {"generate", "grammar", "harmony", "harmony/serde", "internal/quote", "tokenizer"},
	"harmony/internal/rust":  {},
	"harmony":                {"harmony/internal/rust", "internal/quote", "tokenizer"},
	"harmony/serde":          {"harmony", "harmony/internal/rust"},
	"harmony/conform":        {"harmony", "harmony/serde", "internal/quote", "tokenizer"},
	"internal/fileset":       {"internal/quote"},
	"internal/quote":         {},
	"internal/strictjson":    {"internal/quote"},
	"internal/huge":          {},
	"internal/mapped":        {},
	"fault":                  {"graph", "weight"},
	"oracle":                 {"float", "graph", "internal/mapped"},
	"kernel":                 {"float"},
	"checkpoint":             {"float", "internal/fileset", "internal/quote", "internal/strictjson"},
	"weight":                 {"checkpoint", "float", "graph", "internal/mapped"},
	"engine/internal/screen": {"float", "kernel"},
	"pull":                   {},
	"pull/hubtest":           {},
	"engine":                 {"checkpoint", "engine/internal/screen", "float", "graph", "internal/huge", "internal/mapped", "kernel", "weight"},
	"parity":                 {"checkpoint", "float", "internal/fileset"},
	"parity/page":            {"internal/quote", "parity"},
	"parity/page/pagetest":   {"parity"},
	"gptoss":                 {"checkpoint", "engine", "float", "graph", "internal/fileset", "internal/quote", "tokenizer", "weight"},
	"synth":                  {"checkpoint", "float", "gptoss", "graph", "internal/fileset", "weight"},
	"trained":                {"checkpoint", "gptoss", "graph", "synth", "weight"},
	"internal/golden":        {},
	"internal/modeltest":     {"gptoss", "graph", "synth"},
	"convert/array":          {"checkpoint"},
	"convert/frame":          {},
	"convert/jsonobject":     {"internal/quote"},
	"convert/msgpack":        {"checkpoint", "convert/array", "internal/quote"},
	"convert/ocdbt":          {"convert/frame", "internal/quote"},
	"convert/zarr":           {"checkpoint", "convert/array", "convert/frame", "convert/jsonobject", "internal/quote"},
	"convert/orbax":          {"convert/array", "convert/jsonobject", "convert/ocdbt", "convert/zarr", "internal/quote"},
	"convert":                {"checkpoint", "convert/array", "convert/msgpack", "convert/orbax", "float", "gptoss", "graph", "internal/fileset", "internal/quote", "weight"},
	"onnx/wire":              {},
	"onnx/build":             {"onnx/wire"},
	"onnx/lower":             {"checkpoint", "float", "graph", "onnx/build", "onnx/wire", "weight"},
	"onnx":                   {"checkpoint", "float", "graph", "internal/fileset", "onnx/build", "onnx/lower", "onnx/wire", "weight"},
	"onnx/examples":          {"graph", "onnx", "onnx/lower"},
	"onnx/ortlib":            {"float", "kernel"},
	"onnx/pack":              {"checkpoint", "engine", "float", "graph", "gptoss", "harmony", "internal/fileset", "kernel", "onnx", "onnx/build", "onnx/lower", "onnx/wire", "tokenizer", "weight"},
	"onnx/ortlib/host":       {"kernel", "onnx/ortlib"},
	"onnx/ort":               {"checkpoint", "float", "onnx/ortlib/host"},
	"verify":                 {"checkpoint", "engine", "fault", "float", "gptoss", "graph", "internal/fileset", "oracle", "parity", "weight"},
	"verify/onnx":            {"checkpoint", "engine", "fault", "gptoss", "graph", "internal/fileset", "onnx", "onnx/lower", "onnx/ort", "oracle", "parity", "verify", "weight"},
}

// commandLine is the room of the programs' common command line, which they alone
// may import.
const commandLine = "cmd/internal/cli"

// forTests are rooms that nothing but tests may import.
var forTests = []string{"internal/golden", "internal/modeltest", "parity/page/pagetest", "pull/hubtest"}

func TestImportsRunOneWay(t *testing.T) {
	module := modulePath(t)
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
			if program(dep) && !(dep == commandLine && program(room)) || slices.Contains(forTests, dep) {
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

// A program without ONNX Runtime needs no cgo: under the tag noort no package of
// ours or of others uses it. Go's own net and runtime do where there is a C
// compiler, and need not.
func TestNoRuntimeNoCgo(t *testing.T) {
	users := func(cgo, tags, of string) []string {
		c := exec.Command("go", "list", "-deps", "-tags", tags, "-f", "{{if "+of+"}}{{.ImportPath}}{{end}}", "./cmd/ossify")
		c.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
		out, err := c.Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Fields(string(out))
	}
	if list := users("1", "", `eq .ImportPath "github.com/apache/beam/sdks/v2/go/pkg/beam"`); len(list) > 0 {
		t.Error("cmd/ossify has Beam in it, want it in cmd/ossify-beam alone")
	}
	const others = "and .CgoFiles (not .Standard)"
	if list := users("1", "noort", others); len(list) > 0 {
		t.Errorf("with the tag noort %v use cgo", list)
	}
	if list := users("0", "noort", ".CgoFiles"); len(list) > 0 {
		t.Errorf("with the tag noort and without cgo %v use it", list)
	}
	if list := users("1", "", others); !slices.Contains(list, "github.com/yalue/onnxruntime_go") {
		t.Errorf("without the tag %v use cgo, want ONNX Runtime's package among them: else this test sees nothing", list)
	}
}

// modulePath is what go.mod says, the one place that does.
func modulePath(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// ONNX's wire types stay in onnx, command line and progress bar in cmd, and no
// library reads the environment.
func TestWhatStaysInItsRoom(t *testing.T) {
	module := modulePath(t)
	walk(t, func(path string, f *ast.File) {
		dir := filepath.ToSlash(filepath.Dir(path))
		for _, imp := range f.Imports {
			p := strings.Trim(imp.Path.Value, `"`)
			if strings.HasPrefix(p, "github.com/apache/beam") && dir != "pipeline/beam" {
				t.Errorf("%s imports %s: Beam stays in pipeline/beam", path, p)
			}
			if strings.HasPrefix(p, "google.golang.org/protobuf") && dir != "onnx/wire" || p == module+"/onnx/wire" && !strings.HasPrefix(dir, "onnx") {
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
// gptoss/model.go, those that checkpoints state in gptoss/config.go. They are
// found by value, however they are spelt: 2_880, 0xB40, 2*1440.
func TestConstantsHaveOneHome(t *testing.T) {
	homes := []struct {
		value float64
		files []string
	}{
		{1.702, []string{"gptoss/model.go"}},                             // swiglu's alpha
		{150000, []string{"gptoss/config.go"}},                           // rope_theta
		{2880, []string{"gptoss/config.go"}},                             // hidden_size
		{201088, []string{"gptoss/config.go", "tokenizer/tokenizer.go"}}, // vocab_size
	}
	found := map[string]int{}
	walk(t, func(path string, f *ast.File) {
		path = filepath.ToSlash(path)
		if strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "tools/") || strings.HasSuffix(path, "/classes.go") {
			return
		}
		ast.Inspect(f, func(n ast.Node) bool {
			e, ok := n.(ast.Expr)
			if !ok {
				return true
			}
			v, ok := number(e)
			if !ok {
				return true
			}
			for _, h := range homes {
				if v == h.value {
					found[fmt.Sprint(v, " ", path)]++
					if !slices.Contains(h.files, path) {
						t.Errorf("%s holds %v, which belongs to %v", path, v, h.files)
					}
				}
			}
			return false // its parts are no constants of their own
		})
	})
	for _, h := range homes {
		for _, file := range h.files {
			if found[fmt.Sprint(h.value, " ", file)] == 0 {
				t.Errorf("%v does not stand in %s", h.value, file)
			}
		}
	}
	if n := found["1.702 gptoss/model.go"]; n != 1 {
		t.Errorf("1.702 stands in %d places, want one", n)
	}
}

// number returns the value of an expression of literals.
func number(e ast.Expr) (float64, bool) {
	var value func(e ast.Expr) constant.Value
	value = func(e ast.Expr) constant.Value {
		switch e := e.(type) {
		case *ast.BasicLit:
			if e.Kind == token.INT || e.Kind == token.FLOAT {
				return constant.MakeFromLiteral(e.Value, e.Kind, 0)
			}
		case *ast.ParenExpr:
			return value(e.X)
		case *ast.UnaryExpr:
			if x := value(e.X); x != nil && (e.Op == token.ADD || e.Op == token.SUB) {
				return constant.UnaryOp(e.Op, x, 0)
			}
		case *ast.BinaryExpr:
			x, y := value(e.X), value(e.Y)
			if x == nil || y == nil {
				return nil
			}
			switch e.Op {
			case token.ADD, token.SUB, token.MUL:
				return constant.BinaryOp(x, e.Op, y)
			case token.QUO:
				if constant.Sign(y) != 0 {
					return constant.BinaryOp(x, e.Op, y)
				}
			case token.SHL, token.SHR:
				if n, ok := constant.Uint64Val(constant.ToInt(y)); ok && n < 64 && constant.ToInt(x).Kind() == constant.Int {
					return constant.Shift(constant.ToInt(x), e.Op, uint(n))
				}
			}
		}
		return nil
	}
	v := value(e)
	if v == nil {
		return 0, false
	}
	f, _ := constant.Float64Val(constant.ToFloat(v))
	return f, true
}

func TestNumber(t *testing.T) {
	for text, want := range map[string]float64{
		"2880": 2880, "2_880": 2880, "0xB40": 2880, "2*1440": 2880, "(45 << 6)": 2880, "1.5e5": 150000, "1702.0/1000": 1.702, "-(1+2)": -3, "1/0": math.NaN(), "x": math.NaN(), "2*x": math.NaN(), `"2880"`: math.NaN(),
	} {
		e, err := parser.ParseExpr(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := number(e); ok == math.IsNaN(want) || ok && got != want {
			t.Errorf("%s: got %v, %v, want %v", text, got, ok, want)
		}
	}
}

// What the Makefile leaves out of short runs are tests that there are; and it leaves
// nothing out of a full run.
func TestLongTestsAreThere(t *testing.T) {
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	_, list, ok := strings.Cut(string(makefile), "\nLONG := ")
	list, _, _ = strings.Cut(list, "\n")
	if out, err := exec.Command("make", "-n", "unit", "FULL=").Output(); err != nil || !strings.Contains(string(out), "-skip '^("+list+")$'") {
		t.Errorf("a short run: %s, %v, want %s left out", out, err, list)
	}
	if out, err := exec.Command("make", "-n", "unit", "FULL=1").Output(); err != nil || strings.Contains(string(out), "-skip") || strings.Contains(string(out), "-short") || !strings.Contains(string(out), " ./...") {
		t.Errorf("a full run: %s, %v, want all of every test", out, err)
	}
	long := map[string]bool{}
	for name := range strings.SplitSeq(list, "|") {
		long[name] = true
	}
	walk(t, func(path string, f *ast.File) {
		for _, d := range f.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && strings.HasSuffix(path, "_test.go") && f.Recv == nil {
				delete(long, f.Name.Name)
			}
		}
	})
	if !ok || len(long) > 0 {
		t.Errorf("the Makefile's LONG names tests that are nowhere: %v (found: %t)", slices.Sorted(maps.Keys(long)), ok)
	}
}

// The race detector sees every package that starts goroutines, directly or
// through internal/mapped.
func TestRaceCoversGoroutines(t *testing.T) {
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	_, rule, _ := strings.Cut(string(makefile), "\nrace:")
	rule, _, _ = strings.Cut(rule, "\n\n")
	raced := strings.Fields(rule)
	walk(t, func(path string, f *ast.File) {
		dir := filepath.ToSlash(filepath.Dir(path))
		if strings.HasSuffix(path, "_test.go") || strings.HasPrefix(dir, "tools/") || strings.Contains(path, "testdata/") || slices.Contains(raced, "./"+dir) {
			return
		}
		ast.Inspect(f, func(n ast.Node) bool {
			starts := false
			switch n := n.(type) {
			case *ast.GoStmt:
				starts = true
			case *ast.CallExpr:
				if s, ok := n.Fun.(*ast.SelectorExpr); ok {
					x, _ := s.X.(*ast.Ident)
					starts = s.Sel.Name == "Go" || s.Sel.Name == "Each" && x != nil && x.Name == "mapped"
				}
			}
			if starts {
				t.Errorf("%s starts goroutines, but the Makefile's race does not cover ./%s", path, dir)
			}
			return true
		})
	})
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
