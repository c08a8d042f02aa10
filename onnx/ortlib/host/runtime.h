// What the operators use of ONNX Runtime's C interface. Its functions stand in
// a table that releases only ever add to, so a place in it is a function for
// good. tools/ortcheck/abi.c compares all of it with the interface's own header.
#ifndef OSSIFY_RUNTIME_H
#define OSSIFY_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

typedef struct OrtStatus OrtStatus;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtCustomOpDomain OrtCustomOpDomain;
typedef struct OrtKernelInfo OrtKernelInfo;
typedef struct OrtKernelContext OrtKernelContext;
typedef struct OrtValue OrtValue;
typedef struct OrtTensorTypeAndShapeInfo OrtTensorTypeAndShapeInfo;

enum { ORT_API = 17 };              // the first with all of this
enum { ORT_INVALID_ARGUMENT = 2 };  // of a status
enum { ORT_UNDEFINED = 0, ORT_FLOAT = 1, ORT_STRING = 8 }; // types of elements
enum { ORT_REQUIRED = 0, ORT_OPTIONAL = 1, ORT_VARIADIC = 2 };
enum { ORT_MEMORY_DEFAULT = 0 };

// X(place, result, name, arguments)
#define ORT_FUNCTIONS(X) \
	X(0, OrtStatus *, CreateStatus, (int code, const char *message)) \
	X(26, OrtStatus *, CreateCustomOpDomain, (const char *domain, OrtCustomOpDomain **out)) \
	X(27, OrtStatus *, CustomOpDomain_Add, (OrtCustomOpDomain *domain, const struct OrtCustomOp *op)) \
	X(28, OrtStatus *, AddCustomOpDomain, (OrtSessionOptions *options, OrtCustomOpDomain *domain)) \
	X(51, OrtStatus *, GetTensorMutableData, (OrtValue *value, void **out)) \
	X(60, OrtStatus *, GetTensorElementType, (const OrtTensorTypeAndShapeInfo *info, int *out)) \
	X(61, OrtStatus *, GetDimensionsCount, (const OrtTensorTypeAndShapeInfo *info, size_t *out)) \
	X(62, OrtStatus *, GetDimensions, (const OrtTensorTypeAndShapeInfo *info, int64_t *dims, size_t n)) \
	X(65, OrtStatus *, GetTensorTypeAndShape, (const OrtValue *value, OrtTensorTypeAndShapeInfo **out)) \
	X(85, OrtStatus *, KernelInfoGetAttribute_float, (const OrtKernelInfo *info, const char *name, float *out)) \
	X(86, OrtStatus *, KernelInfoGetAttribute_int64, (const OrtKernelInfo *info, const char *name, int64_t *out)) \
	X(88, OrtStatus *, KernelContext_GetInputCount, (const OrtKernelContext *context, size_t *out)) \
	X(89, OrtStatus *, KernelContext_GetOutputCount, (const OrtKernelContext *context, size_t *out)) \
	X(90, OrtStatus *, KernelContext_GetInput, (const OrtKernelContext *context, size_t i, const OrtValue **out)) \
	X(91, OrtStatus *, KernelContext_GetOutput, (OrtKernelContext *context, size_t i, const int64_t *dims, size_t n, OrtValue **out)) \
	X(93, void, ReleaseStatus, (OrtStatus *status)) \
	X(99, void, ReleaseTensorTypeAndShapeInfo, (OrtTensorTypeAndShapeInfo *info)) \
	X(274, OrtStatus *, KernelContext_ParallelFor, (const OrtKernelContext *context, void (*f)(void *, size_t), size_t n, size_t batches, void *data))

typedef struct OrtApi {
	void (*at[275])(void);
} OrtApi;

typedef struct OrtApiBase {
	const OrtApi *(*GetApi)(uint32_t version);
	const char *(*GetVersionString)(void);
} OrtApiBase;

struct OrtCustomOp {
	uint32_t version;
	void *(*CreateKernel)(const struct OrtCustomOp *, const OrtApi *, const OrtKernelInfo *);
	const char *(*GetName)(const struct OrtCustomOp *);
	const char *(*GetExecutionProviderType)(const struct OrtCustomOp *);
	int (*GetInputType)(const struct OrtCustomOp *, size_t);
	size_t (*GetInputTypeCount)(const struct OrtCustomOp *);
	int (*GetOutputType)(const struct OrtCustomOp *, size_t);
	size_t (*GetOutputTypeCount)(const struct OrtCustomOp *);
	void (*KernelCompute)(void *, OrtKernelContext *);
	void (*KernelDestroy)(void *);
	int (*GetInputCharacteristic)(const struct OrtCustomOp *, size_t);
	int (*GetOutputCharacteristic)(const struct OrtCustomOp *, size_t);
	int (*GetInputMemoryType)(const struct OrtCustomOp *, size_t);
	int (*GetVariadicInputMinArity)(const struct OrtCustomOp *);
	int (*GetVariadicInputHomogeneity)(const struct OrtCustomOp *);
	int (*GetVariadicOutputMinArity)(const struct OrtCustomOp *);
	int (*GetVariadicOutputHomogeneity)(const struct OrtCustomOp *);
	OrtStatus *(*CreateKernelV2)(const struct OrtCustomOp *, const OrtApi *, const OrtKernelInfo *, void **);
	OrtStatus *(*KernelComputeV2)(void *, OrtKernelContext *);
	OrtStatus *(*InferOutputShapeFn)(const struct OrtCustomOp *, void *);
	int (*GetStartVersion)(const struct OrtCustomOp *);
	int (*GetEndVersion)(const struct OrtCustomOp *);
	// Of API 18 on more follows, which a table of API 17 is without.
};
typedef struct OrtCustomOp OrtCustomOp;

#endif
