/* sema.c: the order in which a file becomes a Graph.
 *
 * The builtins are the outermost scope, then std/optim.mp, the imports and the file, then the
 * model, whose members `train` sees unqualified.  Entries come last: init, train_step and eval,
 * infer, and an update for each trained parameter.
 *
 * A file may hold several models, each with a train and an infer block.  One train block is built,
 * the only one or the one of --train; its model's infer block belongs to it.  The others' names
 * count, no more. */
#include "frontend/sema.h"

#include <string.h>

/* ---- which blocks are built ------------------------------------------------------------------ */

/* The name that `train M {…}` begins with, or NULL. */
static const char *model_of(const Ast *block) {
  const Ast *v = block->kid[SETTING_VALUE];
  return v && v->kind == AST_NAME ? v->name : NULL;
}

static void no_such_block(Sema *s) {
  VEC(const char *) names = {0};
  for (uint32_t i = 0; i < s->trains.len; i++)
    if (model_of(s->trains.at[i])) vec_push(s->arena, &names, model_of(s->trains.at[i]));
  diag_error(s->diag, (Loc){0}, "--train=%s: the file has no such train block%s", s->options->train,
             sema_near(s, s->options->train, names.at, names.len));
}

static void choose_train(Sema *s) {
  const char *want = s->options->train;
  for (uint32_t i = 0; i < s->trains.len; i++) {
    const Ast *a = s->trains.at[i], *first = s->train_ast;
    const char *name = model_of(a);
    if (want && (!name || strcmp(name, want))) continue;
    if (!first) s->train_ast = a;
    else if (name && name == model_of(first))
      diag_error(s->diag, a->loc, "a second `train %s`", name);
    else
      diag_error(s->diag, a->loc, "several train blocks: choose one by --train=%s or --train=%s",
                 model_of(first) ? model_of(first) : "NAME", name ? name : "NAME");
    if (first) diag_note(s->diag, first->loc, "the first is here");
  }
  if (want && !s->train_ast) no_such_block(s);
}

static void choose_model(Sema *s) {
  const Ast *by = s->train_ast ? s->train_ast : s->infers.len ? s->infers.at[0] : NULL;
  for (uint32_t i = 0; i < s->models.len; i++) {
    const Ast *a = s->models.at[i];
    for (uint32_t k = 0; k < i; k++)
      if (s->models.at[k]->name == a->name)
        diag_error(s->diag, a->loc, "a second model `%s`", a->name);
    bool named = by && model_of(by) == a->name;
    if (!s->model_ast || (named && s->model_ast->name != a->name)) s->model_ast = a;
  }
}

static bool is_other_model(const Sema *s, const char *name) {
  for (uint32_t i = 0; i < s->models.len; i++)
    if (s->models.at[i]->name == name) return s->models.at[i] != s->model_ast;
  return false;
}

static void choose_infer(Sema *s) {
  for (uint32_t i = 0; i < s->infers.len; i++) {
    const Ast *a = s->infers.at[i];
    if (is_other_model(s, model_of(a))) continue;
    if (s->infer_ast) diag_error(s->diag, a->loc, "a second `infer` for one model");
    else s->infer_ast = a;
  }
}

static void choose_blocks(Sema *s) {
  choose_train(s);
  choose_model(s);
  choose_infer(s);
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* The file has a model to train or to ask, whatever else is wrong with it. */
static bool has_model(Sema *s, const Ast *file) {
  if (s->model_ast && (s->train_ast || s->infer_ast)) return true;
  if (s->diag->errors) return false;
  if (!s->model_ast) diag_error(s->diag, file->loc, "the file has no model");
  else diag_error(s->diag, s->model_ast->loc, "there is no `train %s` block", s->model_ast->name);
  return false;
}

Graph *frontend_compile(Arena *arena, Strings *strings, Diag *diag, const Ast *file,
                        const FrontendOptions *options) {
  Sema *s = NEW(arena, Sema);
  *s = (Sema){.arena = arena, .strings = strings, .diag = diag, .options = options};
  s->g = graph_new(arena, strings, options->name, options->source);
  s->builtins = scope_new(s, NULL);
  builtins_bind(s, s->builtins);
  import_prelude(s);
  s->file = file_scope(s);
  s->current = import_main(s);
  declare_file(s, file);
  choose_blocks(s);
  if (s->model_ast) declare_model(s);
  if (!has_model(s, file)) return NULL;
  train_begin(s);
  infer_begin(s);
  states_declare(s);
  init_entry(s);
  train_entries(s);
  infer_entries(s);
  keep_check_lines(s);
  check_unused(s, file);
  return diag->errors ? NULL : s->g;
}
