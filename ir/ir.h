/* ir.h: the graph that everything between the language and the machine is written in.
 *
 * Functional SSA over typed tensors.  A Graph holds a table of states, a table of entries
 * (train_step, eval, init, …) and flat arrays of nodes, values and blocks, addressed by 32-bit ids;
 * never hold a Node * or Value * across something that adds one.  A node has operands, attributes,
 * one or more results, a Loc, and may own blocks.  State is an explicit argument and an explicit
 * result of an entry.  Shapes are static; the one run-time size is `rows`, how many examples of the
 * batch are real: the axis they lie on is tagged in the type.
 */
#ifndef IR_IR_H
#define IR_IR_H

#include "ir/op.h"

/* ---- graph.c --------------------------------------------------------------------------------- */

typedef uint32_t NodeId, ValueId, BlockId;
#define NO_ID UINT32_MAX

typedef struct Attr {
  AttrKey key;
  uint32_t n; /* of ints */
  union {
    int64_t i;
    double f;
    const char *s;
    const int64_t *ints;
  };
} Attr;

typedef struct Node {
  Op op;
  Loc loc;
  BlockId block; /* where it stands */
  uint32_t nops, nres, nattrs, nblocks;
  ValueId *ops;
  ValueId res; /* the first of nres consecutive ids */
  Attr *attrs; /* sorted by key */
  BlockId *blocks;
} Node;

typedef struct Value {
  Type type;
  NodeId node; /* that defines it; NO_ID: argument of `block` */
  BlockId block;
  uint32_t index; /* among the node's results or the block's arguments */
} Value;

typedef VEC(ValueId) ValueIds;
typedef VEC(NodeId) NodeIds;

enum { MAX_NESTING = 32 }; /* of blocks */

typedef struct Block {
  NodeId owner; /* NO_ID: body of an entry */
  ValueIds args;
  NodeIds nodes; /* operands before users */
  ValueIds results;
} Block;

typedef enum StateKind {
  STATE_param,
  STATE_state,
  STATE_moment,
  STATE_counter,
  STATE_derived,
  STATE_shadow, /* what a step's half `grads` hands to its half `apply` */
  STATE_part    /* of a parameter that is kept in parts; the parameter has no place itself */
} StateKind;
enum { STATE_KINDS = STATE_part + 1 };
/* How a parameter is kept: as it is; in the low type alone (`master(sr)`); in parts (`split`). */
typedef enum StateStore { STORE_whole, STORE_sr, STORE_split } StateStore;
enum { STATE_STORES = STORE_split + 1 };
extern const char *const state_store_name[STATE_STORES];
typedef struct State { /* order of kinds: mp_state_kind */
  const char *path;    /* interned: "net.0.weight", "net.0.weight:m" */
  StateKind kind;
  Type type;
  Loc loc;
  const char *master; /* path of the parameter that a moment, derived state or part belongs to */
  StateStore store;   /* of a parameter */
  bool no_decay;      /* decay(false) */
  bool frozen;        /* never trained */
  bool must_load;     /* has no initializer: a run needs it loaded */
  bool unsaved;       /* frozen GLOB save(false): a checkpoint holds its checksum alone */
  bool phased;        /* has a dim of the phase: train's, saved beside the moments */
  bool private;       /* the same of another phase: lives with the context */
} State;

