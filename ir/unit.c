/* unit.c: how the loss scales go through an op (column UNIT of ops.def; docs/precision.md).
 *
 * A type carries the powers of loss scales that its values are multiplied by (unit_map.c).  The
 * backward pass is linear in the seed, so every cotangent has exponent 1 until it is unscaled, and
 * a scaled gradient that strays into an optimizer, a clip or a metric is a type error instead of a
 * wrong number.  Below, an exponent is one of each scale.
 *
 *   any       as stated: only who makes a constant knows what it stands for
 *   none      operands without scale, result without scale (exp, log, softmax, …)
 *   same      operands of one exponent, which is the result's: what is linear (add, sum,
 *             transpose) or holds for S > 0 (abs, max, relu)
 *   product   exponents add            quotient  they subtract    square_root  it halves
 *   compare   operands of one exponent, result without scale             drop  result without scale
 *   select    as `same` over x and y   matmul    product, the accumulator has it too
 *   matmul_scaled  that of the scales: what they belong to carries none; the accumulator has it too
 *   least     of two scales the lesser's, a symbol of its own
 *   rescale   product, of a cotangent by (the least of a set with its scale / its scale)
 *   seed      the last operand's: S, or a weight where there is no scaler; the others carry none
 *   custom_grad  that of y; dy and what is made of it carry S once
 *   scatter   the first operand's, the accumulator has it too
 *   first     the first operand's      region    checked where the block is
 *
 * A literal zero has every exponent, and is looked at only where exponents disagree.
 */
#include "ir/ir.h"

typedef struct Units {
  const Graph *g;
  Op op;
  uint32_t nops;
  const ValueId *ops;
  Unit *unit;
  Text *why;
} Units;

/* One step back from v, or NO_ID: out of a kernel's body, into it, through a view or cast. */
static ValueId one_back(const Graph *g, ValueId v, bool moved) {
  Value x = g->values.at[v];
  if (x.node == NO_ID) {
    NodeId owner = g->blocks.at[x.block].owner;
    const Node *k = owner == NO_ID ? NULL : &g->nodes.at[owner];
    return k && k->op == OP_kernel && x.index < k->nops ? k->ops[x.index] : NO_ID;
  }
  const Node *n = &g->nodes.at[x.node];
  if (n->op == OP_kernel && n->nblocks) {
    const Block *b = &g->blocks.at[n->blocks[0]];
    return x.index < b->results.len ? b->results.at[x.index] : NO_ID;
  }
  bool moves = (op_flags[n->op] & F_VIEW) || n->op == OP_cast || n->op == OP_cast_policy;
  return n->op == OP_reshape || (moved && moves) ? n->ops[0] : NO_ID;
}

ValueId value_origin(const Graph *g, ValueId v, bool moved) {
  for (ValueId from; (from = one_back(g, v, moved)) != NO_ID;) v = from;
  return v;
}

bool unit_is_any(const Graph *g, ValueId v) {
  const Node *n = value_node(g, value_origin(g, v, true));
  return n && n->op == OP_constant && node_float(n, AT_value, 1) == 0;
}

static Unit unit_of(const Units *u, uint32_t i) { return value_type(u->g, u->ops[i]).unit; }

static bool refuse(const Units *u, const char *what) {
  text_printf(u->why, "%s: %s", op_name[u->op], what);
  for (uint32_t i = 0; i < u->nops; i++) {
    text_add(u->why, i ? ", " : " (");
    type_print(u->why, value_type(u->g, u->ops[i]));
  }
  if (u->nops) text_add(u->why, ")");
  return false;
}

/* The one exponent of operands from..nops-1 that are not literal zeros. */
static bool agree(const Units *u, uint32_t from) {
  bool equal = true, known = false;
  *u->unit = unit_of(u, from);
  for (uint32_t i = from; i < u->nops; i++) equal = equal && unit_of(u, i) == *u->unit;
  for (uint32_t i = from; !equal && i < u->nops; i++) {
    if (unit_is_any(u->g, u->ops[i])) continue;
    if (known && unit_of(u, i) != *u->unit) return refuse(u, "operands of different loss scale");
    *u->unit = unit_of(u, i);
    known = true;
  }
  return true;
}

static bool unit_any(const Units *u) {
  (void)u;
  return true;
}

