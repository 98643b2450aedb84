/* verify_rule.h: what the files of column VERIFY share: verify_op.c, which holds the table and most
 * rules, verify_fp8.c and verify_kernel.c.  A rule returns true, or says in `why` what is wrong.
 */
#ifndef IR_VERIFY_RULE_H
#define IR_VERIFY_RULE_H

#include "ir/ir.h"

typedef struct Check {
  const Graph *g;
  const Node *n;
  Text *why;
} Check;

/* Names the op, then says it; false. */
bool refuse(const Check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static inline Type in(const Check *c, uint32_t i) { return value_type(c->g, c->n->ops[i]); }
static inline Type out(const Check *c) { return value_type(c->g, c->n->res); }
static inline char kind(Type t) { return dtype_kind[t.dtype]; }

/* ---- verify_fp8.c ---- */
bool verify_saturate(const Check *c);
bool verify_rounding(const Check *c);
bool verify_quantize(const Check *c);
bool verify_matmul_scaled(const Check *c);
bool reads_fp8_rightly(const Check *c); /* of any op */

/* ---- verify_kernel.c ---- */
bool verify_loop(const Check *c);
bool verify_kernel(const Check *c);

#endif