typedef enum ArgRole {
  ARG_input,
  ARG_state, /* name: path */
  ARG_hyper, /* f32[]; in an entry `update` the effective value, else what the host set, or NaN */
  ARG_seed,
  ARG_grad, /* of an entry `update`: unscaled mean gradient of the parameter of this path */
  ARG_draw  /* i32[]: word 1 of the counter of draws, where no state is (eval, infer) */
} ArgRole;
enum { ARG_ROLES = ARG_draw + 1 };
typedef enum ResRole {
  RES_state,     /* name: path */
  RES_loss,      /* sum of a loss over real rows; gradients start here */
  RES_metric,    /* sum of a metric */
  RES_weight,    /* total weight of the loss or metric of this name */
  RES_grad,      /* between grad and optimize: gradient of the parameter of this path */
  RES_ok,        /* i1: everything finite, the step commits */
  RES_fault,     /* i1: an index was out of range */
  RES_nonfinite, /* i1: the update of the state `name` is not finite */
  RES_value,     /* result of an infer function */
  RES_hyper,     /* of a step: effective value of a hyperparameter, f32[] */
  RES_finite,    /* of a step, i1[]: what `name` says was finite: "grad:net.0.weight" */
  RES_gauge,     /* of a step, f32[]: a number to look at: "grad_norm", "scale" */
  RES_watch,     /* of a step, f32[]: one of the five numbers of a watched value: passes/watch.c */
  RES_amax,      /* between fp8 and optimize, f32[]: largest |x| of the slot of this name */
  RES_count      /* the same, i32[]: what the step adds to the counter of this name */
} ResRole;
enum { RES_ROLES = RES_count + 1 };
extern const char *const state_kind_name[STATE_KINDS], *const arg_role_name[ARG_ROLES],
                                                           *const res_role_name[RES_ROLES];

/* Arguments and results of an entry, beside its block's lists: role and name of each. */
typedef struct Port {
  uint8_t role; /* ArgRole or ResRole */
  const char *name;
  Loc loc;
} Port;

typedef enum EntryKind {
  ENTRY_init,
  ENTRY_step,
  ENTRY_eval,
  ENTRY_infer,
  ENTRY_fit,
  ENTRY_derive,
  ENTRY_grads, /* a step in halves: forward and backward; guard and update */
  ENTRY_apply,
  ENTRY_calibrate, /* of a step: fills the histories of its slots from a batch, and nothing else */
  ENTRY_replay,    /* of a step: what its guard asks, in f32 (passes/replay.c); writes no state */
  ENTRY_origin,    /* the same, as the step computes it, an op a kernel */
  ENTRY_update /* one parameter's new value and moments, from its gradient; gone after `optimize`
                */
} EntryKind;
enum { ENTRY_KINDS = ENTRY_update + 1 };
extern const char *const entry_kind_name[ENTRY_KINDS];

typedef struct Entry {
  const char *name;
  EntryKind kind;
  int64_t batch; /* rows of a full batch, 0: none */
  bool full;     /* tail(drop): the runtime feeds full batches alone */
  BlockId body;
  VEC(Port) args, results;
  Loc loc;
} Entry;

typedef struct Hyper {
  const char *name;  /* "lr", "steps" */
  double value;      /* NaN: follows its schedule */
  const char *shown; /* "linear(0.001, to: 0)" */
} Hyper;

/* A metric of totals: name, and how it is computed from them, in f64, in reverse Polish notation:
 * `$NAME` is sum / weight of the loss or metric NAME; numbers; add sub mul div pow min max; neg exp
 * log sqrt. */
typedef struct TotalFormula {
  const char *name; /* "perplexity" */
  const char *rpn;  /* "$loss exp" */
  Loc loc;
} TotalFormula;

/* Where the loader gets an input of train_step and eval; inputs without one are fed by the host.
 * rows: example i is row i.  windows, lanes: the file is one long row of elements; row i of
 * windows is elements [i·T, i·T + T], T + 1 of them; of lanes, row r of batch b continues row r of
 * batch b - 1, and the input NAME.fresh says where it does not. */
typedef enum ReadKind { READ_rows, READ_windows, READ_lanes } ReadKind;
enum { READ_KINDS = READ_lanes + 1 };
extern const char *const read_kind_name[READ_KINDS];
typedef struct DataSource {
  const char *name;
  ReadKind kind;
  int64_t length;   /* T of windows and lanes */
  int64_t category; /* n of category(n), 0: none */
  Type type;        /* of one row; of one element where the file is one long row */
  Loc loc;
} DataSource;

/* Which part of the data eval sees. */
typedef enum SplitKind { SPLIT_none, SPLIT_last, SPLIT_random } SplitKind;
enum { SPLIT_KINDS = SPLIT_random + 1 };
extern const char *const split_kind_name[SPLIT_KINDS];
typedef struct DataSplit {
  SplitKind kind;
  double fraction; /* above 0, below 1 */
} DataSplit;

