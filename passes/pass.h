/* pass.h: the passes between the frontend's graph and a Program, and the driver that wraps each of
 * them the same way.
 *
 * A pass is one file, one row of passes.def, one function that says whether it changed anything,
 * and lit tests.  A mistake of the user's is reported through diag with its place; the pass then
 * returns and the driver stops.  A mistake of ours is an ice.
 */
#ifndef PASSES_PASS_H
#define PASSES_PASS_H

#include "ir/ir.h"
#include "ir/program.h"
#include "ir/scalar.h"
#include "ir/target.h"

/* ---- pass.c -------------------------------------------------------------------------------- */

typedef enum PassId {
#define PASS(name, meaning, needs, gives, keeps, optional) PASS_##name,
#include "passes/passes.def"
  PASS_COUNT
} PassId;

typedef enum PassKeeps { KEEP_bits, KEEP_old, KEEP_others, KEEP_none } PassKeeps;

/* Called with the graph in front of the first pass (pass NULL, KEEP_none) and behind each: what
 * evaluation of both is to agree on is passes.def's column `keeps`.  False ends the pipeline; who
 * checks has said why. */
typedef struct PassCtx PassCtx;
typedef bool PassCheck(const PassCtx *c, const char *pass, PassKeeps keeps, const Graph *g);

/* Does pattern i of --watch cover the name? */
typedef bool PassWatch(void *user, uint32_t i, const char *name);

/* What pass `precision` decided; everything lives in `arena`. */
typedef struct PrecisionRow {    /* of a kernel */
  const char *entry, *path, *op; /* path: of its module, "": it has none */
  Loc loc;
  const char *load, *math, *store; /* "bf16 f32", "-": no float */
  const char *why;
  uint32_t casts; /* in it */
  int64_t bytes;  /* it reads and writes, over all trips of loops */
} PrecisionRow;

typedef struct PrecisionMoves {
  int64_t bytes;
  int64_t cast_bytes; /* of these: read and written only because a value is there twice */
  int64_t cost; /* what the cut makes least, in fs of the target's table (Costs); 0: all f32 */
  uint32_t casts, kernels;
} PrecisionMoves;

typedef struct PrecisionEntry {
  const char *name;
  PrecisionMoves f32, greedy, chosen;
} PrecisionEntry;

typedef struct PrecisionReport {
  Arena *arena;
  const char *master; /* "f32", "sr", "split" */
  const char *recipe; /* "fp8(delayed, history: 1024, margin: 0)"; NULL: no fp8 */
  VEC(Fp8Slot) slots; /* of it */
  VEC(PrecisionRow) rows;
  VEC(PrecisionEntry) entries;
} PrecisionReport;

typedef struct PassOptions {
  const char *print_after; /* --print-ir-after=a,b: passes, or NULL */
  const char *print_before;
  bool print_after_all;
  const char *stop_after; /* --stop-after=P */
  const char *disable;    /* --disable=a,b */
  bool time, roundtrip;   /* --time-passes, --roundtrip-each */
  bool keep_values;       /* --with-values: what a step computes is there when it is over */
  bool replay;            /* --with-replay: entries that a skipped step is asked by (replay.c) */
  bool halves;            /* each step also as NAME.grads and NAME.apply (step_halves.c) */
  PrecisionReport *precision; /* filled in by that pass; NULL: nobody asks */
  uint64_t memory_limit;      /* --memory-limit, of state and arena together; 0: none */
  bool greedy_precision;      /* --precision-greedy: the baseline in place of the minimum cut */
  const char *const *watches; /* patterns of --watch (watch.c), */
  uint32_t nwatches;
  PassWatch *watch; /* and who knows what they cover */
  void *watch_user;
  FILE *out; /* where dumps and times go; NULL: stderr */
  PassCheck *check;
  void *check_user;
} PassOptions;

struct PassCtx {
  Arena *arena; /* scratch: emptied after each pass */
  Diag *diag;
  const Target *target;
  const PassOptions *options;
  const Scalars *scalars; /* set by passes_run; outlives the scratch */
};

/* The passes that make a Program's graph of the frontend's, in order. */
extern const char passes_default[];

/* check.c: a PassCheck that evaluates the graph on random arguments.  check_user: a PassValues,
 * empty at first; its arena is the caller's to free. */
typedef struct PassValues {
  Arena arena;
  struct EntryValues *entries; /* what the graph in front of the pass gave */
} PassValues;
bool pass_check_values(const PassCtx *c, const char *pass, PassKeeps keeps, const Graph *g);

/* Runs the passes of the list ("grad, optimize").  False: diag has errors.  *g may become another
 * graph in the same arena (roundtrip). */
bool passes_run(Graph **g, const char *list, PassCtx *c);

