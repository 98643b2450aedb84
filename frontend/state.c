/* state.c: parameters and states of the model in the entry being built.
 *
 * Both are read as arguments of the entry.  A state is written by `s := e`, in the order of the
 * program: what is read afterwards is what was written, and the last value is a result of the
 * entry, which commits with the step.  No gradient flows through a read.
 *
 * A state with a dim of the phase (`h: state[B, d]` in `model M[B]`) is private to each: PATH in
 * train_step, PATH@eval, which starts anew with each evaluation, and PATH@infer, which lives with
 * the context.
 */
#include "frontend/sema.h"

#include <string.h>

/* ---- declarations ---------------------------------------------------------------------------- */

static bool names_the_phase(const Scope *sc, const Ast *a) {
  if (a->kind == AST_NAME) {
    const Binding *b = scope_find(sc, a->name);
    return b && b->val.kind == VAL_PHASE && b->val.i == PHASE_batch;
  }
  bool found = false;
  if (a->kind == AST_INT || a->kind == AST_FLOAT || a->kind == AST_STRING || a->kind == AST_BOOL)
    return false;
  for (uint32_t i = 0; i < a->len && !found; i++)
    found = a->kid[i] && names_the_phase(sc, a->kid[i]);
  return found;
}

Val declare_state(Sema *s, Scope *sc, const Ast *field) {
  const Ast *type = field->kid[FIELD_TYPE], *key = field->kid[FIELD_KEY];
  const Ast *dims = type->kind == AST_INDEX ? type->kid[INDEX_AT] : NULL;
  Param *p = NEW(s->arena, Param);
  *p = (Param){.name = key->name,
               .init = field->kid[FIELD_INIT],
               .scope = sc,
               .is_state = true,
               .loc = key->loc,
               .arg = NO_ID};
  modifiers_apply(s, sc, field->kid[FIELD_MODS], (ModifierRules){NULL, 0}, p);
  if (!dims) {
    diag_error(s->diag, ast_start(type), "a state has dims: state[d], or state[] for a number");
    return val_bad();
  }
  p->dims = dims;
  p->phased = names_the_phase(sc, dims);
  if (!p->phased && !shape_eval(s, sc, dims, DT_f32, &p->type)) return val_bad();
  if (p->init) return (Val){.kind = VAL_PARAM, .param = p};
  diag_error(s->diag, key->loc, "a state needs its first value: `%s: state[…] = zeros()`",
             key->name);
  return val_bad();
}

/* ---- in the graph ---------------------------------------------------------------------------- */

static const char *phase_path(Sema *s, const Param *p, EntryKind kind) {
  if (!p->phased || kind == ENTRY_step) return p->path;
  char *text = arena_printf(s->arena, "%s@%s", p->path, entry_kind_name[kind]);
  return intern(s->strings, text, strlen(text));
}

static void add_state(Sema *s, const Param *p, EntryKind phase) {
  State st = {.path = phase_path(s, p, phase),
              .kind = p->is_state ? STATE_state : STATE_param,
              .type = p->type,
              .loc = p->loc,
              .no_decay = p->no_decay,
              .frozen = p->frozen,
              .must_load = !p->init,
              .unsaved = p->unsaved,
              .phased = p->phased && phase == ENTRY_step,
              .private = p->phased && phase != ENTRY_step};
  vec_push(s->arena, &s->g->states, st);
}

static bool set_phase_type(Sema *s, Param *p) {
  return !p->phased || shape_eval(s, p->scope, p->dims, DT_f32, &p->type);
}

/* Those of a phase come with the first entry that reads them. */
void states_declare(Sema *s) {
  for (uint32_t i = 0; i < s->params.len; i++)
    if (!s->params.at[i]->phased) add_state(s, s->params.at[i], ENTRY_step);
}

void states_begin(Sema *s) {
  for (uint32_t i = 0; i < s->params.len; i++) {
    Param *p = s->params.at[i];
    p->arg = NO_ID;
    p->written = false;
    if (s->phase->batch) set_phase_type(s, p);
  }
}

void states_finish(Sema *s) {
  for (uint32_t i = 0; i < s->params.len; i++) {
    const Param *p = s->params.at[i];
    if (p->written)
      graph_add_entry_result(s->g, s->entry, RES_state, phase_path(s, p, s->phase->kind), p->arg,
                             p->loc);
  }
}

/* ---- values ---------------------------------------------------------------------------------- */

