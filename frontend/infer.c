/* infer.c: `infer M { batch B = 1; fn f(x: [B, 8]) = … }`: an entry for each fn.
 *
 * Its parameters are the entry's inputs, tensors of rank 0 too; what it returns are values, named
 * as they are returned, else by their place.  The batch is marked where it is the first axis of all
 * that has it; else, and where it is 1, the entry takes full batches.
 */
#include "frontend/sema.h"

#include <string.h>

/* The element type and dims (or NULL) of a parameter; any float is f32. */
static bool input_parts(Sema *s, Scope *sc, const Ast *param, DType *d, const Ast **dims) {
  const Ast *type = param->kid[PARAM_TYPE];
  *d = DT_f32;
  *dims = NULL;
  if (!type) {
    diag_error(s->diag, param->loc, "an input needs its type: `%s: [B, 8]`", param->name);
    return false;
  }
  if (type->kind == AST_ELEMENTS) return *dims = type, true;
  bool word = type->kind == AST_NAME && !scope_find(sc, type->name); /* int, list, … */
  Val v = word ? val_int(0)
               : eval_expr(s, sc, type->kind == AST_INDEX ? type->kid[INDEX_OF] : type, false);
  if (v.kind == VAL_DTYPE) {
    *d = v.dtype;
    if (type->kind == AST_INDEX) *dims = type->kid[INDEX_AT];
    return true;
  }
  if (v.kind != VAL_BAD)
    diag_error(s->diag, ast_start(type), "an input is a tensor: [B, 8], i32[B], f32");
  return false;
}

/* The axis that is the batch, or -1. */
static int batch_axis(const Sema *s, const Ast *dims) {
  for (uint32_t i = 0; dims && i < dims->len; i++)
    if (dims->kid[i]->kind == AST_NAME && dims->kid[i]->name == s->phase->batch_name) return (int)i;
  return -1;
}

static bool needs_full(Sema *s, const Ast *params) {
  for (uint32_t i = 0; i < params->len; i++) {
    const Ast *type = params->kid[i]->kid[PARAM_TYPE];
    if (type && type->kind == AST_INDEX) type = type->kid[INDEX_AT];
    bool dims = type && (type->kind == AST_ELEMENTS || type->kind == AST_INDICES);
    if (dims && batch_axis(s, type) > 0) return true;
  }
  return false;
}

static bool input(Sema *s, Scope *sc, const Ast *param, Arg *arg) {
  DType d;
  const Ast *dims;
  Type t;
  if (!input_parts(s, sc, param, &d, &dims) || !shape_eval(s, sc, dims, d, &t)) return false;
  if (batch_axis(s, dims) == 0 && !s->full) t.rows = 0;
  ValueId v = graph_add_entry_arg(s->g, s->entry, ARG_input, param->name, t, param->loc);
  dims_declare(s, v, dims);
  *arg = (Arg){NULL, val_tensor(v), param->loc};
  return true;
}

/* The expression that is returned last, for the names in it. */
static const Ast *returned(const Ast *body) {
  if (body->kind != AST_CODE) return body;
  const Ast *last = body->len ? body->kid[body->len - 1] : NULL;
  return last && last->kind == AST_RETURN ? last->kid[RETURN_VALUE] : NULL;
}

static const char *value_name(Sema *s, const Ast *result, uint32_t i, bool several) {
  const Ast *part = result;
  if (several)
    part = result && result->kind == AST_TUPLE && i < result->len ? result->kid[i] : NULL;
  if (part && part->kind == AST_NAME) return part->name;
  char *place = arena_printf(s->arena, "%u", (unsigned)i);
  return intern(s->strings, place, strlen(place));
}

