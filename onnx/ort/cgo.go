//go:build cgo && !noort

package ort

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"unsafe"

	ort "github.com/yalue/onnxruntime_go"

	"ossify/checkpoint"
)

// types are ONNX Runtime's element types.
var types = map[ort.TensorElementDataType]checkpoint.DType{
	ort.TensorElementDataTypeBool:     checkpoint.BOOL,
	ort.TensorElementDataTypeUint8:    checkpoint.U8,
	ort.TensorElementDataTypeInt8:     checkpoint.I8,
	ort.TensorElementDataTypeUint16:   checkpoint.U16,
	ort.TensorElementDataTypeInt16:    checkpoint.I16,
	ort.TensorElementDataTypeFloat16:  checkpoint.F16,
	ort.TensorElementDataTypeBFloat16: checkpoint.BF16,
	ort.TensorElementDataTypeInt32:    checkpoint.I32,
	ort.TensorElementDataTypeUint32:   checkpoint.U32,
	ort.TensorElementDataTypeFloat:    checkpoint.F32,
	ort.TensorElementDataTypeDouble:   checkpoint.F64,
	ort.TensorElementDataTypeInt64:    checkpoint.I64,
	ort.TensorElementDataTypeUint64:   checkpoint.U64,
}

func openLibrary(path string) (version string, err error) {
	if ort.IsInitialized() {
		return "", errors.New("a library is open already")
	}
	// The library reads it when its environment is made, C's and not a copy.
	if err := os.Setenv("ORT_DISABLE_TELEMETRY", "1"); err != nil {
		return "", err
	}
	ort.SetSharedLibraryPath(path)
	// Errors come back as values; what the library would print besides is noise.
	err = ort.InitializeEnvironment(ort.WithLogLevelFatal())
	if err != nil {
		if strings.Contains(err.Error(), "setting ORT API base: 2") {
			return "", fmt.Errorf("older than ONNX Runtime %s", oldest)
		}
		return "", err
	}
	if err := ort.DisableTelemetry(); err != nil { // of releases that do not know the variable
		ort.DestroyEnvironment()
		return "", err
	}
	return ort.GetVersion(), nil
}

func closeLibrary() error { return ort.DestroyEnvironment() }

type handle struct{ s *ort.DynamicAdvancedSession }

// load opens a model in the runtime at library.
func load(library, path string, o Options) (*Session, error) {
	// The binding describes a model only through a session of its own; without
	// any rewriting that is cheap.
	plain, err := options(Options{Plain: true})
	if err != nil {
		return nil, err
	}
	defer plain.Destroy()
	ins, outs, err := ort.GetInputOutputInfoWithOptions(path, plain)
	if err != nil {
		return nil, err
	}
	s := &Session{Inputs: infos(ins), Outputs: infos(outs)}
	if o.Want != nil {
		s.Outputs = slices.DeleteFunc(s.Outputs, func(x Info) bool { return !o.Want(x) })
	}
	for _, x := range slices.Concat(s.Inputs, s.Outputs) {
		if !x.Type.Valid() {
			return nil, fmt.Errorf("%s: not a tensor of numbers", shown(x.Name))
		}
	}
	if len(s.Inputs) == 0 || len(s.Outputs) == 0 {
		return nil, fmt.Errorf("%d inputs and %d outputs, want at least one of each", len(s.Inputs), len(s.Outputs))
	}
	opts, err := options(o)
	if err != nil {
		return nil, err
	}
	defer opts.Destroy()
	if o.Operators {
		if err := addOperators(library, opts); err != nil {
			return nil, err
		}
	}
	s.handle.s, err = ort.NewDynamicAdvancedSession(path, names(s.Inputs), names(s.Outputs), opts)
	return s, err
}

func infos(list []ort.InputOutputInfo) []Info {
	var all []Info
	for _, x := range list {
		info := Info{Name: x.Name}
		if x.OrtValueType == ort.ONNXTypeTensor {
			info.Type = types[x.DataType]
		}
		for _, d := range x.Dimensions {
			info.Shape = append(info.Shape, int(d))
		}
		all = append(all, info)
	}
	return all
}

func names(list []Info) []string {
	var all []string
	for _, x := range list {
		all = append(all, x.Name)
	}
	return all
}

func options(o Options) (*ort.SessionOptions, error) {
	opts, err := ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	if err := set(opts, o); err != nil {
		opts.Destroy()
		return nil, err
	}
	return opts, nil
}

