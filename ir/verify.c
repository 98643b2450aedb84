/* verify.c: the invariants of a Graph, checked after the frontend and after every pass.  The whole
 * list is here; 1 to 9 are checked below, the others where they say.
 *
 * Structure
 *  1. Every id is in range.  A node stands once, in the block it names; its results name it.  A
 *     block is the body of one entry, or owned by one node, which it names; its arguments name it.
 *  2. A use comes after its definition, in the same block or, inside a loop's body, in a block
 *     around it.  A kernel's body sees its arguments alone.
 *  3. Blocks are nested at most 32 deep.
 *  4. Operands and results are as many as ARGS says.  Region ops own one block, others none.
 *  5. Attributes are those of ARGS, sorted, each once.  Only those of kind BOOL (then false),
 *     `part` (until `schedule`), `rows`, `scale_axes`, `m`, `n` and the orders `perm_…` may be
 *     absent.
 * Types
 *  6. Element type exists, rank <= 8, dims >= 0, bytes < 2^46.
 *  7. The axis `rows` exists; its size is a multiple of the entry's batch; no batch, no such axis.
 *     In a loop with attribute `rows` that is the batch; around it, `trip` times as much.
 *  8. Result types are those of shape_infer, where the op's SHAPE is not `given`.
 *  9. The loss scale of results is that of unit_infer; a literal zero may state any.
 * 10. What column VERIFY says of the op: verify_op.c; for kernels the rules of their form.
 * States (from here to 20: verify_entry.c)
 * 11. Paths are unique; types carry no rows, and no loss scale but for the counters `scale` and
 *     `scale:LOSS`, each f32[] of its own.
 * 12. A moment, a derived copy or a part names a parameter as its master; a part one that is
 *     split.
 * Entries
 * 13. Names are unique.  Each argument and each result has a port; of a role and name there is one.
 * 14. A port of role `state` names a state and has its type; `hyper` a hyperparameter, f32[];
 *     `seed` is an integer of rank 0.  A split parameter has no port: its parts have.
 * 15. loss, metric and weight are numbers of rank 0, and a loss has its weight; ok, fault,
 *     nonfinite, finite are i1[], gauge, watch f32[], count i32[]; amax names a slot, f32[]; grad
 *     names a parameter and has its dims, in f32.
 * 16. Only a gradient, once, and the states `scale` leave an entry with a loss scale.
 * 17. An entry `update` takes one gradient and gives the parameter of that path, and besides only
 *     moments of it; no other entry takes a gradient.
 * Transaction (docs/precision.md)
 * 18. What a step gives as a state is the state's own argument, or commit(ok, new, old) with old
 *     that argument and ok the entry's result of that role, seen through reshapes and kernels.  A
 *     derived copy is what the entry `derive` makes of its states, made of what the step makes of
 *     them; where no entry says, a cast or view of such.  Counters that `exempt` names are free: a
 *     skipped step must not repeat for ever.  Before `optimize` (no result `ok`) a step gives
 *     values of kind `state` bare.
 * 19. A step that writes a parameter writes its derived copies, of the same commit; what else it
 *     writes that `derive` makes something of, it writes that too.  One that
 *     writes a part writes all parts of one, which falls back on the old parts joined.  Of a
 *     parameter without a master (`sr`) what commits is randomly rounded.
 * 20. An entry `grads` writes shadows and nothing else; no other entry writes one.  Entries `eval`
 *     and `infer` write private states alone.
 * Around the entries
 * 21. What is listed on top of verify_parts.c.
 * Order, of a graph that says `ordered` (verify_order.c)
 * 22. Blocks of entries and loops hold kernels, views and loops of their own values alone.
 * 23. A result that replaces an argument of its block (a state's its old value, a carry's next
 *     value the last one) shows that argument, or a kernel's result that no other result shows; a
 *     kernel that reads what its result replaces fits kernel_in_place (ir.h).
 * 24. What is stacked to a loop's result is a kernel's or a loop's result that no other result
 *     shows.  What the host gets shows no state.
 * 25. No node behind that kernel reads the argument, views seen through.
 * 26. What a carry begins with is a kernel's result that the loop reads, once, and nobody else.
 *
 * Each group is looked at only where the ones before it hold.
 */
#include "ir/verify.h"

#include <string.h>

/* ---- reports -------------------------------------------------------------------------------- */

static void say(Verifier *v, Loc loc, NodeId n, const char *what) {
  Text node = {.arena = &v->scratch};
  v->count++;
  if (v->diag && loc.line) {
    diag_error(v->diag, loc, "%s", what);
    return;
  }
  if (!v->diag && v->count > 1) return;
  if (v->entry) text_printf(&node, "@%s: ", v->entry->name ? v->entry->name : "?");
  if (n != NO_ID) {
    text_add(&node, "`");
    node_print(v->g, n, &node);
    text_add(&node, "`: ");
  }
  text_add(&node, what);
  if (v->diag) diag_error(v->diag, loc, "%s", node.at);
  else text_add(v->why, node.at);
}