typedef struct LoadPair { /* what a path of the model is called in the file; both may be globs */
  const char *to, *from;
  bool transpose;
} LoadPair;
typedef struct Load {
  const char *from; /* file */
  const char *glob; /* paths of the model that it fills */
  VEC(LoadPair) pairs;
  Loc loc;
} Load;

/* The loss scale S; static: it stays init. */
typedef enum ScaleKind { SCALE_none, SCALE_static, SCALE_dynamic } ScaleKind;
enum { SCALE_KINDS = SCALE_dynamic + 1 };
extern const char *const scale_kind_name[SCALE_KINDS];
typedef struct Scale {
  ScaleKind kind;
  double init, growth, backoff; /* powers of two */
  double interval;              /* clean steps in a row before it grows */
  double hysteresis;            /* non-finite steps in a row before it shrinks; 1: at once */
  double floor, cap;            /* powers of two */
} Scale;
/* S and what moves it: any two of them have a quotient that f32 holds. */
#define SCALE_LEAST 0x1p-62
#define SCALE_MOST 0x1p62
extern const Scale scale_default; /* what `scale(dynamic)` means */
typedef struct ScaleField {       /* in the order they are printed; power: of two, else a count */
  const char *name;
  size_t offset;
  bool power;
} ScaleField;
enum { SCALE_FIELDS = 7 };
extern const ScaleField scale_field[SCALE_FIELDS];
bool scale_power(double x);       /* a power of two from SCALE_LEAST to SCALE_MOST */
bool scale_moves(const Scale *s); /* growth > 1, backoff < 1, floor <= init <= cap */

/* How the scales of fp8 operands are found. */
typedef enum Fp8Recipe {
#define RECIPE(name, written, meaning) RECIPE_##name,
#include "ir/fp8.def"
  FP8_RECIPES
} Fp8Recipe;
extern const char *const fp8_recipe_name[FP8_RECIPES], *const fp8_recipe_written[FP8_RECIPES];
const char *precision_word(const char *text); /* "f16" of f16 or fp16, …; NULL: no float type's */
Fp8Recipe fp8_recipe(const char *precision);  /* FP8_RECIPES: it is none; NULL is none */

/* fp8(delayed): whole numbers; history 0: another recipe. */
typedef struct Fp8Delayed {
  double history; /* L: largest |x| of so many steps */
  double margin;  /* the scale is 2^-margin of what would fit */
} Fp8Delayed;
extern const Fp8Delayed fp8_delayed_default;
typedef struct Fp8Field { /* in the order they are printed */
  const char *name;
  size_t offset;
  double least, most;
} Fp8Field;
enum { FP8_FIELDS = 2 };
extern const Fp8Field fp8_field[FP8_FIELDS];

/* Of fp8(delayed): an operand of a layer, whose scale follows what it was in past steps: in the
 * states NAME.history, f32[L], and NAME.scale, f32[] (docs/precision.md). */
typedef struct Fp8Slot {
  const char *name; /* "net.1.weight:fp8.x" */
  DType type;       /* that it scales to */
  Loc loc;
} Fp8Slot;

typedef struct LossScale { /* of a loss that has one of its own */
  const char *loss;
  Scale scale;
  Loc loc;
} LossScale;

/* What the train block says beyond the computation. */
typedef struct Train {
  const char *precision; /* "f32", "bf16", "fp8_current" */
  bool automatic;        /* `auto` chose it: products for which it does not pay stay in f32 */
  const char *residual;  /* storage type of the residual stream, NULL: as precision says */
  const char *master;    /* what a low weight is rounded from: "sr", "split"; NULL: an f32 master */
  Scale scale;           /* of the losses without one of their own */
  Fp8Delayed delayed;
  int64_t steps, epochs; /* 0: not given */
  int64_t accumulate;    /* micro-batches a step; 0: as 1 */
  double clip;           /* most that the norm of the gradient may be, 0: any */
  Loc loc, precision_loc, scale_loc;
} Train;

