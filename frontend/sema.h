/* sema.h: from a syntax tree to a Graph.
 *
 * Compilation is evaluation: expressions over compile-time values (numbers, lists, functions,
 * modules, instances) are computed; expressions over tensors append nodes to the entry being built.
 * One evaluator does both, so a function is elaborated anew for each call, with its dims known.
 *
 *   value.c     values and scopes (value.h), what they are called in messages
 *   number.c    arithmetic at compile time
 *   expr.c      expressions and code
 *   control.c   `if`, `for`, comprehensions, `repeat`, `assert`
 *   list.c      lists: joining, indices, slices
 *   index.c     x[…] of a tensor
 *   tensor.c    arithmetic on tensors: lifting, widening, broadcasting, matmul
 *   broadcast.c dims that agree, and the origins of those that do not
 *   region.c    `precision(f32) { … }`, `eval`, `recompute`
 *   shape.c     types as written (`int`, `[..., i]`, `u8[B, 28]`) against values; binding of dims
 *   call.c      calls of functions, lists, modules; arguments
 *   custom_grad.c  functions with a gradient of their own
 *   builtins.c  the functions of the language: registry; tables by kind in builtin_*.c
 *   modifiers.c words behind a value: `decay(false)`, `split(last, 0.1)`
 *   declare.c   file, module and model blocks; parameters and their paths
 *   import.c    other files
 *   unused.c    names in functions that nothing called
 *   state.c     parameters and states: their declaration, values, `:=`
 *   init.c      initializers: the entry `init`
 *   orthogonal.c  one of them
 *   weights.c   `init`, `load`, `frozen`: where parameters start, which ones stay
 *   glob.c      patterns of paths
 *   optimizer.c optimizers and groups: entries `update`
 *   schedule.c  hyperparameters and their schedules
 *   scale.c     loss scales
 *   keep.c      --keep=GLOB:W
 *   items.c     blocks of settings, with `if` and `for`
 *   train.c     the train block: entries train_step and eval
 *   settings.c  its settings of one number or word
 *   data.c      its data
 *   loss.c      losses and metrics
 *   infer.c     the infer block: an entry for each fn
 *
 * An error is reported once, where it is found; what it was found in becomes VAL_BAD, which every
 * operation swallows, so that evaluation goes on and finds the next.  Evaluation is bounded in
 * depth and in work, so that compiling ends, whatever the program.
 */
#ifndef FRONTEND_SEMA_H
#define FRONTEND_SEMA_H

#include "frontend/frontend.h"
#include "frontend/value.h"

typedef struct File File; /* import.c */

/* What an entry is elaborated for. */
typedef struct Phase {
  EntryKind kind;
  int64_t batch; /* 0: not given */
  const char *batch_name;
  bool full; /* every batch is: tail(drop) */
  bool says_tail;
} Phase;

typedef struct TrainBlock TrainBlock; /* train.c */

/* Paths of the model by a pattern; glob.c. */
typedef struct Glob {
  const char *text;
  Loc loc;
  uint32_t n;
  const char *const *plain; /* without braces */
} Glob;

typedef struct Keep { /* --keep */
  const char *text, *precision;
  Glob glob;        /* of paths; of a line: of the modules that it is meant in */
  const char *file; /* of a line; NULL: it is no line */
  uint32_t line;
  bool every, own; /* of a line: in every module; in the model itself alone */
  bool met;        /* it covers something */
} Keep;

typedef struct Moment { /* a state of an optimizer */
  State state;
  Param *param;
  bool added; /* to the graph */
} Moment;

typedef struct Known { /* of a value's dims, beyond their sizes */
  const Ast *dims;     /* where they were declared, or NULL */
  uint8_t ones;        /* bit k: axis k is a 1 that the program wrote */
} Known;

typedef struct Turn { /* of a scan whose body is being built */
  ValueId index;      /* i32[] */
  int64_t trip;
  const struct Turn *around;
} Turn;

/* Where a random draw stands: each call and each draw in it has a number, so that a draw's key
 * depends neither on the entry nor on what other calls do. */
typedef struct Site {
  uint64_t path; /* hash of the numbers from the entry's code inward */
  uint32_t next; /* number of the next call or draw in this one */
} Site;

