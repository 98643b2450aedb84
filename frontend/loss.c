/* loss.c: losses and metrics.
 *
 * `loss E` and `metric n = E` are a value for each example: an entry's results are ΣW·E over the
 * real rows and ΣW, so that totals over batches are exact; W is 1 where none is written.  A scalar
 * counts with the rows.  Several losses add.
 *
 * A metric made of losses, metrics and numbers is a formula over their totals (Graph.formulas); it
 * is translated, not elaborated.  A total's name means nothing elsewhere.
 */
#include "frontend/sema.h"

#include <math.h>
#include <string.h>

/* ---- formulas -------------------------------------------------------------------------------- */

static bool mentions_total(const Scope *sc, const Ast *a) {
  if (a->kind == AST_NAME) {
    const Binding *b = scope_find(sc, a->name);
    return b && b->val.kind == VAL_TOTAL;
  }
  if (a->kind == AST_INT || a->kind == AST_FLOAT || a->kind == AST_STRING || a->kind == AST_BOOL)
    return false;
  for (uint32_t i = 0; i < a->len; i++)
    if (a->kid[i] && mentions_total(sc, a->kid[i])) return true;
  return false;
}

static const struct {
  AstKind kind;
  const char *word;
} signs[] = {{AST_ADD, "add"}, {AST_SUB, "sub"}, {AST_MUL, "mul"},
             {AST_DIV, "div"}, {AST_POW, "pow"}, {AST_NEG, "neg"}};

static const struct {
  const char *name;
  uint32_t n;
} functions[] = {{"exp", 1}, {"log", 1}, {"sqrt", 1}, {"min", 2}, {"max", 2}};

static bool translate(Sema *s, Scope *sc, const Ast *a, Text *rpn);

static bool translate_all(Sema *s, Scope *sc, uint32_t n, Ast *const *kid, const char *word,
                          Text *rpn) {
  for (uint32_t i = 0; i < n; i++) {
    if (kid[i]->kind == AST_ARG || !translate(s, sc, kid[i], rpn)) return false;
    text_add(rpn, " ");
  }
  text_add(rpn, word);
  return true;
}

static bool not_a_formula(Sema *s, const Ast *a) {
  diag_error(s->diag, ast_start(a),
             "a metric of totals is made of them, numbers, + - * / ^ and exp log sqrt min max");
  return false;
}

static bool translate(Sema *s, Scope *sc, const Ast *a, Text *rpn) {
  double f;
  if (!mentions_total(sc, a)) {
    if (!eval_float(s, sc, a, "a number beside totals", &f)) return false;
    text_double(rpn, f);
    return true;
  }
  if (a->kind == AST_NAME) return text_add(rpn, scope_find(sc, a->name)->val.s), true;
  for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
    if (signs[i].kind == a->kind) return translate_all(s, sc, a->len, a->kid, signs[i].word, rpn);
  if (a->kind != AST_CALL || a->kid[CALL_CALLEE]->kind != AST_NAME) return not_a_formula(s, a);
  const Ast *args = a->kid[CALL_ARGS];
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
    if (!strcmp(a->kid[CALL_CALLEE]->name, functions[i].name) && args->len == functions[i].n)
      return translate_all(s, sc, args->len, args->kid, functions[i].name, rpn) ||
             not_a_formula(s, a);
  return not_a_formula(s, a);
}

/* Once for all entries. */
static void add_formula(Sema *s, const char *name, const char *rpn, Loc loc) {
  for (uint32_t i = 0; i < s->g->formulas.len; i++)
    if (s->g->formulas.at[i].name == name) {
      s->g->formulas.at[i].rpn = rpn;
      return;
    }
  vec_push(s->arena, &s->g->formulas, (TotalFormula){name, rpn, loc});
}

/* ---- sums ------------------------------------------------------------------------------------ */

static ValueId as_float(Sema *s, ValueId v) {
  v = tensor_widen(s, v);
  return value_is_float(s->g, v) ? v : build_cast(&s->b, v, DT_f32);
}

/* The value of each example, and how much each counts. */
typedef struct Each {
  ValueId value, weight; /* of equal dims; f32 */
} Each;

static Type one_a_row(Sema *s) {
  Type t = type_make(DT_f32, 1, &s->batch);
  if (!s->full) t.rows = 0;
  return t;
}

