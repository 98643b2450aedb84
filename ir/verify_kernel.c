/* verify_kernel.c: what loops and kernels keep: the types that go in and out, and of a kernel the
 * rules of its form (ir/program.h), which codegen relies on.
 */
#include "ir/program.h"
#include "ir/verify_rule.h"

#include <string.h>

/* ---- loop ----------------------------------------------------------------------------------- */

/* What iteration i sees of x[i], or gives of it: t without its first axis; with attribute `rows` a
 * first axis of rows is cut, and stays. */
static bool slice(const Check *c, Type *t, int64_t trip) {
  if (t->rank && t->rows == 0 && node_attr(c->n, AT_rows)) {
    if (t->dim[0] % trip) return false;
    t->dim[0] /= trip;
    return true;
  }
  if (!t->rank || t->dim[0] != trip || t->rows == 0) return false;
  for (int i = 1; i < t->rank; i++) t->dim[i - 1] = t->dim[i];
  t->dim[--t->rank] = 0;
  t->rows -= t->rows > 0;
  return true;
}

static bool loop_args(const Check *c, const Block *b, int64_t trip, int64_t carries,
                      int64_t slices) {
  if (b->args.len != c->n->nops + 1)
    return refuse(c, "the block wants the index and %u arguments", (unsigned)c->n->nops);
  Type index = value_type(c->g, b->args.at[0]);
  if (index.rank || kind(index) != 'i') return refuse(c, "the index must be an integer of rank 0");
  for (uint32_t i = 0; i < c->n->nops; i++) {
    Type t = in(c, i);
    bool whole = i < carries || i >= carries + slices;
    if (whole && t.rows >= 0 && node_attr(c->n, AT_rows))
      return refuse(c, "operand %u has the rows of all iterations", (unsigned)i);
    if (!whole && !slice(c, &t, trip))
      return refuse(c, "operand %u cannot be cut into %lld", (unsigned)i, (long long)trip);
    if (!type_equal(t, value_type(c->g, b->args.at[i + 1])))
      return refuse(c, "argument %u of the block has another type", (unsigned)i + 1);
  }
  return true;
}

static bool loop_results(const Check *c, const Block *b, int64_t trip, int64_t carries) {
  if (b->results.len != c->n->nres || c->n->nres < carries)
    return refuse(c, "the block must give the carries, and each result");
  for (uint32_t i = 0; i < c->n->nres; i++) {
    Type t = value_type(c->g, c->n->res + i), given = value_type(c->g, b->results.at[i]);
    if (i < carries && !type_equal(t, in(c, i)))
      return refuse(c, "carry %u changes its type", (unsigned)i);
    if (i >= carries && !slice(c, &t, trip))
      return refuse(c, "result %u is not %lld slices", (unsigned)i, (long long)trip);
    if (!type_equal(t, given))
      return refuse(c, "result %u of the block has another type", (unsigned)i);
  }
  return true;
}

bool verify_loop(const Check *c) {
  int64_t trip = node_int(c->n, AT_trip, -1), carries = node_int(c->n, AT_carries, -1),
          slices = node_int(c->n, AT_slices, -1);
  const Block *b = &c->g->blocks.at[c->n->blocks[0]];
  if (trip < 0 || carries < 0 || slices < 0)
    return refuse(c, "trip, carries, slices must not be negative");
  if (carries > c->n->nops || slices > c->n->nops - carries)
    return refuse(c, "more carries and slices than operands");
  return loop_args(c, b, trip, carries, slices) && loop_results(c, b, trip, carries);
}

/* ---- kernel --------------------------------------------------------------------------------- */

typedef struct Kernel {
  Check c;
  const Block *body;
  Form form;
  const Node *anchor; /* first reduction, or the matmul or scatter_add */
} Kernel;

static bool kernel_form(Kernel *k) {
  const char *form = node_text(k->c.n, AT_form, "");
  for (int i = FORM_map; i < FORM_COUNT; i++)
    if (!strcmp(form, form_name[i])) k->form = (Form)i;
  return k->form || refuse(&k->c, "unknown form `%s`", form);
}

static bool kernel_borders(const Kernel *k) {
  const Node *n = k->c.n;
  const Graph *g = k->c.g;
  if (k->body->args.len != n->nops)
    return refuse(&k->c, "the block wants an argument for each operand");
  if (!n->nres || k->body->results.len != n->nres)
    return refuse(&k->c, "the block must give each result, and one at least");
  for (uint32_t i = 0; i < n->nops; i++)
    if (!type_equal(in(&k->c, i), value_type(g, k->body->args.at[i])))
      return refuse(&k->c, "argument %u of the block has another type than the operand",
                    (unsigned)i);
  for (uint32_t i = 0; i < n->nres; i++)
    if (!type_equal(value_type(g, n->res + i), value_type(g, k->body->results.at[i])))
      return refuse(&k->c, "result %u of the block has another type", (unsigned)i);
  return true;
}

