/* precision.h: what the files of pass `precision` share.
 *
 * precision.c decides which values are stored low, precision_cast.c edits kernels and copies
 * accordingly; precision_residual.c finds the residual stream.
 */
#ifndef PASSES_PRECISION_H
#define PASSES_PRECISION_H

#include "passes/pass.h"

/* The types a value may be stored in instead of f32. */
typedef enum Low { LOW_bf16, LOW_f16, LOWS } Low;
extern const DType low_type[LOWS];

/* Who reads a value, through views too. */
typedef struct Readers {
  uint8_t work;  /* set of types they work in: bit LOWS is f32 */
  uint8_t asked; /* set of Low: ops that want to load it in that type */
  bool other;    /* somebody loads it in any type */
} Readers;

/* A block being rewritten; those of loops stand in that of an entry. */
typedef struct Frame {
  BlockId block;
  NodeIds nodes; /* as rewritten so far */
  NodeId loop;   /* whose block it is; NO_ID: the entry's */
  struct Frame *outer;
} Frame;

typedef struct Precision {
  Graph *g;
  Arena *arena;
  DType type; /* that the program works in */
  bool wide_residual;
  Diag *unscaled; /* where f16 is an error in the entry at hand: it trains, and no loss is scaled */
  uint32_t entry;
  Frame *at;
  uint32_t values; /* before the pass */
  Readers *readers;
  ValueId *low_of[LOWS]; /* value: its form in this type (itself: stored so), NO_ID: none */
} Precision;

/* ---- precision.c ----------------------------------------------------------------------------- */

DType precision_of(const Precision *s, const Node *n); /* the type the node works in */
/* The form of v, which the block in hand sees, in this type, or NO_ID where it has none: no f32. */
ValueId low_form(Precision *s, ValueId v, Low low, Loc loc);
/* Operand j of n is loaded low; a gemm takes it as it is, another form through a cast. */
bool loads_low(const Node *n, uint32_t j);
bool takes_low(const Node *n, uint32_t j);

/* ---- precision_residual.c -------------------------------------------------------------------- */

/* An addition of a value and what depends on it. */
bool is_residual(const Precision *s, const Node *n);

/* ---- precision_cast.c ------------------------------------------------------------------------ */

/* Result i of kernel k leaves it in this type. */
void write_low(Precision *s, NodeId k, uint32_t result, Low low);
/* Argument i of kernel k comes in this type; what takes no low operand reads it through a cast. */
void read_low(Precision *s, NodeId k, uint32_t arg, Low low);
/* Nodes of the kernel that load argument i in this type read `form`, the others what they read. */
void read_low_beside(Precision *s, NodeId k, uint32_t arg, Low low, ValueId form);
bool asks_low(const Precision *s, NodeId k, uint32_t arg, Low low);
/* v in this type: a parameter's copy; a form that comes into the loop beside v; else what a kernel
 * of its own casts. */
ValueId make_low(Precision *s, ValueId v, Low low, Loc loc);
/* Every master that the entry writes has its copies written by the same kernel. */
void write_copies(Precision *s);
void build_derive(Precision *s);

#endif
