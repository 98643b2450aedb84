/* svg.c: --emit=svg: what dot.c shows, laid out here, so that nothing else has to be installed.
 *
 * Each entry is a drawing in layers: a kernel stands below all that it reads from.  In a layer,
 * boxes are ordered by the mean place of their neighbours, down and up a few times (Sugiyama,
 * Tagawa, Toda 1981).  Views and loops are looked through: kernels of a loop stand among the
 * others, with its trips.  What a kernel reads of the state is named in its box, not drawn as
 * edges. */
#include "tools/tools.h"

#include <stdlib.h>
#include <string.h>

enum {
  WIDE = 150,
  HIGH = 50,
  GAP_X = 18,
  GAP_Y = 34,
  MARGIN = 20,
  TITLE = 24,
  SWEEPS = 6,
  LEGEND = 130
};

typedef struct Box {
  NodeId node;
  int64_t trips;
  uint32_t layer, place; /* place: in its layer */
  double wish;           /* mean place of the neighbours, as a share of their layers */
  Text states;           /* names it reads */
} Box;

typedef struct Edge {
  uint32_t from, to; /* boxes */
  Type type;
} Edge;

typedef struct Drawing { /* of one entry */
  const Graph *g;
  const Diag *sources;
  const Entry *entry;
  Arena *arena;
  VEC(Box) boxes;
  VEC(Edge) edges;
  uint32_t *box_of; /* by NodeId, NO_ID: none */
  uint32_t *size;   /* by layer: how many boxes */
  uint32_t layers;
} Drawing;

/* ---- boxes and edges ------------------------------------------------------------------------- */

/* The kernel's result or the entry's argument that v shows; NO_ID: a loop's index. */
static ValueId shown_by(const Graph *g, ValueId v) {
  for (;;) {
    Value at = g->values.at[v];
    const Node *n = value_node(g, v);
    NodeId owner = n ? NO_ID : g->blocks.at[at.block].owner;
    if (n && n->op == OP_kernel) return v;
    if (n && n->op == OP_loop) v = g->blocks.at[n->blocks[0]].results.at[at.index];
    else if (n) v = n->ops[0];
    else if (owner == NO_ID) return v;
    else if (!at.index) return NO_ID;
    else v = g->nodes.at[owner].ops[at.index - 1];
  }
}

static void add_operand(Drawing *d, uint32_t to, ValueId operand) {
  const Graph *g = d->g;
  ValueId v = shown_by(g, operand);
  if (v == NO_ID) return;
  Value at = g->values.at[v];
  Box *box = &d->boxes.at[to];
  if (at.node == NO_ID) {
    const char *name = d->entry->args.at[at.index].name;
    if (box->states.len < 60) text_printf(&box->states, "%s%s", box->states.len ? ", " : "", name);
    return;
  }
  uint32_t from = d->box_of[at.node];
  if (from == NO_ID) return; /* a carry's last value, of the turn before */
  if (box->layer <= d->boxes.at[from].layer) box->layer = d->boxes.at[from].layer + 1;
  vec_push(d->arena, &d->edges, ((Edge){from, to, value_type(g, operand)}));
}

static void add_boxes(Drawing *d, BlockId block, int64_t trips) {
  const NodeIds *nodes = &d->g->blocks.at[block].nodes;
  for (uint32_t i = 0; i < nodes->len; i++) {
    const Node *n = &d->g->nodes.at[nodes->at[i]];
    if (n->op == OP_loop) add_boxes(d, n->blocks[0], trips * node_int(n, AT_trip, 1));
    if (n->op != OP_kernel) continue;
    Box box = {.node = nodes->at[i], .trips = trips, .states = {.arena = d->arena}};
    vec_push(d->arena, &d->boxes, box);
    uint32_t at = d->boxes.len - 1;
    for (uint32_t k = 0; k < n->nops; k++) add_operand(d, at, n->ops[k]);
    d->box_of[nodes->at[i]] = at;
    if (d->layers <= d->boxes.at[at].layer) d->layers = d->boxes.at[at].layer + 1;
  }
}

/* ---- places ---------------------------------------------------------------------------------- */