struct Sema {
  Arena *arena;
  Strings *strings;
  Diag *diag;
  const FrontendOptions *options;
  Graph *g;
  Scope *builtins, *file;
  File *current;     /* being declared */
  VEC(File *) files; /* imported */
  VEC(const Ast *) models, trains, infers;     /* of the main file */
  const Ast *model_ast, *train_ast, *infer_ast; /* those that are built; sema.c */
  const Ast *model_dim; /* B of `model M[B]`, or NULL */
  Instance *model;
  VEC(Param *) params;
  uint32_t depth, work; /* of evaluation */
  Scope *used;          /* functions and modules that were elaborated */
  bool gave_up;
  bool incomplete; /* a refused construct may have bound names: unknown ones are no news */
  uint32_t traced_error, traces; /* the error whose calls are shown, and how many were */
  Loc traced;                    /* the last of them */
  /* the entry being built */
  Builder b;
  int64_t recomputed;  /* regions of `recompute` so far */
  uint32_t entry;
  VEC(Known) known; /* an element a value */
  bool building;
  bool deciding;          /* a condition is evaluated: a tensor is wrong there, whatever its rows */
  bool training, fitting; /* what the program reads by these names */
  const Turn *turn;       /* the innermost scan */
  Site site;              /* of the call at hand */
  uint32_t faults;        /* of indices, in the entry */
  const char *total;      /* "loss" or "metric" while one is evaluated */
  bool named_loss;        /* a loss is called `loss` */
  bool warned_of_fit;
  bool in_data;                      /* in a data block, where unknown names may be sources */
  Phase phases[ENTRY_KINDS], *phase; /* phase: at hand; of it: */
  const char *batch_name;
  int64_t batch;
  bool full;
  TrainBlock *train;
  VEC(struct OptimizerUse) optimizers; /* optimizer.c */
  VEC(struct GroupUse) groups;
  VEC(struct HyperUse) hypers;
  VEC(Moment) moments;
  VEC(Keep) keeps;
};

/* Bounds that no sane program meets.  A level of depth costs about 1 KB of stack. */
enum { EVAL_DEPTH = 2500, EVAL_WORK = 4000000, EVAL_NODES = 1 << 20, CALL_WORK = 16 };

/* ---- value.c ---- */
Val val_bad(void);
Val val_int(int64_t i);
Val val_float(double f);
Val val_bool(bool b);
Val val_tensor(ValueId v);
Val val_list(Arena *a, ValKind kind, uint32_t n, const Val *at);
const char *val_describe(Sema *s, Val v); /* "the number 3", "f32[64,10]", "a list of 5" */
bool val_number(Val v, double *f);        /* INT and FLOAT */
Type val_type(Sema *s, Val v);            /* of TENSOR and PARAM */
bool val_is_tensor(Val v);
Scope *scope_new(Sema *s, Scope *parent);
Binding *scope_find_here(const Scope *sc, const char *name);
Binding *scope_find(const Scope *sc, const char *name);
void scope_set(Sema *s, Scope *sc, const char *name, Val v, Loc loc);  /* new or rebound */
bool scope_bind(Sema *s, Scope *sc, const char *name, Val v, Loc loc); /* once, else an error */
const char *scope_near(Sema *s, const Scope *sc, const char *name, bool outer);
/* "; `x`?" where one of the names is near, else "". */
const char *sema_near(Sema *s, const char *name, const char *const *names, size_t n);
Val sema_later(Sema *s, Loc loc, const char *what);       /* refused by name: not in this version */
Val sema_later_names(Sema *s, Loc loc, const char *what); /* and it would have bound names */
Val sema_give_up(Sema *s, Loc loc, const char *what);
bool sema_work(Sema *s, Loc loc, uint32_t units); /* false: given up */

/* ---- number.c ---- */
const char *sign_of(AstKind kind); /* "+" of AST_ADD */
Val number_neg(Sema *s, Val x, Loc loc);
Val number_binary(Sema *s, const Ast *op, Val l, Val r); /* of two numbers */
Val number_make(Sema *s, Loc loc, double f);             /* an error if it is not finite */

