/* eval.c: running an entry: arguments in, nodes in order, every value kept.
 *
 * Each value of the run owns a tensor, by ValueId; a block that runs again (a loop) writes the same
 * tensors again.  Composite ops are expanded in a private copy of the graph, so the cells below
 * know only simple ones.
 */
#include "ref/cells.h"

#include "ir/float_mode.h"
#include "ref/expand.h"

#include <math.h>
#include <string.h>

static EvalCell *const eval_cell[OP_COUNT] = {
#define OP(name, doc) [OP_##name] =
#define EVAL(fn) eval_##fn,
#include "ir/ops.def"
};

_Noreturn void eval_refuse(const Eval *e, const Node *n, const char *what) {
  ice(e->g, (NodeId)(n - e->g->nodes.at), "evaluator: %s", what);
}

Eval *eval_new(Arena *arena, const Graph *g, const Scalars *s, EvalMode mode) {
  Eval *e = NEW(arena, Eval);
  bool changed;
  e->arena = arena;
  e->g = graph_clone(g, arena);
  e->replaced = expand_graph(e->g, arena, &changed);
  e->scalars = s;
  e->mode = mode;
  e->value = NEW_ARRAY(arena, Tensor, e->g->values.len);
  return e;
}

void eval_free(Eval *e) {
  arena_free(&e->run);
  memset(e->value, 0, e->g->values.len * sizeof *e->value);
}

/* ---- arguments ------------------------------------------------------------------------------- */

static Binding *find_binding(const Eval *e, ArgRole role, const char *name) {
  for (uint32_t i = 0; i < e->args.len; i++)
    if (e->args.at[i].role == role && !strcmp(e->args.at[i].name, name)) return &e->args.at[i];
  return NULL;
}

const Tensor *eval_arg(const Eval *e, ArgRole role, const char *name) {
  const Binding *b = find_binding(e, role, name);
  return b ? &b->tensor : NULL;
}

/* Memory of an argument is used again while its type stays: states are set once a step. */
void eval_set(Eval *e, ArgRole role, const char *name, const Tensor *t) {
  Binding *b = find_binding(e, role, name);
  if (!b) {
    vec_push(e->arena, &e->args,
             (Binding){.role = role, .name = arena_text(e->arena, name, strlen(name))});
    b = &e->args.at[e->args.len - 1];
  }
  if (!b->tensor.data || b->tensor.wide != t->wide || !type_equal(b->tensor.type, t->type))
    b->tensor = tensor_new(e->arena, t->type, t->wide);
  tensor_convert(e->scalars, &b->tensor, t);
}

void eval_forget(Eval *e) { e->args.len = 0; }

void eval_set_number(Eval *e, ArgRole role, const char *name, double v) {
  eval_set(e, role, name, &(Tensor){.type = type_scalar(DT_f32), .wide = true, .data = &v});
}

void eval_set_seed(Eval *e, uint64_t seed) { e->seed = seed; }

void eval_set_random(Eval *e, uint32_t entry, uint64_t seed) {
  const Entry *en = &e->g->entries.at[entry];
  Arena scratch = {0};
  for (uint32_t i = 0; i < en->args.len; i++) {
    const Port *p = &en->args.at[i];
    if (p->role == ARG_seed || eval_arg(e, (ArgRole)p->role, p->name)) continue;
    Tensor t =
        tensor_new(&scratch, value_type(e->g, e->g->blocks.at[en->body].args.at[i]), eval_wide(e));
    tensor_fill_random(e->scalars, &t, hash_bytes(p->name, strlen(p->name), seed));
    eval_set(e, (ArgRole)p->role, p->name, &t);
  }
  arena_free(&scratch);
}

int64_t eval_real(const Eval *e, Type t) {
  return t.rows < 0 || !e->batch ? INT64_MAX : t.dim[t.rows] / e->batch * e->rows;
}

/* Element i of an argument is that of row min(row, rows - 1) of what was set. */
static void fill_rows(Eval *e, Tensor *to, const Tensor *from) {
  const int64_t *dim = to->type.dim;
  int axis = to->type.rows;
  int64_t per_row = dim[axis] / e->batch, inner = 1, outer = 1;
  for (int i = 0; i < axis; i++) outer *= dim[i];
  for (int i = axis + 1; i < to->type.rank; i++) inner *= dim[i];
  for (int64_t i = 0; i < outer * dim[axis] * inner; i++) {
    int64_t at = i / inner % dim[axis], row = at / per_row;
    if (row >= e->rows) row = e->rows - 1;
    at = row * per_row + at % per_row;
    int64_t source = (i / inner / dim[axis] * from->type.dim[axis] + at) * inner + i % inner;
    tensor_set(e->scalars, to, i, tensor_get(from, source));
  }
}