static double share(const Drawing *d, uint32_t box) {
  const Box *b = &d->boxes.at[box];
  return (b->place + 0.5) / d->size[b->layer];
}

/* Of the neighbours above, or below. */
static void wish_places(Drawing *d, bool above) {
  double *sum = NEW_ARRAY(d->arena, double, d->boxes.len + 1);
  uint32_t *n = NEW_ARRAY(d->arena, uint32_t, d->boxes.len + 1);
  for (uint32_t i = 0; i < d->edges.len; i++) {
    uint32_t at = above ? d->edges.at[i].to : d->edges.at[i].from;
    sum[at] += share(d, above ? d->edges.at[i].from : d->edges.at[i].to);
    n[at]++;
  }
  for (uint32_t i = 0; i < d->boxes.len; i++)
    d->boxes.at[i].wish = n[i] ? sum[i] / n[i] : share(d, i);
}

/* How many of the layer want to stand in front; equals keep their order. */
static uint32_t rank(const Drawing *d, uint32_t box) {
  const Box *b = &d->boxes.at[box];
  uint32_t before = 0;
  for (uint32_t i = 0; i < d->boxes.len; i++) {
    const Box *o = &d->boxes.at[i];
    if (o->layer != b->layer || i == box) continue;
    before += o->wish < b->wish || (o->wish == b->wish && o->place < b->place);
  }
  return before;
}

static void place_boxes(Drawing *d) {
  uint32_t *place = NEW_ARRAY(d->arena, uint32_t, d->boxes.len + 1);
  d->size = NEW_ARRAY(d->arena, uint32_t, d->layers + 1);
  for (uint32_t i = 0; i < d->boxes.len; i++)
    d->boxes.at[i].place = d->size[d->boxes.at[i].layer]++;
  for (int sweep = 0; sweep < SWEEPS; sweep++) {
    wish_places(d, sweep % 2 == 0);
    for (uint32_t i = 0; i < d->boxes.len; i++) place[i] = rank(d, i);
    for (uint32_t i = 0; i < d->boxes.len; i++) d->boxes.at[i].place = place[i];
  }
}

/* ---- the picture ----------------------------------------------------------------------------- */

static uint32_t widest(const Drawing *d) {
  uint32_t most = 1;
  for (uint32_t i = 0; i < d->layers; i++)
    if (d->size[i] > most) most = d->size[i];
  return most;
}

static int width_of(const Drawing *d) { return (int)widest(d) * (WIDE + GAP_X) + 2 * MARGIN; }
static int height_of(const Drawing *d) {
  return (int)d->layers * (HIGH + GAP_Y) + 2 * MARGIN + TITLE;
}

/* The upper left corner; layers are centred. */
static int left_of(const Drawing *d, const Box *b) {
  int row = (int)d->size[b->layer] * (WIDE + GAP_X) - GAP_X;
  return (width_of(d) - row) / 2 + (int)b->place * (WIDE + GAP_X);
}

static int top_of(const Box *b) { return MARGIN + TITLE + (int)b->layer * (HIGH + GAP_Y); }

static void add_escaped(Text *out, const char *s, size_t most) {
  for (size_t n = 0; *s && (n < most || (*s & 0xc0) == 0x80); s++, n++) { /* whole characters */
    if (*s == '<') text_add(out, "&lt;");
    else if (*s == '&') text_add(out, "&amp;");
    else text_printf(out, "%c", *s);
  }
  if (*s) text_add(out, "…");
}

static void draw_edge(const Drawing *d, const Edge *e, Text *out) {
  const Box *from = &d->boxes.at[e->from], *to = &d->boxes.at[e->to];
  int x1 = left_of(d, from) + WIDE / 2, y1 = top_of(from) + HIGH;
  int x2 = left_of(d, to) + WIDE / 2, y2 = top_of(to), bend = (y2 - y1) / 2;
  text_printf(out, "<path d=\"M%d %dC%d %d %d %d %d %d\" stroke=\"%s\"/>\n", x1, y1, x1, y1 + bend,
              x2, y2 - bend, x2, y2, dot_color(e->type));
}

static void draw_text(Text *out, int x, int y, const char *s) {
  text_printf(out, "<text x=\"%d\" y=\"%d\">", x, y);
  add_escaped(out, s, 26);
  text_add(out, "</text>");
}

