/* cells.h: what the files of ref/ share: the evaluator's state and the cells of column EVAL.
 *
 * A cell `eval_NAME` computes the results of one node.  Its operands are there, its results are
 * allocated.  Private to ref/.
 */
#ifndef REF_CELLS_H
#define REF_CELLS_H

#include "ref/eval.h"

typedef struct Binding {
  ArgRole role;
  const char *name;
  Tensor tensor;
} Binding;

struct Eval {
  Arena *arena;            /* arguments */
  Arena run;               /* values of the last run */
  Graph *g;                /* a copy without composite ops */
  const ValueId *replaced; /* by ValueId: what stands for the result of a composite op */
  const Scalars *scalars;
  EvalMode mode;
  VEC(Binding) args;
  uint64_t seed;
  Tensor *value; /* by ValueId */
  uint32_t entry;
  int64_t rows, batch; /* of the block that runs */
};

static inline bool eval_wide(const Eval *e) { return e->mode == EVAL_F64; }
static inline Tensor *eval_operand(Eval *e, const Node *n, uint32_t k) {
  return &e->value[n->ops[k]];
}
static inline Tensor *eval_output(Eval *e, const Node *n, uint32_t k) {
  return &e->value[n->res + k];
}
_Noreturn void eval_refuse(const Eval *e, const Node *n, const char *what);

/* ---- eval.c */
void eval_start(Eval *e, uint32_t entry,
                int64_t rows); /* forgets the last run, fills the arguments */
void eval_node(Eval *e, NodeId n);
void eval_block(Eval *e, BlockId b);
int64_t eval_turn_index(const Node *loop, int64_t turn);
/* The real rows of iteration i. */
int64_t eval_turn_rows(const Node *loop, int64_t rows, int64_t i);
Tensor *eval_ensure(Eval *e, ValueId v);  /* with memory of its own */
int64_t eval_real(const Eval *e, Type t); /* how far the tagged axis is real */

/* ---- f64.c: by op, what stands for its scalar program in f64 mode; NULL: nothing */
typedef double F64Fn(const double *x);
extern F64Fn *const f64_fn[OP_COUNT];

/* ---- map.c: one elementwise step, either as a scalar program or in double precision */
typedef union Elem {
  uint32_t bits;
  double f;
} Elem;

typedef struct Fn {
  const Scalars *scalars;
  const SProg *prog;
  F64Fn *f64; /* where not NULL, elements are doubles */
} Fn;

Fn fn_find(const Eval *e, const Node *n, DType operand);
Elem fn_load(const Fn *f, const Tensor *x, int64_t i);
void fn_store(const Fn *f, Tensor *y, int64_t i, Elem v);
Elem fn_apply(const Fn *f, const Elem *x, uint32_t n);

/* ---- the cells: map.c, move.c, reduce.c, matmul.c, region.c */
typedef void EvalCell(Eval *e, const Node *n);
EvalCell eval_map, eval_cast, eval_saturate, eval_round_by_bits, eval_saturated, eval_flushed;
EvalCell eval_constant, eval_iota, eval_reshape, eval_transpose, eval_broadcast, eval_mask_rows;
EvalCell eval_gather, eval_commit, eval_slice, eval_pad, eval_embedding, eval_scatter_add;
EvalCell eval_reduce;
EvalCell eval_matmul;
EvalCell eval_loop, eval_kernel, eval_composite;

#endif