typedef struct Graph {
  Arena *arena; /* everything below lives in it */
  Strings *strings;
  const char *name, *source;
  VEC(Node) nodes;
  VEC(Value) values;
  VEC(Block) blocks;
  VEC(State) states;
  VEC(Entry) entries;
  VEC(Hyper) hypers;
  VEC(TotalFormula) formulas;
  VEC(DataSource) sources;
  VEC(Load) loads;
  VEC(Fp8Slot) slots;
  VEC(LossScale) scales;
  DataSplit split;
  Train train;
  bool ordered; /* nodes stand as they run: new values may be stored over old ones (place.c) */
} Graph;

Graph *graph_new(Arena *arena, Strings *strings, const char *name, const char *source);
BlockId graph_add_block(Graph *g, NodeId owner);
ValueId graph_add_arg(Graph *g, BlockId block, Type type);
/* Appends to the end of `block`.  types: of the results; attrs are copied and sorted. */
NodeId graph_add_node(Graph *g, BlockId block, Op op, Loc loc, uint32_t nops, const ValueId *ops,
                      uint32_t nres, const Type *types, uint32_t nattrs, const Attr *attrs);
uint32_t graph_add_entry(Graph *g, const char *name, EntryKind kind, int64_t batch, Loc loc);
ValueId graph_add_entry_arg(Graph *g, uint32_t entry, ArgRole role, const char *name, Type t,
                            Loc loc);
void graph_add_entry_result(Graph *g, uint32_t entry, ResRole role, const char *name, ValueId v,
                            Loc loc);
/* An argument that nobody reads; a result. */
void graph_drop_entry_arg(Graph *g, uint32_t entry, uint32_t i);
void graph_drop_entry_result(Graph *g, uint32_t entry, uint32_t i);
/* Arguments, nodes and results of entry `from` once more; the new entry. */
uint32_t graph_copy_entry(Graph *g, uint32_t from, const char *name, EntryKind kind,
                          Arena *scratch);
void graph_drop_node(Graph *g, NodeId n); /* out of its block; nobody reads it */
/* As operand of the block's nodes and as its result. */
uint32_t graph_count_uses(const Graph *g, BlockId block, ValueId v);
ValueId graph_entry_arg(const Graph *g, uint32_t entry, ArgRole role,
                        const char *name); /* or NO_ID */
ValueId graph_entry_result(const Graph *g, uint32_t entry, ResRole role, const char *name);
State *graph_state(const Graph *g, const char *path);        /* NULL: none */
const Fp8Slot *graph_slot(const Graph *g, const char *name); /* NULL: none */
const Fp8Slot *graph_scaled_slot(const Graph *g, const char *path); /* whose scale that state is */
int graph_entry_find(const Graph *g, EntryKind kind);        /* first of the kind, -1: none */

static inline Type value_type(const Graph *g, ValueId v) { return g->values.at[v].type; }
static inline bool value_is_float(const Graph *g, ValueId v) {
  return type_is_float(value_type(g, v));
}
static inline uint64_t value_bytes(const Graph *g, ValueId v) {
  return type_size(value_type(g, v));
}
static inline Node *value_node(const Graph *g, ValueId v) { /* NULL: an argument */
  NodeId n = g->values.at[v].node;
  return n == NO_ID ? NULL : &g->nodes.at[n];
}
/* The constant that v is everywhere; NULL: it is none. */
static inline const Node *value_constant(const Graph *g, ValueId v) {
  const Node *n = value_node(g, v);
  while (n && n->op == OP_broadcast) n = value_node(g, n->ops[0]);
  return n && n->op == OP_constant ? n : NULL;
}
static inline BlockId value_block(const Graph *g, ValueId v) { /* where it is defined */
  NodeId n = g->values.at[v].node;
  return n == NO_ID ? g->values.at[v].block : g->nodes.at[n].block;
}
const Attr *node_attr(const Node *n, AttrKey key); /* NULL: not there */
int64_t node_int(const Node *n, AttrKey key, int64_t otherwise);
double node_float(const Node *n, AttrKey key, double otherwise);
bool node_bool(const Node *n, AttrKey key); /* absent: false */
const char *node_text(const Node *n, AttrKey key, const char *otherwise);
bool node_is_kernel(const Node *n, Form form);  /* and of that form */
void node_set_attr(Graph *g, NodeId n, Attr a); /* replaces one of the same key */

