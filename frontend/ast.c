/* ast.c: making and printing syntax trees.
 *
 * The printed form is for tests and for people who want to know how the parser understood them:
 * an item or statement a line, indented by its block; expressions stay on the line; an absent
 * child is `-`, a member `of.name`.  Walking recurses, which AST_LEVELS bounds.
 */
#include "frontend/parser.h"

#include <inttypes.h>
#include <string.h>

static const char *const kind_name[AST_COUNT] = {
#define LEAF(kind, printed, field) [AST_##kind] = printed,
#define TREE(kind, printed, kids) [AST_##kind] = printed,
#define LIST(kind, printed) [AST_##kind] = printed,
#include "frontend/ast.def"
};

const char *ast_kind_name(AstKind kind) { return kind_name[kind]; }

Loc ast_start(const Ast *a) {
  bool infix = a->kind >= AST_OR && a->kind <= AST_POW;
  while (infix || a->kind == AST_MEMBER) {
    a = a->kid[0];
    infix = a->kind >= AST_OR && a->kind <= AST_POW;
  }
  return a->loc;
}

/* ---- building ------------------------------------------------------------------------------ */

Ast *ast_new(Parser *p, AstKind kind, Loc loc, const char *name, Ast *const *kid, size_t n) {
  Ast *a = arena_alloc(p->arena, sizeof(Ast) + n * sizeof(Ast *));
  uint16_t level = 0;
  for (size_t i = 0; i < n; i++) {
    a->kid[i] = kid[i];
    if (kid[i] && kid[i]->level > level) level = kid[i]->level;
  }
  if (level >= AST_LEVELS) report_too_deep(p, loc);
  else level++;
  a->kind = (uint16_t)kind;
  a->level = level;
  a->len = (uint32_t)n;
  a->loc = loc;
  a->name = name;
  return a;
}

Ast *ast_list(Parser *p, AstKind kind, Loc loc, AstList list) {
  return ast_new(p, kind, loc, NULL, list.at, list.len);
}

Ast *ast_values(Parser *p, AstList list) {
  if (list.len == 1) return list.at[0];
  return ast_list(p, AST_TUPLE, ast_start(list.at[0]), list);
}

AstList list_of(Parser *p, Ast *a) { return list_add(p, (AstList){0}, a); }

AstList list_add(Parser *p, AstList list, Ast *a) {
  vec_push(&p->scratch, &list, a);
  return list;
}

/* ---- printing ------------------------------------------------------------------------------ */

static void print(Text *out, const Ast *a, int indent);

static void print_leaf(Text *out, const Ast *a) {
  switch (a->kind) {
  case AST_NAME: text_add(out, a->name); break;
  case AST_STRING: text_quoted(out, a->name); break;
  case AST_INT: text_printf(out, "%" PRId64, a->i); break;
  case AST_BOOL: text_add(out, a->i ? "true" : "false"); break;
  case AST_REST: text_printf(out, "...%s", a->name ? a->name : ""); break;
  default: text_add(out, "-"); break;
  }
}

/* A float always shows a point or an exponent, so that it is told from an int. */
static void print_float(Text *out, double v) {
  size_t from = out->len;
  text_double(out, v);
  if (!strpbrk(out->at + from, ".e")) text_add(out, ".0");
}

static bool is_leaf(AstKind kind) {
  switch (kind) {
#define LEAF(kind, printed, field) case AST_##kind:
#define TREE(kind, printed, kids)
#define LIST(kind, printed)
#include "frontend/ast.def"
    return true;
  default: return false;
  }
}

/* Blocks begin a line of their own below the item they belong to; so does all they hold. */
static bool is_block(const Ast *a) {
  return a && (a->kind == AST_BLOCK || a->kind == AST_CODE || a->kind == AST_FILE);
}

static bool shows_name(AstKind kind) {
  switch (kind) {
  case AST_ARG:
  case AST_FN:
  case AST_PARAM:
  case AST_IMPORT:
  case AST_CONST:
  case AST_MODULE:
  case AST_MODEL:
  case AST_EXTERN:
  case AST_SETTING:
  case AST_MODIFIER: return true;
  default: return false;
  }
}

static void print_tree(Text *out, const Ast *a, int indent) {
  text_printf(out, "(%s", kind_name[a->kind]);
  if (shows_name((AstKind)a->kind)) text_printf(out, " %s", a->name ? a->name : "-");
  for (uint32_t i = 0; i < a->len; i++) {
    if (is_block(a) || is_block(a->kid[i])) text_printf(out, "\n%*s", indent + 2, "");
    else text_add(out, " ");
    print(out, a->kid[i], indent + 2);
  }
  text_add(out, ")");
}

static void print(Text *out, const Ast *a, int indent) {
  if (!a) {
    text_add(out, "-");
  } else if (a->kind == AST_MEMBER) {
    print(out, a->kid[MEMBER_OF], indent);
    text_printf(out, ".%s", a->name);
  } else if (a->kind == AST_FLOAT) {
    print_float(out, a->f);
  } else if (is_leaf((AstKind)a->kind)) {
    print_leaf(out, a);
  } else {
    print_tree(out, a, indent);
  }
}

void ast_print(Text *out, const Ast *ast) {
  print(out, ast, 0);
  text_add(out, "\n");
}
