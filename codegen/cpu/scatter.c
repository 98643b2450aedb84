/* scatter.c: the scatter form: rows added to the rows of a table that an index names.
 *
 * Positions go by in order, so what meets in one row adds up in that order.  Threads share out the
 * columns, each going through all positions: whoever adds to an element does so alone, and no bit
 * depends on how many there are.
 */
#include "codegen/cpu/emit.h"

typedef struct Scatter {
  Kernel *k;
  const Node *n;
  Type x, y;
  int lead, lead_n, cols, cols_n; /* groups of the positions' axes; of the columns' */
  int64_t positions, width;
} Scatter;

static const Node *find_scatter(const Kernel *k) {
  for (uint32_t i = 0; i < k->body->nodes.len; i++) {
    const Node *n = &k->g->nodes.at[k->body->nodes.at[i]];
    if (n->op == OP_scatter_add) return n;
  }
  ice(k->g, (NodeId)(k->node - k->g->nodes.at), "cpu: a scatter kernel without a scatter_add");
}

/* Columns col … of row `row` of the result or the accumulator. */
static LLVMValueRef element(const Scatter *s, LLVMValueRef base, LLVMValueRef row,
                            LLVMValueRef col) {
  Kernel *k = s->k;
  LLVMValueRef at = LLVMBuildNSWAdd(k->b, k_times(k, row, s->width), col, "");
  return LLVMBuildGEP2(k->b, k->m->f32, base, &at, 1, "");
}

static LLVMValueRef load(const Scatter *s, LLVMValueRef p, unsigned lanes) {
  LLVMValueRef v = LLVMBuildLoad2(s->k->b, k_vector(s->k->m->f32, lanes), p, "");
  LLVMSetAlignment(v, 4);
  return v;
}

static void store(const Scatter *s, LLVMValueRef p, LLVMValueRef v) {
  LLVMSetAlignment(LLVMBuildStore(s->k->b, v, p), 4);
}

typedef void Columns(Scatter *s, LLVMValueRef row, LLVMValueRef col);

static void start_columns(Scatter *s, LLVMValueRef row, LLVMValueRef col) {
  Kernel *k = s->k;
  LLVMValueRef v = LLVMConstNull(k_vector(k->m->f32, k->lanes));
  k_go(k, k->scope);
  if (s->n->nops > 2) {
    LLVMValueRef acc = k_operand(k, k->g->values.at[s->n->ops[2]].index);
    v = load(s, element(s, acc, row, col), k->lanes);
  }
  store(s, element(s, k_result(k, 0), row, col), v);
}

static void add_columns(Scatter *s, LLVMValueRef position, LLVMValueRef col) {
  Kernel *k = s->k;
  Index ix = index_identity(s->x, 0);
  (void)position;
  space_place(k, s->cols, s->cols_n, col, k->lanes > 1 ? AXIS_STEP : AXIS_SPLAT);
  Val row = expr_row(k, s->n->ops[1], &ix, s->y.dim[0]);
  Val x = expr_wide(k, expr_to_program(k, expr(k, s->n->ops[0], &ix),
                                       (DType)value_type(k->g, s->n->ops[0]).dtype));
  k_go(k, k->scope);
  LLVMValueRef p = element(s, k_result(k, 0), row.v, col);
  Val args[] = {{load(s, p, k->lanes), k->lanes > 1, k->scope}, x};
  Val sum = expr_program(k, SC_add, 2, args);
  store(s, p, sum.v);
}

/* do_columns for this thread's columns of row or position `at`: by vectors, the rest one by one, by
 * the last thread. */
static void columns(Scatter *s, LLVMValueRef at, Columns *do_columns) {
  Kernel *k = s->k;
  int64_t lanes = k->m->level->vec.f32_lanes, whole = s->width - s->width % lanes;
  LLVMValueRef from, end;
  Loop l;
  k->lanes = k->valid = (unsigned)lanes;
  if (whole > 0) {
    k_share(k, whole, lanes, &from, &end);
    loop_open(k, &l, from, end, lanes, 0, NULL);
    do_columns(s, at, l.i);
    loop_close(k, &l, NULL);
  }
  if (whole == s->width) return;
  k->lanes = k->valid = 1;
  LLVMBasicBlockRef exit = branch_open(k, k_is_last_thread(k));
  loop_open(k, &l, k_int(k, whole), k_int(k, s->width), 1, 0, NULL);
  do_columns(s, at, l.i);
  loop_close(k, &l, NULL);
  branch_close(k, exit);
}

void emit_scatter(Kernel *k) {
  const Node *n = find_scatter(k);
  Scatter s = {.k = k, .n = n, .x = value_type(k->g, n->ops[0]), .y = value_type(k->g, n->res)};
  int border = value_type(k->g, n->ops[1]).rank;
  space_set(k, s.x, border, 0);
  s.cols = s.lead_n = space_groups_before(k, border);
  s.cols_n = k->axes - s.cols;
  s.positions = space_extent(k, 0, s.lead_n);
  s.width = space_extent(k, s.cols, s.cols_n);
  Loop l;
  loop_open(k, &l, k_int(k, 0), k_int(k, s.y.dim[0]), 1, 0, NULL);
  columns(&s, l.i, start_columns);
  loop_close(k, &l, NULL);
  loop_open(k, &l, k_int(k, 0), k_int(k, s.positions), 1, 0, NULL);
  space_place(k, 0, s.lead_n, l.i, AXIS_SPLAT);
  columns(&s, l.i, add_columns);
  loop_close(k, &l, NULL);
}