bool attr_equal(const Attr *a, const Attr *b);
Attr attr_int(AttrKey key, int64_t i);
Attr attr_bool(AttrKey key, bool b);
Attr attr_float(AttrKey key, double f);
Attr attr_text(AttrKey key, const char *s);
Attr attr_ints(AttrKey key, uint32_t n, const int64_t *ints);

/* A copy of the graph in another arena (for evaluation before and after a pass). */
Graph *graph_clone(const Graph *g, Arena *arena);
/* Every use of `from` in the block (and blocks inside) and its results becomes `to`. */
void graph_replace_uses(Graph *g, BlockId block, ValueId from, ValueId to);
/* The nodes from position `from` on go in front of position `to`. */
void graph_move_nodes(Graph *g, BlockId block, uint32_t from, uint32_t to);
/* map[v] is v's replacement, or NO_ID to keep it (map has one element a value); chains are
 * followed. */
void graph_apply_map(Graph *g, BlockId block, const ValueId *map);
typedef struct Replaced {
  ValueId from, to;
} Replaced;

/* Each `from` becomes its `to`, in every entry.  The map for graph_apply_map, in scratch. */
const ValueId *graph_replace_all(Graph *g, Arena *scratch, uint32_t n, const Replaced *pairs);
/* The copy of node n at the end of `block`, operands through map (NO_ID: unchanged); results
 * entered in map.  Blocks are copied too. */
NodeId graph_copy_node(Graph *g, NodeId n, BlockId block, ValueId *map);

/* ---- loop.c ---------------------------------------------------------------------------------- */

/* The blocks of loops see their arguments alone: what they read from outside becomes an invariant,
 * what is made of constants is copied.  True: something changed. */
bool graph_close_loop(Graph *g, NodeId loop, Arena *scratch); /* one, and those inside */
bool graph_close_loops(Graph *g, Arena *scratch);
/* One more operand of a kernel or loop, of the latter an invariant: the argument that v is inside.
 */
ValueId region_add_operand(Graph *g, NodeId region, ValueId v);
/* What `inside` is in each iteration, stacked, is one more result; the loop's results become
 * others, and with loop_stack_result who reads the old ones reads those.
 */
ValueId loop_add_result(Graph *g, NodeId loop, ValueId inside);
ValueId loop_stack_result(Graph *g, NodeId loop, ValueId inside);
/* What the argument v of a loop is outside, where it is an invariant; else NO_ID. */
ValueId loop_invariant(const Graph *g, ValueId v);
/* value_origin, and on outside of the loops that it is an invariant of. */
ValueId value_source(const Graph *g, ValueId v, bool moved);

/* ---- derived.c: what a derived state is made of ---------------------------------------------- */

const State *argument_state(const Graph *g, ValueId v); /* NULL: v is no state's argument */
/* Whole, what the entry makes of the state; NO_ID: it leaves it alone. */
ValueId state_made(const Graph *g, uint32_t entry, const State *s);
/* What the entry `derive` makes the state of; NO_ID: it does not. */
ValueId derived_value(const Graph *g, const char *path);
ValueId derived_source(const Graph *g, ValueId v); /* the same of the argument v of any entry */
/* Is v, of that entry, what x of `derive` is: of the states as the entry finds them; `after`: as it
 * leaves them? */
bool derived_same(const Graph *g, ValueId x, uint32_t entry, ValueId v, bool after);
typedef VEC(const State *) States;
States derived_sources(const Graph *g, Arena *arena, ValueId x); /* that x of `derive` is made of */

/* ---- place.c: what lies where another value lay ---------------------------------------------- */

ValueId view_source(const Graph *g, ValueId v); /* in memory, that a chain of views shows */
bool node_reads(const Graph *g, const Node *n, ValueId v); /* or a view of it */
/* A kernel, a view or a loop, which sees nothing of other blocks. */
bool node_is_grouped(const Graph *g, const Node *n);
/* Of a value the nodes of a block that read it or a view of it: at[first[v]] … at[first[v + 1] - 1],
 * positions in the block, ascending, each once.  Of the values there are by now. */
