/* init.c: the entry `init`: every parameter from its initializer.
 *
 * A draw's key is the run's seed and the site, a hash of "init" and the parameter's path; so a
 * parameter's start does not depend on what else the model holds.  fan_in is the product of all
 * axes but the first (a weight is [out, in]), fan_out the first.
 */
#include "frontend/sema.h"

#include <float.h>
#include <math.h>
#include <string.h>

typedef struct Init {
  Sema *s;
  const Param *p;
  const Ast *call;
  uint32_t n;
  double arg[2]; /* positional numbers */
  double fan;    /* as the `fan:` argument chooses */
  double fan_in, fan_out;
} Init;

static ValueId constant(const Init *i, double v) { return build_constant(&i->s->b, i->p->type, v); }

static ValueId draw_of(const Init *i, Op op, Type t) {
  Sema *s = i->s;
  uint64_t site = hash_bytes(i->p->path, strlen(i->p->path), hash_bytes("init", 4, 0));
  ValueId seed[2];
  seed_words(s, seed);
  Attr a = attr_int(AT_site, (int64_t)(site >> 1));
  return build_typed(&s->b, op, t, 2, seed, 1, &a);
}

static ValueId draw(const Init *i, Op op) { return draw_of(i, op, i->p->type); }

/* shift + scale · draw */
static ValueId affine(const Init *i, Op op, double shift, double scale) {
  ValueId v = build2(&i->s->b, OP_mul, draw(i, op), constant(i, scale));
  return shift == 0 ? v : build2(&i->s->b, OP_add, v, constant(i, shift));
}

static ValueId symmetric(const Init *i, double bound) {
  return affine(i, OP_uniform, -bound, 2 * bound);
}

static ValueId init_zeros(const Init *i) { return constant(i, 0); }
static ValueId init_ones(const Init *i) { return constant(i, 1); }
static ValueId init_full(const Init *i) { return constant(i, i->arg[0]); }
static ValueId init_normal(const Init *i) { return affine(i, OP_normal, i->arg[0], i->arg[1]); }
static ValueId init_uniform(const Init *i) {
  return affine(i, OP_uniform, i->arg[0], i->arg[1] - i->arg[0]);
}
static ValueId init_he_normal(const Init *i) { return affine(i, OP_normal, 0, sqrt(2 / i->fan)); }
static ValueId init_he_uniform(const Init *i) { return symmetric(i, sqrt(6 / i->fan)); }
static ValueId init_xavier_uniform(const Init *i) {
  return symmetric(i, sqrt(6 / (i->fan_in + i->fan_out)));
}

/* Of [fan out, fan in] the rows or the columns are orthonormal, whichever are fewer. */
static ValueId init_orthogonal(const Init *i) {
  Builder *b = &i->s->b;
  bool wide = i->fan_out <= i->fan_in;
  int64_t few = (int64_t)(wide ? i->fan_out : i->fan_in),
          many = (int64_t)(wide ? i->fan_in : i->fan_out);
  ValueId q = draw_of(i, OP_normal, type_make(DT_f32, 2, (int64_t[]){few, many}));
  q = build_orthonormal_rows(i->s, q);
  if (!wide) q = build_transpose(b, q, (int64_t[]){1, 0});
  return build_reshape(b, q, i->p->type);
}

/* he_*: He et al. 2015 for relu; xavier_*: Glorot and Bengio 2010. */
static const struct {
  const char *name;
  uint32_t args;
  enum { ANY_SHAPE, TWO_AXES, TAKES_FAN } of; /* with `fan:` two axes at least, too */
  ValueId (*build)(const Init *);
} table[] = {
    {"zeros", 0, ANY_SHAPE, init_zeros},
    {"ones", 0, ANY_SHAPE, init_ones},
    {"full", 1, ANY_SHAPE, init_full},
    {"normal", 2, ANY_SHAPE, init_normal},
    {"uniform", 2, ANY_SHAPE, init_uniform},
    {"he_normal", 0, TAKES_FAN, init_he_normal},
    {"he_uniform", 0, TAKES_FAN, init_he_uniform},
    {"xavier_uniform", 0, TWO_AXES, init_xavier_uniform},
    {"orthogonal", 0, TWO_AXES, init_orthogonal},
};
enum { INITS = sizeof table / sizeof *table };

