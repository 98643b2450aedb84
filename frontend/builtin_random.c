/* builtin_random.c: draws at run time: normal[B, d](), uniform, randint, categorical, dropout.
 *
 * The key of a draw: the run's seed; its site, a hash of the numbers of the calls that lead to it
 * and its own; the number of the draw: in a step the batches tried so far, so that a skipped step
 * goes on to fresh draws, elsewhere what the host counts, in loops with the iteration; the element.
 */
#include "frontend/builtin.h"

#include <math.h>
#include <string.h>

/* ---- key ------------------------------------------------------------------------------------- */

static const char *word_of(Sema *s, const char *text) {
  return intern(s->strings, text, strlen(text));
}

static ValueId argument(Sema *s, ArgRole role, const char *name) {
  ValueId v = graph_entry_arg(s->g, s->entry, role, name);
  if (v != NO_ID) return v;
  return graph_add_entry_arg(s->g, s->entry, role, word_of(s, name), type_scalar(DT_i32), (Loc){0});
}

void seed_words(Sema *s, ValueId *words) {
  words[0] = argument(s, ARG_seed, "lo");
  words[1] = argument(s, ARG_seed, "hi");
}

static uint64_t number_in(const Site *site) {
  return hash_bytes(&site->next, sizeof site->next, site->path);
}

Site site_enter(Sema *s) {
  Site outer = s->site;
  s->site = (Site){.path = number_in(&outer)};
  return outer;
}

void site_leave(Sema *s, Site outer) {
  s->site = outer;
  s->site.next++;
}

static Attr next_site(Sema *s) {
  uint64_t site = hash_bytes("draw", 4, number_in(&s->site));
  s->site.next++;
  return attr_int(AT_site, (int64_t)(site >> 1));
}

/* The counter of batches tried is a state of the step. */
static ValueId attempt(Sema *s) {
  counter_add(s, "attempt");
  return argument(s, ARG_state, "attempt");
}

static ValueId in_turns(Sema *s, const Turn *turn, ValueId draw) {
  if (!turn) return draw;
  draw = in_turns(s, turn->around, draw);
  draw = build2(&s->b, OP_mul, draw, build_like(&s->b, draw, (double)turn->trip));
  return build2(&s->b, OP_add, draw, turn->index);
}

static void key_words(Sema *s, ValueId *words) {
  seed_words(s, words);
  bool step = s->g->entries.at[s->entry].kind == ENTRY_step;
  words[2] = in_turns(s, s->turn, step ? attempt(s) : argument(s, ARG_draw, ""));
}

/* ---- draws of a shape ------------------------------------------------------------------------ */

ValueId build_draw(Sema *s, Op op, Type t) {
  ValueId words[3];
  key_words(s, words);
  Attr site = next_site(s);
  return build_typed(&s->b, op, t, 3, words, 1, &site);
}

static bool leads_with_batch(const Sema *s, const Ast *dims) {
  const Ast *first = dims->len ? dims->kid[0] : NULL;
  return first && first->kind == AST_NAME && first->name == s->batch_name && !s->full;
}

/* Its dims are as the program wrote them: a 1 among them stretches. */
static Val drawn(Sema *s, ValueId v, const Call *c) {
  dims_declare(s, v, c->dims);
  return val_tensor(v);
}

static bool drawn_type(Sema *s, const Builtin *b, const Call *c, Type *t) {
  if (!s->building)
    diag_error(s->diag, c->whole, "%s draws at run time: use it in a function", b->name);
  else if (!c->dims) diag_error(s->diag, c->whole, "a draw names its shape: %s[B, 3](…)", b->name);
  else if (shape_eval(s, c->scope, c->dims, DT_f32, t)) {
    if (leads_with_batch(s, c->dims)) t->rows = 0;
    return true;
  }
  return false;
}

/* Two numbers or single floats, spread over t. */
static bool two_args(Sema *s, const Builtin *b, const Call *c, Type t, ValueId *v) {
  if (call_positional(c) != 2) {
    diag_error(s->diag, c->whole, "%s takes two arguments or none", b->name);
    return false;
  }
  ValueId like = build_constant(&s->b, t, 0), of[2];
  for (int i = 0; i < 2; i++) {
    if (!tensor_unify(s, 2, (Val[]){c->arg[i].val, val_tensor(like)}, of, c->arg[i].loc, b->name))
      return false;
    v[i] = of[0];
    if (type_same_dims(value_type(s->g, v[i]), t)) continue;
    diag_error(s->diag, c->arg[i].loc, "%s: this has more axes than the draw", b->name);
    return false;
  }
  return true;
}