/* Every option's list of passes names passes that exist (and, to disable, optional ones); a name
 * that does not is a diag error.  passes_run has called it. */
bool passes_check_options(PassCtx *c);

bool passes_know(const char *name);

/* One line a pass, for --help. */
void passes_describe(Text *out);

#define PASS(name, meaning, needs, gives, keeps, optional) bool pass_##name(Graph *g, PassCtx *c);
#include "passes/passes.def"

/* plan.c: what is left is a list of launches over offsets; g belongs to the Program. */
Program *plan_make(Graph *g, PassCtx *c);
void plan_print(const Program *p, Text *out);

/* values.c: what the steps of p leave in memory, in p->values. */
void program_name_values(Program *p, PassCtx *c);

/* ---- grad.c: the frame of reverse mode; vjp.c: the rules of column VJP --------------------- */

typedef struct Grad {
  Builder b; /* appends to the entry's body, at the place of the node in hand */
  PassCtx *c;
  uint32_t entry;
  const bool *reached; /* by forward value: a float path leads from a parameter to it */
  const bool *fed;     /* by forward value: made of an input or of a draw */
  ValueId *cot;        /* by forward value: its cotangent so far, or NO_ID */
  NodeId node;         /* the node in hand */
  ValueId dy;          /* cotangent of its result */
} Grad;

/* Whether operand i of the node in hand has a use for a cotangent; grad_give adds one. */
bool grad_wants(const Grad *r, uint32_t i);
void grad_give(Grad *r, uint32_t i, ValueId cot);
/* Cotangents that are to be added: both become ones of the least of their loss scales. */
void grad_meet(Grad *r, ValueId *x, ValueId *y);

typedef void Vjp(Grad *r);
extern Vjp *const vjp_rule[OP_COUNT];
void vjp_stop(Grad *r);    /* no gradient flows: integers, comparisons, draws */
void vjp_nondiff(Grad *r); /* an error where one is asked for */

/* ---- custom_grad.c ------------------------------------------------------------------------- */

void vjp_custom_grad(Grad *r);
void custom_grads_drop(Graph *g, BlockId block, Arena *scratch); /* behind all of grad */

/* ---- states.c: states that passes add ------------------------------------------------------ */

const char *states_name(Graph *g, const char *name);
/* A new state, and its initial value in entry init; nothing where the path is taken. */
void states_add(Graph *g, State s, double initial);
ValueId states_argument(Graph *g, uint32_t entry, const char *path, Loc loc);

/* ---- optimize.c: the order of a step, and what its parts share ------------------------------ */

typedef struct StepUnit { /* gradients that carry the least of one set of loss scales */
  unsigned scales;        /* the set; 0: no scale */
  ValueId divisor, exact; /* f32[]: D = S·N, c: step_scale.c */
  ValueId factor;         /* k */
} StepUnit;

typedef struct StepGrad { /* of one parameter */
  const char *path;
  ValueId value, squares; /* as the backward pass left it; Σ (c·g)² */
  ValueId finite;         /* i1[]: every element is */
  unsigned scales;        /* of the losses that reach it */
  uint32_t unit;          /* its place in Step.units */
  Loc loc;
} StepGrad;

typedef struct StepMeter {
  ValueId same; /* i32[]: weights that did not change, NO_ID: none were counted yet */
  int64_t weights;
} StepMeter;

typedef struct Step { /* on its way to being a transaction */
  Builder b;
  PassCtx *c;
  uint32_t entry, results; /* results it had before */
  Loc loc;
  VEC(StepGrad) grads;
  VEC(StepUnit) units;  /* at least one */
  ValueId norm;         /* f32[]: ‖ĝ‖ */
  ValueId idle, weighs; /* i1[]: every weight is 0; every one is finite and >= 0, one above */
  ValueId clean, ok;    /* i1[]: every gradient is finite; the step commits */
  uint8_t *low;         /* by argument: DType in which it is multiplied; f32: in none that is low */
  uint32_t low_args;
  StepMeter unchanged, unchanged_low;
} Step;

Port step_port(const Step *s, uint32_t i); /* of result i */
ValueId step_value(const Step *s, uint32_t i);
ValueId step_state(Step *s, const char *path); /* its old value */
void step_result(Step *s, ResRole role, const char *name, ValueId v);
ValueId step_commit(Step *s, ValueId new, ValueId old);

/* step_scale.c: sets idle, weighs, divisors, exact ones; norm, from Σ (c·g)²; factors. */
void step_weigh(Step *s);
void step_norm(Step *s, ValueId squares);
void step_factor(Step *s);

/* step_guard.c: sets clean, ok, norm. */
ValueId step_all_true(Builder *b, ValueId v);
void step_guard_results(Step *s); /* ok: what the step had given before is sound */
void step_guard(Step *s);
void step_remove_used(Step *s); /* optimize.c: results that the next passes do not know */