/* W is data to the loss: no gradient flows through it. */
static bool weigh(Sema *s, const Ast *w, Scope *sc, Each *e) {
  Val v = eval_expr(s, sc, w, false);
  Loc loc = ast_start(w);
  if (v.kind == VAL_BAD) return false;
  double f;
  if (val_number(v, &f)) v = val_tensor(build_constant(&s->b, type_scalar(DT_f32), f));
  ValueId both[2] = {e->value, tensor_of(s, v, loc)};
  if (both[1] == NO_ID) return false;
  s->b.loc = loc;
  both[1] = as_float(s, both[1]);
  Type t = value_type(s->g, e->value);
  if (!tensor_align(s, 2, both, loc, "a weight")) return false;
  if (!type_same_dims(t, value_type(s->g, both[0]))) {
    diag_error(s->diag, loc, "a weight is %s, more than the value it weighs",
               val_describe(s, val_tensor(both[1])));
    return false;
  }
  e->value = both[0];
  e->weight = both[1];
  return true;
}

/* What is added up is f32: no loss is rounded on its way into its total. */
static void add_sums(Sema *s, ResRole role, const char *name, Each e, bool weighted, Loc loc) {
  static const Region f32 = {.precision = "f32"};
  s->b.loc = loc;
  Inside before = region_enter(s, &f32);
  ValueId v = weighted ? build2(&s->b, OP_mul, e.weight, e.value) : e.value;
  ValueId sum = build_reduce_all(&s->b, OP_sum, v);
  ValueId weight = build_reduce_all(&s->b, OP_sum, e.weight);
  region_leave(s, before);
  graph_add_entry_result(s->g, s->entry, role, name, sum, loc);
  graph_add_entry_result(s->g, s->entry, RES_weight, name, weight, loc);
}

/* ---- the settings ---------------------------------------------------------------------------- */

typedef struct Total {
  const Ast *setting, *value;
  const char *name;
  Loc loc; /* of the name */
  ResRole role;
  const Ast *weight; /* W, or NULL */
  const Ast *scale;  /* the modifier, or NULL */
} Total;

static void take_weight(Sema *s, Scope *sc, const Ast *m, void *into) {
  const Ast *args = m->kid[MODIFIER_ARGS];
  (void)sc;
  if (args && args->len == 1 && args->kid[0]->kind != AST_ARG)
    ((Total *)into)->weight = args->kid[0];
  else diag_error(s->diag, m->loc, "`weight` wants a value for each example: weight(w)");
}

static void take_scale(Sema *s, Scope *sc, const Ast *m, void *into) {
  Total *t = into;
  (void)sc;
  if (t->role == RES_loss) t->scale = m;
  else diag_error(s->diag, m->loc, "a metric has no gradient to scale");
}

/* v is computed from data: one number of several rows mixes them. */
static bool reads_data(Sema *s, ValueId v) {
  const Graph *g = s->g;
  const Entry *e = &g->entries.at[s->entry];
  const Block *body = &g->blocks.at[e->body];
  bool *data = NEW_ARRAY(s->arena, bool, g->values.len);
  for (uint32_t i = 0; i < body->args.len; i++)
    data[body->args.at[i]] = e->args.at[i].role == ARG_input;
  for (uint32_t i = 0; i < body->nodes.len; i++) {
    const Node *n = &g->nodes.at[body->nodes.at[i]];
    bool reads = false;
    for (uint32_t k = 0; k < n->nops; k++) reads = reads || data[n->ops[k]];
    for (uint32_t k = 0; k < n->nres; k++) data[n->res + k] = reads;
  }
  return data[v];
}

static bool is_scalar_total(Sema *s, const Total *t, ValueId v) {
  if (value_type(s->g, v).rank) return false;
  if (s->g->train.accumulate > 1 && t->role == RES_loss && s->phase->kind == ENTRY_step &&
      reads_data(s, v))
    diag_warning(s->diag, WARN_scalar_loss, ast_start(t->value),
                 "this loss is one number that mixes rows: %lld micro-batches are not one batch",
                 (long long)s->g->train.accumulate);
  return true;
}