typedef struct BlockReaders {
  uint32_t *first, *at;
} BlockReaders;
BlockReaders block_readers(const Graph *g, BlockId block, Arena *arena);
/* By result of an entry's or a loop's block: what it is stored over, an argument of the block;
 * NO_ID: nothing. */
const ValueId *results_replaced(const Graph *g, BlockId block, Arena *arena);
/* May the kernel's result be stored over `old` while the kernel reads it?  It does not, or whole,
 * not through a view; the dims are the same; no element of it, nor what is made of it element by
 * element, is looked up at another index (F_ELSEWHERE), yielded as it is, or an operand of a
 * product; and the kernel's reductions are of rows: of trailing axes. */
bool kernel_in_place(const Graph *g, NodeId kernel, ValueId old, ValueId result);

/* ---- build.c: nodes with inferred types; an error in the operands is an internal error ------- */

typedef struct Builder {
  Graph *g;
  BlockId block;
  Loc loc;            /* of what is built */
  const char *module; /* in which, where loc does not say; NULL: in none */
  const char *prec;   /* attributes of what is built; NULL: none */
  int64_t recompute;  /* of which region; 0: of none */
} Builder;

/* What is built from now on stands for n: its place, its common attributes. */
void builder_follow(Builder *b, const Node *n);
Loc builder_loc(const Builder *b); /* of what is built, with its module */

ValueId build(Builder *b, Op op, uint32_t nops, const ValueId *ops, uint32_t nattrs,
              const Attr *attrs);
ValueId build_typed(Builder *b, Op op, Type t, uint32_t nops, const ValueId *ops, uint32_t nattrs,
                    const Attr *attrs); /* ops whose SHAPE is `given` */
ValueId build1(Builder *b, Op op, ValueId x);
ValueId build2(Builder *b, Op op, ValueId x, ValueId y);
ValueId build_select(Builder *b, ValueId c, ValueId x, ValueId y);
ValueId build_constant(Builder *b, Type t, double value); /* a rank-0 constant, broadcast to t */
ValueId build_like(Builder *b, ValueId v, double value);  /* constant of v's type */
ValueId build_cast(Builder *b, ValueId x, DType d);       /* x itself where it has the type */
ValueId build_iota(Builder *b, Type t, int axis);
ValueId build_reduce(Builder *b, Op op, ValueId x, uint32_t naxes, const int64_t *axes);
ValueId build_reduce_last(Builder *b, Op op, ValueId x); /* over the last axis */
ValueId build_wide(Builder *b, ValueId v); /* v of a node just built, now with attribute `wide` */
ValueId build_reduce_all(Builder *b, Op op, ValueId x);  /* to rank 0 */
ValueId build_reduce_rows(Builder *b, Op op, ValueId x); /* all, rows first: threads share them */
/* x's axes become axes[i] of the result type t. */
ValueId build_broadcast(Builder *b, ValueId x, Type t, const int64_t *axes);
ValueId build_broadcast_leading(Builder *b, ValueId x, Type t); /* x's axes are t's first ones */
ValueId build_splat(Builder *b, ValueId scalar, Type t);        /* rank 0 to t's dims */
ValueId build_reshape(Builder *b, ValueId x, Type t);
ValueId build_transpose(Builder *b, ValueId x, const int64_t *perm);
/* The least x > 0 of n numbers, elementwise; infinity where none is. */
ValueId build_least_positive(Builder *b, uint32_t n, const ValueId *xs);
/* The places starts[i] + k · steps[i] of x, as many as t has; back among those of t, 0 elsewhere.
 */
ValueId build_slice(Builder *b, ValueId x, Type t, const int64_t *starts, const int64_t *steps);
ValueId build_pad(Builder *b, ValueId x, Type t, const int64_t *starts, const int64_t *steps);
/* `size` places of axis `axis` from `start`. */
ValueId build_part(Builder *b, ValueId x, int axis, int64_t start, int64_t size);
ValueId build_concat(Builder *b, uint32_t n, const ValueId *xs, int axis);
ValueId build_matmul(Builder *b, ValueId a, ValueId c, bool ta, bool tb);
enum { K_CHUNK = 256 };