static bool fits(const Eval *e, Type want, Type have, bool by_rows) {
  if (!by_rows) return type_same_dims(want, have);
  if (have.rank != want.rank || have.dim[want.rows] < eval_real(e, want)) return false;
  have.dim[want.rows] = want.dim[want.rows];
  return type_same_dims(want, have);
}

static void fill_set(Eval *e, const Port *p, Tensor *to, const Tensor *from) {
  bool by_rows = p->role == ARG_input && to->type.rows >= 0 && e->batch > 0;
  if (!fits(e, to->type, from->type, by_rows))
    ice(e->g, NO_ID, "evaluator: %s \"%s\" was set with other dims", arg_role_name[p->role],
        p->name);
  if (by_rows) fill_rows(e, to, from);
  else tensor_convert(e->scalars, to, from);
}

static double hyper_value(const Graph *g, const char *name) {
  for (uint32_t i = 0; i < g->hypers.len; i++)
    if (!strcmp(g->hypers.at[i].name, name)) return g->hypers.at[i].value;
  return NAN;
}

static void fill_arg(Eval *e, const Port *p, Tensor *to, uint32_t word) {
  const Tensor *set = eval_arg(e, (ArgRole)p->role, p->name);
  double otherwise = p->role == ARG_hyper ? hyper_value(e->g, p->name) : NAN;
  if (set) fill_set(e, p, to, set);
  else if (p->role == ARG_seed)
    tensor_set_bits(e->scalars, to, 0, S_I32, (uint32_t)(word ? e->seed >> 32 : e->seed));
  else if (!isnan(otherwise)) tensor_set(e->scalars, to, 0, otherwise);
  else ice(e->g, NO_ID, "evaluator: %s \"%s\" was not set", arg_role_name[p->role], p->name);
}

void eval_start(Eval *e, uint32_t entry, int64_t rows) {
  const Entry *en = &e->g->entries.at[entry];
  if (en->batch && (rows < 1 || rows > en->batch))
    ice(e->g, NO_ID, "evaluator: %lld rows in a batch of %lld", (long long)rows,
        (long long)en->batch);
  eval_free(e);
  e->entry = entry;
  e->rows = rows;
  e->batch = en->batch;
  for (uint32_t i = 0, words = 0; i < en->args.len; i++) {
    Tensor *to = eval_ensure(e, e->g->blocks.at[en->body].args.at[i]);
    fill_arg(e, &en->args.at[i], to, words);
    words += en->args.at[i].role == ARG_seed;
  }
}

/* ---- running --------------------------------------------------------------------------------- */

Tensor *eval_ensure(Eval *e, ValueId v) {
  Tensor *t = &e->value[v];
  if (!t->data) *t = tensor_new(&e->run, value_type(e->g, v), eval_wide(e));
  return t;
}

void eval_node(Eval *e, NodeId id) {
  const Node *n = &e->g->nodes.at[id];
  for (uint32_t k = 0; k < n->nres; k++) eval_ensure(e, n->res + k);
  eval_cell[n->op](e, n);
}

void eval_block(Eval *e, BlockId block) {
  const Block *b = &e->g->blocks.at[block];
  for (uint32_t i = 0; i < b->nodes.len; i++) eval_node(e, b->nodes.at[i]);
}

void eval_run(Eval *e, uint32_t entry, int64_t rows) {
  eval_start(e, entry, rows);
  uint64_t saved = e->mode == EVAL_EXACT ? float_mode_set() : 0;
  eval_block(e, e->g->entries.at[entry].body);
  if (e->mode == EVAL_EXACT) float_mode_restore(saved);
}

/* ---- results --------------------------------------------------------------------------------- */

const Tensor *eval_value(const Eval *e, ValueId v) {
  while (e->replaced[v] != NO_ID) v = e->replaced[v];
  return e->value[v].data ? &e->value[v] : NULL;
}

const Tensor *eval_result(const Eval *e, ResRole role, const char *name) {
  ValueId v = graph_entry_result(e->g, e->entry, role, name);
  return v == NO_ID ? NULL : eval_value(e, v);
}

void eval_carry_states(Eval *e) {
  const Entry *en = &e->g->entries.at[e->entry];
  for (uint32_t i = 0; i < en->results.len; i++)
    if (en->results.at[i].role == RES_state)
      eval_set(e, ARG_state, en->results.at[i].name,
               &e->value[e->g->blocks.at[en->body].results.at[i]]);
}
