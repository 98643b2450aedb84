/* sema.c: the order in which a file becomes a Graph.  The builtins are the outermost scope, then
 * the file, then the model, whose members `train` sees unqualified. */
#include "frontend/sema.h"

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
  if (s->model_ast) declare_model(s);
  if (!has_model(s, file)) return NULL;
  train_begin(s);
  infer_begin(s);
  states_declare(s);
  init_entry(s);
  train_entries(s);
  infer_entries(s);
  check_unused(s, file);
  return diag->errors ? NULL : s->g;
}