/* ---- expr.c ---- */
Val eval_expr(Sema *s, Scope *sc, const Ast *a, bool declaring);
Val eval_code(Sema *s, Scope *sc, const Ast *code, Loc *returned); /* of a function's body */
bool eval_int(Sema *s, Scope *sc, const Ast *a, const char *what, int64_t *i);
bool eval_float(Sema *s, Scope *sc, const Ast *a, const char *what, double *f);
Val eval_name(Sema *s, Scope *sc, const Ast *a); /* of a NAME, or of a REST with a name */
/* once: in a declaration block; else rebinding. */
bool bind_names(Sema *s, Scope *sc, const Ast *bind, Val v, bool once);
bool bind_parts(Sema *s, Scope *sc, const Ast *names, Val v, Loc loc, bool once);

/* ---- control.c ---- */
const Ast *if_taken(Sema *s, Scope *sc, const Ast *a); /* the branch of an IF or CHOOSE; or NULL */
void eval_assert(Sema *s, Scope *sc, const Ast *a);
bool eval_sequence(Sema *s, Scope *sc, const Ast *a, Val *list); /* what a `for` goes over */
Val eval_choose(Sema *s, Scope *sc, const Ast *a, bool declaring);
Val eval_comprehension(Sema *s, Scope *sc, const Ast *a, bool declaring);
Val eval_repeat(Sema *s, Scope *sc, const Ast *a, bool declaring);

/* ---- list.c ---- */
Val list_join(Sema *s, Val l, Val r, Loc loc);
Val list_repeat(Sema *s, Val list, Val times, Loc loc);
Val eval_index(Sema *s, Scope *sc, const Ast *a, Val of);
bool rest_dims(Sema *s, Scope *sc, const Ast *rest, Type *run); /* of `...` or `...S` */
Val eval_elements(Sema *s, Scope *sc, const Ast *a, ValKind kind, bool declaring);

/* ---- matmul.c ---- */
Val tensor_matmul(Sema *s, Loc loc, Val l, Val r);
ValueId matmul_build(Sema *s, ValueId *v, Loc loc, const char *what); /* NO_ID: reported */

/* ---- index.c ---- */
Val tensor_index(Sema *s, Scope *sc, const Ast *a, Val of); /* a: the INDEX */

/* ---- tensor.c ---- */
bool tensors_allowed(Sema *s, Loc loc); /* not in declarations, which is reported */
/* A TENSOR's or PARAM's value in the entry; NO_ID: error */
ValueId tensor_of(Sema *s, Val v, Loc loc);
Val tensor_binary(Sema *s, const Ast *op, Val l, Val r);
Val tensor_unary(Sema *s, Op op, Val x, Loc loc);
ValueId tensor_widen(Sema *s, ValueId v); /* u8, u16 to i32 */
/* Lifts numbers, widens, broadcasts so that all have equal dims and element types. */
bool tensor_unify(Sema *s, uint32_t n, const Val *v, ValueId *out, Loc loc, const char *what);
/* *v, a number or bool, becomes a tensor of rank 0. */
bool tensor_lift(Sema *s, Val *v, DType d, Loc loc);
bool mixes_rows(Sema *s, ValueId x, int axis, Loc loc, const char *what); /* reports it */

/* ---- broadcast.c ---- */
/* The value's dims were declared so: mismatches show the place, ones in them stretch. */
void dims_declare(Sema *s, ValueId v, const Ast *dims);
void dims_write_one(Sema *s, ValueId v, int axis); /* the program wrote this axis's 1 */
/* Reports tensors whose batches lie on different axes, counted from the right. */
void batches_differ(Sema *s, const char *what, Type a, Type b, Loc loc);
/* A note for each value: where the size of its axis, counted from the right, comes from. */
void note_sizes(Sema *s, uint32_t n, const ValueId *v, const int *from_right, Loc loc);
/* The type that all broadcast to; NO_ID are left out. */
bool dims_join(Sema *s, uint32_t n, const ValueId *v, Type *t, Loc loc, const char *what);
/* Of two stacks of matrices: the leading axes, the last two are nobody's. */
bool dims_join_leading(Sema *s, const ValueId *v, Type *t, Loc loc, const char *what);
ValueId broadcast_to(Sema *s, ValueId v, Type t);
/* Broadcasts so that all have equal dims and the batch on the same axis. */
bool tensor_align(Sema *s, uint32_t n, ValueId *v, Loc loc, const char *what);