/* Evaluation starts anew with its first batch. */
static ValueId fresh_in_eval(Sema *s, const Param *p, ValueId v) {
  Type i32 = type_scalar(DT_i32);
  ValueId draw = graph_entry_arg(s->g, s->entry, ARG_draw, "");
  if (draw == NO_ID) draw = graph_add_entry_arg(s->g, s->entry, ARG_draw, "", i32, p->loc);
  ValueId first = build2(&s->b, OP_eq, draw, build_constant(&s->b, i32, 0));
  ValueId start = init_value(s, p);
  return start == NO_ID ? v : build_select(&s->b, build_splat(&s->b, first, p->type), start, v);
}

static ValueId state_argument(Sema *s, Param *p) {
  EntryKind kind = s->phase->kind;
  const char *path = phase_path(s, p, kind);
  if (p->phased && !graph_state(s->g, path)) {
    add_state(s, p, kind);
    init_state(s, p, path);
  }
  ValueId v = graph_add_entry_arg(s->g, s->entry, ARG_state, path, p->type, p->loc);
  if (p->phased && kind == ENTRY_eval) v = fresh_in_eval(s, p, v);
  dims_declare(s, v, p->dims);
  return v;
}

ValueId param_value(Sema *s, Param *p, Loc loc) {
  if (p->written && s->phase->kind == ENTRY_step) return build1(&s->b, OP_stop, p->arg);
  if (p->arg != NO_ID) return p->arg;
  if (p->path) return p->arg = state_argument(s, p);
  diag_error(s->diag, loc, "`%s` has no path: no member of the model holds its instance", p->name);
  diag_note(s->diag, p->loc, "declared here");
  return NO_ID;
}

/* A state that outlives the phase is written where the step commits it. */
static bool may_write(Sema *s, const Param *p, Loc loc) {
  EntryKind kind = s->phase->kind;
  if (p->phased || kind == ENTRY_step || kind == ENTRY_update) return true;
  diag_error(s->diag, loc, "the state `%s` is written in %s: put it under `if training`", p->name,
             entry_kind_name[kind]);
  return false;
}

static ValueId new_value(Sema *s, const Param *p, Val v, Loc loc) {
  ValueId both[2] = {param_value(s, (Param *)p, loc), NO_ID};
  if (both[0] == NO_ID) return NO_ID;
  s->b.loc = loc;
  Val old = val_tensor(both[0]);
  if (!tensor_unify(s, 2, (Val[]){old, v}, both, loc, "`:=`")) return NO_ID;
  Type t = value_type(s->g, both[1]);
  if (type_equal(t, p->type)) return both[1];
  if (type_same_dims(t, p->type))
    diag_error(s->diag, loc, "`%s` would hold rows of a partial batch: tail(drop)", p->name);
  else
    diag_error(s->diag, loc, "the state `%s` is %s, not %s", p->name, val_describe(s, old),
               val_describe(s, v));
  return NO_ID;
}

/* What a path names, without reading it; NULL: reported. */
static const Val *target_of(Sema *s, Scope *sc, const Ast *a) {
  const Binding *b = NULL;
  if (a->kind == AST_NAME) b = scope_find(sc, a->name);
  if (a->kind == AST_MEMBER) {
    Val of = eval_expr(s, sc, a->kid[MEMBER_OF], false);
    if (of.kind == VAL_BAD) return NULL;
    if (of.kind == VAL_INSTANCE) b = scope_find_here(of.instance->scope, a->name);
  }
  if (b) return &b->val;
  if (!s->incomplete) diag_error(s->diag, ast_start(a), "`:=` wants the path of a state");
  return NULL;
}

void state_assign(Sema *s, Scope *sc, const Ast *a) {
  const Ast *target = a->kid[ASSIGN_TARGET], *value = a->kid[ASSIGN_VALUE];
  Loc loc = ast_start(target);
  Val v = eval_expr(s, sc, value, false);
  const Val *to = target_of(s, sc, target);
  if (!to || to->kind == VAL_BAD || v.kind == VAL_BAD) return;
  if (to->kind != VAL_PARAM || !to->param->is_state) {
    diag_error(s->diag, loc, "`:=` writes a state, not %s", val_describe(s, *to));
    return;
  }
  if (!may_write(s, to->param, loc)) return;
  ValueId x = new_value(s, to->param, v, ast_start(value));
  if (x == NO_ID) return;
  to->param->arg = x;
  to->param->written = true;
}