static void draw_box(const Drawing *d, const Box *b, Text *out) {
  const Node *n = &d->g->nodes.at[b->node];
  int x = left_of(d, b), y = top_of(b);
  Text ops = {.arena = d->arena}, where = {.arena = d->arena};
  char place[256];
  dot_ops(&ops, d->g, n->blocks[0]);
  text_printf(&where, "%s", n->loc.module ? n->loc.module : "");
  place_text(d->sources, n->loc, place, sizeof place);
  if (n->loc.line) text_printf(&where, "%s%s", where.len ? " " : "", place);
  if (b->trips != 1) text_printf(&where, " ×%lld", (long long)b->trips);
  text_printf(out, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"%s\"/>", x, y, WIDE,
              HIGH, dot_fill(d->g, n));
  draw_text(out, x + 6, y + 15, ops.len ? ops.at : node_text(n, AT_form, ""));
  draw_text(out, x + 6, y + 29, where.len ? where.at : "");
  draw_text(out, x + 6, y + 43, b->states.len ? b->states.at : "");
  text_add(out, "\n");
}

static void draw_entry(const Drawing *d, int top, Text *out) {
  text_printf(out, "<g transform=\"translate(0 %d)\">\n<text x=\"%d\" y=\"%d\" class=\"t\">@", top,
              MARGIN, MARGIN + 8);
  add_escaped(out, d->entry->name, 80);
  text_add(out, "</text>\n");
  for (uint32_t i = 0; i < d->edges.len; i++) draw_edge(d, &d->edges.at[i], out);
  for (uint32_t i = 0; i < d->boxes.len; i++) draw_box(d, &d->boxes.at[i], out);
  text_add(out, "</g>\n");
}

static Drawing lay_out(const Graph *g, const Diag *sources, uint32_t entry, Arena *arena) {
  Drawing d = {.g = g, .sources = sources, .entry = &g->entries.at[entry], .arena = arena};
  d.box_of = NEW_ARRAY(arena, uint32_t, g->nodes.len + 1);
  for (NodeId n = 0; n < g->nodes.len; n++) d.box_of[n] = NO_ID;
  add_boxes(&d, d.entry->body, 1);
  place_boxes(&d);
  return d;
}

static void draw_legend(Text *out) {
  int x = MARGIN;
  text_add(out, "<g class=\"legend\">\n");
  for (int i = 0; dot_fills[i].color; i++, x += LEGEND)
    text_printf(out,
                "<rect x=\"%d\" y=\"8\" width=\"14\" height=\"12\" fill=\"%s\"/>"
                "<text x=\"%d\" y=\"18\">%s</text>\n",
                x, dot_fills[i].color, x + 19, dot_fills[i].meaning);
  for (int i = 0; dot_colors[i].color; i++, x += LEGEND)
    text_printf(out, "<path d=\"M%d 14h14\" stroke=\"%s\"/><text x=\"%d\" y=\"18\">%s</text>\n", x,
                dot_colors[i].color, x + 19, dot_colors[i].meaning);
  text_add(out, "</g>\n");
}

void svg_print(const Graph *g, const Diag *sources, Text *out) {
  Arena arena = {0};
  Drawing *d = NEW_ARRAY(&arena, Drawing, g->entries.len + 1);
  int wide = 2 * MARGIN + 7 * LEGEND, high = TITLE;
  for (uint32_t i = 0; i < g->entries.len; i++) {
    d[i] = lay_out(g, sources, i, &arena);
    if (width_of(&d[i]) > wide) wide = width_of(&d[i]);
    high += height_of(&d[i]);
  }
  text_printf(out,
              "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\">\n"
              "<style>text{font:10px sans-serif}.t{font-size:14px;font-weight:600}rect{stroke:#888}"
              "path{fill:none;opacity:.7}</style>\n",
              wide, high);
  draw_legend(out);
  for (uint32_t i = 0, top = TITLE; i < g->entries.len; i++) {
    draw_entry(&d[i], (int)top, out);
    top += (uint32_t)height_of(&d[i]);
  }
  text_add(out, "</svg>\n");
  arena_free(&arena);
}