/* step_update.c, step_count.c */
void step_update(Step *s, const StepGrad *grad);
void step_add_counters(Graph *g, Loc loc);
void step_add_counts(Step *s);
void step_count(Step *s);

/* step_amax.c: the slots of fp8(delayed); the entry of a calibration. */
void step_add_slot(Graph *g, const char *name, DType type, Loc loc);
ValueId step_slot_state(Graph *g, uint32_t entry, const char *slot, const char *what, Loc loc);
void step_amax(Step *s);
void step_calibrate(Graph *g, uint32_t entry, PassCtx *c);

/* step_meter.c: what did not change of a weight, and the gauges that say so. */
void step_find_low(Step *s);
void step_meter(Step *s, ValueId new, ValueId old);
void step_show_meters(Step *s);

/* step_halves.c: adds both halves; gives the second, which is yet to be optimized. */
uint32_t step_halves(Graph *g, uint32_t step, PassCtx *c);

/* replay.c: beside the step the same in f32, if the step is not that; of what an entry gives only
 * what its guard asks. */
void replay_add(Graph *g, uint32_t step, PassCtx *c);
void replay_keep_questions(Graph *g, uint32_t entry);

/* step_scaler.c: the least S of the set of scalers, from arguments and constants of the entry;
 * NO_ID: the graph has no scaler, or the set is empty. */
ValueId scaler_least(Builder *b, uint32_t entry, unsigned set);
/* 1 / S for a value that carries the scale once; exact; NO_ID: it carries none. */
ValueId scaler_inverse(Builder *b, uint32_t entry, Unit unit);
/* step_bound.c: the largest S that is known to fit; infinity: nothing is known. */
double scaler_bound(const Graph *g, uint32_t scaler);
void scaler_update(Step *s);
void scaler_show(Step *s);

/* step_round.c: weights without a master.  Which those are, before the first step is optimized; the
 * value that commits for `new`, the f32 result of the update. */
void step_choose_rounded(Graph *g);
ValueId step_round(Step *s, const char *path, ValueId new);

/* ---- precision.c --------------------------------------------------------------------------- */

DType precision_type(const char *word);              /* that is low under it; f32: none */
DType node_precision(const Graph *g, const Node *n); /* the type the node works in */

/* Is there anything that works in a low type, or is scaled? */
bool precision_is_low(const Graph *g);

/* ---- spread.c: by value of the graph, of those of one entry ---------------------------------- */

bool *find_varying(const Graph *g, uint32_t entry, Arena *arena); /* in full batches alone */
/* What a constant went into that f16 takes for infinity or zero. */
bool *find_lost(const Graph *g, uint32_t entry, Arena *arena);
bool is_lost_constant(const Graph *g, ValueId v, double *value); /* it everywhere */
bool hands_on(const Node *n); /* its result may be what an operand is */

/* ---- dce.c, group.c: of one entry ------------------------------------------------------------ */

bool dce_entry(Graph *g, uint32_t entry, Arena *scratch);
void group_singly(Graph *g, uint32_t entry, PassCtx *c); /* each node a kernel */

/* ---- kernel.c: edits of kernel nodes ------------------------------------------------------- */

typedef bool KernelUse(const Node *n, uint32_t operand, const void *ctx);

/* Does the body use v in a way that is of interest, or yield it? */
bool kernel_uses(const Graph *g, NodeId k, ValueId v, KernelUse *of_interest, const void *ctx);
void kernel_replace_uses(Graph *g, NodeId k, ValueId from, ValueId to, KernelUse *of_interest,
                         const void *ctx);
void kernel_move_last_first(Graph *g, BlockId block);
ValueId kernel_add_result(Graph *g, NodeId k, ValueId inside); /* the new result */
/* Result i goes, and with the last one the kernel, where nobody in its block reads it. */
void kernel_drop_unused(Graph *g, NodeId k, uint32_t i);
/* A kernel of form map at the end of `block`, its body without nodes or results yet. */
NodeId kernel_map(Graph *g, BlockId block, Loc loc, uint32_t nops, const ValueId *ops, Type t);
/* The block `body`, which nobody owns yet, as a kernel at the end of `block`. */
NodeId kernel_close(Graph *g, BlockId block, Loc loc, Form form, BlockId body, uint32_t nops,
                    const ValueId *ops, uint32_t nres, const Type *types);
/* Kernels of their own, at the end of `block`: x cast by policy; a copy of x. */
ValueId kernel_cast(Graph *g, BlockId block, Loc loc, ValueId x, DType to);
ValueId kernel_copy(Graph *g, BlockId block, Loc loc, ValueId x);

#endif