static int find_init(Sema *s, const Ast *callee) {
  const char *names[INITS], *word = callee->kind == AST_NAME ? callee->name : "";
  for (int i = 0; i < INITS; i++) {
    names[i] = table[i].name;
    if (!strcmp(word, names[i])) return i;
  }
  diag_error(s->diag, ast_start(callee),
             "an initializer is wanted: zeros, ones, full, normal, uniform, he_normal, "
             "he_uniform, xavier_uniform, orthogonal%s",
             sema_near(s, word, names, INITS));
  return -1;
}

static void find_fans(Init *i) {
  const Type *t = &i->p->type;
  i->fan_in = i->fan_out = 1;
  for (int k = 0; k < t->rank; k++) *(k ? &i->fan_in : &i->fan_out) *= (double)t->dim[k];
  i->fan = i->fan_in;
}

static bool take_fan(Init *i, const Ast *arg) {
  Val v = eval_expr(i->s, i->p->scope, arg->kid[ARG_VALUE], false);
  bool in = v.kind == VAL_STRING && !strcmp(v.s, "in");
  bool out = v.kind == VAL_STRING && !strcmp(v.s, "out");
  if (out) i->fan = i->fan_out;
  if (!in && !out && v.kind != VAL_BAD)
    diag_error(i->s->diag, arg->loc, "fan is \"in\" or \"out\"");
  return in || out;
}

static bool wrong_count(Init *i, int which, Loc loc) {
  uint32_t n = table[which].args;
  diag_error(i->s->diag, loc, "%s takes %u number%s%s", table[which].name, (unsigned)n,
             n == 1 ? "" : "s", table[which].of == TAKES_FAN ? ", and fan: \"in\" or \"out\"" : "");
  return false;
}

static bool take_args(Init *i, int which) {
  const Ast *args = i->call->kid[CALL_ARGS];
  for (uint32_t k = 0; k < args->len; k++) {
    const Ast *a = args->kid[k];
    bool named = a->kind == AST_ARG, fan = named && !strcmp(a->name, "fan");
    double f;
    if (fan && table[which].of == TAKES_FAN) {
      if (!take_fan(i, a)) return false;
      continue;
    }
    if (named || i->n == table[which].args) return wrong_count(i, which, ast_start(a));
    if (!eval_float(i->s, i->p->scope, a, "the argument", &f)) return false;
    if (fabs(f) > FLT_MAX) {
      diag_error(i->s->diag, ast_start(a), "this number does not fit in f32");
      return false;
    }
    i->arg[i->n++] = f;
  }
  return i->n == table[which].args || wrong_count(i, which, ast_start(i->call));
}

ValueId init_value(Sema *s, const Param *p) {
  Init i = {.s = s, .p = p, .call = p->init};
  s->b.loc = ast_start(p->init);
  if (p->init->kind != AST_CALL) {
    diag_error(s->diag, s->b.loc, "an initializer is called: zeros(), normal(0, 0.02)");
    return NO_ID;
  }
  int which = find_init(s, p->init->kid[CALL_CALLEE]);
  find_fans(&i);
  if (which < 0 || !take_args(&i, which)) return NO_ID;
  if (table[which].of == ANY_SHAPE || p->type.rank >= 2) return table[which].build(&i);
  diag_error(s->diag, s->b.loc, "%s needs two axes at least", table[which].name);
  return NO_ID;
}

void init_state(Sema *s, const Param *p, const char *path) {
  uint32_t entry = s->entry;
  Builder b = s->b;
  s->entry = (uint32_t)graph_entry_find(s->g, ENTRY_init);
  s->b = (Builder){.g = s->g, .block = s->g->entries.at[s->entry].body};
  ValueId v = p->init ? init_value(s, p) : NO_ID;
  if (v != NO_ID) graph_add_entry_result(s->g, s->entry, RES_state, path, v, p->loc);
  s->entry = entry;
  s->b = b;
}

void init_entry(Sema *s) {
  s->entry = graph_add_entry(s->g, "init", ENTRY_init, 0, s->model_ast->loc);
  for (uint32_t i = 0; i < s->params.len; i++) {
    const Param *p = s->params.at[i];
    if (!p->phased) init_state(s, p, p->path);
  }
}
