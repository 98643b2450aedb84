/* parse_parts.c: the parts of a graph around its entries: what is trained, with what data, which
 * states there are.
 *
 * A line each, as print.c shows them, words in that order; a load goes on over several.  What may
 * be left out is left out in print as well, so print(parse(text)) is one form. */
#include "ir/parser.h"

#include <string.h>

/* "name" [from "source"] */
bool parse_header(Parser *p) {
  if (!parse_string(p, &p->g->name, "a name")) return false;
  if (parse_accept_word(p, "from") && !parse_string(p, &p->g->source, "a source")) return false;
  p->g->ordered = parse_accept_word(p, "ordered");
  return true;
}

/* ---- train ----------------------------------------------------------------------------------- */

/* kind [init x] [growth x] …; what is not given is as in `scale(dynamic)` */
static bool scale(Parser *p, Scale *s) {
  int kind = 0;
  *s = scale_default;
  if (!parse_choice(p, scale_kind_name, SCALE_KINDS, "kind of scale", &kind)) return false;
  s->kind = (ScaleKind)kind;
  for (int i = 0; i < SCALE_FIELDS; i++)
    if (parse_accept_word(p, scale_field[i].name) &&
        !parse_number(p, (double *)(void *)((char *)s + scale_field[i].offset)))
      return false;
  return true;
}

/* [history n] [margin n] */
static bool delayed(Parser *p, Fp8Delayed *d) {
  for (int i = 0; i < FP8_FIELDS; i++)
    if (parse_accept_word(p, fp8_field[i].name) &&
        !parse_number(p, (double *)(void *)((char *)d + fp8_field[i].offset)))
      return false;
  return true;
}

/* [precision word [auto]] [history n] [margin n] [residual type] [master word]
 * [scale …] [steps n] [epochs n] [accumulate n] [clip x] */
bool parse_train(Parser *p) {
  Train *t = &p->g->train;
  t->loc = parse_loc_at(p, p->at);
  if (!parse_loc(p, &t->loc)) return false;
  if (parse_accept_word(p, "precision")) {
    t->precision_loc = parse_loc_at(p, p->at);
    if (!parse_word_or_string(p, &t->precision, "a precision")) return false;
    t->automatic = parse_accept_word(p, "auto");
    if (!parse_loc(p, &t->precision_loc)) return false;
  }
  if (!delayed(p, &t->delayed)) return false;
  if (parse_accept_word(p, "residual") && !parse_word_or_string(p, &t->residual, "a type"))
    return false;
  if (parse_accept_word(p, "master") && !parse_word_or_string(p, &t->master, "sr or split"))
    return false;
  if (parse_accept_word(p, "scale")) {
    t->scale_loc = parse_loc_at(p, p->at);
    if (!scale(p, &t->scale) || !parse_loc(p, &t->scale_loc)) return false;
  }
  if (parse_accept_word(p, "steps") && !parse_natural(p, &t->steps, "a number of steps"))
    return false;
  if (parse_accept_word(p, "epochs") && !parse_natural(p, &t->epochs, "a number of epochs"))
    return false;
  if (parse_accept_word(p, "accumulate") &&
      !parse_natural(p, &t->accumulate, "a number of micro-batches"))
    return false;
  return !parse_accept_word(p, "clip") || parse_number(p, &t->clip);
}

/* "loss" scale …, which the loss has of its own */
bool parse_loss_scale(Parser *p) {
  LossScale s = {0};
  parse_skip_space(p);
  s.loc = parse_loc_at(p, p->at);
  if (!parse_string(p, &s.loss, "the name of a loss")) return false;
  if (!parse_accept_word(p, "scale")) return parse_fail(p, p->at, "`scale` is wanted here");
  if (!scale(p, &s.scale) || !parse_loc(p, &s.loc)) return false;
  vec_push(p->g->arena, &p->g->scales, s);
  return true;
}

/* ---- hyperparameters and formulas ------------------------------------------------------------ */

/* "name" = number [shown "text"] */
bool parse_hyper(Parser *p) {
  Hyper h = {0};
  if (!parse_string(p, &h.name, "a name") || !parse_expect(p, '=', "and a number")) return false;
  if (!parse_number(p, &h.value)) return false;
  if (parse_accept_word(p, "shown") && !parse_string(p, &h.shown, "what is shown")) return false;
  vec_push(p->g->arena, &p->g->hypers, h);
  return true;
}

/* "name" = "$loss exp" */
bool parse_formula(Parser *p) {
  TotalFormula f = {0};
  parse_skip_space(p);
  f.loc = parse_loc_at(p, p->at);
  if (!parse_string(p, &f.name, "a name") || !parse_expect(p, '=', "and the formula")) return false;
  if (!parse_string(p, &f.rpn, "a formula") || !parse_loc(p, &f.loc)) return false;
  vec_push(p->g->arena, &p->g->formulas, f);
  return true;
}