/* ---- region.c ---- */
typedef struct Inside { /* what held before */
  const char *precision, *module;
  int64_t recompute;
  bool training, fitting;
} Inside;

bool region_head(Sema *s, Scope *sc, const Ast *head, Region *r); /* of `precision(f32) { … }` */
Inside region_enter(Sema *s, const Region *r);
void region_leave(Sema *s, Inside before);
/* An expression with the modifiers behind it (NULL: none). */
Val eval_modified(Sema *s, Scope *sc, const Ast *value, const Ast *mods, bool declaring);
const Region *scope_region(const Scope *sc); /* the one its functions run in, or NULL */
const char *scope_module(const Scope *sc);   /* path of the instance they belong to, or NULL */

/* ---- shape.c ---- */
typedef enum Match { MATCHES, DIFFERS, REPORTED } Match;
/* Checks v against a type as written, casting int to float and binding the listed dims that are
 * still free in sc. */
Match type_match(Sema *s, Scope *sc, const Ast *listed, const Ast *type, Val *v, Loc loc);
/* Binds what of listed stands alone in type; the match itself comes later. */
void type_bind_dims(Sema *s, Scope *sc, const Ast *listed, const Ast *type, Val v);
void type_refuse(Sema *s, Scope *sc, const Ast *type, Val v, Loc loc, const char *what);
/* Dims of a type with nothing free in it: `param[o, i]`, `u8[B, 28]`. */
bool shape_eval(Sema *s, Scope *sc, const Ast *indices, DType dtype, Type *t);

/* ---- call.c ---- */
Val eval_call(Sema *s, Scope *sc, const Ast *a, bool declaring);
Val call_value(Sema *s, Val callee, const Call *c);
const Arg *call_named(const Call *c, const char *name);
bool params_are_sound(Sema *s, const Ast *params);
bool fn_is_sound(Sema *s, Fn *fn); /* reports once what can be said without a call */

/* ---- custom_grad.c ---- */
typedef struct CustomGrad CustomGrad;
/* Around the body of a function: NULL where it has no rule, or nothing is differentiated. */
CustomGrad *custom_grad_begin(Sema *s, const Ast *fn, Scope *sc);
Val custom_grad_end(CustomGrad *c, Val result); /* the result, whose gradient is the rule's */

/* ---- builtins.c ---- */
Val builtin_call(Sema *s, const Builtin *b, const Call *c);
void builtins_bind(Sema *s, Scope *sc);

/* ---- modifiers.c ---- */
typedef struct ModifierRule {
  const char *word;
  /* Takes one modifier (AST_MODIFIER) into what `into` points to; NULL: of a later version. */
  void (*set)(Sema *s, Scope *sc, const Ast *modifier, void *into);
} ModifierRule;

typedef struct ModifierRules {
  const ModifierRule *at;
  uint32_t n;
} ModifierRules;

#define MODIFIER_RULES(rules)                                                                      \
  (ModifierRules) { rules, sizeof(rules) / sizeof *(rules) }

/* Each of mods (AST_MODIFIERS or NULL) by its rule; unknown and repeated ones are reported. */
void modifiers_apply(Sema *s, Scope *sc, const Ast *mods, ModifierRules rules, void *into);
/* The only argument of a modifier, a bool; false: reported. */
bool modifier_bool(Sema *s, Scope *sc, const Ast *modifier, bool *value);

/* ---- builtin_random.c ---- */
void seed_words(Sema *s, ValueId *words); /* two i32[] */
Site site_enter(Sema *s);                 /* a call; what to leave to */
void site_leave(Sema *s, Site outer);

/* ---- declare.c ---- */
void declare_file(Sema *s, const Ast *file);
Scope *file_scope(Sema *s); /* own names above imported ones above builtins */
Instance *declare_instance(Sema *s, const Module *m, const Ast *block, Scope *scope);
void declare_model(Sema *s);

