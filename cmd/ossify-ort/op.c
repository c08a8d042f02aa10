//go:build ortlib

// The operators, as ONNX Runtime's C interface describes them (OrtCustomOp, API
// version 17). What they compute is in Go.

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "op.h"
#include "_cgo_export.h"

#define API 17
#define DOMAIN_VERSION 2 // of onnx/lower
#define MOST_OPERATORS 32
#define MOST_INPUTS 64

static const OrtApi *ort;

typedef struct {
	OrtCustomOp op; // first: the runtime's pointer is ours
	char *name;
	int inputs; // 0 is any number
	int experts;
} operator_t;

// status makes an error of a text, and frees it.
static OrtStatus *status(char *text) {
	if (text == NULL) return NULL;
	OrtStatus *s = ort->CreateStatus(ORT_INVALID_ARGUMENT, text);
	free(text);
	return s;
}

static OrtStatusPtr ORT_API_CALL createKernel(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info, void **kernel) {
	const operator_t *o = (const operator_t *)op;
	int64_t experts = 0;
	if (o->experts) {
		OrtStatus *s = ort->KernelInfoGetAttribute_int64(info, "experts", &experts);
		if (s) return s;
	}
	uintptr_t k = 0;
	OrtStatus *s = status(ossifyNew(o->name, experts, &k));
	*kernel = (void *)k;
	return s;
}

static void ORT_API_CALL destroyKernel(void *kernel) {
	if (kernel) ossifyFree((uintptr_t)kernel);
}

static OrtStatus *describe(const OrtKernelContext *context, size_t i, ossifyTensor *t) {
	const OrtValue *value = NULL;
	OrtStatus *s = ort->KernelContext_GetInput(context, i, &value);
	if (s) return s;
	if (value == NULL) return ort->CreateStatus(ORT_INVALID_ARGUMENT, "ossify: an input is absent");
	OrtTensorTypeAndShapeInfo *info;
	if ((s = ort->GetTensorTypeAndShape(value, &info))) return s;
	ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
	size_t rank = 0;
	s = ort->GetTensorElementType(info, &type);
	if (!s) s = ort->GetDimensionsCount(info, &rank);
	if (!s && rank > OSSIFY_RANK) s = ort->CreateStatus(ORT_INVALID_ARGUMENT, "ossify: an input of more than 8 dimensions");
	if (!s) s = ort->GetDimensions(info, t->dims, rank);
	ort->ReleaseTensorTypeAndShapeInfo(info);
	t->type = (int32_t)type;
	t->rank = (int32_t)rank;
	if (!s && type != ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING) s = ort->GetTensorMutableData((OrtValue *)value, &t->data);
	return s;
}

static OrtStatusPtr ORT_API_CALL compute(void *kernel, OrtKernelContext *context) {
	size_t n;
	OrtStatus *s = ort->KernelContext_GetInputCount(context, &n);
	if (s) return s;
	const OrtValue *last = NULL;
	if (n > 0 && (s = ort->KernelContext_GetInput(context, n - 1, &last))) return s;
	if (n > 0 && last == NULL) n--; // biases that are left out
	if (n < 1 || n > MOST_INPUTS) return ort->CreateStatus(ORT_INVALID_ARGUMENT, "ossify: want 1 to 64 inputs");
	ossifyTensor in[MOST_INPUTS];
	memset(in, 0, n * sizeof in[0]);
	for (size_t i = 0; i < n; i++)
		if ((s = describe(context, i, &in[i]))) return s;

	int64_t dims[OSSIFY_RANK];
	int rank = 0;
	if ((s = status(ossifyShape((uintptr_t)kernel, in, (int)n, dims, &rank)))) return s;
	OrtValue *out;
	if ((s = ort->KernelContext_GetOutput(context, 0, dims, (size_t)rank, &out))) return s;
	float *values;
	if ((s = ort->GetTensorMutableData(out, (void **)&values))) return s;
	int64_t size = 1;
	for (int i = 0; i < rank; i++) size *= dims[i];
	return status(ossifyRun((uintptr_t)kernel, context, in, (int)n, values, size));
}

static void unit(void *work, size_t i) { ossifyUnit((uintptr_t)work, i); }