bool verify_report(Verifier *v, Loc loc, NodeId n, const char *fmt, ...) {
  Text t = {.arena = &v->scratch};
  va_list ap;
  va_start(ap, fmt);
  text_vprintf(&t, fmt, ap);
  va_end(ap);
  say(v, loc, n, t.at);
  return false;
}

#define node_report(v, id, ...) verify_report((v), (v)->g->nodes.at[id].loc, (id), __VA_ARGS__)

/* ---- structure: 1 to 5 ---------------------------------------------------------------------- */

static bool check_arity(Verifier *v, NodeId id) {
  const Node *n = &v->g->nodes.at[id];
  int results = op_results(n->op);
  uint32_t blocks = (op_flags[n->op] & F_REGION) != 0;
  if (!op_arity_ok(n->op, n->nops)) return node_report(v, id, "wrong number of operands");
  if (results >= 0 && n->nres != (uint32_t)results)
    return node_report(v, id, "wrong number of results");
  if (n->nblocks != blocks)
    return node_report(v, id, "%s owns %u block%s", op_name[n->op], (unsigned)blocks,
                       &"s"[blocks == 1]);
  return true;
}

static bool may_be_absent(int key) {
  static const AttrKey optional[] = {AT_part,   AT_rows,   AT_scale_axes, AT_perm_a,
                                     AT_perm_b, AT_perm_c, AT_m,          AT_n};
  bool found = attr_kind[key] == ATTR_BOOL;
  for (size_t i = 0; i < sizeof optional / sizeof *optional; i++) found |= (int)optional[i] == key;
  return found;
}

static bool known_precision(const char *word) {
  return word && (!strcmp(word, "f32") || !strcmp(word, "bf16") || !strcmp(word, "f16"));
}

static bool check_attrs(Verifier *v, NodeId id) {
  const Node *n = &v->g->nodes.at[id];
  uint32_t known = 0;
  for (const OpArg *a = op_args[n->op]; a->kind != ARG_END; a++) {
    if (a->kind != ARG_ATTR) continue;
    const Attr *at = node_attr(n, (AttrKey)a->key);
    if (!at && !may_be_absent(a->key))
      return node_report(v, id, "attribute `%s` is missing", a->name);
    if (at && attr_kind[a->key] == ATTR_TEXT && !at->s)
      return node_report(v, id, "attribute `%s` is empty", a->name);
    known += at != NULL;
  }
  for (uint32_t i = 0; i < n->nattrs; i++) known += attr_is_common(n->attrs[i].key);
  if (!known_precision(node_text(n, AT_prec, "f32")))
    return node_report(v, id, "prec is f32, bf16 or f16");
  for (uint32_t i = 1; i < n->nattrs; i++)
    if (n->attrs[i].key <= n->attrs[i - 1].key)
      return node_report(v, id, "attributes are not sorted");
  return known == n->nattrs ||
         node_report(v, id, "an attribute that %s does not have", op_name[n->op]);
}

/* Whether a use in `block` may see what `home` defines. */
static bool sees(const Graph *g, BlockId block, BlockId home) {
  while (block != home) {
    NodeId owner = g->blocks.at[block].owner;
    if (owner == NO_ID || g->nodes.at[owner].op == OP_kernel) return false;
    block = g->nodes.at[owner].block;
  }
  return true;
}

static bool check_use(Verifier *v, BlockId block, ValueId x, Loc loc, NodeId n) {
  const Graph *g = v->g;
  if (x >= g->values.len) return verify_report(v, loc, n, "a value that does not exist");
  if (!v->defined[x]) return verify_report(v, loc, n, "a value is used before it is defined");
  NodeId by = g->values.at[x].node;
  BlockId home = by == NO_ID ? g->values.at[x].block : g->nodes.at[by].block;
  return sees(g, block, home) ||
         verify_report(v, loc, n, "a value of another block is not seen here");
}

static bool check_block(Verifier *v, BlockId id, NodeId owner, Loc loc, int depth);

