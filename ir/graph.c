/* graph.c: building, finding, copying and replacing.
 *
 * Ids are indices into flat arrays that move when they grow: hold ids, not pointers.  Nodes and
 * values are never removed from the arrays, only from their block; nothing refers to what no block
 * holds.  Attributes are copied and kept sorted, so that equal nodes compare equal. */
#include "ir/ir.h"

#include <stdlib.h>
#include <string.h>

Graph *graph_new(Arena *arena, Strings *strings, const char *name, const char *source) {
  Graph *g = NEW(arena, Graph);
  g->arena = arena;
  g->strings = strings;
  g->name = name;
  g->source = source;
  return g;
}

BlockId graph_add_block(Graph *g, NodeId owner) {
  vec_push(g->arena, &g->blocks, (Block){.owner = owner});
  return g->blocks.len - 1;
}

static ValueId add_value(Graph *g, Type type, NodeId node, BlockId block, uint32_t index) {
  Value v = {.type = type, .node = node, .block = block, .index = index};
  vec_push(g->arena, &g->values, v);
  return g->values.len - 1;
}

ValueId graph_add_arg(Graph *g, BlockId block, Type type) {
  ValueId v = add_value(g, type, NO_ID, block, g->blocks.at[block].args.len);
  vec_push(g->arena, &g->blocks.at[block].args, v);
  return v;
}

static int attr_order(const void *a, const void *b) {
  return (int)((const Attr *)a)->key - (int)((const Attr *)b)->key;
}

static Attr *copy_attrs(Graph *g, uint32_t n, const Attr *attrs) {
  Attr *copy = arena_copy(g->arena, attrs, n * sizeof *attrs);
  for (uint32_t i = 0; i < n; i++)
    if (attr_kind[copy[i].key] == ATTR_INTS)
      copy[i].ints = arena_copy(g->arena, copy[i].ints, copy[i].n * sizeof(int64_t));
  if (n > 1) qsort(copy, n, sizeof *copy, attr_order);
  return copy;
}

NodeId graph_add_node(Graph *g, BlockId block, Op op, Loc loc, uint32_t nops, const ValueId *ops,
                      uint32_t nres, const Type *types, uint32_t nattrs, const Attr *attrs) {
  NodeId id = g->nodes.len;
  Node n = {.op = op, .loc = loc, .block = block, .nops = nops, .nres = nres, .nattrs = nattrs};
  n.ops = arena_copy(g->arena, ops, nops * sizeof *ops);
  n.attrs = copy_attrs(g, nattrs, attrs);
  n.res = g->values.len;
  for (uint32_t i = 0; i < nres; i++) add_value(g, types[i], id, block, i);
  vec_push(g->arena, &g->nodes, n);
  vec_push(g->arena, &g->blocks.at[block].nodes, id);
  return id;
}

uint32_t graph_add_entry(Graph *g, const char *name, EntryKind kind, int64_t batch, Loc loc) {
  BlockId body = graph_add_block(g, NO_ID);
  Entry e = {.name = name, .kind = kind, .batch = batch, .body = body, .loc = loc};
  vec_push(g->arena, &g->entries, e);
  return g->entries.len - 1;
}

ValueId graph_add_entry_arg(Graph *g, uint32_t entry, ArgRole role, const char *name, Type t,
                            Loc loc) {
  Entry *e = &g->entries.at[entry];
  vec_push(g->arena, &e->args, (Port){.role = (uint8_t)role, .name = name, .loc = loc});
  return graph_add_arg(g, e->body, t);
}

void graph_add_entry_result(Graph *g, uint32_t entry, ResRole role, const char *name, ValueId v,
                            Loc loc) {
  Entry *e = &g->entries.at[entry];
  vec_push(g->arena, &e->results, (Port){.role = (uint8_t)role, .name = name, .loc = loc});
  vec_push(g->arena, &g->blocks.at[e->body].results, v);
}

/* Names are interned, nearly all of them: the pointer finds most without looking at a letter. */
static ValueId find_port(const Port *ports, uint32_t n, const ValueId *values, int role,
                         const char *name) {
  for (uint32_t i = 0; i < n; i++)
    if (ports[i].role == role && (!name || ports[i].name == name)) return values[i];
  for (uint32_t i = 0; i < n; i++)
    if (ports[i].role == role && !strcmp(ports[i].name, name)) return values[i];
  return NO_ID;
}

ValueId graph_entry_arg(const Graph *g, uint32_t entry, ArgRole role, const char *name) {
  const Entry *e = &g->entries.at[entry];
  return find_port(e->args.at, e->args.len, g->blocks.at[e->body].args.at, (int)role, name);
}

ValueId graph_entry_result(const Graph *g, uint32_t entry, ResRole role, const char *name) {
  const Entry *e = &g->entries.at[entry];
  return find_port(e->results.at, e->results.len, g->blocks.at[e->body].results.at, (int)role,
                   name);
}