void parallel(OrtKernelContext *context, size_t n, uintptr_t work) {
	OrtStatus *s = ort->KernelContext_ParallelFor(context, unit, n, 0, (void *)work);
	if (s == NULL) return;
	ort->ReleaseStatus(s); // there is no pool
	for (size_t i = 0; i < n; i++) unit((void *)work, i);
}

static const char *ORT_API_CALL name(const OrtCustomOp *op) { return ((const operator_t *)op)->name; }
static const char *ORT_API_CALL provider(const OrtCustomOp *op) { return "CPUExecutionProvider"; }
static ONNXTensorElementDataType ORT_API_CALL inputType(const OrtCustomOp *op, size_t i) { return ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED; }
static size_t ORT_API_CALL inputCount(const OrtCustomOp *op) {
	int n = ((const operator_t *)op)->inputs;
	return n ? (size_t)n : 1;
}
static OrtCustomOpInputOutputCharacteristic ORT_API_CALL inputCharacteristic(const OrtCustomOp *op, size_t i) {
	int n = ((const operator_t *)op)->inputs;
	if (!n) return INPUT_OUTPUT_VARIADIC;
	return i + 1 == (size_t)n ? INPUT_OUTPUT_OPTIONAL : INPUT_OUTPUT_REQUIRED; // biases come last
}
static ONNXTensorElementDataType ORT_API_CALL outputType(const OrtCustomOp *op, size_t i) { return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT; }
static size_t ORT_API_CALL outputCount(const OrtCustomOp *op) { return 1; }
static OrtCustomOpInputOutputCharacteristic ORT_API_CALL outputCharacteristic(const OrtCustomOp *op, size_t i) { return INPUT_OUTPUT_REQUIRED; }
static OrtMemType ORT_API_CALL memoryType(const OrtCustomOp *op, size_t i) { return OrtMemTypeDefault; }
static int ORT_API_CALL two(const OrtCustomOp *op) { return 2; }
static int ORT_API_CALL one(const OrtCustomOp *op) { return 1; }
static int ORT_API_CALL none(const OrtCustomOp *op) { return 0; }
static int ORT_API_CALL version(const OrtCustomOp *op) { return DOMAIN_VERSION; }

static operator_t operators[MOST_OPERATORS]; // they live as long as the library
static int made;

static void make(void) {
	for (; made < MOST_OPERATORS; made++) {
		operator_t *o = &operators[made];
		if (!ossifyOp(made, &o->name, &o->inputs, &o->experts)) return;
		o->op.version = API;
		o->op.CreateKernelV2 = createKernel;
		o->op.KernelComputeV2 = compute;
		o->op.KernelDestroy = destroyKernel;
		o->op.GetName = name;
		o->op.GetExecutionProviderType = provider;
		o->op.GetInputType = inputType;
		o->op.GetInputTypeCount = inputCount;
		o->op.GetInputCharacteristic = inputCharacteristic;
		o->op.GetOutputType = outputType;
		o->op.GetOutputTypeCount = outputCount;
		o->op.GetOutputCharacteristic = outputCharacteristic;
		o->op.GetInputMemoryType = memoryType;
		o->op.GetVariadicInputMinArity = two;
		o->op.GetVariadicInputHomogeneity = none;
		o->op.GetVariadicOutputMinArity = one;
		o->op.GetVariadicOutputHomogeneity = one;
		o->op.GetStartVersion = version;
		o->op.GetEndVersion = version;
	}
}

static const OrtApiBase *given;

static void once(void) {
	ort = given->GetApi(API);
	if (ort != NULL) make();
}

OrtStatus *registerOps(OrtSessionOptions *options, const OrtApiBase *base) {
	static pthread_once_t first = PTHREAD_ONCE_INIT;
	given = base;
	pthread_once(&first, once);
	if (ort == NULL) return NULL; // older than 1.17: the functions run as they are
	OrtCustomOpDomain *domain;
	OrtStatus *s = ort->CreateCustomOpDomain("ossify", &domain);
	for (int i = 0; !s && i < made; i++) s = ort->CustomOpDomain_Add(domain, &operators[i].op);
	return s ? s : ort->AddCustomOpDomain(options, domain);
}
