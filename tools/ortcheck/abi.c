// Compares what onnx/ortlib/host/runtime.h says of ONNX Runtime's C interface
// with the interface's own header: places, sizes, numbers. It compiles or not.
#include <stddef.h>
#include "onnxruntime_c_api.h"

#define SAME(place, result, name, arguments) \
	_Static_assert(offsetof(OrtApi, name) == (place) * sizeof(void (*)(void)), #name);
#define OrtStatus OwnStatus
#define OrtSessionOptions OwnSessionOptions
#define OrtCustomOpDomain OwnCustomOpDomain
#define OrtKernelInfo OwnKernelInfo
#define OrtKernelContext OwnKernelContext
#define OrtValue OwnValue
#define OrtTensorTypeAndShapeInfo OwnTensorTypeAndShapeInfo
#define OrtApi OwnApi
#define OrtApiBase OwnApiBase
#define OrtCustomOp OwnCustomOp
#define ORT_INVALID_ARGUMENT OWN_INVALID_ARGUMENT
#include "../../onnx/ortlib/host/runtime.h"
#undef OrtApi
#undef OrtApiBase
#undef OrtCustomOp
#undef ORT_INVALID_ARGUMENT

ORT_FUNCTIONS(SAME)

_Static_assert(offsetof(OrtApiBase, GetApi) == offsetof(OwnApiBase, GetApi), "GetApi");
_Static_assert(OWN_INVALID_ARGUMENT == ORT_INVALID_ARGUMENT, "ORT_INVALID_ARGUMENT");
_Static_assert(ORT_UNDEFINED == ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED, "ORT_UNDEFINED");
_Static_assert(ORT_FLOAT == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, "ORT_FLOAT");
_Static_assert(ORT_STRING == ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING, "ORT_STRING");
_Static_assert(ORT_REQUIRED == INPUT_OUTPUT_REQUIRED, "ORT_REQUIRED");
_Static_assert(ORT_OPTIONAL == INPUT_OUTPUT_OPTIONAL, "ORT_OPTIONAL");
_Static_assert(ORT_VARIADIC == INPUT_OUTPUT_VARIADIC, "ORT_VARIADIC");
_Static_assert(ORT_MEMORY_DEFAULT == OrtMemTypeDefault, "ORT_MEMORY_DEFAULT");

#define FIELD(name) _Static_assert(offsetof(OrtCustomOp, name) == offsetof(OwnCustomOp, name), #name)
FIELD(version);
FIELD(CreateKernel);
FIELD(GetName);
FIELD(GetExecutionProviderType);
FIELD(GetInputType);
FIELD(GetInputTypeCount);
FIELD(GetOutputType);
FIELD(GetOutputTypeCount);
FIELD(KernelCompute);
FIELD(KernelDestroy);
FIELD(GetInputCharacteristic);
FIELD(GetOutputCharacteristic);
FIELD(GetInputMemoryType);
FIELD(GetVariadicInputMinArity);
FIELD(GetVariadicInputHomogeneity);
FIELD(GetVariadicOutputMinArity);
FIELD(GetVariadicOutputHomogeneity);
FIELD(CreateKernelV2);
FIELD(KernelComputeV2);
FIELD(InferOutputShapeFn);
FIELD(GetStartVersion);
FIELD(GetEndVersion);

int main(void) { return 0; }
