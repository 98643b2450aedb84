/* builtin_attention.c: attention(q, k, v), in its plain meaning: the scores q k' / sqrt(e) are a
 * tensor [..., T, S], so memory grows with T · S.  Masks are computed where they are used and never
 * kept, and scale, mask and softmax are one kernel along the rows.
 */
#include "frontend/builtin.h"

#include <math.h>

typedef struct Attention {
  Sema *s;
  const Builtin *b;
  const Call *c;
  ValueId q, k, v; /* [..., T, e], [..., S, e], [..., S, f] */
  ValueId scores;
  bool may_be_empty; /* a row may have nothing to attend to */
} Attention;

static bool take_tensors(Attention *a) {
  Sema *s = a->s;
  const Arg *arg = a->c->arg;
  ValueId *x[3] = {&a->q, &a->k, &a->v};
  for (int i = 0; i < 3; i++)
    if ((*x[i] = float_arg(s, a->b, &arg[i])) == NO_ID) return false;
  Type q = value_type(s->g, a->q), k = value_type(s->g, a->k), v = value_type(s->g, a->v);
  bool fits = q.rank >= 2 && k.rank >= 2 && v.rank >= 2 && (q.rows < 0 || q.rows < q.rank - 2) &&
              q.dim[q.rank - 1] == k.dim[k.rank - 1] && k.dim[k.rank - 2] == v.dim[v.rank - 2];
  if (fits) return true;
  const char *of[3];
  for (int i = 0; i < 3; i++) of[i] = val_describe(s, arg[i].val);
  diag_error(
      s->diag, a->c->whole,
      "attention of %s, %s and %s: q [..., T, e], k [..., S, e] and v [..., S, f] are wanted, "
      "the leading axes equal or absent in k and v",
      of[0], of[1], of[2]);
  return false;
}

/* q k', whose leading axes broadcast as those of `@`. */
static ValueId products(Attention *a) {
  int64_t perm[MAX_RANK];
  int rank = value_type(a->s->g, a->k).rank;
  for (int i = 0; i < rank; i++) perm[i] = i < rank - 2 ? i : 2 * rank - 3 - i;
  ValueId v[2] = {a->q, build_transpose(&a->s->b, a->k, perm)};
  return matmul_build(a->s, v, a->c->loc, "attention");
}

static bool take_bool(Attention *a, const char *name, bool *on) {
  const Arg *arg = call_named(a->c, name);
  *on = arg && arg->val.i;
  if (!arg || arg->val.kind == VAL_BOOL) return true;
  diag_error(a->s->diag, arg->loc, "%s is true or false, not %s", name,
             val_describe(a->s, arg->val));
  return false;
}

/* score: fn (s, i, j) = …, of the scaled scores and the places of query and key. */
static bool apply_score(Attention *a, ValueId i, ValueId j) {
  Sema *s = a->s;
  const Arg *arg = call_named(a->c, "score");
  if (!arg) return true;
  Arg args[3] = {{NULL, val_tensor(a->scores), arg->loc},
                 {NULL, val_tensor(i), arg->loc},
                 {NULL, val_tensor(j), arg->loc}};
  Call call = {.loc = arg->loc, .whole = arg->loc, .n = 3, .arg = args};
  Val v = call_value(s, arg->val, &call);
  if (v.kind == VAL_BAD) return false;
  ValueId x = tensor_of(s, v, arg->loc);
  if (x == NO_ID) return false;
  Type t = value_type(s->g, x), want = value_type(s->g, a->scores);
  if (t.dtype == DT_f32 && type_same_dims(t, want) && t.rows == want.rows) {
    a->scores = x;
    return true;
  }
  diag_error(s->diag, arg->loc, "score gives %s; scores %s are wanted", val_describe(s, v),
             val_describe(s, val_tensor(a->scores)));
  return false;
}

/* *keep: where a query sees a key; NO_ID: everywhere.  Causal: key j up to query i. */
static bool take_masks(Attention *a, ValueId i, ValueId j, ValueId *keep) {
  Sema *s = a->s;
  const Arg *mask = call_named(a->c, "mask");
  bool causal;
  *keep = NO_ID;
  if (!take_bool(a, "causal", &causal)) return false;
  if (causal) *keep = build2(&s->b, OP_ge, i, j);
  if (!mask) return true;
  ValueId of[2] = {tensor_of(s, mask->val, mask->loc), a->scores};
  if (of[0] == NO_ID) return false;
  if (value_type(s->g, of[0]).dtype != DT_i1 ||
      value_type(s->g, of[0]).rank > value_type(s->g, a->scores).rank) {
    diag_error(s->diag, mask->loc,
               "the mask is %s; bools that broadcast to the scores %s are wanted",
               val_describe(s, mask->val), val_describe(s, val_tensor(a->scores)));
    return false;
  }
  if (!tensor_align(s, 2, of, mask->loc, "the mask and the scores")) return false;
  *keep = *keep == NO_ID ? of[0] : build2(&s->b, OP_and, *keep, of[0]);
  a->may_be_empty = true;
  return true;
}

/* A row without a key is NaN behind the softmax; all of it is masked, so it becomes 0. */
static ValueId probabilities(Attention *a, ValueId keep) {
  Builder *b = &a->s->b;
  if (keep != NO_ID)
    a->scores = build_select(b, keep, a->scores, build_like(b, a->scores, -INFINITY));
  ValueId p = build1(b, OP_softmax, a->scores);
  if (!a->may_be_empty) return p;
  return build_select(b, keep, p, build_like(b, p, 0));
}

static Val call_attention(Sema *s, const Builtin *b, const Call *c) {
  Attention a = {.s = s, .b = b, .c = c};
  const Arg *drop = call_named(c, "dropout");
  double rate = 0;
  if (!take_tensors(&a) || (drop && !take_rate(s, drop, &rate))) return val_bad();
  s->b.loc = c->loc;
  Type q = value_type(s->g, a.q);
  if ((a.scores = products(&a)) == NO_ID) return val_bad();
  double scale = 1 / sqrt((double)q.dim[q.rank - 1]);
  a.scores = build2(&s->b, OP_mul, a.scores, build_like(&s->b, a.scores, scale));
  Type t = value_type(s->g, a.scores);
  ValueId i = build_iota(&s->b, t, t.rank - 2), j = build_iota(&s->b, t, t.rank - 1), keep;
  if (!apply_score(&a, i, j) || !take_masks(&a, i, j, &keep)) return val_bad();
  s->b.loc = c->loc;
  ValueId p = build_dropout(s, probabilities(&a, keep), rate);
  ValueId y = matmul_build(s, (ValueId[]){p, a.v}, c->loc, b->name);
  return y == NO_ID ? val_bad() : val_tensor(y);
}

static const Builtin table[] = {
    BUILTIN("attention", 3, 3, .call = call_attention, .named = "causal mask dropout score"),
};

const BuiltinTable builtin_attention = BUILTIN_TABLE(table);
