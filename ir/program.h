/* program.h: what passes/plan makes of a grouped, precision-labelled Graph: for each entry a linear
 * list of kernel launches over buffers.  Codegen emits it; the evaluator executes it on poisoned
 * memory to prove that the plan is right.
 *
 * Shape of the graph a Program refers to: an entry's block holds only `kernel` nodes and `reshape`
 * nodes (views: same buffer).  A kernel's block arguments are its operands, one for one; its results
 * the block's.  By form:
 *   map     all results have the same dims, the index space; nodes: elementwise, constant, iota,
 *           broadcast, transpose, cast, mask_rows, gather
 *   reduce  a row program: map nodes and reductions; all reductions have operands of the same dims,
 *           the space, and the same axes: either a trailing run (the contiguous case; rows are the
 *           leading axes, maybe none) or a leading run that leaves at least one axis (the strided
 *           case; columns are the rest).  A reduction may use others' results through broadcast
 *           (softmax: max, then sum of exp).  Results have the dims of the space or of a reduction.
 *   gemm    exactly one matmul, on block arguments directly (the accumulator too), and map nodes on
 *           its result; all results have dims [m, n]
 */
#ifndef IR_PROGRAM_H
#define IR_PROGRAM_H

#include "ir/ir.h"

typedef enum Space { SPACE_NONE, SPACE_STATE, SPACE_ARENA } Space;

typedef struct Buffer {
  uint8_t space; /* Space; NONE for values that live inside kernels */
  uint64_t at;   /* byte offset, a multiple of 64 */
} Buffer;

typedef struct Launch {
  NodeId kernel;
  bool barrier; /* all threads meet before it */
} Launch;

typedef struct ProgramEntry {
  VEC(Launch) launches;
  uint64_t arena_bytes;
} ProgramEntry;

typedef struct Program {
  Graph *g;
  Buffer *buffer;           /* by ValueId: arguments of entries, results of kernels and views */
  ProgramEntry *entries;    /* by index of g->entries */
  uint64_t *state_at;       /* by index of g->states */
  uint64_t state_bytes, arena_bytes;
} Program;

/* Behind every buffer lie so many bytes that may be read (never written) beyond its end. */
enum { BUFFER_SLACK = 256, BUFFER_ALIGN = 64 };

#endif
