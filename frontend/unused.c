/* unused.c: what can be said of functions and modules that nothing used: every name in them must
 * mean something.  Others are elaborated where they are used, which finds all that is wrong.
 *
 * A name is known if it is bound anywhere in the function or in the module around it, or in the
 * file: no order, no shadowing, so that nothing right is ever refused.
 */
#include "frontend/sema.h"

#include <string.h>

/* A scope of trees instead of names: both are told by their address. */
static const char *key_of(const Ast *a) { return (const char *)a; }

void mark_used(Sema *s, const Ast *a) {
  if (!s->used) s->used = scope_new(s, NULL);
  if (!scope_find_here(s->used, key_of(a)))
    scope_set(s, s->used, key_of(a), val_bool(true), a->loc);
}

static bool is_used(const Sema *s, const Ast *a) {
  return s->used && scope_find_here(s->used, key_of(a));
}

/* ---- names that are bound in a tree ---------------------------------------------------------- */

static void add_list(Sema *s, Scope *known, const Ast *names) {
  for (uint32_t i = 0; names && i < names->len; i++)
    scope_set(s, known, names->kid[i]->name, val_bad(), names->kid[i]->loc);
}

static void collect(Sema *s, Scope *known, const Ast *a) {
  if (!a) return;
  switch (a->kind) {
  case AST_NAME:
  case AST_INT:
  case AST_FLOAT:
  case AST_STRING:
  case AST_BOOL:
  case AST_REST: return;
  case AST_NAMES:
  case AST_DIMS: add_list(s, known, a); return;
  case AST_FN:
  case AST_PARAM:
    if (a->name) scope_set(s, known, a->name, val_bad(), a->loc);
    break;
  case AST_FIELD:
    if (a->kid[FIELD_KEY]->kind == AST_NAME)
      scope_set(s, known, a->kid[FIELD_KEY]->name, val_bad(), a->loc);
    break;
  default: break;
  }
  for (uint32_t i = 0; i < a->len; i++) collect(s, known, a->kid[i]);
}

/* ---- names that are read in it --------------------------------------------------------------- */

static bool is_word(const Ast *a, const char *const *words) {
  for (; *words; words++)
    if (a->kind == AST_NAME && !strcmp(a->name, *words)) return true;
  return false;
}

static void resolve(Sema *s, Scope *known, const Ast *a);

/* Types have words of their own, also in front of dims. */
static void resolve_type(Sema *s, Scope *known, const Ast *a) {
  static const char *const words[] = {"int",    "float", "bool",  "list",  "fn",
                                      "module", "hyper", "param", "state", NULL};
  if (!a || is_word(a, words)) return;
  if (a->kind == AST_INDEX && is_word(a->kid[INDEX_OF], words)) a = a->kid[INDEX_AT];
  resolve(s, known, a);
}

static void resolve_name(Sema *s, Scope *known, const Ast *a) {
  if (scope_find(known, a->name) || !strcmp(a->name, "_")) return;
  diag_error(s->diag, a->loc, "unknown name `%s`%s", a->name, scope_near(s, known, a->name, true));
  scope_set(s, known, a->name, val_bad(), a->loc); /* once is enough */
}

static void resolve(Sema *s, Scope *known, const Ast *a) {
  if (!a) return;
  switch (a->kind) {
  case AST_NAME: resolve_name(s, known, a); return;
  case AST_INT:
  case AST_FLOAT:
  case AST_STRING:
  case AST_BOOL:
  case AST_REST:
  case AST_NAMES:
  case AST_DIMS:
  case AST_MODIFIERS: return;
  case AST_REGION: resolve(s, known, a->kid[REGION_BODY]); return;
  case AST_PARAM:
    resolve_type(s, known, a->kid[PARAM_TYPE]);
    resolve(s, known, a->kid[PARAM_DEFAULT]);
    return;
  case AST_FIELD:
    resolve_type(s, known, a->kid[FIELD_TYPE]);
    resolve(s, known, a->kid[FIELD_INIT]);
    return;
  default: break;
  }
  for (uint32_t i = 0; i < a->len; i++) resolve(s, known, a->kid[i]);
}

/* ---- the file -------------------------------------------------------------------------------- */

static void check(Sema *s, const Ast *around, const Ast *a) {
  Scope *known = scope_new(s, s->file);
  collect(s, known, around);
  resolve(s, known, a);
  if (a->name && !s->diag->errors)
    diag_warning(s->diag, WARN_unused, a->loc, "nothing uses `%s`", a->name);
}

/* Functions of a block that was made, at any depth of `if` and `for`. */
static void check_members(Sema *s, const Ast *around, const Ast *block) {
  for (uint32_t i = 0; block && i < block->len; i++) {
    const Ast *a = block->kid[i];
    if (!a) continue;
    if (a->kind == AST_FN && !is_used(s, a)) check(s, around, a);
    else if (a->kind == AST_IF || a->kind == AST_BLOCK) check_members(s, around, a);
    else if (a->kind == AST_FOR) check_members(s, around, a->kid[FOR_BODY]);
  }
}

void check_unused(Sema *s, const Ast *file) {
  for (uint32_t i = 0; !s->incomplete && i < file->len; i++) {
    const Ast *a = file->kid[i];
    if (a->kind == AST_FN && !is_used(s, a)) check(s, a, a);
    else if (a->kind == AST_MODULE && !is_used(s, a)) check(s, a, a);
    else if (a->kind == AST_MODULE) check_members(s, a, a->kid[MODULE_BLOCK]);
    else if (a->kind == AST_MODEL) check_members(s, a, a->kid[MODEL_BLOCK]);
  }
}
