/* index.c: x[…] of a tensor. */
#include "frontend/sema.h"

Val tensor_index(Sema *s, Scope *sc, const Ast *a, Val of) {
  (void)sc;
  (void)of;
  return sema_later(s, a->kid[INDEX_AT]->loc, "indexing a tensor");
}
