/* value.h: compile-time values: what an expression of the language evaluates to, where names are
 * looked up, and what a call is given.
 *
 * Values are passed by value and never change; what they point to lives in the arena of the
 * compilation.  Types alone: what is done with them is in sema.h, which everybody includes.
 */
#ifndef FRONTEND_VALUE_H
#define FRONTEND_VALUE_H

#include "frontend/ast.h"
#include "ir/ir.h"

typedef enum ValKind {
  VAL_BAD, /* an error was reported */
  VAL_INT,
  VAL_FLOAT, /* finite, but for the name `inf` and its negative */
  VAL_BOOL,
  VAL_STRING,
  VAL_LIST,
  VAL_TUPLE,
  VAL_FN,
  VAL_BUILTIN,
  VAL_MODULE,
  VAL_INSTANCE,
  VAL_PARAM,
  VAL_TENSOR,
  VAL_DTYPE,
  VAL_THEN,   /* schedules one after the other, as a list */
  VAL_FILE,   /* an import with a name, `core`: its names are read as members */
  VAL_RUN,    /* the dims that `...S` stands for */
  VAL_PHASE,  /* `training`, `fitting`: a bool in each entry; a dim of the model: its batch */
  VAL_TOTAL,  /* a loss or metric behind its setting; s: its formula */
  VAL_STREAM, /* a source as long as its file */
  VAL_LATER   /* a name that a later version gives a meaning; s says to what */
} ValKind;

typedef struct Val Val;
typedef struct Scope Scope;
typedef struct Sema Sema;
typedef struct Call Call;

typedef struct Fn { /* a function and where it was written */
  const Ast *ast;
  Scope *scope;
  enum { FN_UNCHECKED, FN_SOUND, FN_BAD } state; /* of what can be said without a call */
} Fn;

typedef struct Module {
  const Ast *ast;
  Scope *scope;
} Module;

typedef struct Instance {
  const Module *module; /* NULL: the model */
  Scope *scope;         /* its members */
  Fn *call;             /* its unnamed fn, or NULL */
  const char *path;     /* NULL until a member holds it; "" for the model */
} Instance;

typedef struct Region {  /* what holds inside; region.c */
  const char *precision; /* NULL: as outside */
  bool recompute, eval;
} Region;

typedef struct Param {     /* or a state */
  const char *name, *path; /* path: NULL until a member of the model holds it */
  Type type;
  const Ast *init, *dims; /* dims: as written */
  Scope *scope;           /* where both are evaluated */
  bool is_state, written;
  bool phased; /* a state with a dim of the phase: its type is of the entry at hand */
  bool no_decay, frozen, unsaved;
  Loc loc;
  ValueId arg; /* value in the entry being built, or NO_ID: not read yet */
} Param;

typedef struct Builtin Builtin; /* frontend/builtin.h */

struct Val {
  ValKind kind;
  bool literal; /* INT: a number as written, which a name never is */
  union {
    int64_t i; /* INT; BOOL: 0 or 1 */
    double f;
    const char *s;
    struct {
      Val *at;
      uint32_t n;
    } list; /* LIST, TUPLE, THEN */
    Fn *fn;
    const Builtin *builtin;
    const Module *module;
    Instance *instance;
    Param *param;
    ValueId tensor;
    DType dtype;
    const Type *run;
    Scope *scope; /* FILE */
    const DataSource *stream;
  };
};

enum { PHASE_training, PHASE_fitting, PHASE_batch }; /* Val.i of a VAL_PHASE */

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
  const Region *region; /* of an instance's members: its functions run in it */
  const char *module;   /* of the same: its path, once it has one */
  const Type *rest;     /* of a call: the run of leading axes that `...` stands for, once known */
};

typedef struct Arg {
  const char *name; /* NULL: positional */
  Val val;
  Loc loc;
} Arg;

struct Call {
  Loc loc;   /* of the callee */
  Loc whole; /* where the call begins */
  uint32_t n;
  const Arg *arg;  /* positional ones first */
  bool declaring;  /* in a declaration block: modules may be instantiated */
  const Ast *dims; /* INDICES of a builtin's name[dims](…), to be evaluated in scope; or NULL */
  const Val *run;  /* a LIST of ints: the dims of a module's name[dims](…); or NULL */
  Scope *scope;
};

#endif
