/* sema.h: from a syntax tree to a Graph.
 *
 * Compilation is evaluation: expressions over compile-time values (numbers, lists, functions,
 * modules, instances) are computed; expressions over tensors append nodes to the entry being built.
 * One evaluator does both, so a function is elaborated anew for each call, with its dims known.
 *
 *   value.c     values, scopes, what they are called in messages
 *   expr.c      expressions and code; arithmetic at compile time
 *   tensor.c    arithmetic on tensors: lifting, widening, broadcasting, matmul
 *   shape.c     types as written (`[..., i]`, `u8[B, 28]`) against tensors; binding of dims
 *   call.c      calls of functions, lists, modules; arguments
 *   builtins.c  the functions of the language, as a table
 *   declare.c   file, module and model blocks; parameters and their paths
 *   init.c      initializers: the entry `init`
 *   train.c     the train block: entries train_step and eval
 *
 * An error is reported once, where it is found; what it was found in becomes VAL_BAD, which every
 * operation swallows, so that evaluation goes on and finds the next.
 */
#ifndef FRONTEND_SEMA_H
#define FRONTEND_SEMA_H

#include "frontend/ast.h"
#include "frontend/frontend.h"

typedef enum ValKind {
  VAL_BAD, VAL_INT, VAL_FLOAT, VAL_BOOL, VAL_STRING, VAL_LIST, VAL_TUPLE, VAL_FN, VAL_BUILTIN,
  VAL_MODULE, VAL_INSTANCE, VAL_PARAM, VAL_TENSOR, VAL_DTYPE,
  VAL_LATER /* a name that a later version gives a meaning; s says to what */
} ValKind;

typedef struct Val Val;
typedef struct Scope Scope;
typedef struct Sema Sema;
typedef struct Call Call;

typedef struct Fn { /* a function and where it was written */
  const Ast *ast;
  Scope *scope;
} Fn;

typedef struct Module {
  const Ast *ast;
  Scope *scope;
} Module;

typedef struct Instance {
  const Module *module; /* NULL: the model */
  Scope *scope;         /* its members */
  const Fn *call;       /* its unnamed fn, or NULL */
  const char *path;     /* NULL until a member holds it; "" for the model */
} Instance;

typedef struct Param {
  const char *path;
  Type type;
  const Ast *init; /* or NULL */
  Scope *scope;    /* where init is evaluated */
  bool no_decay;
  Loc loc;
  ValueId arg; /* in the entry being built, or NO_ID */
} Param;

typedef struct Builtin Builtin;
struct Builtin {
  const char *name;
  uint8_t least, most;          /* positional arguments */
  const char *named[3];         /* names of optional arguments */
  Val (*call)(Sema *s, const Builtin *b, const Call *c);
  int op;                       /* of elementwise ones */
  double (*fold)(double);       /* of a number */
};

struct Val {
  ValKind kind;
  union {
    int64_t i; /* INT; BOOL: 0 or 1 */
    double f;
    const char *s;
    struct {
      Val *at;
      uint32_t n;
    } list; /* LIST, TUPLE */
    const Fn *fn;
    const Builtin *builtin;
    const Module *module;
    Instance *instance;
    Param *param;
    ValueId tensor;
    DType dtype;
  };
};

typedef struct Binding {
  const char *name; /* interned */
  Val val;
  Loc loc;
} Binding;

struct Scope {
  Scope *parent;
  VEC(Binding) names;
  uint32_t *slot; /* hash table of 1 + index, once there are many names */
  uint32_t slots;
};

typedef struct Arg {
  const char *name; /* NULL: positional */
  Val val;
  Loc loc;
} Arg;

struct Call {
  Loc loc;        /* of the callee */
  Loc whole;      /* where the call begins */
  uint32_t n;
  const Arg *arg; /* positional ones first */
  bool declaring; /* in a declaration block: modules may be instantiated */
};

/* The run of leading axes that `...` stands for in the signature at hand. */
typedef struct Rest {
  bool known;
  Type type;
} Rest;

struct Sema {
  Arena *arena;
  Strings *strings;
  Diag *diag;
  const FrontendOptions *options;
  Graph *g;
  Scope *builtins, *file;
  const Ast *model_ast, *train_ast;
  Instance *model;
  VEC(Param *) params;
  uint32_t depth, work; /* of evaluation, both bounded */
  bool gave_up;
  /* the entry being built */
  Builder b;
  uint32_t entry;
  bool building;
  const char *batch_name;
  int64_t batch;
};

enum { EVAL_DEPTH = 4000, EVAL_WORK = 20000000 };

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
void scope_set(Sema *s, Scope *sc, const char *name, Val v, Loc loc); /* new or rebound */
bool scope_bind(Sema *s, Scope *sc, const char *name, Val v, Loc loc); /* once, else an error */
const char *scope_nearest(Sema *s, const Scope *sc, const char *name);
Val sema_later(Sema *s, Loc loc, const char *what); /* refused by name: not in this version */

/* ---- expr.c ---- */
Val eval_expr(Sema *s, Scope *sc, const Ast *a, bool declaring);
Val eval_code(Sema *s, Scope *sc, const Ast *code, Loc *returned); /* of a function's body */
bool eval_int(Sema *s, Scope *sc, const Ast *a, const char *what, int64_t *i);
bool eval_float(Sema *s, Scope *sc, const Ast *a, const char *what, double *f);
bool bind_names(Sema *s, Scope *sc, const Ast *bind, Val v, bool once);

/* ---- tensor.c ---- */
ValueId tensor_of(Sema *s, Val v, Loc loc); /* a TENSOR's or PARAM's value in the entry; NO_ID: error */
Val tensor_binary(Sema *s, const Ast *op, Val l, Val r);
Val tensor_unary(Sema *s, Op op, Val x, Loc loc);
ValueId tensor_widen(Sema *s, ValueId v); /* u8, u16 to i32 */
/* Lifts numbers, widens, broadcasts so that all have equal dims and element types. */
bool tensor_unify(Sema *s, uint32_t n, Val *v, ValueId *out, Loc loc, const char *what);
bool mixes_rows(Sema *s, ValueId x, int axis, Loc loc, const char *what); /* reports it */

/* ---- shape.c ---- */
/* Checks v against a type as written, binding the listed dims that are still free in sc. */
bool shape_match(Sema *s, Scope *sc, const Ast *dims, const Ast *spec, Val *v, Loc loc, Rest *rest,
                 const char *what);
/* Dims of a type with nothing free in it: `param[o, i]`, `u8[B, 28]`. */
bool shape_eval(Sema *s, Scope *sc, const Ast *indices, DType dtype, Type *t);

/* ---- call.c ---- */
Val eval_call(Sema *s, Scope *sc, const Ast *a, bool declaring);
Val call_value(Sema *s, Val callee, const Call *c);
const Arg *call_named(const Call *c, const char *name);

/* ---- builtins.c ---- */
Val builtin_call(Sema *s, const Builtin *b, const Call *c);
void builtins_bind(Sema *s, Scope *sc);

/* ---- declare.c ---- */
void declare_file(Sema *s, const Ast *file);
Instance *declare_instance(Sema *s, const Module *m, const Call *c, const Ast *block, Scope *scope);
void declare_model(Sema *s);

/* ---- init.c ---- */
void init_entry(Sema *s);

/* ---- train.c ---- */
void train_entries(Sema *s);

#endif
