/* verify.h: what the files of the verifier share: verify.c, which drives them, verify_entry.c and
 * verify_order.c.  (verify_op.c, whose parts share verify_rule.h, and verify_parts.c only read the
 * graph, and say why not: they are in ir.h.)
 *
 * All that return bool have reported why they return false.  A graph of a user's text is reported
 * on through Diag, all of it; one between passes through `why`, the first thing wrong.
 */
#ifndef IR_VERIFY_H
#define IR_VERIFY_H

#include "ir/ir.h"

typedef struct Verifier {
  const Graph *g;
  Diag *diag; /* or */
  Text *why;
  uint32_t count;
  Arena scratch;
  NameTable states;               /* index by path */
  NameTable args, results;        /* index by role and name, of the entry at hand */
  const Entry *entry;             /* at hand */
  int64_t batch;                  /* of the block at hand */
  bool *placed, *owned, *defined; /* by NodeId, BlockId, ValueId */
} Verifier;

/* ---- verify.c ---- */
bool verify_report(Verifier *v, Loc loc, NodeId n, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
bool verify_type(Verifier *v, Type t, Loc loc, NodeId n);

/* ---- verify_entry.c ---- */
void verify_index_states(Verifier *v); /* before the others */
bool verify_state(Verifier *v, const State *s);
bool verify_ports(Verifier *v, const Entry *e);
bool verify_transaction(Verifier *v, const Entry *e);

/* ---- verify_order.c ---- */
bool verify_order(Verifier *v, const Entry *e);

#endif
