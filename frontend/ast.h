/* ast.h: the syntax tree.  One node type; what its children are says ast.def.
 *
 * A node is immutable once the parser has made it, lives in the arena given to frontend_parse, and
 * is at most AST_LEVELS levels above its deepest leaf, so that walking it may recurse.  Names and
 * strings are interned: compare pointers.
 */
#ifndef FRONTEND_AST_H
#define FRONTEND_AST_H

#include "base/base.h"

enum { AST_LEVELS = 1000 };

typedef enum AstKind {
#define LEAF(kind, printed, field) AST_##kind,
#define TREE(kind, printed, kids) AST_##kind,
#define LIST(kind, printed) AST_##kind,
#include "frontend/ast.def"
  AST_COUNT
} AstKind;

#define K1(T, a) T##_##a
#define K2(T, a, b) T##_##a, T##_##b
#define K3(T, a, b, c) K2(T, a, b), T##_##c
#define K4(T, a, b, c, d) K3(T, a, b, c), T##_##d
#define K5(T, a, b, c, d, e) K4(T, a, b, c, d), T##_##e
#define LEAF(kind, printed, field)
#define TREE(kind, printed, kids) enum { kids };
#define LIST(kind, printed)
#include "frontend/ast.def"

typedef struct Ast Ast;
struct Ast {
  uint16_t kind;  /* AstKind */
  uint16_t level; /* 1 for a leaf, else one more than its highest child */
  uint32_t len;   /* of kid */
  Loc loc;
  union {
    const char *name;
    int64_t i;
    double f;
  };
  Ast *kid[];
};

const char *ast_kind_name(AstKind kind);
Loc ast_start(const Ast *a); /* where its first token is; loc of an infix operator is its sign */

#endif