/* ---- shape.c, unit.c, verify.c --------------------------------------------------------------- */

/* Infers the results' types (all but `given` rules).  false: *why says what is wrong with the
 * operands. */
bool shape_infer(const Graph *g, Op op, uint32_t nops, const ValueId *ops, uint32_t nattrs,
                 const Attr *attrs, Type *types, Text *why);
bool shape_is_given(Op op);
/* Operand 0 or 1 of a matmul as the product reads it: [lead…, m, k], [lead…, k, n].  2 and 3: the
 * scales of blocks, which lie as their operands do. */
Type matmul_operand(const Graph *g, const Node *n, uint32_t i);
uint32_t matmul_accumulator(Op op);                 /* which operand it is, where there is one */
int64_t matmul_work(const Graph *g, const Node *n); /* multiply-adds */
/* Summed over the batch: the batch is tagged, or the product says it (attribute `weight`). */
bool matmul_is_weight_gradient(const Graph *g, const Node *n);
/* How many neighbouring rows of a, columns of b, share a scale: 1, a block, or 0 where the scale of
 * operand i does not fit it. */
int64_t matmul_scale_lines(const Graph *g, const Node *n, uint32_t i);
/* Unit of a result from those of the operands; comes in as stated (a constant keeps it). */
bool unit_infer(const Graph *g, Op op, uint32_t nops, const ValueId *ops, Unit *unit, Text *why);
bool unit_is_any(const Graph *g,
                 ValueId v); /* a literal zero (constant or its broadcast) has every unit */
/* The value v's elements come from: through reshapes and the borders of kernels; with `moved`,
 * through every view and cast. */
ValueId value_origin(const Graph *g, ValueId v, bool moved);

/* Invariants are listed on top of verify.c.  Returns the number of violations; the first is in
 * *why. */
uint32_t graph_verify(const Graph *g, Text *why);
uint32_t graph_verify_diag(const Graph *g, Diag *diag); /* each as an error at its place */
/* verify_op.c: what column VERIFY says of the node; of a kernel, the rules of its form (program.h).
 * The graph is sound in structure. */
bool node_check(const Graph *g, NodeId n, Text *why);
/* verify_parts.c: what stands around the entries: train, formulas, sources, split, loads. */
bool parts_check(const Graph *g, Loc *at, Text *why);

/* ---- scaler.c: the loss scalers; 0 is the program's, the others are those of g->scales ---------
 */

uint32_t graph_scalers(const Graph *g);
bool graph_is_scaled(const Graph *g); /* any loss is */
const Scale *graph_scale(const Graph *g, uint32_t scaler);
Loc graph_scale_loc(const Graph *g, uint32_t scaler);
uint32_t graph_scaler_of(const Graph *g, const char *loss);
/* Path of its counter `what`: scale, clean, hysteresis; and whether s is such a counter. */
const char *scaler_counter(const Graph *g, const char *what, uint32_t scaler);
bool scaler_counts(const Graph *g, const State *s, const char *what, uint32_t *scaler);
bool state_is_scale(const Graph *g, const State *s); /* it carries what it is the measure of */
bool value_is_scale(const Graph *g, ValueId v); /* a loss scale itself, or the least of several */

/* ---- print.c, parse.c: print(parse(print(g))) = print(g) ------------------------------------- */

typedef struct PrintOptions {
  bool locs;        /* append the source place of each node */
  const Diag *diag; /* names of the sources; NULL: their numbers are printed */
} PrintOptions;

void graph_print(const Graph *g, Text *out, PrintOptions o);
void node_print(const Graph *g, NodeId n, Text *out); /* one line, for messages */
Graph *graph_parse(Arena *arena, Strings *strings, Diag *diag, uint32_t source); /* NULL: errors */

/* Ours, not the user's: names pass and node on stderr, calls the hook (NULL: none) and ends the
 * process with 70. */
extern void (*ice_hook)(void);
_Noreturn void ice(const Graph *g, NodeId n, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
