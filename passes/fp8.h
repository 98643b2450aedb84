/* fp8.h: what pass `fp8` and its recipes share: fp8.c says which products, fp8_NAME.c how. */
#ifndef PASSES_FP8_H
#define PASSES_FP8_H

#include "passes/pass.h"

typedef struct Fp8 {
  Graph *g;
  Arena *arena;
  Fp8Recipe recipe;
  BlockId block;
  bool *forward;        /* by value: a loss, metric or answer depends on it */
  bool *behind, *ahead; /* by value: behind a layer; before one */
  bool *narrow, *wide;  /* by value: operand of a layer of the one kind, of the other */
  ValueId *quantized;   /* by value: y of its quantize, or NO_ID */
  VEC(Replaced) done;
} Fp8;

/* The product in place of the matmul n, at b. */
typedef ValueId Fp8Product(Fp8 *s, Builder *b, const Node *n);
#define RECIPE(name, written, meaning) Fp8Product product_##name;
#include "ir/fp8.def"

DType fp8_type(const Fp8 *s, ValueId x); /* that x becomes: e4m3 forward, e5m2 a cotangent */
/* A quantize of x by the f32[] scale: its y, the other results behind it; s->quantized knows it. */
ValueId fp8_quantize(Fp8 *s, Builder *b, ValueId x, ValueId scale);

#endif
