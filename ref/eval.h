/* eval.h: the reference evaluator: what a graph means.
 *
 * It is slow and obvious, and it is the oracle: strict numerics of generated code match it bit for
 * bit (any NaN equals any NaN).  Two modes:
 *
 *   EVAL_EXACT  tensors hold the bytes of their element type; f32 arithmetic under DAZ and FTZ, in
 *               the orders written in reduce.c; every rounding the graph asks for is performed
 *   EVAL_F64    every float is a double, casts between floats are identities, constants are not
 *               rounded: the mathematics of the graph, for gradients and accuracy
 *
 * An Eval holds arguments by role and name; they stay from run to run, so a training loop is
 * eval_run, eval_carry_states, eval_run, …  A missing or misshapen argument is an internal error.
 */
#ifndef REF_EVAL_H
#define REF_EVAL_H

#include "ir/ir.h"
#include "ir/program.h"
#include "ir/scalar.h"

/* ---- tensor.c: elements and their storage ---------------------------------------------------- */

typedef struct Tensor {
  Type type;
  bool wide;  /* floats are stored as doubles */
  void *data; /* row-major, compact; i1 is one byte, 0 or 1.  NULL: no tensor */
} Tensor;

Tensor tensor_new(Arena *a, Type type, bool wide); /* zeros */
size_t tensor_elem_bytes(const Tensor *t);
size_t tensor_bytes(const Tensor *t);
double tensor_get(const Tensor *t, int64_t i); /* i64 beyond 2^53 is rounded */
/* Floats round to f32, nearest even, subnormal to zero, and from there to narrower types; integers
 * truncate and saturate, NaN gives 0. */
void tensor_set(const Scalars *s, Tensor *t, int64_t i, double v);
/* An element as scalar programs see it: f32 and narrower floats as f32, integers and i1 as i32. */
uint32_t tensor_get_bits(const Tensor *t, int64_t i);
void tensor_set_bits(const Scalars *s, Tensor *t, int64_t i, SType is, uint32_t bits);
void tensor_convert(const Scalars *s, Tensor *to, const Tensor *from); /* of equal count */
void tensor_fill_random(const Scalars *s, Tensor *t, uint64_t seed);   /* (-1, 1), 0…7, 0 or 1 */
/* Same dims and same elements bit for bit, any NaN equal to any NaN.  *at: the first that differs.
 */
bool tensor_same(const Tensor *x, const Tensor *y, int64_t *at);

/* ---- eval.c ---------------------------------------------------------------------------------- */

typedef enum EvalMode { EVAL_EXACT, EVAL_F64 } EvalMode;
typedef struct Eval Eval;

/* The graph is copied, its composite ops expanded; ids of values stay those of g. */
Eval *eval_new(Arena *arena, const Graph *g, const Scalars *s, EvalMode mode);
void eval_free(Eval *e); /* the values of the last run; the rest belongs to the arena */

/* The tensor is copied, and converted where an entry wants another element type.  An input holds at
 * least `rows` rows of its tagged axis; row i of the argument is its row min(i, rows - 1). */
void eval_set(Eval *e, ArgRole role, const char *name, const Tensor *t);
void eval_set_number(Eval *e, ArgRole role, const char *name, double v); /* of rank 0 */
void eval_set_seed(Eval *e, uint64_t seed); /* an entry's seed arguments: low word, high word */
void eval_set_random(Eval *e, uint32_t entry, uint64_t seed); /* every argument not set so far */

void eval_forget(Eval *e); /* no argument is set any more */

/* rows: real rows, 1 … batch; any value where the entry has no batch. */
void eval_run(Eval *e, uint32_t entry, int64_t rows);

/* What the last run gave; name NULL: the first of the role.  NULL: it has no such result, or did
 * not compute the value.  A value inside a loop is that of the last iteration. */
const Tensor *eval_result(const Eval *e, ResRole role, const char *name);
const Tensor *eval_value(const Eval *e, ValueId v);

void eval_carry_states(Eval *e); /* state results of the last run become state arguments */
const Tensor *eval_arg(const Eval *e, ArgRole role,
                       const char *name); /* as set or carried; or NULL */

/* ---- program.c ------------------------------------------------------------------------------- */

/* Runs the launches of an entry over bytes of state and arena, instead of eval_run: exact mode, e
 * made for p->g.  What was never written, and what nobody reads any more, is 0xFF bytes.  State
 * results are what lies in the state afterwards. */
void eval_run_program(Eval *e, const Program *p, uint32_t entry, int64_t rows);

#endif
