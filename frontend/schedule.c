/* schedule.c: what a hyperparameter is at each step.
 *
 * A schedule is a number, a fn (s, n), a pair of either and its length, or several with `then`
 * (std/optim.mp).  Its value is computed in train_step from the updates done and the hyperparameter
 * `steps`, how many the run has; a host that sets the hyperparameter wins.
 */
#include "frontend/sema.h"

#include <math.h>
#include <string.h>

/* ---- counters -------------------------------------------------------------------------------- */

static const char *word(Sema *s, const char *text) {
  return intern(s->strings, text, strlen(text));
}

/* In entry init: what is built for a moment. */
void counter_add(Sema *s, const char *name) {
  State st = {.path = word(s, name), .kind = STATE_counter, .type = type_scalar(DT_i32)};
  if (graph_state(s->g, st.path)) return;
  vec_push(s->arena, &s->g->states, st);
  int init = graph_entry_find(s->g, ENTRY_init);
  Builder b = {.g = s->g, .block = s->g->entries.at[init].body};
  graph_add_entry_result(s->g, (uint32_t)init, RES_state, st.path, build_constant(&b, st.type, 0),
                         st.loc);
}

static ValueId argument(Sema *s, ArgRole role, const char *name, Type t, Loc loc) {
  ValueId v = graph_entry_arg(s->g, s->entry, role, name);
  return v != NO_ID ? v : graph_add_entry_arg(s->g, s->entry, role, word(s, name), t, loc);
}

ValueId steps_done(Sema *s) {
  counter_add(s, "step");
  ValueId step = argument(s, ARG_state, "step", type_scalar(DT_i32), (Loc){0});
  return build_cast(&s->b, step, DT_f32);
}

static Hyper *find_hyper(Sema *s, const char *name) {
  for (uint32_t i = 0; i < s->g->hypers.len; i++)
    if (!strcmp(s->g->hypers.at[i].name, name)) return &s->g->hypers.at[i];
  return NULL;
}

void hyper_add_steps(Sema *s) {
  const Train *t = &s->g->train;
  Text shown = {.arena = s->arena};
  if (find_hyper(s, "steps")) return;
  if (t->steps) text_printf(&shown, "%lld", (long long)t->steps);
  else if (t->epochs)
    text_printf(&shown, "%lld epoch%s", (long long)t->epochs, &"s"[t->epochs == 1]);
  else text_add(&shown, "not given");
  vec_push(s->arena, &s->g->hypers, (Hyper){word(s, "steps"), (double)t->steps, shown.at});
}

/* ---- pieces ---------------------------------------------------------------------------------- */

typedef struct Piece {
  Val value;     /* a number or a function */
  double length; /* 0: the rest of the run */
} Piece;

typedef struct Sequence {
  Sema *s;
  Loc loc;
  VEC(Piece) pieces;
} Sequence;

static bool is_value(Val v) {
  double f;
  return val_number(v, &f) || v.kind == VAL_FN || v.kind == VAL_BUILTIN || v.kind == VAL_LIST;
}

static bool add_piece(Sequence *q, Val v) {
  bool pair = v.kind == VAL_TUPLE && v.list.n == 2 && v.list.at[1].kind == VAL_INT;
  Piece p = {pair ? v.list.at[0] : v, pair ? (double)v.list.at[1].i : 0};
  if (v.kind == VAL_BAD) return false;
  if (v.kind == VAL_THEN) {
    for (uint32_t i = 0; i < v.list.n; i++)
      if (!add_piece(q, v.list.at[i])) return false;
    return true;
  }
  if (is_value(p.value) && (!pair || p.length >= 1)) {
    vec_push(q->s->arena, &q->pieces, p);
    return true;
  }
  diag_error(q->s->diag, q->loc,
             "a schedule is a number or a fn (s, n), perhaps with a length, not %s",
             val_describe(q->s, v));
  return false;
}

static bool lengths_fit(const Sequence *q) {
  for (uint32_t i = 0; i + 1 < q->pieces.len; i++) {
    if (q->pieces.at[i].length > 0) continue;
    diag_error(q->s->diag, q->loc,
               "piece %u of this schedule has no length: only the last may lack one",
               (unsigned)i + 1);
    return false;
  }
  return true;
}

static ValueId number(Sema *s, double f) { return build_constant(&s->b, type_scalar(DT_f32), f); }

static bool wants_next(Val v) { return v.kind == VAL_FN && v.fn->ast->kid[FN_PARAMS]->len == 3; }

static ValueId piece_start(Sequence *q, uint32_t i);

/* The value of piece i, s updates into it, of n. */
static ValueId piece_value(Sequence *q, uint32_t i, ValueId s, ValueId n) {
  Sema *sema = q->s;
  Val f = q->pieces.at[i].value;
  double x;
  if (val_number(f, &x)) return number(sema, x);
  Arg args[3] = {{NULL, val_tensor(s), q->loc}, {NULL, val_tensor(n), q->loc}};
  Call c = {.loc = q->loc, .whole = q->loc, .n = wants_next(f) ? 3 : 2, .arg = args};
  if (c.n == 3) {
    ValueId next = i + 1 < q->pieces.len ? piece_start(q, i + 1) : NO_ID;
    if (i + 1 == q->pieces.len)
      diag_error(sema->diag, q->loc, "this schedule ends with a piece that leads to another");
    if (next == NO_ID) return NO_ID;
    args[2] = (Arg){NULL, val_tensor(next), q->loc};
  }
  Val v = call_value(sema, f, &c);
  if (val_number(v, &x)) return number(sema, x);
  ValueId y = tensor_of(sema, v, q->loc);
  if (y == NO_ID || type_equal(value_type(sema->g, y), type_scalar(DT_f32))) return y;
  diag_error(sema->diag, q->loc, "the schedule gives %s: a number is wanted",
             val_describe(sema, v));
  return NO_ID;
}