/* ---- import.c ---- */
void import_prelude(Sema *s); /* std/optim.mp, whose names are builtins */
File *import_main(Sema *s);   /* the file given to frontend_compile, as an importer */
bool import_is_main(const Sema *s);
const char *import_given_as(const Sema *s); /* the current import's name in -D, or NULL */
void declare_import_item(Sema *s, const Ast *a);

/* ---- state.c ---- */
Val declare_state(Sema *s, Scope *sc, const Ast *field);
void states_begin(Sema *s);   /* of an entry: forgets what the last one read and wrote */
void states_finish(Sema *s);  /* what was written becomes results */
void states_declare(Sema *s); /* parameters and states of the model, to the graph */
ValueId param_value(Sema *s, Param *p, Loc loc);
void state_assign(Sema *s, Scope *sc, const Ast *assign);

/* ---- unused.c ---- */
void mark_used(Sema *s, const Ast *a); /* a function or module is elaborated */
void check_unused(Sema *s, const Ast *file);

/* ---- init.c ---- */
void init_entry(Sema *s);
void init_state(Sema *s, const Param *p, const char *path); /* adds one more to it */
ValueId init_value(Sema *s, const Param *p);                /* in the entry being built */

/* ---- orthogonal.c ---- */
ValueId build_orthonormal_rows(Sema *s, ValueId x); /* of x [n, m], f32, n <= m */

/* ---- glob.c ---- */
bool glob_read(Sema *s, const char *text, Loc loc, Glob *glob);
bool glob_matches(const Glob *glob, const char *path);
/* Paths near a pattern that matches none, at most three, as the end of a message. */
const char *near_paths(Sema *s, const char *text);
/* A string that matches a parameter or state at least; else reported, with near paths. */
bool glob_of_params(Sema *s, const Ast *a, Glob *glob);

/* ---- keep.c ---- */
void keep_begin(Sema *s);                     /* in front of the model */
void keep_instance(Sema *s, Instance *inst);  /* it has got its path */
void keep_check(Sema *s);                     /* behind the model */
void keep_entry(Sema *s);                     /* an entry is built */
void keep_check_lines(Sema *s);               /* behind all entries */

/* ---- schedule.c ---- */
void counter_add(Sema *s, const char *name); /* the state, and its 0 in init, if it is not there */
ValueId steps_done(Sema *s);                 /* f32[]: updates before this one */
/* The value of the hyperparameter in the entry being built, a result of train_step. */
ValueId hyper_value(Sema *s, const char *name, Val v, Loc loc);
void hyper_add_steps(Sema *s);

/* ---- optimizer.c ---- */
void optimizer_entries(Sema *s); /* an entry `update` for each trained parameter */

/* ---- scale.c ---- */
void scale_of_modifier(Sema *s, Scope *sc, const Ast *scale, Scale *into); /* scale(dynamic, …) */
void scale_of_loss(Sema *s, Scope *sc, const char *loss, const Ast *scale);
void scales_check(Sema *s); /* behind the step's losses */

/* ---- settings.c, loss.c, data.c, schedule.c, optimizer.c, weights.c: settings of `train` ---- */
typedef void SetFn(Sema *s, Scope *sc, const Ast *setting);
SetFn setting_batch, setting_tail, setting_steps, setting_epochs, setting_accumulate, setting_clip,
    setting_precision;
SetFn setting_hyper, setting_optimizer, setting_group, setting_init, setting_load, setting_frozen;
SetFn setting_loss, setting_metric, setting_data, setting_input;
void bind_in(Sema *s, Scope *sc, const Ast *bind); /* a binding of a block */

/* ---- items.c ---- */
typedef struct Items { /* one walk over a block of settings */
  bool (*wanted)(const Ast *item, void *data);
  void (*take)(Sema *s, Scope *sc, const Ast *item, void *data);
  void *data;
} Items;

void each_item(Sema *s, Scope *sc, const Ast *block, const Items *walk);

/* ---- train.c ---- */
void train_begin(Sema *s); /* what must be known before the model's states are */
void train_entries(Sema *s);
/* An entry of s->phase, whose names go into sc. */
void phase_begin(Sema *s, Scope *sc, const char *name, Loc loc);
void phase_finish(Sema *s);

/* ---- infer.c ---- */
void infer_begin(Sema *s);
void infer_entries(Sema *s);

#endif