static bool unit_none(const Units *u) {
  for (uint32_t i = 0; i < u->nops; i++)
    if (unit_of(u, i) != 0 && !unit_is_any(u->g, u->ops[i]))
      return refuse(u, "operand must not carry the loss scale");
  *u->unit = 0;
  return true;
}

static bool unit_same(const Units *u) { return agree(u, 0); }

/* Of operand i by operand k to `power`. */
static bool times(const Units *u, uint32_t i, uint32_t k, int power) {
  return unit_times(unit_of(u, i), unit_of(u, k), power, u->unit) ||
         refuse(u, "power of the loss scale out of range");
}

static bool unit_product(const Units *u) { return times(u, 0, 1, 1); }
static bool unit_quotient(const Units *u) { return times(u, 0, 1, -1); }

static bool unit_square_root(const Units *u) {
  return unit_root(unit_of(u, 0), u->unit) || refuse(u, "root of an odd power of the loss scale");
}

static bool unit_drop(const Units *u) {
  *u->unit = 0;
  return true;
}

static bool unit_compare(const Units *u) { return agree(u, 0) && unit_drop(u); }

static bool unit_select(const Units *u) {
  if (unit_of(u, 0) != 0) return refuse(u, "condition must not carry the loss scale");
  return agree(u, 1);
}

static bool has_accumulator(const Units *u) {
  uint32_t i = matmul_accumulator(u->op);
  if (u->nops <= i || unit_of(u, i) == *u->unit || unit_is_any(u->g, u->ops[i])) return true;
  return refuse(u, "accumulator of another loss scale than the product");
}

static bool unit_matmul(const Units *u) { return unit_product(u) && has_accumulator(u); }

static bool unit_matmul_scaled(const Units *u) {
  if (unit_of(u, 0) || unit_of(u, 1))
    return refuse(u, "quantized operands must not carry the loss scale, their scales do");
  return times(u, 2, 3, 1) && has_accumulator(u);
}

static bool unit_first(const Units *u) {
  *u->unit = unit_of(u, 0);
  for (uint32_t i = 1; i < u->nops; i++)
    if (unit_of(u, i) != 0) return refuse(u, "index must not carry the loss scale");
  return true;
}

static bool unit_least(const Units *u) {
  unsigned x = unit_scales(unit_of(u, 0)), y = unit_scales(unit_of(u, 1));
  *u->unit = unit_of_scales(x | y, 1);
  return (x && y) || refuse(u, "operands must be loss scales");
}

static bool unit_rescale(const Units *u) {
  unsigned own = unit_scales(unit_of(u, 0));
  if (!own) return refuse(u, "x must carry its loss scale once");
  bool fits = unit_times(unit_of(u, 0), unit_of(u, 1), 1, u->unit);
  return (fits && (own & unit_scales(*u->unit)) == own) ||
         refuse(u, "the new scale must be the least of a set with the old one");
}

static bool unit_seed(const Units *u) {
  for (uint32_t i = 0; i + 1 < u->nops; i++)
    if (unit_of(u, i) != 0) return refuse(u, "a weight must not carry the loss scale");
  *u->unit = u->nops ? unit_of(u, u->nops - 1) : 0;
  return true;
}

static bool unit_custom_grad(const Units *u) {
  *u->unit = unit_of(u, 0);
  for (uint32_t i = u->nops / 2 + 1; i < u->nops; i++)
    if (unit_of(u, i) != UNIT_S && !unit_is_any(u->g, u->ops[i]))
      return refuse(u, "a gradient must be linear in dy, so carry the loss scale once");
  return true;
}

static bool unit_scatter(const Units *u) {
  *u->unit = unit_of(u, 0);
  if (unit_of(u, 1) != 0) return refuse(u, "index must not carry the loss scale");
  if (u->nops < 3 || unit_of(u, 2) == *u->unit || unit_is_any(u->g, u->ops[2])) return true;
  return refuse(u, "accumulator of another loss scale than the elements");
}

static bool unit_region(const Units *u) { return unit_any(u); }

static bool (*const unit_rule[OP_COUNT])(const Units *) = {
#define OP(name, doc) [OP_##name] =
#define UNIT(rule) unit_##rule,
#include "ir/ops.def"
};

/* *unit comes in as stated: rules `any` and `region` leave it so. */
bool unit_infer(const Graph *g, Op op, uint32_t nops, const ValueId *ops, Unit *unit, Text *why) {
  Units u = {g, op, nops, ops, unit, why};
  return unit_rule[op](&u);
}