static bool check_node(Verifier *v, BlockId block, NodeId id, int depth) {
  const Graph *g = v->g;
  const Node *n = &g->nodes.at[id];
  bool ok = check_arity(v, id) && check_attrs(v, id);
  for (uint32_t i = 0; i < n->nops; i++) ok = check_use(v, block, n->ops[i], n->loc, id) && ok;
  if (n->nres > g->values.len || n->res > g->values.len - n->nres)
    return node_report(v, id, "results that do not exist");
  for (uint32_t i = 0; i < n->nblocks; i++)
    ok = check_block(v, n->blocks[i], id, n->loc, depth + 1) && ok;
  for (uint32_t i = 0; i < n->nres; i++) {
    const Value *r = &g->values.at[n->res + i];
    if (r->node != id || r->index != i)
      return node_report(v, id, "result %u names another node", (unsigned)i);
    v->defined[n->res + i] = true;
  }
  return ok;
}

static bool check_args(Verifier *v, BlockId id, Loc loc) {
  const Block *b = &v->g->blocks.at[id];
  for (uint32_t i = 0; i < b->args.len; i++) {
    const Value *a = b->args.at[i] < v->g->values.len ? &v->g->values.at[b->args.at[i]] : NULL;
    if (!a || a->node != NO_ID || a->block != id || a->index != i)
      return verify_report(v, loc, b->owner, "argument %u of a block names another", (unsigned)i);
    v->defined[b->args.at[i]] = true;
  }
  return true;
}

static bool place(Verifier *v, BlockId block, NodeId id, Loc loc) {
  const Graph *g = v->g;
  if (id >= g->nodes.len || g->nodes.at[id].op >= OP_COUNT)
    return verify_report(v, loc, NO_ID, "a block holds a node that does not exist");
  if (v->placed[id] || g->nodes.at[id].block != block)
    return node_report(v, id, "the node stands in two blocks, or names another");
  return v->placed[id] = true;
}

static bool check_block(Verifier *v, BlockId id, NodeId owner, Loc loc, int depth) {
  const Graph *g = v->g;
  if (id >= g->blocks.len || v->owned[id] || g->blocks.at[id].owner != owner)
    return verify_report(v, loc, owner, "a block that does not exist or has another owner");
  if (depth > MAX_NESTING)
    return verify_report(v, loc, owner, "blocks are nested more than %d deep", MAX_NESTING);
  const Block *b = &g->blocks.at[id];
  v->owned[id] = true;
  bool ok = check_args(v, id, loc);
  for (uint32_t i = 0; i < b->nodes.len; i++)
    ok = place(v, id, b->nodes.at[i], loc) && check_node(v, id, b->nodes.at[i], depth) && ok;
  for (uint32_t i = 0; i < b->results.len; i++)
    ok = check_use(v, id, b->results.at[i], loc, owner) && ok;
  return ok;
}

/* ---- types: 6 to 10 ------------------------------------------------------------------------- */

bool verify_type(Verifier *v, Type t, Loc loc, NodeId n) {
  uint64_t bytes;
  if (t.dtype >= DT_COUNT || t.rank > MAX_RANK || !type_bytes(t, &bytes))
    return verify_report(v, loc, n, "a type that does not exist or is too large");
  if (t.rows == -1) return true;
  if (t.rows < 0 || t.rows >= t.rank)
    return verify_report(v, loc, n, "`rows` is on an axis that does not exist");
  int64_t batch = v->batch;
  if (batch <= 0) return verify_report(v, loc, n, "`rows` where there is no batch");
  return t.dim[t.rows] % batch == 0 ||
         verify_report(v, loc, n, "the axis `rows` is no multiple of the batch of %lld",
                       (long long)batch);
}

static bool check_values(Verifier *v, uint32_t n, const ValueId *values, Loc loc, NodeId owner) {
  bool ok = true;
  for (uint32_t i = 0; i < n; i++)
    ok = verify_type(v, value_type(v->g, values[i]), loc, owner) && ok;
  return ok;
}

static bool mismatch(Verifier *v, NodeId id, Type stated, Type inferred) {
  Text t = {.arena = &v->scratch};
  text_printf(&t, "%s: the operands give ", op_name[v->g->nodes.at[id].op]);
  type_print(&t, inferred);
  text_add(&t, ", not ");
  type_print(&t, stated);
  return node_report(v, id, "%s", t.at);
}

static bool check_inferred(Verifier *v, NodeId id) {
  const Graph *g = v->g;
  const Node *n = &g->nodes.at[id];
  Text why = {.arena = &v->scratch};
  if (op_flags[n->op] & F_REGION) return true;
  Type stated = value_type(g, n->res), inferred = stated;
  Unit unit = stated.unit;
  bool given = shape_is_given(n->op);
  if (given ? !unit_infer(g, n->op, n->nops, n->ops, &unit, &why)
            : !shape_infer(g, n->op, n->nops, n->ops, n->nattrs, n->attrs, &inferred, &why))
    return node_report(v, id, "%s", why.at);
  if (given) inferred.unit = unit;
  if (type_equal(stated, inferred)) return true;
  Unit own = inferred.unit;
  inferred.unit = stated.unit;
  if (type_equal(stated, inferred) && unit_is_any(g, n->res)) return true;
  inferred.unit = own;
  return mismatch(v, id, stated, inferred);
}

