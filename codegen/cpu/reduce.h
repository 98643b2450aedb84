/* reduce.h: what the files of the reduce form share.  Private to reduce*.c.
 *
 * Reductions come in stages: those of stage s read nothing but reductions of earlier stages, so one
 * pass over the elements serves all of a stage (softmax: the maximum, then the sum).
 */
#ifndef CODEGEN_CPU_REDUCE_H
#define CODEGEN_CPU_REDUCE_H

#include "codegen/cpu/emit.h"

/* The orders of ref/reduce.c: elements of a block, partials of a block, rows of a chain. */
enum { BLOCK = 4096, PARTIALS = 32, CHAIN = 64, MOST = MAX_CARRIED };

typedef struct Reduction {
  ValueId result, x;
  Op op;
  DType dtype;
  ScalarId join;
  unsigned stage;
} Reduction;

typedef struct Reduce {
  Kernel *k;
  VEC(Reduction) all;
  unsigned stages;
  bool trailing;    /* contiguous */
  int border;       /* the axis where the kept axes end (contiguous) or begin (strided) */
  int kept, kept_n; /* groups of the kept axes */
  int gone, gone_n; /* of the reduced ones */
  int64_t n, outer; /* elements reduced to one; how many such */
  unsigned vectors; /* side by side */
  int rank;         /* of a reduction's result */
  bool full;        /* there are results of the space's dims … */
  bool late;        /* … that need the last stage's reductions, so a pass of their own */
} Reduce;

/* The reductions of a stage, side by side; reduction i has partials p[i · vectors …]. */
typedef struct Stage {
  const Reduction *one[MOST];
  unsigned n;
  bool full;          /* the pass stores the results of the space's dims too */
  LLVMValueRef limit; /* strided: rows from here on are padding; NULL: none */
} Stage;

/* reduce.c */
void reduce_find(Reduce *r, Kernel *k);
Stage reduce_stage(const Reduce *r, unsigned stage);
LLVMValueRef reduce_identity(Reduce *r, const Reduction *one, unsigned lanes);
LLVMValueRef reduce_join(Reduce *r, const Reduction *one, LLVMValueRef x, LLVMValueRef y);
/* The partial joined with the reduction's operand at the place where the axes stand; limited: the
 * place is no padding. */
LLVMValueRef reduce_step(Reduce *r, const Reduction *one, LLVMValueRef partial, bool limited);
/* The result's element, from now on its value in this scope. */
void reduce_give(Reduce *r, const Reduction *one, LLVMValueRef total);

/* reduce_row.c, reduce_column.c */
void reduce_rows(Reduce *r);
void reduce_columns(Reduce *r);
uint64_t reduce_waiting(const Reduce *r); /* bytes of a thread's scratch that columns want */
/* One long row whose blocks the threads share out; then, on one thread, what joins them. */
bool reduce_shares_row(const Reduce *r);
uint64_t reduce_slot_bytes(const Reduce *r); /* of the memory that `scratch` is in these two */
void reduce_row_blocks(Reduce *r);
void reduce_row_finish(Reduce *r);

#endif