static void add_values(Sema *s, const Ast *fn, Val v) {
  bool several = v.kind == VAL_TUPLE;
  const Ast *result = returned(fn->kid[FN_BODY]);
  if (v.kind == VAL_BAD) return;
  for (uint32_t i = 0; i < (several ? v.list.n : 1); i++) {
    Val part = several ? v.list.at[i] : v;
    double f;
    if (val_number(part, &f)) part = val_tensor(build_constant(&s->b, type_scalar(DT_f32), f));
    ValueId x = tensor_of(s, part, fn->loc);
    const char *name = value_name(s, result, i, several);
    if (x == NO_ID) return;
    if (graph_entry_result(s->g, s->entry, RES_value, name) != NO_ID)
      name = value_name(s, NULL, i, several);
    graph_add_entry_result(s->g, s->entry, RES_value, name, x, fn->loc);
  }
}

static bool entry_is_known(Sema *s, const char *name) {
  for (uint32_t i = 0; i < s->g->entries.len; i++)
    if (!strcmp(s->g->entries.at[i].name, name)) return true;
  return false;
}

static void infer_fn(Sema *s, Scope *around, const Ast *a, void *data) {
  const Ast *params = a->kid[FN_PARAMS];
  Phase *p = s->phase;
  bool full = p->full;
  Scope *sc = scope_new(s, around);
  (void)data;
  Fn fn = {.ast = a, .scope = sc};
  Arg *args = NEW_ARRAY(s->arena, Arg, params->len);
  if (!a->name || entry_is_known(s, a->name)) {
    if (a->name) diag_error(s->diag, a->loc, "a second entry `%s`", a->name);
    else diag_error(s->diag, a->loc, "a function of `infer` needs a name");
    return;
  }
  p->full = full || p->batch == 1 || needs_full(s, params);
  phase_begin(s, sc, a->name, a->loc);
  bool ok = fn_is_sound(s, &fn);
  for (uint32_t i = 0; ok && i < params->len; i++) ok = input(s, sc, params->kid[i], &args[i]);
  Val f = {.kind = VAL_FN, .fn = &fn};
  Call c = {.loc = a->loc, .n = params->len, .arg = args};
  if (ok) add_values(s, a, call_value(s, f, &c));
  phase_finish(s);
  p->full = full;
}

/* ---- the block ------------------------------------------------------------------------------- */

static bool infers_the_model(Sema *s) {
  const Ast *a = s->infer_ast, *v = a->kid[SETTING_VALUE];
  if (!v || v->kind != AST_NAME || v->name != s->model_ast->name)
    diag_error(s->diag, v ? ast_start(v) : a->loc, "`infer` wants the name of the model, `%s`",
               s->model_ast->name);
  else if (!a->kid[SETTING_BLOCK])
    diag_error(s->diag, a->loc, "`infer %s` wants a block", s->model_ast->name);
  else return true;
  return false;
}

static bool is_fn(const Ast *a, void *data) { return (void)data, a->kind == AST_FN; }
static bool is_no_fn(const Ast *a, void *data) { return !is_fn(a, data); }

static void infer_setting(Sema *s, Scope *sc, const Ast *a, void *data) {
  const char *word = a->kind == AST_SETTING ? a->name : "";
  (void)data;
  if (!strcmp(word, "batch")) setting_batch(s, sc, a);
  else if (!strcmp(word, "tail")) setting_tail(s, sc, a);
  else diag_error(s->diag, a->loc, "`infer` holds `batch`, `tail` and functions");
}

void infer_begin(Sema *s) {
  s->phase = &s->phases[ENTRY_infer];
  s->phase->kind = ENTRY_infer;
  if (!s->infer_ast || !infers_the_model(s)) return;
  modifiers_apply(s, s->model->scope, s->infer_ast->kid[SETTING_MODS], (ModifierRules){NULL, 0},
                  NULL);
  each_item(s, s->model->scope, s->infer_ast->kid[SETTING_BLOCK],
            &(Items){is_no_fn, infer_setting, NULL});
}

void infer_entries(Sema *s) {
  const Ast *block = s->infer_ast ? s->infer_ast->kid[SETTING_BLOCK] : NULL;
  s->phase = &s->phases[ENTRY_infer];
  if (!block || !s->phase->kind) return;
  if (!s->phase->batch) s->phase->full = true; /* nothing has a batch */
  each_item(s, s->model->scope, block, &(Items){is_fn, infer_fn, NULL});
}
