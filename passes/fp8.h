/* fp8.h: what pass `fp8` and its recipes share: fp8_layers.c says which products, fp8_NAME.c how. */
#ifndef PASSES_FP8_H
#define PASSES_FP8_H

#include "passes/pass.h"

typedef struct Fp8Layer { /* of the step, in its order; other entries look theirs up */
  const char *path;       /* of the parameter that it reads */
  uint32_t use;           /* of that parameter, counted from 0 */
  bool chosen;            /* it multiplies in fp8 */
  const char *x, *w;      /* slots of its operands, where the recipe has slots */
} Fp8Layer;
typedef VEC(Fp8Layer) Fp8Layers;

typedef struct Fp8Staged { /* what the entry gives of a slot */
  ResRole role;            /* amax: the largest |x|; count: how many elements */
  const char *name;        /* of the result */
  ValueId value;
} Fp8Staged;

typedef struct Fp8Blocks { /* x in blocks, for the products that contract its axis `along`; -1: any
                            */
  ValueId x, y, scale_inv;
  int along;
} Fp8Blocks;

typedef struct Fp8 Fp8;
/* The product in place of the matmul n, at b. */
typedef ValueId Fp8Product(Fp8 *s, Builder *b, const Node *n);

struct Fp8 { /* of one entry */
  Graph *g;
  Arena *arena;
  Fp8Product *product;
  Fp8Layers *layers;
  uint32_t entry;
  ValueId values;       /* there were before: what the tables by value hold */
  bool *forward;        /* by value: a loss, metric or answer depends on it */
  bool *behind, *ahead; /* by value: behind a layer; before one */
  bool *narrow, *wide;  /* by value: operand of a layer of the one kind, of the other */
  uint32_t *layer;      /* by value: the layer whose product it is, or NO_ID */
  const char **slot;    /* by value: whose scale it has in a recipe with slots, or NULL */
  ValueId *quantized;   /* by value: y of its quantize, or NO_ID */
  VEC(Fp8Staged) staged;
  VEC(Fp8Blocks) blocks; /* that were made */
  VEC(Replaced) done;
};

#define RECIPE(name, written, meaning) Fp8Product product_##name;
#include "ir/fp8.def"

/* v outside of the loops that it comes into as an invariant: tables by value go by that. */
ValueId fp8_source(const Fp8 *s, ValueId v);
DType fp8_type(const Fp8 *s, ValueId x); /* that x becomes: e4m3 forward, e5m2 a cotangent */
/* Where what is made of x stands: once, behind x and before all who read it. */
Builder fp8_builder(const Fp8 *s, const Builder *b, ValueId x);
/* A quantize of x, filled up, by the f32[] scale: its y, the other results behind it; s->quantized
 * knows it. */
ValueId fp8_quantize(Fp8 *s, Builder *b, ValueId x, ValueId scale);
/* A quantize of x to that type, with scales along `axes` (NULL: one), scale_inv of type stored. */
NodeId fp8_add_quantize(Builder *b, ValueId x, ValueId scale, DType to, DType stored,
                        const Attr *axes);
/* Tensor cores take fp8 matrices whose sizes are multiples of 16.  So operands are filled up with
 * zeros, which change neither a largest |x| nor a sum, and the product counts what there was; only
 * the batch, of which the real rows are known at run time, stays as it is. */
int64_t fp8_filled(int64_t n);
ValueId fp8_fill(Builder *b, ValueId x, Type t); /* x as long as t along every axis */
/* What n multiplies, as a, b, a_scale, b_scale; the dims of n's result count. */
ValueId fp8_product(Builder *b, const Node *n, const ValueId *ops, bool ta, bool tb,
                    int64_t k_chunk);
/* Stages how many elements of x the quantize q, of x in whatever place, saturated and flushed. */
void fp8_count(Fp8 *s, Builder *b, ValueId x, NodeId q);
ValueId fp8_multiply(Builder *b, const Node *n, ValueId x,
                     ValueId y); /* what it made of operands */

/* fp8_current.c: FMAX / amax, at most FLT_MAX; 1 where all is 0. */
ValueId fp8_own_scale(Builder *b, ValueId amax, DType to);

/* fp8_delayed.c */
void fp8_name_slots(Fp8 *s); /* sets s->slot; in a step also the layers' slots */
ValueId fp8_observe(Fp8 *s, Builder *b, const Node *n); /* the product of a calibration: as it is */

/* fp8_layers.c: sets forward, layer, narrow, wide. */
void fp8_find_layers(Fp8 *s);
bool fp8_takes(const Fp8 *s, const Node *n);
bool fp8_is_parameter(const Fp8 *s, ValueId v);
/* Each matmul that fp8_takes, in order. */
typedef void Fp8Visit(Fp8 *s, const Node *n);
void fp8_visit(Fp8 *s, Fp8Visit *visit);
/* The operand that is a parameter, 1 or 0; -1: n is no layer. */
int fp8_parameter(const Fp8 *s, const Node *n);

#endif