static double start_of(const Sequence *q, uint32_t i) {
  double at = 0;
  for (uint32_t k = 0; k < i; k++) at += q->pieces.at[k].length;
  return at;
}

static ValueId length_of(const Sequence *q, uint32_t i) {
  Sema *s = q->s;
  if (q->pieces.at[i].length > 0) return number(s, q->pieces.at[i].length);
  hyper_add_steps(s);
  ValueId n = argument(s, ARG_hyper, "steps", type_scalar(DT_f32), q->loc);
  double at = start_of(q, i);
  if (at == 0) return n;
  n = build2(&s->b, OP_sub, n, number(s, at));
  return build2(&s->b, OP_max, n, number(s, 1));
}

static ValueId piece_start(Sequence *q, uint32_t i) {
  ValueId n = length_of(q, i);
  return piece_value(q, i, number(q->s, 0), n);
}

/* From the last piece back: where the updates done lie before its start, the one in front. */
static ValueId sequence_value(Sequence *q) {
  Sema *s = q->s;
  ValueId done = steps_done(s), v = NO_ID;
  for (uint32_t i = q->pieces.len; i-- > 0;) {
    double at = start_of(q, i);
    ValueId into = at > 0 ? build2(&s->b, OP_sub, done, number(s, at)) : done;
    ValueId here = piece_value(q, i, into, length_of(q, i));
    if (here == NO_ID) return NO_ID;
    if (v == NO_ID) v = here;
    else {
      ValueId ahead = build2(&s->b, OP_lt, done, number(s, at + q->pieces.at[i].length));
      v = build_select(&s->b, ahead, here, v);
    }
  }
  return v;
}

static ValueId schedule_value(Sema *s, Val v, Loc loc) {
  Sequence q = {.s = s, .loc = loc};
  s->b.loc = loc;
  if (!add_piece(&q, v) || !lengths_fit(&q)) return NO_ID;
  return sequence_value(&q);
}

/* ---- hyperparameters ------------------------------------------------------------------------- */

/* As it stands in the source: to the comma, bracket or line end behind it. */
static const char *source_text(Sema *s, Loc loc) {
  const Source *src = &s->diag->sources.at[loc.source];
  const char *from = src->text + src->line_start[loc.line - 1] + loc.col - 1, *at = from;
  int depth = 0;
  for (; *at && *at != '\n'; at++) {
    if (!depth && (*at == ',' || *at == ')' || *at == '}' || *at == ';')) break;
    depth += (*at == '(' || *at == '[' || *at == '{') - (*at == ')' || *at == ']' || *at == '}');
    if (at[0] == '/' && at[1] == '/') break;
  }
  while (at > from && at[-1] == ' ') at--;
  return intern(s->strings, from, (size_t)(at - from));
}

/* The value of this step, in the entry being built. */
static ValueId effective(Sema *s, const char *name, Val v, Loc loc) {
  double f;
  ValueId h = argument(s, ARG_hyper, name, type_scalar(DT_f32), loc);
  if (val_number(v, &f)) return h;
  ValueId scheduled = schedule_value(s, v, loc);
  if (scheduled == NO_ID) return NO_ID;
  return build_select(&s->b, build2(&s->b, OP_ne, h, h), scheduled, h);
}

ValueId hyper_value(Sema *s, const char *name, Val v, Loc loc) {
  double f = NAN;
  s->b.loc = loc;
  hyper_add_steps(s);
  if (!find_hyper(s, name)) {
    bool fixed = val_number(v, &f);
    Text shown = {.arena = s->arena};
    if (fixed) text_double(&shown, f);
    vec_push(s->arena, &s->g->hypers, (Hyper){name, f, fixed ? shown.at : source_text(s, loc)});
  }
  ValueId x = effective(s, name, v, loc);
  if (x != NO_ID && s->phase->kind == ENTRY_step)
    graph_add_entry_result(s->g, s->entry, RES_hyper, name, x, loc);
  return x;
}

/* hyper NAME = schedule */
void setting_hyper(Sema *s, Scope *sc, const Ast *a) {
  const Ast *bound = a->kid[SETTING_BOUND], *value = a->kid[SETTING_VALUE];
  if (!bound || !value) {
    diag_error(s->diag, a->loc,
               "`hyper` wants a name and a schedule: hyper beta = linear(0, to: 1)");
    return;
  }
  Val v = eval_expr(s, sc, value, false);
  ValueId x = v.kind == VAL_BAD ? NO_ID : hyper_value(s, bound->name, v, ast_start(value));
  scope_bind(s, sc, bound->name, x == NO_ID ? val_bad() : val_tensor(x), bound->loc);
}