func set(opts *ort.SessionOptions, o Options) error {
	level := ort.GraphOptimizationLevel(ort.GraphOptimizationLevelEnableExtended)
	if o.Plain {
		level = ort.GraphOptimizationLevelDisableAll
	}
	if err := opts.SetGraphOptimizationLevel(level); err != nil {
		return err
	}
	// An arena keeps the largest temporary of a prefill for ever.
	if err := opts.SetCpuMemArena(false); err != nil {
		return err
	}
	if err := opts.SetMemPattern(false); err != nil {
		return err
	}
	if err := opts.SetIntraOpNumThreads(o.Threads); err != nil {
		return err
	}
	for _, p := range o.Providers {
		if err := opts.AppendExecutionProvider(p.Name, p.Options); err != nil {
			return fmt.Errorf("provider %s: %w", shown(p.Name), err)
		}
	}
	config := o.config()
	for _, key := range slices.Sorted(maps.Keys(config)) {
		if err := opts.AddSessionConfigEntry(key, config[key]); err != nil {
			return err
		}
	}
	return nil
}

func (h handle) close() error { return h.s.Destroy() }

func (h handle) run(ctx context.Context, s *Session, in, out map[string]Tensor) error {
	var values []ort.Value
	defer func() {
		for _, v := range values {
			v.Destroy()
		}
	}()
	var pinned runtime.Pinner // the library keeps pointers to Go's memory during the run
	defer pinned.Unpin()
	give := func(name string, t Tensor) (ort.Value, error) {
		v, err := value(t, &pinned)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", shown(name), err)
		}
		values = append(values, v)
		return v, nil
	}
	inputs, outputs := make([]ort.Value, len(s.Inputs)), make([]ort.Value, len(s.Outputs))
	for i, x := range s.Inputs {
		v, err := give(x.Name, in[x.Name])
		if err != nil {
			return err
		}
		inputs[i] = v
	}
	for i, x := range s.Outputs {
		if t := out[x.Name]; t.Data != nil {
			v, err := give(x.Name, t)
			if err != nil {
				return err
			}
			outputs[i] = v
		} else if x.Type == checkpoint.F16 || x.Type == checkpoint.BF16 {
			return fmt.Errorf("output %s: %v outputs need a shape", shown(x.Name), x.Type) // the binding copies half of what it allocates itself
		}
	}
	opts, err := ort.NewRunOptions()
	if err != nil {
		return err
	}
	defer opts.Destroy()
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		opts.Terminate()
		close(stopped)
	})
	err = h.s.RunWithOptions(inputs, outputs, opts)
	if !stop() {
		<-stopped
	}
	for i, x := range s.Outputs {
		if v := outputs[i]; v != nil && out[x.Name].Data == nil {
			values = append(values, v)
			if err == nil {
				out[x.Name], err = tensor(x.Type, v)
			}
		}
	}
	return err
}

// value is t as the library takes it, sharing its memory.
func value(t Tensor, pinned *runtime.Pinner) (ort.Value, error) {
	var kind ort.TensorElementDataType
	for k, d := range types {
		if d == t.Type {
			kind = k
		}
	}
	if len(t.Shape) == 0 {
		switch v := t.Float64s()[0]; t.Type { // indices and switches: exact in float64
		case checkpoint.I64:
			return ort.NewScalar(int64(v))
		case checkpoint.I32:
			return ort.NewScalar(int32(v))
		case checkpoint.F32:
			return ort.NewScalar(float32(v))
		case checkpoint.BOOL:
			return ort.NewScalar(v != 0)
		}
		return nil, fmt.Errorf("scalar of %v", t.Type)
	}
	shape := make(ort.Shape, len(t.Shape))
	for i, d := range t.Shape {
		shape[i] = int64(d)
	}
	data := t.Data
	if len(data) == 0 {
		data = make([]byte, 8) // the binding wants an address
	}
	pinned.Pin(&data[0])
	return ort.NewCustomDataTensor(shape, data, kind)
}

// tensor is what the library allocated, in memory of Go's.
func tensor(typ checkpoint.DType, v ort.Value) (Tensor, error) {
	t := Tensor{Type: typ, Shape: []int{}}
	for _, d := range v.GetShape() {
		t.Shape = append(t.Shape, int(d))
	}
	for _, data := range []func(ort.Value) []byte{
		dataOf[float32], dataOf[float64], dataOf[int64], dataOf[uint64], dataOf[int32], dataOf[uint32],
		dataOf[int16], dataOf[uint16], dataOf[int8], dataOf[uint8], dataOf[bool],
	} {
		if t.Data = data(v); t.Data != nil {
			return t, t.check()
		}
	}
	return t, fmt.Errorf("output of type %T", v)
}

// dataOf is the memory of v, nil if its elements are not of type T. All that
// ONNX Runtime runs on is little-endian.
func dataOf[T ort.TensorData](v ort.Value) []byte {
	x, ok := v.(*ort.Tensor[T])
	if !ok {
		return nil
	}
	data := x.GetData()
	if len(data) == 0 {
		return []byte{}
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&data[0])), len(data)*int(unsafe.Sizeof(data[0])))
}