/* ---- data ------------------------------------------------------------------------------------ */

/* "name" rows [category n] : type, or windows n, or lanes n */
bool parse_data_source(Parser *p) {
  DataSource d = {0};
  int kind = 0;
  parse_skip_space(p);
  d.loc = parse_loc_at(p, p->at);
  if (!parse_string(p, &d.name, "a name")) return false;
  if (!parse_choice(p, read_kind_name, READ_KINDS, "kind of source", &kind)) return false;
  d.kind = (ReadKind)kind;
  if (d.kind != READ_rows && !parse_natural(p, &d.length, "a number of elements")) return false;
  if (parse_accept_word(p, "category") && !parse_natural(p, &d.category, "a number of categories"))
    return false;
  if (!parse_expect(p, ':', "and a type") || !parse_type(p, &d.type)) return false;
  if (!parse_loc(p, &d.loc)) return false;
  vec_push(p->g->arena, &p->g->sources, d);
  return true;
}

/* kind fraction */
bool parse_split(Parser *p) {
  int kind = 0;
  if (!parse_choice(p, split_kind_name, SPLIT_KINDS, "kind of split", &kind)) return false;
  p->g->split.kind = (SplitKind)kind;
  return parse_number(p, &p->g->split.fraction);
}

/* ---- states ---------------------------------------------------------------------------------- */

/* "to" = "from" [transpose] */
static bool load_pair(Parser *p, Load *l) {
  LoadPair pair = {0};
  if (!parse_string(p, &pair.to, "a path") || !parse_expect(p, '=', "and a name in the file"))
    return false;
  if (!parse_string(p, &pair.from, "a name in the file")) return false;
  pair.transpose = parse_accept_word(p, "transpose");
  vec_push(p->g->arena, &l->pairs, pair);
  return true;
}

/* "glob" from "file" ( pairs ) */
bool parse_load(Parser *p) {
  Load l = {0};
  parse_skip_space(p);
  l.loc = parse_loc_at(p, p->at);
  if (!parse_string(p, &l.glob, "a glob")) return false;
  if (!parse_accept_word(p, "from"))
    return parse_fail(p, parse_gap(p), "expected `from` and a file");
  if (!parse_string(p, &l.from, "a file") || !parse_expect(p, '(', "and the names in it"))
    return false;
  while (!parse_accept(p, ')')) {
    if (l.pairs.len && !parse_expect(p, ',', "or `)`")) return false;
    if (!load_pair(p, &l)) return false;
  }
  if (!parse_loc(p, &l.loc)) return false;
  vec_push(p->g->arena, &p->g->loads, l);
  return true;
}

/* kind "path" : type [no_decay] [frozen] [must_load] [unsaved] [phased] [private] [sr] [split]
 * [master "path"] */
bool parse_state(Parser *p) {
  State s = {0};
  int kind = 0;
  if (!parse_choice(p, state_kind_name, STATE_KINDS, "state kind", &kind)) return false;
  s.kind = (StateKind)kind;
  parse_skip_space(p);
  s.loc = parse_loc_at(p, p->at);
  if (!parse_string(p, &s.path, "a path") || !parse_expect(p, ':', "and a type")) return false;
  if (!parse_type(p, &s.type)) return false;
  s.no_decay = parse_accept_word(p, "no_decay");
  s.frozen = parse_accept_word(p, "frozen");
  s.must_load = parse_accept_word(p, "must_load");
  s.unsaved = parse_accept_word(p, "unsaved");
  s.phased = parse_accept_word(p, "phased");
  s.private = parse_accept_word(p, "private");
  for (int i = STORE_sr; i < STATE_STORES; i++)
    if (parse_accept_word(p, state_store_name[i])) s.store = (StateStore)i;
  if (parse_accept_word(p, "master") && !parse_string(p, &s.master, "a path")) return false;
  if (!parse_loc(p, &s.loc)) return false;
  vec_push(p->g->arena, &p->g->states, s);
  return true;
}

/* "name" : type */
bool parse_slot(Parser *p) {
  Fp8Slot s = {0};
  int type = 0;
  parse_skip_space(p);
  s.loc = parse_loc_at(p, p->at);
  if (!parse_string(p, &s.name, "a name")) return false;
  if (!parse_expect(p, ':', "and a type")) return false;
  if (!parse_choice(p, dtype_name, DT_COUNT, "element type", &type)) return false;
  s.type = (DType)type;
  if (!parse_loc(p, &s.loc)) return false;
  vec_push(p->g->arena, &p->g->slots, s);
  return true;
}
