/* dot.c: --emit=dot: the graph behind the passes, for Graphviz: a cluster an entry, a box a kernel
 * with its form, place and what it makes, an edge a value with its type.  Colours: the storage type
 * of what flows, f32 blue, bf16 and f16 orange, integers and bools grey; a kernel is filled with
 * that of what it stores, violet where that is f32 and low. */
#include "tools/tools.h"

#include <string.h>

const DotColor dot_fills[] = {{"#d6e4f5", "stores f32"},
                              {"#fae3c8", "stores a low type"},
                              {"#e6d8f2", "stores f32 and low"},
                              {"#eeeeee", "stores no float"},
                              {0}};
const DotColor dot_colors[] = {
    {"#2f6db5", "f32"}, {"#d9822b", "bf16, f16, fp8"}, {"#888888", "integers, bools"}, {0}};

const char *dot_color(Type t) {
  enum { F32, LOW, OTHER };
  return dot_colors[t.dtype == DT_f32 ? F32 : type_is_float(t) ? LOW : OTHER].color;
}

/* Of a kernel by what it stores. */
const char *dot_fill(const Graph *g, const Node *k) {
  enum { F32, LOW, BOTH, NONE };
  bool wide = false, low = false;
  for (uint32_t i = 0; i < k->nres; i++) {
    DType d = (DType)value_type(g, k->res + i).dtype;
    if (d == DT_f32) wide = true;
    else if (dtype_kind[d] == 'f') low = true;
  }
  return dot_fills[wide && low ? BOTH : wide ? F32 : low ? LOW : NONE].color;
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

typedef struct Dot {
  const Graph *g;
  const Diag *sources;
  Text *out;
} Dot;

static void add_block(const Dot *d, BlockId block);

static void add_node(const Dot *d, NodeId id) {
  const Graph *g = d->g;
  Text *out = d->out;
  char place[256];
  const Node *n = &g->nodes.at[id];
  if (n->op == OP_loop) {
    text_printf(out, "    subgraph cluster_n%u { label=\"loop of %lld\"; style=dashed;\n",
                (unsigned)id, (long long)node_int(n, AT_trip, 0));
    add_block(d, n->blocks[0]);
    text_add(out, "    }\n");
  }
  text_printf(out, "    n%u [label=\"%s", (unsigned)id,
              n->op == OP_kernel ? node_text(n, AT_form, "") : op_name[n->op]);
  if (n->op == OP_kernel) {
    text_add(out, "\\n");
    dot_ops(out, g, n->blocks[0]);
  }
  place_text(d->sources, n->loc, place, sizeof place);
  if (n->loc.line) text_printf(out, "\\n%s", place);
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

static void add_block(const Dot *d, BlockId block) {
  const NodeIds *nodes = &d->g->blocks.at[block].nodes;
  for (uint32_t i = 0; i < nodes->len; i++) add_node(d, nodes->at[i]);
}

static void add_entry(const Dot *d, const Entry *e) {
  const Block *b = &d->g->blocks.at[e->body];
  Text *out = d->out;
  text_printf(out, "  subgraph cluster_b%u {\n    label=", (unsigned)e->body);
  text_quoted(out, e->name);
  text_add(out, ";\n");
  for (uint32_t i = 0; i < e->args.len; i++) {
    text_printf(out, "    v%u [shape=plain, label=", (unsigned)b->args.at[i]);
    text_quoted(out, e->args.at[i].name);
    text_add(out, "];\n");
  }
  add_block(d, e->body);
  text_add(out, "  }\n");
}

static void add_legend(Text *out) {
  text_add(out, "  subgraph cluster_legend {\n    label=\"legend\";\n");
  for (int i = 0; dot_fills[i].color; i++)
    text_printf(out, "    k%d [label=\"%s\", shape=note, style=filled, fillcolor=\"%s\"];\n", i,
                dot_fills[i].meaning, dot_fills[i].color);
  for (int i = 0; dot_colors[i].color; i++)
    text_printf(out, "    e%d [label=\"%s\", shape=plain, fontcolor=\"%s\"];\n", i,
                dot_colors[i].meaning, dot_colors[i].color);
  text_add(out, "  }\n");
}

void dot_print(const Graph *g, const Diag *sources, Text *out) {
  Dot d = {g, sources, out};
  text_add(out, "digraph ");
  text_quoted(out, g->name);
  text_add(out, " {\n  node [fontname=\"sans-serif\", fontsize=10];\n"
                "  edge [fontname=\"sans-serif\", fontsize=8];\n");
  add_legend(out);
  for (uint32_t i = 0; i < g->entries.len; i++) add_entry(&d, &g->entries.at[i]);
  text_add(out, "}\n");
}
