/* sema.c: the order in which a file becomes a Graph.  The builtins are the outermost scope, then
 * the file, then the model, whose members `train` sees unqualified. */
#include "frontend/sema.h"

static void declare_states(Sema *s) {
  for (uint32_t i = 0; i < s->params.len; i++) {
    const Param *p = s->params.at[i];
    State st = {.path = p->path,
                .kind = STATE_param,
                .type = p->type,
                .loc = p->loc,
                .no_decay = p->no_decay};
    vec_push(s->arena, &s->g->states, st);
  }
}

/* The file has a model to train, whatever else is wrong with it. */
static bool has_model(Sema *s, const Ast *file) {
  if (s->model_ast && s->train_ast) return true;
  if (s->infer_ast) sema_later(s, s->infer_ast->loc, "`infer`");
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
  s->file = file_scope(s);
  s->current = import_main(s);
  declare_file(s, file);
  if (s->model_ast) declare_model(s);
  if (!has_model(s, file)) return NULL;
  declare_states(s);
  init_entry(s);
  if (s->infer_ast) sema_later(s, s->infer_ast->loc, "`infer`");
  train_entries(s);
  return diag->errors ? NULL : s->g;
}
