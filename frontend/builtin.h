/* builtin.h: what the files of builtins share.
 *
 * A builtin is a row: its name, how many positional arguments, which named ones, and the function
 * that is called when those were checked.  A new kind of function is a new file with a table, and a
 * line in builtins.c. */
#ifndef FRONTEND_BUILTIN_H
#define FRONTEND_BUILTIN_H

#include "frontend/sema.h"

struct Builtin {
  const char *name;
  uint8_t least, most; /* positional arguments */
  const char *named;   /* words: optional arguments */
  Val (*call)(Sema *s, const Builtin *b, const Call *c);
  Op op;
  double (*fold)(double); /* of a number */
  bool names_own;         /* the words of named arguments are the caller's */
  bool takes_dims;        /* name[dims](…): Call.dims, to be read by shape_eval in Call.scope */
};

enum { MAX_NAMED = 8 };

typedef struct BuiltinTable {
  const Builtin *at;
  uint32_t n;
} BuiltinTable;

/* A row: name, least and most positional arguments, other fields by name. */
#define BUILTIN(word, from, to, ...)                                                               \
  { .name = word, .least = from, .most = to, __VA_ARGS__ }
#define BUILTIN_TABLE(table)                                                                       \
  { table, sizeof(table) / sizeof *(table) }

extern const BuiltinTable builtin_math, builtin_shape, builtin_fill, builtin_reduce, builtin_loss,
    builtin_random, builtin_augment, builtin_attention, builtin_list, builtin_loop, builtin_train,
    builtin_write, builtin_data, builtin_prefix;

/* ---- builtins.c ---- */
uint32_t call_positional(const Call *c); /* how many positional arguments */
/* A float tensor argument; u8 and i32 are refused by name. */
ValueId float_arg(Sema *s, const Builtin *b, const Arg *a);

/* All n arguments as float tensors of equal dims. */
bool floats_unify(Sema *s, const Builtin *b, const Call *c, uint32_t n, ValueId *v);

/* ---- builtin_reduce.c ---- */
Val call_extreme_along(Sema *s, const Builtin *b, const Call *c); /* max, min over axes */
/* The argument `axis`, the last one without it; false: reported. */
bool one_axis(Sema *s, const Builtin *b, const Call *c, ValueId x, int *axis);

/* ---- pattern.c ---- */
Val call_rearrange(Sema *s, const Builtin *b, const Call *c);
Val call_einsum(Sema *s, const Builtin *b, const Call *c);

/* ---- builtin_random.c ---- */
/* Of OP_uniform or OP_normal; the site is the call at hand. */
ValueId build_draw(Sema *s, Op op, Type t);
ValueId build_dropout(Sema *s, ValueId x, double rate); /* x itself outside of training */
bool take_rate(Sema *s, const Arg *a, double *rate);

/* ---- builtin_loss.c ---- */
/* An index outside 0 … n-1 on a real row: nothing commits and the run says where. */
void add_index_fault(Sema *s, ValueId index, int64_t n, Loc loc, const char *name);

#endif