static const Node *body_node(const Kernel *k, uint32_t i) {
  return &k->c.g->nodes.at[k->body->nodes.at[i]];
}

/* Each node is of form map or of the kernel's; the first of the latter is the anchor. */
static bool kernel_nodes(Kernel *k) {
  for (uint32_t i = 0; i < k->body->nodes.len; i++) {
    const Node *n = body_node(k, i);
    if (op_form[n->op] == FORM_map) continue;
    if (op_form[n->op] != k->form)
      return refuse(&k->c, "%s cannot be in a kernel of form %s", op_name[n->op],
                    form_name[k->form]);
    if (!k->anchor) k->anchor = n;
    else if (k->form == FORM_gemm) return refuse(&k->c, "a gemm has one matmul only");
    else if (k->form == FORM_scatter) return refuse(&k->c, "a scatter has one scatter_add only");
  }
  return k->anchor || k->form == FORM_map ||
         refuse(&k->c, "nothing in it is of form %s", form_name[k->form]);
}

static bool kernel_results_are(const Kernel *k, Type a, Type b) {
  for (uint32_t i = 0; i < k->body->results.len; i++) {
    Type t = value_type(k->c.g, k->body->results.at[i]);
    if (!type_same_dims(t, a) && !type_same_dims(t, b))
      return refuse(&k->c, "result %u has dims that the form does not give", (unsigned)i);
  }
  return true;
}

static bool kernel_map(const Kernel *k) {
  Type space = value_type(k->c.g, k->body->results.at[0]);
  return kernel_results_are(k, space, space);
}

/* Axes in a row from the first, leaving one at least, or in a row to the last. */
static bool one_run(const Attr *axes, int rank) {
  for (uint32_t i = 1; i < axes->n; i++)
    if (axes->ints[i] != axes->ints[0] + i) return false;
  return axes->ints[0] == 0 || axes->ints[axes->n - 1] == rank - 1;
}

static bool same_axes(const Attr *a, const Attr *b) {
  return a->n == b->n && !memcmp(a->ints, b->ints, a->n * sizeof *a->ints);
}

static bool kernel_reduce(const Kernel *k) {
  const Attr *axes = node_attr(k->anchor, AT_axes);
  Type space = value_type(k->c.g, k->anchor->ops[0]);
  uint32_t count = 0;
  if (!one_run(axes, space.rank))
    return refuse(&k->c, "reduces neither the leading nor the trailing axes");
  for (uint32_t i = 0; i < k->body->nodes.len; i++) {
    const Node *n = body_node(k, i);
    if (op_form[n->op] != FORM_reduce) continue;
    if (!type_same_dims(space, value_type(k->c.g, n->ops[0])))
      return refuse(&k->c, "its reductions have operands of different dims");
    if (!same_axes(axes, node_attr(n, AT_axes)))
      return refuse(&k->c, "its reductions go over different axes");
    if (++count > MOST_REDUCTIONS) return refuse(&k->c, "more than %d reductions", MOST_REDUCTIONS);
  }
  return kernel_results_are(k, space, value_type(k->c.g, k->anchor->res));
}

static bool kernel_gemm(const Kernel *k) {
  for (uint32_t i = 0; i < k->anchor->nops; i++)
    if (k->c.g->values.at[k->anchor->ops[i]].node != NO_ID)
      return refuse(&k->c, "the matmul must read arguments of the block directly");
  Type c = value_type(k->c.g, k->anchor->res);
  return kernel_results_are(k, c, c);
}

static bool kernel_scatter(const Kernel *k) {
  if (k->body->results.len != 1 || k->body->results.at[0] != k->anchor->res)
    return refuse(&k->c, "a scatter gives its sums alone");
  return k->anchor->nops < 3 || k->c.g->values.at[k->anchor->ops[2]].node == NO_ID ||
         refuse(&k->c, "a scatter's accumulator must be an argument of the block");
}

bool verify_kernel(const Check *c) {
  static bool (*const rules[])(const Kernel *) = {[FORM_map] = kernel_map,
                                                  [FORM_reduce] = kernel_reduce,
                                                  [FORM_gemm] = kernel_gemm,
                                                  [FORM_scatter] = kernel_scatter};
  Kernel k = {.c = *c, .body = &c->g->blocks.at[c->n->blocks[0]]};
  return kernel_form(&k) && kernel_borders(&k) && kernel_nodes(&k) && rules[k.form](&k);
}
