/* npy.h: tensors as NumPy files (format 1.0, little endian, C order), for tests against Python. */
#ifndef TESTS_OPS_NPY_H
#define TESTS_OPS_NPY_H

#include "ref/eval.h"

/* f8 becomes a wide f32.  NULL, or what is wrong. */
const char *npy_read(Arena *a, const char *path, Tensor *t);
/* Wide floats become f8, bf16 f4. */
const char *npy_write(const char *path, const Tensor *t);

#endif
