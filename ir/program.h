/* program.h: what passes/plan makes of a grouped, precision-labelled Graph: for each entry a linear
 * list of steps, which are launches of kernels over buffers and the borders of loops.  Codegen
 * emits it; the evaluator executes it on poisoned memory to prove that the plan is right,
 * and verify_program.c walks it without running it.
 *
 * Shape of the graph a Program refers to: an entry's block holds only `kernel` nodes, `reshape`
 * nodes (views: same buffer) and `loop` nodes, whose blocks hold the same and see their arguments
 * alone.  A kernel's block arguments are its operands, one for one; its results the block's.  By
 * form:
 *   map     all results have the same dims, the index space; nodes: elementwise, constant, iota,
 *           broadcast, transpose, slice, pad, cast, mask_rows, gather,
 *           embedding
 *   reduce  a row program: map nodes and reductions; all reductions have operands of the same dims,
 *           the space, and the same axes: either a trailing run (the contiguous case; rows are the
 *           leading axes, maybe none) or a leading run that leaves at least one axis (the strided
 *           case; columns are the rest).  A reduction may use others' results through broadcast
 *           (softmax: max, then sum of exp).  Results have the dims of the space or of a reduction.
 *   gemm    exactly one matmul, on block arguments directly (the accumulator too), and map nodes on
 *           its result; all results have its dims
 *   scatter one scatter_add, whose result is the kernel's only one and whose accumulator is a block
 *           argument, and map nodes before it
 */
#ifndef IR_PROGRAM_H
#define IR_PROGRAM_H

#include "ir/ir.h"

/* INDEX: of a loop; each thread has its own. */
typedef enum Space { SPACE_NONE, SPACE_STATE, SPACE_ARENA, SPACE_INDEX, SPACE_COUNT } Space;

/* A slice of what a loop goes over: iteration i of `loop` moves it by i · stride bytes. */
typedef struct Move {
  NodeId loop;
  uint64_t stride;
  const struct Move *more; /* of a slice of a slice */
} Move;

typedef struct Buffer {
  uint8_t space;     /* Space; NONE for values that live inside kernels */
  uint64_t at;       /* byte offset of iteration 0, a multiple of 64 */
  const Move *moves; /* NULL: it stays; of an INDEX: whose it is */
} Buffer;

typedef enum StepKind { STEP_kernel, STEP_open, STEP_close } StepKind;

typedef struct ProgramStep {
  NodeId node; /* kernel or loop */
  uint8_t kind;
  bool barrier; /* of a kernel: all threads meet before it */
} ProgramStep;

typedef struct ProgramLife { /* of a value that has room of its own in the arena */
  ValueId value;
  uint32_t from, until; /* positions of the entry's nodes, those of loops counted through */
  uint64_t at, end;     /* bytes */
} ProgramLife;

typedef struct ProgramEntry {
  VEC(ProgramStep)
  steps; /* a loop's, between its open and its close, run `trip` times, at least once */
  VEC(ProgramLife) lives;
  uint64_t arena_bytes;
} ProgramEntry;

typedef struct ProgramValue { /* of a step, to be looked at when it is over */
  const char *name;           /* "forward net.0 matmul mlp.mp:9 #0 bf16": passes/values.c */
  const char *reads;          /* "3 17": which of the others go into it */
  ValueId value;
  uint32_t entry;
} ProgramValue;

#define NOWHERE UINT64_MAX

typedef struct Program {
  Graph *g;
  Buffer *buffer;        /* by ValueId: arguments of blocks, results of kernels, views, loops */
  ProgramEntry *entries; /* by index of g->entries */
  uint64_t *state_at;    /* by index of g->states; NOWHERE: it is kept in parts */
  uint64_t state_bytes, arena_bytes;
  VEC(ProgramValue) values; /* --with-values: those that have a place of their own until the end */
} Program;

/* program.c */
uint64_t buffer_end(const Program *p, ValueId v); /* behind the bytes of all iterations */
uint64_t buffer_align(Buffer b);                  /* of every iteration, at most BUFFER_ALIGN */
int64_t kernel_batch(const Graph *g, NodeId kernel,
                     int64_t batch);                          /* of the entry: at hand there */
uint32_t program_largest_entry(const Program *p);             /* of arena; index */
uint32_t program_close(const ProgramEntry *e, uint32_t open); /* the step that closes it */

/* verify_program.c: every launch reads what it asks for; false: *why says where it does not. */
bool program_check(const Program *p, Text *why);

enum { MOST_REDUCTIONS = 16 }; /* in a kernel: their partials lie in registers and on the stack */

/* Behind every buffer lie so many bytes that may be read (never written) beyond its end. */
enum { BUFFER_SLACK = 256, BUFFER_ALIGN = 64 };

#endif
