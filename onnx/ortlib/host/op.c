//go:build cgo && !noort && unix

// The operators, as ONNX Runtime's C interface describes them (runtime.h). What they compute is in Go.

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "op.h"
#include "_cgo_export.h"

#define DOMAIN_VERSION 2 // of onnx/lower
#define MOST_OPERATORS 32
#define MOST_INPUTS 64
#define MOST_OUTPUTS 4

#define FIELD(place, result, name, arguments) result(*name) arguments;
#define FILL(place, result, name, arguments) ort.name = (result(*) arguments)api->at[place];

static struct {
	ORT_FUNCTIONS(FIELD)
} ort;

typedef struct {
	OrtCustomOp op; // first: the runtime's pointer is ours
	ossifyOperator is;
} operator_t;

static uintptr_t library; // in Go: makes kernels

// status makes an error of a text, and frees it.
static OrtStatus *status(char *text) {
	if (text == NULL) return NULL;
	OrtStatus *s = ort.CreateStatus(ORT_INVALID_ARGUMENT, text);
	free(text);
	return s;
}

static OrtStatus *createKernel(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info, void **kernel) {
	const ossifyOperator *o = &((const operator_t *)op)->is;
	int64_t experts = 0;
	float alpha = 0, limit = 0;
	OrtStatus *s = NULL;
	if (o->experts) s = ort.KernelInfoGetAttribute_int64(info, "experts", &experts);
	if (!s && o->gate) s = ort.KernelInfoGetAttribute_float(info, "alpha", &alpha);
	if (!s && o->gate) s = ort.KernelInfoGetAttribute_float(info, "limit", &limit);
	if (s) return s;
	uintptr_t k = 0;
	s = status(ossifyNew(library, o->name, experts, alpha, limit, &k));
	*kernel = (void *)k;
	return s;
}

static void destroyKernel(void *kernel) {
	if (kernel) ossifyFree((uintptr_t)kernel);
}

static OrtStatus *describe(const OrtKernelContext *context, size_t i, ossifyTensor *t) {
	const OrtValue *value = NULL;
	OrtStatus *s = ort.KernelContext_GetInput(context, i, &value);
	if (s) return s;
	if (value == NULL) return ort.CreateStatus(ORT_INVALID_ARGUMENT, "ossify: an input is absent");
	OrtTensorTypeAndShapeInfo *info;
	if ((s = ort.GetTensorTypeAndShape(value, &info))) return s;
	int type = ORT_UNDEFINED;
	size_t rank = 0;
	s = ort.GetTensorElementType(info, &type);
	if (!s) s = ort.GetDimensionsCount(info, &rank);
	if (!s && rank > OSSIFY_RANK) s = ort.CreateStatus(ORT_INVALID_ARGUMENT, "ossify: an input of more than 8 dimensions");
	if (!s) s = ort.GetDimensions(info, t->dims, rank);
	ort.ReleaseTensorTypeAndShapeInfo(info);
	t->type = (int32_t)type;
	t->rank = (int32_t)rank;
	if (!s && type != ORT_STRING) s = ort.GetTensorMutableData((OrtValue *)value, &t->data);
	return s;
}

