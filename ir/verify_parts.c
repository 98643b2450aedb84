/* verify_parts.c: what must hold of the parts of a graph around its entries.
 *
 *  - A scale of its own belongs to a loss of a step; at most 7 losses have one.
 *  - Counts are not negative, clip is a number from 0, a scale's numbers are powers of two (growth
 *    above 1, backoff below 1, floor <= init <= cap) and its counts whole.
 *  - A formula has a name of its own, leaves one number, and names losses and metrics.
 *  - history and margin of fp8(delayed) are whole and in range, and given with it alone.
 *  - A source has a name of its own; windows and lanes have a length and elements of rank 0;
 *    a category is an i32.  An input that it feeds has its type: a row behind the batch, or
 *    length + 1 elements.
 *  - A split takes more than nothing and less than all.
 *  - A load names a file, a glob, and pairs of names.
 *  - A slot has a name of its own, scales to f8e4m3fn or f8e5m2, and has its two states.
 */
#include "ir/ir.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Checker {
  const Graph *g;
  Loc *at;
  Text *why;
} Checker;

static bool wrong(const Checker *c, Loc at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static bool wrong(const Checker *c, Loc at, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  text_vprintf(c->why, fmt, ap);
  va_end(ap);
  *c->at = at;
  return false;
}

/* ---- train ----------------------------------------------------------------------------------- */

static bool check_scale(const Checker *c, const Scale *s, Loc at) {
  for (int i = 0; i < SCALE_FIELDS && s->kind; i++) {
    const ScaleField *f = &scale_field[i];
    double x = *(const double *)(const void *)((const char *)s + f->offset);
    if (f->power && !scale_power(x))
      return wrong(c, at, "scale: %s is no power of two from 2^-62 to 2^62", f->name);
    if (!f->power && !(x >= 1 && x == floor(x)))
      return wrong(c, at, "scale: %s is no count from 1", f->name);
  }
  return s->kind != SCALE_dynamic || scale_moves(s) ||
         wrong(c, at, "scale: growth > 1, backoff < 1 and floor <= init <= cap are wanted");
}

static bool check_delayed(const Checker *c, const Train *t) {
  Fp8Recipe recipe = fp8_recipe(t->precision);
  bool delayed = recipe == RECIPE_fp8_delayed;
  for (int i = 0; i < FP8_FIELDS && delayed; i++) {
    const Fp8Field *f = &fp8_field[i];
    double x = *(const double *)(const void *)((const char *)&t->delayed + f->offset);
    if (!(x >= f->least && x <= f->most && x == floor(x)))
      return wrong(c, t->precision_loc, "fp8_delayed: %s is no whole number from %g to %g", f->name,
                   f->least, f->most);
  }
  return delayed || (t->delayed.history == 0 && t->delayed.margin == 0) ||
         wrong(c, t->precision_loc, "history and margin without fp8_delayed");
}

static bool check_train(const Checker *c, const Train *t) {
  if (t->steps < 0 || t->epochs < 0 || t->accumulate < 0)
    return wrong(c, t->loc, "train: a negative count");
  if (!(t->clip >= 0 && t->clip < INFINITY))
    return wrong(c, t->loc, "train: clip must be a number from 0");
  return check_scale(c, &t->scale, t->scale_loc) && check_delayed(c, t);
}

static bool has_loss(const Graph *g, const char *name) {
  for (uint32_t i = 0; i < g->entries.len; i++)
    if (g->entries.at[i].kind == ENTRY_step && graph_entry_result(g, i, RES_loss, name) != NO_ID)
      return true;
  return false;
}

static bool check_loss_scale(const Checker *c, const LossScale *s) {
  if (graph_scalers(c->g) > MAX_SCALERS)
    return wrong(c, s->loc, "more than %d losses with a scale of their own", MAX_SCALERS - 1);
  if (!has_loss(c->g, s->loss)) return wrong(c, s->loc, "no step has a loss \"%s\"", s->loss);
  if (graph_scale(c->g, graph_scaler_of(c->g, s->loss)) != &s->scale)
    return wrong(c, s->loc, "a second scale of \"%s\"", s->loss);
  return s->scale.kind ? check_scale(c, &s->scale, s->loc)
                       : wrong(c, s->loc, "a scale that is none");
}

/* ---- formulas -------------------------------------------------------------------------------- */

static bool is_total(const Graph *g, const char *name, size_t n) {
  for (uint32_t i = 0; i < g->entries.len; i++)
    for (uint32_t k = 0; k < g->entries.at[i].results.len; k++) {
      const Port *p = &g->entries.at[i].results.at[k];
      bool total = p->role == RES_loss || p->role == RES_metric;
      if (total && strlen(p->name) == n && !memcmp(p->name, name, n)) return true;
    }
  return false;
}

/* How many numbers the token takes from the stack, to leave one; -1: no token. */
static int token_takes(const Graph *g, const char *s, size_t n) {
  static const char *const words[3][7] = {
      {NULL}, {"neg", "exp", "log", "sqrt"}, {"add", "sub", "mul", "div", "pow", "min", "max"}};
  char *end;
  if (n > 1 && *s == '$') return is_total(g, s + 1, n - 1) ? 0 : -1;
  for (int takes = 1; takes <= 2; takes++)
    for (int i = 0; i < 7 && words[takes][i]; i++)
      if (strlen(words[takes][i]) == n && !memcmp(words[takes][i], s, n)) return takes;
  return isfinite(strtod(s, &end)) && end == s + n ? 0 : -1;
}

static bool check_formula(const Checker *c, const TotalFormula *f) {
  int depth = 0;
  for (const TotalFormula *other = c->g->formulas.at; other < f; other++)
    if (!strcmp(other->name, f->name)) return wrong(c, f->loc, "a second formula \"%s\"", f->name);
  for (const char *s = f->rpn; *s;) {
    size_t n = strcspn(s, " ");
    int takes = n ? token_takes(c->g, s, n) : -1;
    if (takes < 0)
      return wrong(c, f->loc, "formula \"%s\": `%.*s` is no total, number or operation", f->name,
                   (int)n, s);
    if (depth < takes)
      return wrong(c, f->loc, "formula \"%s\": nothing for `%.*s` to work on", f->name, (int)n, s);
    depth += 1 - takes;
    s += n + (s[n] == ' ');
  }
  return depth == 1 || wrong(c, f->loc, "formula \"%s\" leaves %d numbers", f->name, depth);
}

/* ---- data ------------------------------------------------------------------------------------ */

/* full: every batch is, so no axis need be tagged. */
static bool feeds(const DataSource *d, Type input, bool full) {
  bool rows = d->kind == READ_rows;
  if (input.rows > 0 || (input.rows < 0 && !full) || input.dtype != d->type.dtype) return false;
  if (!rows) return input.rank == 2 && input.dim[1] == d->length + 1;
  return input.rank == d->type.rank + 1 &&
         !memcmp(input.dim + 1, d->type.dim, d->type.rank * sizeof *input.dim);
}

static bool check_fed(const Checker *c, const DataSource *d) {
  for (uint32_t i = 0; i < c->g->entries.len; i++) {
    EntryKind kind = c->g->entries.at[i].kind;
    if (kind != ENTRY_step && kind != ENTRY_eval) continue;
    ValueId v = graph_entry_arg(c->g, i, ARG_input, d->name);
    if (v != NO_ID && !feeds(d, value_type(c->g, v), c->g->entries.at[i].full))
      return wrong(c, d->loc, "source \"%s\" does not give the input of @%s", d->name,
                   c->g->entries.at[i].name);
  }
  return true;
}

static bool check_source(const Checker *c, const DataSource *d) {
  bool rows = d->kind == READ_rows;
  for (const DataSource *other = c->g->sources.at; other < d; other++)
    if (!strcmp(other->name, d->name)) return wrong(c, d->loc, "a second source \"%s\"", d->name);
  if (d->type.rows >= 0 || d->type.unit || d->type.rank >= MAX_RANK)
    return wrong(c, d->loc, "source \"%s\": the type of one row is wanted", d->name);
  if (!rows && (d->length < 1 || d->type.rank || d->category))
    return wrong(c, d->loc, "source \"%s\": %s have a length from 1 and elements of rank 0",
                 d->name, read_kind_name[d->kind]);
  if (d->category < 0 || (d->category && d->type.dtype != DT_i32))
    return wrong(c, d->loc, "source \"%s\": a category is an i32", d->name);
  return check_fed(c, d);
}

static bool check_split(const Checker *c, DataSplit s) {
  return !s.kind || (s.fraction > 0 && s.fraction < 1) ||
         wrong(c, (Loc){0}, "split: a fraction above 0 and below 1 is wanted");
}

static bool check_load(const Checker *c, const Load *l) {
  if (!*l->from || !*l->glob) return wrong(c, l->loc, "a load without a file or a glob");
  for (uint32_t i = 0; i < l->pairs.len; i++)
    if (!*l->pairs.at[i].to || !*l->pairs.at[i].from)
      return wrong(c, l->loc, "a load with a pair without a name");
  return true;
}

/* ---- slots of fp8(delayed) ------------------------------------------------------------------- */

static bool has_state(const Checker *c, const Fp8Slot *s, const char *what, Type t) {
  size_t n = strlen(s->name);
  for (uint32_t i = 0; i < c->g->states.len; i++) {
    const State *st = &c->g->states.at[i];
    if (!strncmp(st->path, s->name, n) && !strcmp(st->path + n, what))
      return type_equal(st->type, t) ||
             wrong(c, st->loc, "state \"%s\" of a slot has another type", st->path);
  }
  return wrong(c, s->loc, "slot \"%s\" has no state \"%s%s\"", s->name, s->name, what);
}

static bool check_slot(const Checker *c, const Fp8Slot *s) {
  int64_t length = (int64_t)c->g->train.delayed.history;
  for (const Fp8Slot *other = c->g->slots.at; other < s; other++)
    if (!strcmp(other->name, s->name)) return wrong(c, s->loc, "a second slot \"%s\"", s->name);
  if (!length) return wrong(c, s->loc, "a slot without fp8_delayed");
  if (!type_is_fp8(type_scalar(s->type)))
    return wrong(c, s->loc, "slot \"%s\" scales to f8e4m3fn or f8e5m2", s->name);
  return has_state(c, s, ".history", type_make(DT_f32, 1, &length)) &&
         has_state(c, s, ".scale", type_scalar(DT_f32));
}

bool parts_check(const Graph *g, Loc *at, Text *why) {
  Checker c = {g, at, why};
  bool ok = check_train(&c, &g->train) && check_split(&c, g->split);
  for (uint32_t i = 0; ok && i < g->scales.len; i++) ok = check_loss_scale(&c, &g->scales.at[i]);
  for (uint32_t i = 0; ok && i < g->formulas.len; i++) ok = check_formula(&c, &g->formulas.at[i]);
  for (uint32_t i = 0; ok && i < g->sources.len; i++) ok = check_source(&c, &g->sources.at[i]);
  for (uint32_t i = 0; ok && i < g->loads.len; i++) ok = check_load(&c, &g->loads.at[i]);
  for (uint32_t i = 0; ok && i < g->slots.len; i++) ok = check_slot(&c, &g->slots.at[i]);
  return ok;
}
