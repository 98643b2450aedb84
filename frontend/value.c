/* value.c: compile-time values, scopes, and what both are called in messages.
 *
 * A Val is passed by value; lists are shared and never written to.  A scope is a list of names,
 * newest first, with a table as soon as it has many; a name of an outer scope is found by asking
 * outwards.  VAL_BAD stands for what an error was reported about: every operation swallows it. */
#include "frontend/sema.h"

#include <string.h>

enum { HASH_FROM = 16 }; /* names in a scope before it gets a table */

Val val_bad(void) { return (Val){.kind = VAL_BAD}; }
Val val_int(int64_t i) { return (Val){.kind = VAL_INT, .i = i}; }
Val val_float(double f) { return (Val){.kind = VAL_FLOAT, .f = f}; }
Val val_bool(bool b) { return (Val){.kind = VAL_BOOL, .i = b}; }
Val val_tensor(ValueId v) { return (Val){.kind = VAL_TENSOR, .tensor = v}; }

Val val_list(Arena *a, ValKind kind, uint32_t n, const Val *at) {
  Val v = {.kind = kind};
  v.list.n = n;
  v.list.at = arena_copy(a, at, n * sizeof *at);
  return v;
}

bool val_number(Val v, double *f) {
  if (v.kind == VAL_INT) *f = (double)v.i;
  else if (v.kind == VAL_FLOAT) *f = v.f;
  else return false;
  return true;
}

bool val_is_tensor(Val v) { return v.kind == VAL_TENSOR || v.kind == VAL_PARAM; }

Type val_type(Sema *s, Val v) {
  return v.kind == VAL_PARAM ? v.param->type : value_type(s->g, v.tensor);
}

static const char *describe_number(Sema *s, Val v) {
  Text t = {.arena = s->arena};
  text_add(&t, "the number ");
  if (v.kind == VAL_INT) text_printf(&t, "%lld", (long long)v.i);
  else text_double(&t, v.f);
  return t.at;
}

static const char *describe_tensor(Sema *s, Val v) {
  Text t = {.arena = s->arena};
  Type type = val_type(s, v);
  type.rows = -1; /* which axis is the batch is not how the user writes it */
  type_print(&t, type);
  return t.at;
}

const char *val_describe(Sema *s, Val v) {
  const Module *m = v.kind == VAL_INSTANCE ? v.instance->module : NULL;
  switch (v.kind) {
  case VAL_INT:
  case VAL_FLOAT: return describe_number(s, v);
  case VAL_BOOL: return v.i ? "true" : "false";
  case VAL_STRING: return "a string";
  case VAL_LIST: return arena_printf(s->arena, "a list of %u", (unsigned)v.list.n);
  case VAL_TUPLE: return arena_printf(s->arena, "%u values", (unsigned)v.list.n);
  case VAL_FN:
  case VAL_BUILTIN: return "a function";
  case VAL_MODULE: return arena_printf(s->arena, "the module %s", v.module->ast->name);
  case VAL_INSTANCE: return m ? arena_printf(s->arena, "a %s", m->ast->name) : "the model";
  case VAL_PARAM:
  case VAL_TENSOR: return describe_tensor(s, v);
  case VAL_DTYPE: return "an element type";
  case VAL_THEN: return arena_printf(s->arena, "a sequence of %u", (unsigned)v.list.n);
  case VAL_FILE: return "an import";
  case VAL_RUN: return "a run of dims";
  case VAL_PHASE: return "a bool";
  case VAL_TOTAL: return "a total";
  case VAL_STREAM: return "a source as long as its file";
  case VAL_BAD:
  case VAL_LATER: break;
  }
  return "nothing";
}

/* ---- errors that many rooms report ----------------------------------------------------------- */

Val sema_later(Sema *s, Loc loc, const char *what) {
  diag_error(s->diag, loc, "%s: not supported by this version of mpcc", what);
  return val_bad();
}

Val sema_later_names(Sema *s, Loc loc, const char *what) {
  s->incomplete = true;
  return sema_later(s, loc, what);
}