static OrtStatus *compute(void *kernel, OrtKernelContext *context) {
	size_t n;
	OrtStatus *s = ort.KernelContext_GetInputCount(context, &n);
	if (s) return s;
	const OrtValue *last = NULL;
	if (n > 0 && (s = ort.KernelContext_GetInput(context, n - 1, &last))) return s;
	if (n > 0 && last == NULL) n--; // biases that are left out
	if (n < 1 || n > MOST_INPUTS) return ort.CreateStatus(ORT_INVALID_ARGUMENT, "ossify: want 1 to 64 inputs");
	ossifyTensor in[MOST_INPUTS];
	memset(in, 0, n * sizeof in[0]);
	for (size_t i = 0; i < n; i++)
		if ((s = describe(context, i, &in[i]))) return s;

	ossifyTensor out[MOST_OUTPUTS];
	size_t outputs = 0;
	if ((s = ort.KernelContext_GetOutputCount(context, &outputs))) return s;
	if (outputs > MOST_OUTPUTS) return ort.CreateStatus(ORT_INVALID_ARGUMENT, "ossify: more than 4 outputs");
	memset(out, 0, sizeof out);
	if ((s = status(ossifyShapes((uintptr_t)kernel, in, (int)n, out, (int)outputs)))) return s;
	for (size_t i = 0; i < outputs; i++) {
		OrtValue *value;
		if ((s = ort.KernelContext_GetOutput(context, i, out[i].dims, (size_t)out[i].rank, &value))) return s;
		if ((s = ort.GetTensorMutableData(value, &out[i].data))) return s;
	}
	return status(ossifyRun((uintptr_t)kernel, context, in, (int)n, out, (int)outputs));
}

static void take(void *work, size_t i) { ossifyUnits((uintptr_t)work); }

void ossifyParallel(OrtKernelContext *context, size_t n, uintptr_t work) {
	OrtStatus *s = ort.KernelContext_ParallelFor(context, take, n, n, (void *)work);
	if (s == NULL) return;
	ort.ReleaseStatus(s); // there is no pool
	take((void *)work, 0);
}

static const char *name(const OrtCustomOp *op) { return ((const operator_t *)op)->is.name; }
static const char *provider(const OrtCustomOp *op) { return "CPUExecutionProvider"; }
static int inputType(const OrtCustomOp *op, size_t i) { return ORT_UNDEFINED; }
static size_t inputCount(const OrtCustomOp *op) {
	int n = ((const operator_t *)op)->is.inputs;
	return n ? (size_t)n : 1;
}
static int inputCharacteristic(const OrtCustomOp *op, size_t i) {
	int n = ((const operator_t *)op)->is.inputs;
	if (!n) return ORT_VARIADIC;
	return i + 1 == (size_t)n ? ORT_OPTIONAL : ORT_REQUIRED; // biases and sinks come last
}
static int outputType(const OrtCustomOp *op, size_t i) { return ORT_FLOAT; }
static size_t outputCount(const OrtCustomOp *op) { return (size_t)((const operator_t *)op)->is.outputs; }
static int outputCharacteristic(const OrtCustomOp *op, size_t i) { return ORT_REQUIRED; }
static int memoryType(const OrtCustomOp *op, size_t i) { return ORT_MEMORY_DEFAULT; }
static int two(const OrtCustomOp *op) { return 2; }
static int one(const OrtCustomOp *op) { return 1; }
static int none(const OrtCustomOp *op) { return 0; }
static int version(const OrtCustomOp *op) { return DOMAIN_VERSION; }

static operator_t operators[MOST_OPERATORS]; // they live as long as the library
static int made;

static void make(void) {
	library = ossifyLibrary();
	for (; made < MOST_OPERATORS; made++) {
		operator_t *o = &operators[made];
		if (!ossifyOp(made, &o->is)) return;
		o->op.version = ORT_API;
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
	const OrtApi *api = given->GetApi(ORT_API);
	if (api == NULL) return;
	ORT_FUNCTIONS(FILL)
	make();
}

OrtStatus *ossifyRegister(OrtSessionOptions *options, const OrtApiBase *base) {
	static pthread_once_t first = PTHREAD_ONCE_INIT;
	given = base;
	pthread_once(&first, once);
	if (made == 0) return NULL; // older than 1.17: the functions run as they are
	OrtCustomOpDomain *domain;
	OrtStatus *s = ort.CreateCustomOpDomain("ossify", &domain);
	for (int i = 0; !s && i < made; i++) s = ort.CustomOpDomain_Add(domain, &operators[i].op);
	return s ? s : ort.AddCustomOpDomain(options, domain);
}