/* shift + scale · z: mean and deviation. */
static Val call_normal(Sema *s, const Builtin *b, const Call *c) {
  Type t;
  ValueId v[2];
  if (!drawn_type(s, b, c, &t)) return val_bad();
  if (!c->n) return drawn(s, build_draw(s, OP_normal, t), c);
  if (!two_args(s, b, c, t, v)) return val_bad();
  ValueId z = build2(&s->b, OP_mul, build_draw(s, OP_normal, t), v[1]);
  return drawn(s, build2(&s->b, OP_add, v[0], z), c);
}

/* a + (b - a) u */
static Val call_uniform(Sema *s, const Builtin *b, const Call *c) {
  Type t;
  ValueId v[2];
  if (!drawn_type(s, b, c, &t)) return val_bad();
  if (!c->n) return drawn(s, build_draw(s, OP_uniform, t), c);
  if (!two_args(s, b, c, t, v)) return val_bad();
  ValueId width = build2(&s->b, OP_sub, v[1], v[0]), u = build_draw(s, OP_uniform, t);
  return drawn(s, build2(&s->b, OP_add, v[0], build2(&s->b, OP_mul, width, u)), c);
}

/* From 24 bits: a product below n rounds to a number below n as long as n <= 2^24. */
static Val call_randint(Sema *s, const Builtin *b, const Call *c) {
  Val lo = c->arg[0].val, hi = c->arg[1].val;
  Type t;
  if (lo.kind != VAL_INT || hi.kind != VAL_INT || lo.i < INT32_MIN || hi.i > INT32_MAX ||
      hi.i <= lo.i || hi.i - lo.i > 1 << 24) {
    diag_error(s->diag, c->whole, "%s[…](a, b) draws from a … b-1: ints, b - a from 1 to 2^24",
               b->name);
    return val_bad();
  }
  if (!drawn_type(s, b, c, &t)) return val_bad();
  ValueId u = build_draw(s, OP_uniform, t);
  u = build_cast(&s->b, build2(&s->b, OP_mul, u, build_like(&s->b, u, (double)(hi.i - lo.i))),
                 DT_i32);
  return drawn(s, build2(&s->b, OP_add, u, build_like(&s->b, u, (double)lo.i)), c);
}

/* ---- draws of a tensor's shape --------------------------------------------------------------- */

/* A class for each row of logits, by Gumbel's way: the largest of z - log(-log u). */
static Val call_categorical(Sema *s, const Builtin *b, const Call *c) {
  ValueId z = float_arg(s, b, &c->arg[0]);
  if (z == NO_ID) return val_bad();
  Type t = value_type(s->g, z);
  if (!t.rank || mixes_rows(s, z, t.rank - 1, c->loc, b->name)) {
    if (!t.rank)
      diag_error(s->diag, c->whole, "%s of a single number: logits [..., C] are wanted", b->name);
    return val_bad();
  }
  ValueId u = build_draw(s, OP_uniform, type_with(t, DT_f32));
  ValueId e = build1(&s->b, OP_neg, build1(&s->b, OP_log, u));
  ValueId best = build2(&s->b, OP_sub, build_cast(&s->b, z, DT_f32), build1(&s->b, OP_log, e));
  return val_tensor(build1(&s->b, OP_argmax, best));
}

ValueId build_dropout(Sema *s, ValueId x, double rate) {
  ValueId ops[4] = {x};
  if (!s->training || rate == 0) return x;
  key_words(s, ops + 1);
  Attr attrs[] = {next_site(s), attr_float(AT_rate, rate)};
  return build(&s->b, OP_dropout, 4, ops, 2, attrs);
}

bool take_rate(Sema *s, const Arg *a, double *rate) {
  if (val_number(a->val, rate) && *rate >= 0 && *rate < 1) return true;
  diag_error(s->diag, a->loc, "the rate of dropout is a number from 0 to below 1, not %s",
             val_describe(s, a->val));
  return false;
}

/* x outside of training. */
static Val call_dropout(Sema *s, const Builtin *b, const Call *c) {
  double rate;
  ValueId x = float_arg(s, b, &c->arg[0]);
  if (x == NO_ID || !take_rate(s, &c->arg[1], &rate)) return val_bad();
  return val_tensor(build_dropout(s, x, rate));
}

static const Builtin table[] = {
    BUILTIN("normal", 0, 2, .call = call_normal, .takes_dims = true),
    BUILTIN("uniform", 0, 2, .call = call_uniform, .takes_dims = true),
    BUILTIN("randint", 2, 2, .call = call_randint, .takes_dims = true),
    BUILTIN("categorical", 1, 1, .call = call_categorical),
    BUILTIN("dropout", 2, 2, .call = call_dropout),
};

const BuiltinTable builtin_random = BUILTIN_TABLE(table);
