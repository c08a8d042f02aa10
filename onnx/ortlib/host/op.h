#ifndef OSSIFY_OP_H
#define OSSIFY_OP_H

#include "runtime.h"

#define OSSIFY_RANK 8

// An input or output, in the runtime's memory.
typedef struct {
	int32_t type;
	int32_t rank;
	int64_t dims[OSSIFY_RANK];
	void *data;
} ossifyTensor;

// An operator, as its description in Go says it.
typedef struct {
	char *name;
	int inputs; // the last may be left out; 0 is any number
	int outputs;
	int experts, gate; // which attributes a call has
} ossifyOperator;

OrtStatus *ossifyRegister(OrtSessionOptions *options, const OrtApiBase *base);

// ossifyParallel runs some work on the runtime's threads, on n at most.
void ossifyParallel(OrtKernelContext *context, size_t n, uintptr_t work);

#endif