State *graph_state(const Graph *g, const char *path) {
  for (uint32_t i = 0; i < g->states.len; i++)
    if (g->states.at[i].path == path) return &g->states.at[i];
  for (uint32_t i = 0; i < g->states.len; i++)
    if (!strcmp(g->states.at[i].path, path)) return &g->states.at[i];
  return NULL;
}

const Fp8Slot *graph_slot(const Graph *g, const char *name) {
  for (uint32_t i = 0; i < g->slots.len; i++)
    if (!strcmp(g->slots.at[i].name, name)) return &g->slots.at[i];
  return NULL;
}

const Fp8Slot *graph_scaled_slot(const Graph *g, const char *path) {
  for (uint32_t i = 0; i < g->slots.len; i++) {
    const Fp8Slot *s = &g->slots.at[i];
    size_t length = strlen(s->name);
    if (!strncmp(path, s->name, length) && !strcmp(path + length, ".scale")) return s;
  }
  return NULL;
}

int graph_entry_find(const Graph *g, EntryKind kind) {
  for (uint32_t i = 0; i < g->entries.len; i++)
    if (g->entries.at[i].kind == kind) return (int)i;
  return -1;
}

/* ---- attributes ------------------------------------------------------------------------------ */

const Attr *node_attr(const Node *n, AttrKey key) {
  for (uint32_t i = 0; i < n->nattrs; i++)
    if (n->attrs[i].key == key) return &n->attrs[i];
  return NULL;
}

int64_t node_int(const Node *n, AttrKey key, int64_t otherwise) {
  const Attr *a = node_attr(n, key);
  return a ? a->i : otherwise;
}

double node_float(const Node *n, AttrKey key, double otherwise) {
  const Attr *a = node_attr(n, key);
  return a ? a->f : otherwise;
}

bool node_bool(const Node *n, AttrKey key) { return node_int(n, key, 0) != 0; }

const char *node_text(const Node *n, AttrKey key, const char *otherwise) {
  const Attr *a = node_attr(n, key);
  return a ? a->s : otherwise;
}

bool node_is_kernel(const Node *n, Form form) {
  return n->op == OP_kernel && !strcmp(node_text(n, AT_form, ""), form_name[form]);
}

void node_set_attr(Graph *g, NodeId id, Attr a) {
  Node *n = &g->nodes.at[id];
  for (uint32_t i = 0; i < n->nattrs; i++)
    if (n->attrs[i].key == a.key) {
      n->attrs[i] = *copy_attrs(g, 1, &a);
      return;
    }
  Attr *all = NEW_ARRAY(g->arena, Attr, n->nattrs + 1);
  if (n->nattrs) memcpy(all, n->attrs, n->nattrs * sizeof *all);
  all[n->nattrs] = a;
  n->attrs = copy_attrs(g, ++n->nattrs, all);
}

bool attr_equal(const Attr *a, const Attr *b) {
  if (a->key != b->key) return false;
  switch ((AttrKind)attr_kind[a->key]) {
  case ATTR_INT:
  case ATTR_BOOL: return a->i == b->i;
  case ATTR_FLOAT: return !memcmp(&a->f, &b->f, sizeof a->f); /* tells -0 from 0 */
  case ATTR_TEXT: return !strcmp(a->s, b->s);
  case ATTR_INTS:
    return a->n == b->n && (!a->n || !memcmp(a->ints, b->ints, a->n * sizeof *a->ints));
  }
  return false;
}

Attr attr_int(AttrKey key, int64_t i) { return (Attr){.key = key, .i = i}; }
Attr attr_bool(AttrKey key, bool b) { return (Attr){.key = key, .i = b}; }
Attr attr_float(AttrKey key, double f) { return (Attr){.key = key, .f = f}; }
Attr attr_text(AttrKey key, const char *s) { return (Attr){.key = key, .s = s}; }
Attr attr_ints(AttrKey key, uint32_t n, const int64_t *ints) {
  return (Attr){.key = key, .n = n, .ints = ints};
}

/* ---- copying and replacing ------------------------------------------------------------------- */

#define VEC_COPY(arena, v)                                                                         \
  ((v)->at = arena_copy((arena), (v)->at, (v)->len * sizeof *(v)->at), (v)->cap = (v)->len)