static bool check_types(Verifier *v, BlockId id, Loc loc);

/* A loop that takes the real rows apart has a batch of its own. */
static bool check_inner_types(Verifier *v, NodeId id) {
  const Node *n = &v->g->nodes.at[id];
  int64_t outer = v->batch, own = node_int(n, AT_rows, 0);
  bool ok = true;
  if (own && (own < 0 || node_int(n, AT_trip, 0) < 1 || outer % own ||
              outer / own != node_int(n, AT_trip, 0)))
    return node_report(v, id, "%lld rows an iteration do not make up the batch of %lld",
                       (long long)own, (long long)outer);
  if (own) v->batch = own;
  for (uint32_t k = 0; k < n->nblocks; k++) ok = check_types(v, n->blocks[k], n->loc) && ok;
  v->batch = outer;
  return ok;
}

/* 6 and 7 of a block's values, before anything is inferred from them. */
static bool check_types(Verifier *v, BlockId id, Loc loc) {
  const Block *b = &v->g->blocks.at[id];
  bool ok = check_values(v, b->args.len, b->args.at, loc, b->owner);
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    const Node *n = &v->g->nodes.at[b->nodes.at[i]];
    for (uint32_t k = 0; k < n->nres; k++)
      ok = verify_type(v, value_type(v->g, n->res + k), n->loc, b->nodes.at[i]) && ok;
    ok = check_inner_types(v, b->nodes.at[i]) && ok;
  }
  return ok;
}

static void check_rules(Verifier *v, BlockId id) {
  const Block *b = &v->g->blocks.at[id];
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    NodeId nid = b->nodes.at[i];
    const Node *n = &v->g->nodes.at[nid];
    Text why = {.arena = &v->scratch};
    uint32_t before = v->count;
    for (uint32_t k = 0; k < n->nblocks; k++) check_rules(v, n->blocks[k]);
    if (v->count != before || !check_inferred(v, nid)) continue;
    if (!node_check(v->g, nid, &why)) node_report(v, nid, "%s", why.at);
  }
}
/* ---- all of it ------------------------------------------------------------------------------ */

static bool check_name(Verifier *v, const Entry *e) {
  if (!e->name || e->batch < 0 || (unsigned)e->kind >= ENTRY_KINDS)
    return verify_report(v, e->loc, NO_ID,
                         "an entry without name or kind, or with a negative batch");
  for (const Entry *other = v->g->entries.at; other < e; other++)
    if (!strcmp(other->name, e->name))
      return verify_report(v, e->loc, NO_ID, "a second entry @%s", e->name);
  return true;
}

static void check_entries(Verifier *v, bool (*check)(Verifier *, const Entry *)) {
  for (uint32_t i = 0; i < v->g->entries.len; i++) {
    v->entry = &v->g->entries.at[i];
    v->batch = v->entry->batch;
    check(v, v->entry);
  }
  v->entry = NULL;
  v->batch = 0;
}

static bool check_structure(Verifier *v, const Entry *e) {
  return check_name(v, e) && check_block(v, e->body, NO_ID, e->loc, 0);
}

static bool check_body(Verifier *v, const Entry *e) {
  if (check_types(v, e->body, e->loc)) check_rules(v, e->body);
  return true;
}

static bool check_parts(Verifier *v) {
  Text why = {.arena = &v->scratch};
  Loc at = {0};
  return parts_check(v->g, &at, &why) || verify_report(v, at, NO_ID, "%s", why.at);
}

static uint32_t verify(Verifier *v) {
  const Graph *g = v->g;
  v->placed = NEW_ARRAY(&v->scratch, bool, g->nodes.len);
  v->owned = NEW_ARRAY(&v->scratch, bool, g->blocks.len);
  v->defined = NEW_ARRAY(&v->scratch, bool, g->values.len);
  check_entries(v, check_structure);
  if (!v->count) {
    verify_index_states(v);
    for (uint32_t i = 0; i < g->states.len; i++) verify_state(v, &g->states.at[i]);
    check_entries(v, check_body);
  }
  if (!v->count) check_entries(v, verify_ports);
  if (!v->count) check_entries(v, verify_transaction);
  if (!v->count) check_entries(v, verify_order);
  if (!v->count) check_parts(v);
  arena_free(&v->scratch);
  return v->count;
}

uint32_t graph_verify(const Graph *g, Text *why) { return verify(&(Verifier){.g = g, .why = why}); }

uint32_t graph_verify_diag(const Graph *g, Diag *diag) {
  return verify(&(Verifier){.g = g, .diag = diag});
}
