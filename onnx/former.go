package onnx

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"ossify/onnx/wire"
)

// former is what an earlier export left in a folder. Only that may be replaced
// or removed without being told to.
type former struct {
	dir   string
	files []string // slash-separated paths below dir; the models first
}

// mostFormer is the size up to which a model is looked into, bytes. Ours have
// all weights outside: those of the 120b take 2 MB.
const mostFormer = 64 << 20

// formerly looks into a folder.
func formerly(dir string) *former {
	f := &former{dir: dir}
	var listed []string
	for _, folder := range []string{".", "onnx", "1"} {
		file := path.Join(folder, ModelFile)
		at := filepath.Join(dir, filepath.FromSlash(file))
		info, err := os.Lstat(at)
		if err != nil || !info.Mode().IsRegular() || info.Size() > mostFormer {
			continue
		}
		data, err := os.ReadFile(at)
		m := &wire.Model{}
		if err != nil || wire.Decode(data, m) != nil || m.Producer != producer {
			continue
		}
		f.files = append(f.files, file)
		for _, e := range m.Metadata {
			if e.Key == keyFiles {
				listed = append(listed, strings.Fields(e.Value)...)
			}
		}
		if m.Graph == nil {
			continue
		}
		for _, t := range m.Graph.Initializers {
			if p, err := t.Place(); err == nil && t.Location == wire.External {
				listed = append(listed, path.Join(folder, p.File))
			}
		}
	}
	for _, name := range listed {
		// A model may say anything; checkpoints in place are named too.
		if !slices.Contains(f.files, name) && (isData(name) || packaged[name]) {
			f.files = append(f.files, name)
		}
	}
	return f
}

// isData reports whether name is that of a data file that exports have had:
// model.onnx.data, model.onnx_data or model.onnx_data_1, in onnx or 1 or neither.
func isData(name string) bool {
	for _, folder := range []string{"onnx/", "1/"} {
		if below, ok := strings.CutPrefix(name, folder); ok {
			name = below
			break
		}
	}
	if name == ModelFile+".data" || name == DataFile {
		return true
	}
	number, ok := strings.CutPrefix(name, DataFile+"_")
	return ok && number != "" && strings.Trim(number, "0123456789") == ""
}

// packaged are the names of other files that exports write.
var packaged = map[string]bool{
	"config.json": true, "generation_config.json": true, "genai_config.json": true, "tokenizer.json": true,
	"tokenizer_config.json": true, "special_tokens_map.json": true, "chat_template.jinja": true, "config.pbtxt": true,
}

// has reports whether an earlier export wrote the file at path.
func (f *former) has(path string) bool {
	name, err := filepath.Rel(f.dir, path)
	return err == nil && slices.Contains(f.files, filepath.ToSlash(name))
}