/* The value for each example; false: reported. */
static bool each_value(Sema *s, const Total *t, Val v, Each *e) {
  Loc loc = ast_start(t->value);
  double f;
  if (val_number(v, &f)) v = val_tensor(build_constant(&s->b, type_scalar(DT_f32), f));
  e->value = tensor_of(s, v, loc);
  if (e->value == NO_ID) return false;
  Type type = value_type(s->g, e->value);
  bool reduced = type.rank && !s->full && type.rows < 0;
  if (reduced || (t->weight && !type.rank))
    diag_error(s->diag, loc, "the %s is %s: leave it unreduced, a value for each example",
               t->setting->name, val_describe(s, v));
  else if (t->role == RES_loss && !type_is_float(type))
    diag_error(s->diag, loc, "the loss is %s: a float is wanted", val_describe(s, v));
  else {
    s->b.loc = loc;
    e->value = as_float(s, e->value);
    if (is_scalar_total(s, t, e->value)) e->value = build_splat(&s->b, e->value, one_a_row(s));
    e->weight = build_like(&s->b, e->value, 1);
    return true;
  }
  return false;
}

static const char *in_words(Sema *s, const char *name) {
  char *text = arena_printf(s->arena, "$%s", name);
  return intern(s->strings, text, strlen(text));
}

/* Several losses have a total of their own, `loss`, unless one of them is called so. */
static void add_to_loss(Sema *s, Scope *sc, const Total *t) {
  const char *word = intern(s->strings, "loss", 4);
  Binding *b = scope_find_here(sc, word);
  if (t->name == word || (b && s->named_loss)) {
    s->named_loss = true;
    return;
  }
  const char *rpn = in_words(s, t->name);
  if (b) {
    char *sum = arena_printf(s->arena, "%s %s add", b->val.s, rpn);
    rpn = intern(s->strings, sum, strlen(sum));
  }
  scope_set(s, sc, word, (Val){.kind = VAL_TOTAL, .s = rpn}, t->loc);
  if (b) add_formula(s, word, rpn, t->loc);
}

static void add_total(Sema *s, Scope *sc, const Total *t) {
  s->total = t->setting->name;
  Val v = eval_expr(s, sc, t->value, false);
  s->total = NULL;
  Val total = {.kind = VAL_TOTAL, .s = in_words(s, t->name)};
  bool fresh = scope_bind(s, sc, t->name, total, t->loc);
  Each e;
  if (v.kind == VAL_BAD || !fresh) return;
  if (t->role == RES_loss) add_to_loss(s, sc, t);
  if (t->scale && s->phase->kind == ENTRY_step) scale_of_loss(s, sc, t->name, t->scale);
  if (!each_value(s, t, v, &e) || (t->weight && !weigh(s, t->weight, sc, &e))) return;
  add_sums(s, t->role, t->name, e, t->weight != NULL, ast_start(t->value));
}

static void add_metric_of_totals(Sema *s, Scope *sc, const Total *t) {
  Text rpn = {.arena = s->arena};
  if (t->weight) diag_error(s->diag, ast_start(t->weight), "a metric of totals has no weight");
  bool ok = translate(s, sc, t->value, &rpn);
  const char *text = ok ? intern(s->strings, rpn.at, rpn.len) : "0";
  bool fresh = scope_bind(s, sc, t->name, (Val){.kind = VAL_TOTAL, .s = text}, t->loc);
  if (ok && fresh) add_formula(s, t->name, text, t->loc);
}

static void set_total(Sema *s, Scope *sc, const Ast *a, ResRole role) {
  static const ModifierRule rules[] = {{"weight", take_weight}, {"scale", take_scale}};
  const Ast *bound = a->kid[SETTING_BOUND];
  Total t = {.setting = a,
             .value = a->kid[SETTING_VALUE],
             .name = bound ? bound->name : a->name,
             .loc = bound ? bound->loc : a->loc,
             .role = role};
  if (!t.value) {
    diag_error(s->diag, a->loc, "`%s` wants a value for each example", a->name);
    return;
  }
  modifiers_apply(s, sc, a->kid[SETTING_MODS], MODIFIER_RULES(rules), &t);
  if (role == RES_metric && mentions_total(sc, t.value)) add_metric_of_totals(s, sc, &t);
  else add_total(s, sc, &t);
}

void setting_loss(Sema *s, Scope *sc, const Ast *a) { set_total(s, sc, a, RES_loss); }
void setting_metric(Sema *s, Scope *sc, const Ast *a) { set_total(s, sc, a, RES_metric); }