Val sema_give_up(Sema *s, Loc loc, const char *what) {
  if (!s->gave_up) diag_error(s->diag, loc, "%s", what);
  s->gave_up = true;
  return val_bad();
}

bool sema_work(Sema *s, Loc loc, uint32_t units) {
  if (s->gave_up) return false;
  s->work += units;
  bool fits = s->work <= EVAL_WORK && s->g->nodes.len <= EVAL_NODES;
  if (!fits) sema_give_up(s, loc, "the program unrolls to more than mpcc compiles");
  return fits;
}

/* Suggestions cost time, so only errors that will be seen get them. */
static bool is_shown(const Sema *s) {
  return s->diag->out && (!s->diag->limit || s->diag->errors < s->diag->limit);
}

const char *sema_near(Sema *s, const char *name, const char *const *names, size_t n) {
  const char *near = is_shown(s) ? nearest_name(name, names, n) : NULL;
  return near ? arena_printf(s->arena, "; `%s`?", near) : "";
}

/* ---- scopes ---------------------------------------------------------------------------------- */

Scope *scope_new(Sema *s, Scope *parent) {
  Scope *sc = NEW(s->arena, Scope);
  sc->parent = parent;
  return sc;
}

static uint32_t slot_of(const char *name) { /* interned: the address is the name */
  return (uint32_t)((uintptr_t)name >> 4) * 2654435761u;
}

static void enter_slot(Scope *sc, uint32_t index) {
  uint32_t k = slot_of(sc->names.at[index].name);
  while (sc->slot[k & (sc->slots - 1)]) k++;
  sc->slot[k & (sc->slots - 1)] = index + 1;
}

static void grow_slots(Sema *s, Scope *sc) {
  sc->slots = sc->slots ? sc->slots * 2 : 4 * HASH_FROM;
  sc->slot = NEW_ARRAY(s->arena, uint32_t, sc->slots);
  for (uint32_t i = 0; i < sc->names.len; i++) enter_slot(sc, i);
}

Binding *scope_find_here(const Scope *sc, const char *name) {
  if (!sc->slots) {
    for (uint32_t i = 0; i < sc->names.len; i++)
      if (sc->names.at[i].name == name) return &sc->names.at[i];
    return NULL;
  }
  for (uint32_t k = slot_of(name), i; (i = sc->slot[k & (sc->slots - 1)]); k++)
    if (sc->names.at[i - 1].name == name) return &sc->names.at[i - 1];
  return NULL;
}

Binding *scope_find(const Scope *sc, const char *name) {
  for (; sc; sc = sc->parent) {
    Binding *b = scope_find_here(sc, name);
    if (b) return b;
  }
  return NULL;
}

void scope_set(Sema *s, Scope *sc, const char *name, Val v, Loc loc) {
  v.literal = false;
  Binding *b = scope_find_here(sc, name);
  if (b) {
    b->val = v;
    b->loc = loc;
    return;
  }
  vec_push(s->arena, &sc->names, (Binding){name, v, loc});
  if (sc->slots && sc->names.len * 2 <= sc->slots) enter_slot(sc, sc->names.len - 1);
  else if (sc->names.len > HASH_FROM) grow_slots(s, sc);
}

bool scope_bind(Sema *s, Scope *sc, const char *name, Val v, Loc loc) {
  Binding *b = scope_find_here(sc, name);
  if (!b) {
    scope_set(s, sc, name, v, loc);
    return true;
  }
  diag_error(s->diag, loc, "`%s` is bound twice in this block", name);
  diag_note(s->diag, b->loc, "first here");
  return false;
}

const char *scope_near(Sema *s, const Scope *sc, const char *name, bool outer) {
  enum { MOST = 2000 };
  VEC(const char *) names = {0};
  for (; sc && is_shown(s); sc = outer ? sc->parent : NULL)
    for (uint32_t i = 0; i < sc->names.len && names.len < MOST; i++)
      vec_push(s->arena, &names, sc->names.at[i].name);
  return sema_near(s, name, names.at, names.len);
}
