/* weights.c: where parameters start and which ones stay: `init { GLOB: initializer }`, `load GLOB
 * {…}`, `frozen GLOB save(false)`.
 *
 * All three choose parameters by patterns of paths, and a pattern that fits none is an error with
 * the nearest path.  Of several initializers that fit, the last counts.  A frozen parameter gets no
 * gradient and no update; a load is carried out by the runtime (runtime/load.c). */
#include "frontend/sema.h"

#include <string.h>

/* init { "**.weight": normal(0, 0.02) }: the last that matches counts. */
void setting_init(Sema *s, Scope *sc, const Ast *a) {
  const Ast *block = a->kid[SETTING_BLOCK];
  if (!block || a->kid[SETTING_VALUE]) {
    diag_error(s->diag, a->loc, "`init` wants a block: init { \"**.weight\": normal(0, 0.02) }");
    return;
  }
  for (uint32_t i = 0; i < block->len; i++) {
    const Ast *f = block->kid[i];
    Glob glob;
    if (f->kind != AST_FIELD || f->kid[FIELD_KEY]->kind != AST_STRING || f->kid[FIELD_INIT]) {
      diag_error(s->diag, f->loc, "`init` holds patterns and initializers: \"**.bias\": zeros()");
      continue;
    }
    if (!glob_of_params(s, f->kid[FIELD_KEY], &glob)) continue;
    for (uint32_t k = 0; k < s->params.len; k++) {
      Param *p = s->params.at[k];
      if (p->is_state || !glob_matches(&glob, p->path)) continue;
      p->init = f->kid[FIELD_TYPE];
      p->scope = sc;
    }
  }
}

/* ---- frozen ---------------------------------------------------------------------------------- */

static void take_save(Sema *s, Scope *sc, const Ast *m, void *into) {
  bool saved = true;
  if (modifier_bool(s, sc, m, &saved)) *(bool *)into = !saved;
}

void setting_frozen(Sema *s, Scope *sc, const Ast *a) {
  static const ModifierRule rules[] = {{"save", take_save}};
  bool unsaved = false;
  Glob glob;
  modifiers_apply(s, sc, a->kid[SETTING_MODS], MODIFIER_RULES(rules), &unsaved);
  if (!a->kid[SETTING_VALUE]) {
    diag_error(s->diag, a->loc, "`frozen` wants a pattern of paths: frozen \"teacher.**\"");
    return;
  }
  if (!glob_of_params(s, a->kid[SETTING_VALUE], &glob)) return;
  for (uint32_t i = 0; i < s->params.len; i++) {
    Param *p = s->params.at[i];
    if (!glob_matches(&glob, p->path)) continue;
    p->frozen = !p->is_state;
    p->unsaved = unsaved;
  }
}

/* ---- load ------------------------------------------------------------------------------------ */

typedef struct PairMods {
  bool transpose;
} PairMods;

static void take_transpose(Sema *s, Scope *sc, const Ast *m, void *into) {
  (void)sc;
  if (m->kid[MODIFIER_ARGS]) diag_error(s->diag, m->loc, "`transpose` takes no arguments");
  ((PairMods *)into)->transpose = true;
}

static uint32_t wildcards(const char *glob) {
  uint32_t n = 0;
  for (; *glob; glob++) {
    n += *glob == '*' || *glob == '?';
    glob += glob[0] == '*' && glob[1] == '*';
  }
  return n;
}

/* "path of the model": "name in the file" [transpose] */
static void load_pair(Sema *s, Scope *sc, const Ast *f, Load *l) {
  static const ModifierRule rules[] = {{"transpose", take_transpose}};
  const Ast *to = f->kid[FIELD_KEY], *from = f->kid[FIELD_TYPE];
  PairMods mods = {0};
  Glob glob;
  modifiers_apply(s, sc, f->kid[FIELD_MODS], MODIFIER_RULES(rules), &mods);
  if (from->kind != AST_STRING || f->kid[FIELD_INIT]) {
    diag_error(s->diag, ast_start(from), "a name in the file is a string");
    return;
  }
  if (!glob_of_params(s, to, &glob)) return;
  if (wildcards(from->name) > wildcards(to->name)) {
    diag_error(s->diag, from->loc, "\"%s\" has more wildcards than \"%s\", which fill them",
               from->name, to->name);
    return;
  }
  vec_push(s->arena, &l->pairs, (LoadPair){to->name, from->name, mods.transpose});
}

static void load_item(Sema *s, Scope *sc, const Ast *f, Load *l) {
  const Ast *key = f->kind == AST_FIELD ? f->kid[FIELD_KEY] : NULL;
  bool file = key && key->kind == AST_NAME && !strcmp(key->name, "from");
  if (key && key->kind == AST_STRING) load_pair(s, sc, f, l);
  else if (file && f->kid[FIELD_TYPE]->kind == AST_STRING) l->from = f->kid[FIELD_TYPE]->name;
  else
    diag_error(s->diag, f->loc,
               "`load` holds from: \"FILE\", and \"path here\": \"name in the file\"");
}

void setting_load(Sema *s, Scope *sc, const Ast *a) {
  const Ast *block = a->kid[SETTING_BLOCK], *value = a->kid[SETTING_VALUE];
  Load l = {.loc = a->loc};
  Glob glob;
  if (!block || !value) {
    diag_error(s->diag, a->loc,
               "`load` wants a pattern and a block: load \"**\" { from: \"FILE\" }");
    return;
  }
  if (!glob_of_params(s, value, &glob)) return;
  l.glob = glob.text;
  for (uint32_t i = 0; i < block->len; i++) load_item(s, sc, block->kid[i], &l);
  if (l.from) vec_push(s->arena, &s->g->loads, l);
  else diag_error(s->diag, a->loc, "`load` does not say from which file: from: \"FILE\"");
}
