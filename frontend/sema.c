/* sema.c: the order in which a file becomes a Graph. */
#include "frontend/sema.h"

static void declare_states(Sema *s) {
  for (uint32_t i = 0; i < s->params.len; i++) {
    const Param *p = s->params.at[i];
    State st = {.path = p->path, .kind = STATE_param, .type = p->type, .loc = p->loc, .no_decay = p->no_decay};
    vec_push(s->arena, &s->g->states, st);
  }
}

Graph *frontend_compile(Arena *arena, Strings *strings, Diag *diag, const Ast *file,
                        const FrontendOptions *options) {
  Sema *s = NEW(arena, Sema);
  *s = (Sema){.arena = arena, .strings = strings, .diag = diag, .options = options};
  s->g = graph_new(arena, strings, options->name, options->source);
  s->builtins = scope_new(s, NULL);
  builtins_bind(s, s->builtins);
  s->file = scope_new(s, s->builtins);
  declare_file(s, file);
  if (!diag->errors && !s->model_ast) diag_error(diag, file->loc, "the file has no model");
  if (!diag->errors && !s->train_ast) diag_error(diag, s->model_ast->loc, "there is no `train %s` block", s->model_ast->name);
  if (diag->errors) return NULL;
  declare_model(s);
  declare_states(s);
  if (!diag->errors) init_entry(s);
  train_entries(s);
  return diag->errors ? NULL : s->g;
}
