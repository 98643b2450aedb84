/* frontend.h: from the text of a .mp file to a syntax tree, and from there to a Graph.
 *
 * Whatever the text, the user is told what is wrong with carets and nothing crashes; time and
 * memory grow linearly with the text.
 */
#ifndef FRONTEND_H
#define FRONTEND_H

#include "ir/ir.h"

typedef struct Ast Ast; /* frontend/ast.h */

/* ---- parse.c: the tree (AST_FILE) of a source that diag_source knows; NULL after an error --- */
Ast *frontend_parse(Arena *arena, Strings *strings, Diag *diag, uint32_t source);

/* ---- ast.c: as an indented s-expression, an item or statement a line (--emit=ast) ---------- */
void ast_print(Text *out, const Ast *ast);

/* ---- format.c: a source that frontend_parse takes in the standard layout; only blanks move */
void format_source(Strings *strings, Diag *diag, uint32_t source, Text *out);

/* ---- sema.c: the graph of a file: entries init, train_step and eval; NULL after an error ----- */

typedef struct Define { /* -D name=value; -D as.name=value of an import */
  const char *name, *value;
} Define;

typedef struct KeepOption {     /* --keep=GLOB:W: what keeps a precision of its own */
  const char *glob, *precision; /* "f32", "bf16", "f16" */
} KeepOption;

typedef struct FrontendOptions {
  const char *name, *source; /* of the graph: "mlp", "examples/mlp.mp" */
  const Define *defines;
  uint32_t ndefines;
  const char *const *folders; /* where imports are looked for: -I */
  uint32_t nfolders;
  const KeepOption *keeps;
  uint32_t nkeeps;
  const char *train; /* the model whose train block is built, of several; or NULL */
} FrontendOptions;

Graph *frontend_compile(Arena *arena, Strings *strings, Diag *diag, const Ast *file,
                        const FrontendOptions *options);

/* glob.c: a pattern of paths, for names that only later passes know; NULL: it is none, which has
 * been said. */
const char **frontend_glob(Arena *arena, Diag *diag, const char *text);
bool frontend_glob_covers(const char *const *glob, const char *path);

#endif
