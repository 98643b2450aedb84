/* precision.h: what the files of pass `precision` share.
 *
 * precision.c knows the rules and rewrites an entry; precision_assign.c asks for the best
 * assignment under them, precision_cast.c edits kernels and copies accordingly;
 * precision_residual.c finds the residual stream, precision_move.c kernels that only move weights,
 * precision_part.c makes two of a part that is wanted in two types.
 */
#ifndef PASSES_PRECISION_H
#define PASSES_PRECISION_H

#include "ir/target.h"
#include "passes/pass.h"

/* The types a value may be stored in instead of f32. */
typedef enum Low { LOW_bf16, LOW_f16, LOWS } Low;
extern const DType low_type[LOWS];

enum { WORK_f32 = 1 << LOWS }; /* in a set of types that nodes work in, beside those of Low */

/* Who reads a value, through views too. */
typedef struct Readers {
  uint8_t asked; /* set of Low: ops that load it in that type; once decided, those that choose to */
  bool other;    /* somebody loads it in f32; before it is decided, in any type */
} Readers;

/* A block being rewritten; those of loops stand in that of an entry. */
typedef struct Frame {
  BlockId block;
  NodeIds nodes; /* as rewritten so far */
  NodeId loop;   /* whose block it is; NO_ID: the entry's */
  struct Frame *outer;
} Frame;

/* Whether a product of a step is low; other entries follow, so a model is evaluated as it learned.
 */
typedef struct Decision {
  Loc loc;
  bool contracts; /* the batch: of the two products of a gradient the weight's */
  bool low;
} Decision;

typedef struct Moving { /* a kernel that moves weights, in the type it does so in */
  NodeId kernel;
  Low low;
} Moving;

typedef struct Precision {
  Graph *g;
  Arena *arena;
  DType type; /* that the program works in */
  bool wide_residual, greedy;
  const Costs *costs;
  int64_t *cost;           /* by entry: of the assignment, in units of `costs` */
  VEC(Decision) decisions; /* of steps, where products are a question */
  NodeId nodes;            /* before the pass */
  const char **node_why;   /* of a kernel of those: the reasons of its results; NULL: none */
  Diag *unscaled; /* where f16 is an error in the entry at hand: it trains, and no loss is scaled */
  uint32_t entry;
  Frame *at;
  uint32_t values; /* before the pass */
  Readers *readers;
  bool *varies, *lost;    /* value: find_varying, find_lost */
  bool decided;           /* the following hold */
  uint8_t *alone;         /* value: 1 << Low, it is stored in that type only; 0: it is f32, too */
  const char **why;       /* value: what decided that, NULL: it was no question */
  uint32_t *first_choice; /* node: where its operands' choices begin */
  uint8_t *choices;       /* set of Low: what the kernel reads the operand as where it may choose */
  VEC(Moving) moving;
  ValueId *low_of[LOWS]; /* value: its form in this type (itself: stored so), NO_ID: none */
} Precision;

/* ---- precision.c ----------------------------------------------------------------------------- */

static inline uint8_t *read_choice(const Precision *s, NodeId k, uint32_t operand) {
  return &s->choices[s->first_choice[k] + operand];
}
const Node *made_by(const Graph *g, ValueId v); /* inside the kernel; NULL: no kernel makes it */
int work_bit(DType t);
/* Why v, made by a node that works in this type, is wide; NULL: it is not. */
const char *wide_because(const Precision *s, ValueId v, Low low);
#define RULE_STORED_F32 "rule: stored in f32"
#define CUT_F32 "cut: f32, low does not pay" /* of a product */
bool stores_f32(Op op);
bool stores_widest(Op op);
DType precision_of(const Precision *s, const Node *n); /* the type the node works in */
/* The form of v, which the block in hand sees, in this type, or NO_ID where it has none: no f32. */
ValueId low_form(Precision *s, ValueId v, Low low, Loc loc);
/* Operand j of n is loaded low; a gemm takes it as it is, another form through a cast. */
bool loads_low(const Node *n, uint32_t j);
bool takes_low(const Node *n, uint32_t j);
bool is_accumulator(Op op, uint32_t operand); /* which is f32 */

/* ---- precision_assign.c ---------------------------------------------------------------------- */

/* What v shows: through views, and out of loops' blocks. */
typedef struct Origin {
  ValueId value;
  bool sliced;
} Origin;
Origin precision_origin(const Precision *s, ValueId v);
/* Decides `alone`, `choices` and `why` of what this type is a question for. */
void assign_entry(Precision *s, Low low);
/* Under `precision auto`, before: products for which low does not pay get prec=f32. */
void assign_products(Precision *s, Low low);

/* ---- precision_residual.c -------------------------------------------------------------------- */

/* An addition of a value and what depends on it. */
bool is_residual(const Precision *s, const Node *n);

/* ---- precision_move.c ------------------------------------------------------------------------ */

/* Of the entry at hand, once `alone` and `choices` are decided: kernels that only move parameters
 * to where they are stored in this type read them in it; s->moving. */
void choose_moves(Precision *s, Low low);
void work_moves(Precision *s); /* and their nodes work in it */
/* Operand j is what the node moves, rather than an index or a condition. */
bool moves_operand(const Graph *g, const Node *n, uint32_t j);
/* The node is one of those, and moves this operand. */
bool moves_low(const Graph *g, const Node *n, uint32_t operand, DType low);

/* ---- precision_part.c ------------------------------------------------------------------------ */

/* Parts of weights that are wanted in f32 and in this type become two; true: there were some, and
 * all is to be decided anew. */
bool split_parts(Precision *s, Low low);

/* ---- precision_cast.c ------------------------------------------------------------------------ */

/* Result i of kernel k leaves it in this type. */
void write_low(Precision *s, NodeId k, uint32_t result, Low low);
/* Argument i of kernel k comes in this type; what takes no low operand reads it through a cast. */
void read_low(Precision *s, NodeId k, uint32_t arg, Low low);
/* Nodes of the kernel that load argument i in this type read `form`, the others what they read. */
void read_low_beside(Precision *s, NodeId k, uint32_t arg, Low low, ValueId form);
bool asks_low(const Precision *s, NodeId k, uint32_t arg, Low low);
/* Before anything is low: nodes of the kernel that will load argument i low read v in its place. */
void ask_beside(Precision *s, NodeId k, uint32_t arg, Low low, ValueId v);
/* v in this type: a parameter's copy; a form that comes into the loop beside v; else what a kernel
 * of its own casts. */
ValueId make_low(Precision *s, ValueId v, Low low, Loc loc);
/* The parameter of which v is the argument of the entry at hand, where that may read a copy; or
 * NULL. */
const State *copied_parameter(const Precision *s, ValueId v, Low low);
/* Every master that the entry writes has its copies written by the same kernel. */
void write_copies(Precision *s);
void build_derive(Precision *s);
/* ---- precision_master.c ---------------------------------------------------------------------- */

/* Weights that have no f32 master are stored as what they have instead. */
void store_masters(Precision *s);

/* ---- precision_cast.c, again ----------------------------------------------------------------- */

/* What a kernel of the block, or of a loop's in it, makes and another casts, the former casts. */
void fold_casts(Precision *s, BlockId block);

/* ---- precision_report.c ---------------------------------------------------------------------- */

PrecisionMoves precision_moves(const Graph *g, uint32_t entry);
void note_reasons(Precision *s); /* of the entry at hand, before it is rewritten */
void precision_report(const Precision *s, PrecisionReport *report);

#endif
