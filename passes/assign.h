/* assign.h: the problem behind pass `precision`, free of graphs: which copies of each value are in
 * memory, f32 or low or both, and which of them each reader reads. */
#ifndef PASSES_ASSIGN_H
#define PASSES_ASSIGN_H

#include "base/base.h"
#include "ir/target.h"

typedef struct AssignValue {
  int64_t count; /* elements that are written in all */
  bool wide;     /* by a rule: whoever can read f32 does */
  bool apart;    /* beside the f32 copy, the low one takes a kernel that reads the former */
  bool given;    /* its f32 copy is there anyway, for nothing */
  bool asks;     /* an op makes it: */
  uint32_t op;   /* where that computes in f32, the value has an f32 copy and is wide */
  bool f32, low; /* the copies: at least one */
} AssignValue;

typedef enum ReadNeed { NEED_any, NEED_low, NEED_f32, NEED_op } ReadNeed;

typedef struct AssignRead {
  uint32_t value;
  int64_t count;
  ReadNeed need;
  uint32_t op; /* NEED_op: low if and only if that is */
  bool
      sole; /* it sees the low copy only where there is no other; else, if it needs low, it casts */
  bool low; /* what it reads */
} AssignRead;

/* The op that reads writes `value` at least as wide as it has read. */
typedef struct AssignRule {
  uint32_t read, value;
} AssignRule;

/* A product that may read low or f32 operands: what its own work takes. */
typedef struct AssignOp {
  int64_t low_time, f32_time;
  bool low;
} AssignOp;

typedef struct Assign {
  Arena *arena;
  const Costs *costs;
  VEC(AssignValue) values; /* made before they are read, and a rule's read before its value */
  VEC(AssignRead) reads;
  VEC(AssignRule) rules;
  VEC(AssignOp) ops;
} Assign;

/* Of what is written, read, converted and computed, in units of `costs`. */
int64_t assign_cost(const Assign *a);
/* Sets the copies and what is read.  cut: at least cost, of such the assignment with the fewest low
 * copies and reads; returns that cost.  greedy: by one look at each value. */
int64_t assign_cut(Assign *a);
void assign_greedy(Assign *a);
/* Whether copies and reads keep all rules. */
bool assign_holds(const Assign *a);

#endif
