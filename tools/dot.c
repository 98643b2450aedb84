/* dot.c: --emit=dot: the graph behind the passes, for Graphviz: a cluster an entry, a box a kernel
 * with its form, place and what it makes, an edge a value with its type.  Colours: the storage type
 * of what flows, f32 blue, bf16 and f16 orange, integers and bools grey; a kernel is filled with
 * that of what it stores, violet where that is f32 and low. */
#include "tools/tools.h"

#include <string.h>

const char *dot_color(Type t) {
  if (t.dtype == DT_f32) return "#2f6db5";
  return type_is_float(t) ? "#d9822b" : "#888888";
}

/* Of a kernel by what it stores. */
const char *dot_fill(const Graph *g, const Node *k) {
  static const char *const fills[] = {"#eeeeee", "#d6e4f5", "#fae3c8", "#e6d8f2"};
  int wide = 0, low = 0;
  for (uint32_t i = 0; i < k->nres; i++) {
    DType d = (DType)value_type(g, k->res + i).dtype;
    if (d == DT_f32) wide = 1;
    else if (dtype_kind[d] == 'f') low = 2;
  }
  return fills[wide + low];
}

static void add_type(Text *out, Type t) {
  Arena scratch = {0};
  Text type = {.arena = &scratch};
  type_print(&type, t);
  text_quoted(out, type.at);
  arena_free(&scratch);
}

/* The ops of a kernel that say what it is: what is not moved or cast. */
void dot_ops(Text *out, const Graph *g, BlockId body) {
  const NodeIds *nodes = &g->blocks.at[body].nodes;
  int shown = 0;
  for (uint32_t i = 0; i < nodes->len; i++) {
    const Node *n = &g->nodes.at[nodes->at[i]];
    bool plain = op_flags[n->op] & F_VIEW || n->op == OP_constant || n->op == OP_iota ||
                 n->op == OP_cast || n->op == OP_cast_policy;
    if (plain) continue;
    if (shown == 4) {
      text_add(out, " …");
      return;
    }
    text_printf(out, "%s%s", shown++ ? " " : "", op_name[n->op]);
  }
}

static void add_block(Text *out, const Graph *g, BlockId block);

static void add_node(Text *out, const Graph *g, NodeId id) {
  const Node *n = &g->nodes.at[id];
  if (n->op == OP_loop) {
    text_printf(out, "    subgraph cluster_n%u { label=\"loop of %lld\"; style=dashed;\n",
                (unsigned)id, (long long)node_int(n, AT_trip, 0));
    add_block(out, g, n->blocks[0]);
    text_add(out, "    }\n");
  }
  text_printf(out, "    n%u [label=\"%s", (unsigned)id,
              n->op == OP_kernel ? node_text(n, AT_form, "") : op_name[n->op]);
  if (n->op == OP_kernel) {
    text_add(out, "\\n");
    dot_ops(out, g, n->blocks[0]);
  }
  if (n->loc.line) text_printf(out, "\\nline %u", (unsigned)n->loc.line);
  if (n->op == OP_kernel)
    text_printf(out, "\", shape=box, style=filled, fillcolor=\"%s\"];\n", dot_fill(g, n));
  else text_add(out, "\", shape=ellipse];\n");
  for (uint32_t i = 0; i < n->nops; i++) {
    ValueId v = n->ops[i];
    const Node *from = value_node(g, v);
    Type t = value_type(g, v);
    if (from)
      text_printf(out, "    n%u -> n%u [label=", (unsigned)(from - g->nodes.at), (unsigned)id);
    else text_printf(out, "    v%u -> n%u [label=", (unsigned)v, (unsigned)id);
    add_type(out, t);
    text_printf(out, ", color=\"%s\"];\n", dot_color(t));
  }
}

static void add_block(Text *out, const Graph *g, BlockId block) {
  const NodeIds *nodes = &g->blocks.at[block].nodes;
  for (uint32_t i = 0; i < nodes->len; i++) add_node(out, g, nodes->at[i]);
}

static void add_entry(Text *out, const Graph *g, const Entry *e) {
  const Block *b = &g->blocks.at[e->body];
  text_printf(out, "  subgraph cluster_b%u {\n    label=", (unsigned)e->body);
  text_quoted(out, e->name);
  text_add(out, ";\n");
  for (uint32_t i = 0; i < e->args.len; i++) {
    text_printf(out, "    v%u [shape=plain, label=", (unsigned)b->args.at[i]);
    text_quoted(out, e->args.at[i].name);
    text_add(out, "];\n");
  }
  add_block(out, g, e->body);
  text_add(out, "  }\n");
}

void dot_print(const Graph *g, Text *out) {
  text_add(out, "digraph ");
  text_quoted(out, g->name);
  text_add(out, " {\n  node [fontname=\"sans-serif\", fontsize=10];\n"
                "  edge [fontname=\"sans-serif\", fontsize=8];\n");
  for (uint32_t i = 0; i < g->entries.len; i++) add_entry(out, g, &g->entries.at[i]);
  text_add(out, "}\n");
}