Graph *graph_clone(const Graph *g, Arena *arena) {
  Graph *c = arena_copy(arena, g, sizeof *g);
  c->arena = arena;
  VEC_COPY(arena, &c->nodes);
  VEC_COPY(arena, &c->values);
  VEC_COPY(arena, &c->blocks);
  VEC_COPY(arena, &c->states);
  VEC_COPY(arena, &c->entries);
  VEC_COPY(arena, &c->hypers);
  VEC_COPY(arena, &c->formulas);
  VEC_COPY(arena, &c->sources);
  VEC_COPY(arena, &c->loads);
  VEC_COPY(arena, &c->slots);
  VEC_COPY(arena, &c->scales);
  for (uint32_t i = 0; i < c->loads.len; i++) VEC_COPY(arena, &c->loads.at[i].pairs);
  for (uint32_t i = 0; i < c->nodes.len; i++) {
    Node *n = &c->nodes.at[i];
    n->ops = arena_copy(arena, n->ops, n->nops * sizeof *n->ops);
    n->attrs = copy_attrs(c, n->nattrs, n->attrs);
    n->blocks = arena_copy(arena, n->blocks, n->nblocks * sizeof *n->blocks);
  }
  for (uint32_t i = 0; i < c->blocks.len; i++) {
    VEC_COPY(arena, &c->blocks.at[i].args);
    VEC_COPY(arena, &c->blocks.at[i].nodes);
    VEC_COPY(arena, &c->blocks.at[i].results);
  }
  for (uint32_t i = 0; i < c->entries.len; i++) {
    VEC_COPY(arena, &c->entries.at[i].args);
    VEC_COPY(arena, &c->entries.at[i].results);
  }
  return c;
}

static ValueId mapped(const ValueId *map, ValueId v) {
  while (v != NO_ID && map[v] != NO_ID && map[v] != v) v = map[v];
  return v;
}

void graph_apply_map(Graph *g, BlockId block, const ValueId *map) {
  Block *b = &g->blocks.at[block];
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    Node *n = &g->nodes.at[b->nodes.at[i]];
    for (uint32_t k = 0; k < n->nops; k++) n->ops[k] = mapped(map, n->ops[k]);
    for (uint32_t k = 0; k < n->nblocks; k++) graph_apply_map(g, n->blocks[k], map);
  }
  for (uint32_t i = 0; i < b->results.len; i++) b->results.at[i] = mapped(map, b->results.at[i]);
}

const ValueId *graph_replace_all(Graph *g, Arena *scratch, uint32_t n, const Replaced *pairs) {
  ValueId *map = NEW_ARRAY(scratch, ValueId, g->values.len);
  for (ValueId v = 0; v < g->values.len; v++) map[v] = NO_ID;
  for (uint32_t i = 0; i < n; i++) map[pairs[i].from] = pairs[i].to;
  for (uint32_t i = 0; i < g->entries.len; i++) graph_apply_map(g, g->entries.at[i].body, map);
  return map;
}

static void turn_round(NodeId *at, uint32_t n) {
  for (uint32_t i = 0; i < n / 2; i++) {
    NodeId id = at[i];
    at[i] = at[n - 1 - i];
    at[n - 1 - i] = id;
  }
}

void graph_move_nodes(Graph *g, BlockId block, uint32_t from, uint32_t to) {
  NodeIds *n = &g->blocks.at[block].nodes;
  if (from == n->len) return;
  turn_round(n->at + to, from - to);
  turn_round(n->at + from, n->len - from);
  turn_round(n->at + to, n->len - to);
}

void graph_replace_uses(Graph *g, BlockId block, ValueId from, ValueId to) {
  Block *b = &g->blocks.at[block];
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    Node *n = &g->nodes.at[b->nodes.at[i]];
    for (uint32_t k = 0; k < n->nops; k++)
      if (n->ops[k] == from) n->ops[k] = to;
    for (uint32_t k = 0; k < n->nblocks; k++) graph_replace_uses(g, n->blocks[k], from, to);
  }
  for (uint32_t i = 0; i < b->results.len; i++)
    if (b->results.at[i] == from) b->results.at[i] = to;
}

static void copy_block(Graph *g, BlockId from, BlockId to, ValueId *map) {
  for (uint32_t i = 0; i < g->blocks.at[from].args.len; i++) {
    ValueId v = g->blocks.at[from].args.at[i];
    map[v] = graph_add_arg(g, to, value_type(g, v));
  }
  for (uint32_t i = 0; i < g->blocks.at[from].nodes.len; i++)
    graph_copy_node(g, g->blocks.at[from].nodes.at[i], to, map);
  for (uint32_t i = 0; i < g->blocks.at[from].results.len; i++) {
    ValueId v = g->blocks.at[from].results.at[i];
    vec_push(g->arena, &g->blocks.at[to].results, map[v] == NO_ID ? v : map[v]);
  }
}

