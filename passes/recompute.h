/* recompute.h: what the pass's two files share.  Private to them. */
#ifndef PASSES_RECOMPUTE_H
#define PASSES_RECOMPUTE_H

#include "passes/pass.h"

/* A block of kernels in order, seen from one moment: who uses what until when. */
typedef struct Timeline {
  Graph *g;
  Arena *arena;
  BlockId block;
  uint32_t n;      /* nodes; a position is an index of them */
  uint32_t *at;    /* by NodeId: its position, NO_ID: of another block */
  uint32_t *until; /* by value: position of its last user, through views; n: it leaves the block */
  uint32_t *over;  /* by value: position from which its place holds something else, NO_ID: none */
  bool *in_place;  /* by value: it lies in a state or a loop's result */
  const bool *clone; /* by NodeId */
  BlockReaders readers;
} Timeline;

/* A value that is to be computed again, with what has to be for that, in front of node `before`. */
typedef struct Again {
  VEC(ValueId) chain; /* what is computed, operands first; the last is the value itself */
  bool anew;          /* whatever may be repeated is, even what is still there */
  uint32_t before, peak;
  uint64_t kept; /* bytes of other values that live over position `peak` because of it */
  double cost;   /* in bytes moved; ten operations of a product count as one */
} Again;

/* Whether the pass may compute this value again, in the place of keeping it. */
typedef bool MayRepeat(const Timeline *t, ValueId v);

uint64_t timeline_bytes(const Timeline *t, ValueId v); /* of the arena; 0: it lies elsewhere */
const Node *timeline_node(const Timeline *t, uint32_t position);
Timeline timeline_of(Graph *g, BlockId block, const bool *clone, Arena *arena);
uint32_t timeline_next_use(const Timeline *t, ValueId v, uint32_t after); /* NO_ID: none */
/* false: it cannot be. */
bool again_plan(const Timeline *t, ValueId v, MayRepeat *may, Again *a);
/* Clones the chain; what uses the value from there on uses the clone.  The timeline is spent. */
void again_do(const Timeline *t, const Again *a, NodeIds *clones);
/* Bytes of the arena that live at once, at most, and where, in this block and those in it. */
uint64_t timeline_peak(const Timeline *t, uint32_t *position);

#endif