NodeId graph_copy_node(Graph *g, NodeId id, BlockId block, ValueId *map) {
  Node n = g->nodes.at[id];
  ValueId *ops = NEW_ARRAY(g->arena, ValueId, n.nops);
  Type *types = NEW_ARRAY(g->arena, Type, n.nres);
  for (uint32_t i = 0; i < n.nops; i++) ops[i] = map[n.ops[i]] == NO_ID ? n.ops[i] : map[n.ops[i]];
  for (uint32_t i = 0; i < n.nres; i++) types[i] = value_type(g, n.res + i);
  NodeId copy =
      graph_add_node(g, block, n.op, n.loc, n.nops, ops, n.nres, types, n.nattrs, n.attrs);
  for (uint32_t i = 0; i < n.nres; i++) map[n.res + i] = g->nodes.at[copy].res + i;
  if (!n.nblocks) return copy;
  BlockId *blocks = NEW_ARRAY(g->arena, BlockId, n.nblocks);
  for (uint32_t i = 0; i < n.nblocks; i++) {
    blocks[i] = graph_add_block(g, copy);
    copy_block(g, n.blocks[i], blocks[i], map);
  }
  g->nodes.at[copy].nblocks = n.nblocks;
  g->nodes.at[copy].blocks = blocks;
  return copy;
}

uint32_t graph_copy_entry(Graph *g, uint32_t from, const char *name, EntryKind kind,
                          Arena *scratch) {
  Entry e = g->entries.at[from];
  uint32_t to = graph_add_entry(g, name, kind, e.batch, e.loc);
  BlockId body = g->entries.at[to].body;
  ValueId *map = NEW_ARRAY(scratch, ValueId, g->values.len);
  for (ValueId v = 0; v < g->values.len; v++) map[v] = NO_ID;
  g->entries.at[to].full = e.full;
  for (uint32_t i = 0; i < e.args.len; i++) {
    ValueId v = g->blocks.at[e.body].args.at[i];
    Port p = e.args.at[i];
    map[v] = graph_add_entry_arg(g, to, (ArgRole)p.role, p.name, value_type(g, v), p.loc);
  }
  for (uint32_t i = 0; i < g->blocks.at[e.body].nodes.len; i++)
    graph_copy_node(g, g->blocks.at[e.body].nodes.at[i], body, map);
  for (uint32_t i = 0; i < e.results.len; i++) {
    ValueId v = g->blocks.at[e.body].results.at[i];
    Port p = e.results.at[i];
    graph_add_entry_result(g, to, (ResRole)p.role, p.name, map[v] == NO_ID ? v : map[v], p.loc);
  }
  return to;
}

void (*ice_hook)(void);

void ice(const Graph *g, NodeId id, const char *fmt, ...) {
  va_list ap;
  fputs("mpcc: internal error: ", stderr);
  va_start(ap, fmt);
  vfprintf(stderr, fmt, ap);
  va_end(ap);
  fputc('\n', stderr);
  if (g && id != NO_ID && id < g->nodes.len) {
    Arena scratch = {0};
    Text t = {.arena = &scratch};
    node_print(g, id, &t);
    fprintf(stderr, "  at %s (source line %u)\n", t.at, (unsigned)g->nodes.at[id].loc.line);
    arena_free(&scratch);
  }
  if (ice_hook) ice_hook();
  exit(70);
}

uint32_t graph_count_uses(const Graph *g, BlockId block, ValueId v) {
  const Block *b = &g->blocks.at[block];
  uint32_t uses = 0;
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    const Node *n = &g->nodes.at[b->nodes.at[i]];
    for (uint32_t j = 0; j < n->nops; j++) uses += n->ops[j] == v;
  }
  for (uint32_t i = 0; i < b->results.len; i++) uses += b->results.at[i] == v;
  return uses;
}

void graph_drop_node(Graph *g, NodeId n) {
  NodeIds *nodes = &g->blocks.at[g->nodes.at[n].block].nodes;
  uint32_t kept = 0;
  for (uint32_t i = 0; i < nodes->len; i++)
    if (nodes->at[i] != n) nodes->at[kept++] = nodes->at[i];
  nodes->len = kept;
}

/* Behind a port that goes the others move up. */
static void drop_port(Port *ports, ValueId *values, uint32_t n, uint32_t i) {
  memmove(ports + i, ports + i + 1, (n - i - 1) * sizeof *ports);
  memmove(values + i, values + i + 1, (n - i - 1) * sizeof *values);
}

void graph_drop_entry_arg(Graph *g, uint32_t entry, uint32_t i) {
  Entry *e = &g->entries.at[entry];
  ValueIds *args = &g->blocks.at[e->body].args;
  drop_port(e->args.at, args->at, args->len, i);
  e->args.len = --args->len;
  for (; i < args->len; i++) g->values.at[args->at[i]].index = i;
}

void graph_drop_entry_result(Graph *g, uint32_t entry, uint32_t i) {
  Entry *e = &g->entries.at[entry];
  ValueIds *results = &g->blocks.at[e->body].results;
  drop_port(e->results.at, results->at, results->len, i);
  e->results.len = --results->len;
}
