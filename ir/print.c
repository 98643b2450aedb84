/* print.c: a Graph as text, one node a line, made to be read, to be matched by FileCheck and to be
 * read back by parse.c: print(parse(print(g))) = print(g), byte for byte.
 *
 *   graph "mlp" from "mlp.mp"
 *   train precision bf16 epochs 1
 *   hyper "lr" = nan shown "linear(0.001, to: 0)"
 *   formula "perplexity" = "$loss exp"
 *   source "images" rows : u8[28,28]
 *   source "text" windows 128 : u8[]
 *   split last 0.1
 *   load "net.**" from "old.safetensors" (
 *     "net.*.weight" = "layers.*.w" transpose
 *   )
 *   state param "net.0.weight" : f32[256,784] no_decay
 *   state moment "net.0.weight:m" : f32[256,784] master "net.0.weight"
 *
 *   entry @train_step step batch 64 (
 *     %0: u8[rows 64,784] = input "images",
 *     %1: f32[256,784] = state "net.0.weight"
 *   ) {
 *     %2 = cast %0 : f32[rows 64,784]
 *     %3 = matmul %2, %1 {tb, k_chunk=256} : f32[rows 64,256]
 *     %4, %5 = kernel %3 {form=reduce} : f32[rows 64], f32[] (%6: f32[rows 64,256]) {
 *       …
 *       yield %8, %9
 *     }
 *     return
 *       loss "loss" = %5,
 *       state "net.0.weight" = %1
 *   }
 *
 * Values are numbered in the order they are printed, per entry.  A part that is not there is not
 * printed.  With `locs` a node, state, entry or port ends in loc("file":line:col), the file as its
 * number where no names are given, or loc(unknown).  Messages print broken graphs too, so nothing
 * here trusts an id.
 */
#include "ir/ir.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

enum { FRESH, NUMBERED, PRINTED };

typedef struct Printer {
  const Graph *g;
  Text *out;
  PrintOptions o;
  uint32_t *number; /* by ValueId, from 1; 0: none */
  uint32_t next;
  uint8_t *state; /* by BlockId: FRESH, …; a block that owns itself ends there */
} Printer;

static Printer printer(const Graph *g, Text *out, PrintOptions o) {
  Printer p = {.g = g, .out = out, .o = o};
  p.number = NEW_ARRAY(out->arena, uint32_t, g->values.len);
  p.state = NEW_ARRAY(out->arena, uint8_t, g->blocks.len);
  return p;
}

/* ---- numbers -------------------------------------------------------------------------------- */

static void number_value(Printer *p, ValueId v) {
  if (v < p->g->values.len && !p->number[v]) p->number[v] = ++p->next;
}

static void number_block(Printer *p, BlockId id) {
  if (id >= p->g->blocks.len || p->state[id] != FRESH) return;
  p->state[id] = NUMBERED;
  const Block *b = &p->g->blocks.at[id];
  for (uint32_t i = 0; i < b->args.len; i++) number_value(p, b->args.at[i]);
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    if (b->nodes.at[i] >= p->g->nodes.len) continue;
    const Node *n = &p->g->nodes.at[b->nodes.at[i]];
    for (uint32_t k = 0; k < n->nres; k++) number_value(p, n->res + k);
    for (uint32_t k = 0; k < n->nblocks; k++) number_block(p, n->blocks[k]);
  }
}

/* ---- words ---------------------------------------------------------------------------------- */

static void put(Printer *p, const char *s) { text_add(p->out, s); }

static void put_indent(Printer *p, int depth) {
  while (depth--) put(p, "  ");
}

static bool is_word(const char *s) {
  if (!isalpha((unsigned char)*s) && *s != '_') return false;
  while (isalnum((unsigned char)*s) || *s == '_' || *s == '.') s++;
  return !*s;
}

/* s is NULL in a graph that the verifier refuses. */
static void put_word(Printer *p, const char *s) {
  if (s && is_word(s)) put(p, s);
  else text_quoted(p->out, s ? s : "");
}

static void put_quoted(Printer *p, const char *before, const char *s) {
  put(p, before);
  text_quoted(p->out, s ? s : "");
}

static void put_name(Printer *p, const char *before, const char *s) {
  if (s && *s) put_quoted(p, before, s);
}

static void put_double(Printer *p, double v) {
  const double exact = 1e15;
  if (isnan(v)) put(p, "nan");
  else if (isinf(v)) put(p, v < 0 ? "-inf" : "inf");
  else if (fabs(v) < exact && v == (double)(int64_t)v)
    text_printf(p->out, "%.0f", v); /* not 1e+01 */
  else text_double(p->out, v);
}

static void put_value(Printer *p, ValueId v) {
  uint32_t n = v < p->g->values.len ? p->number[v] : 0;
  if (n) text_printf(p->out, "%%%u", (unsigned)(n - 1));
  else text_printf(p->out, "%%?%u", (unsigned)v);
}

static void put_type(Printer *p, ValueId v) {
  bool known = v < p->g->values.len;
  Type t = known ? value_type(p->g, v) : (Type){0};
  if (known && t.dtype < DT_COUNT && t.rank <= MAX_RANK) type_print(p->out, t);
  else put(p, "?");
}

static void put_typed(Printer *p, ValueId v) {
  put_value(p, v);
  put(p, ": ");
  put_type(p, v);
}

static void put_loc(Printer *p, Loc loc) {
  const Diag *d = p->o.diag;
  if (!p->o.locs) return;
  put(p, " loc(");
  if (!loc.line) {
    put(p, "unknown)");
    return;
  }
  if (d && loc.source < d->sources.len) text_quoted(p->out, d->sources.at[loc.source].name);
  else text_printf(p->out, "%u", (unsigned)loc.source);
  text_printf(p->out, ":%u:%u", (unsigned)loc.line, (unsigned)loc.col);
  if (loc.module) put(p, " "), text_quoted(p->out, loc.module);
  put(p, loc.backward ? " backward)" : ")");
}

/* ---- attributes ----------------------------------------------------------------------------- */

static void put_attr(Printer *p, const Attr *a) {
  put(p, attr_name[a->key]);
  if (attr_kind[a->key] == ATTR_BOOL) {
    if (!a->i) put(p, "=false");
    return;
  }
  put(p, "=");
  switch ((AttrKind)attr_kind[a->key]) {
  case ATTR_BOOL: break;
  case ATTR_INT: text_printf(p->out, "%lld", (long long)a->i); break;
  case ATTR_FLOAT: put_double(p, a->f); break;
  case ATTR_TEXT: put_word(p, a->s); break;
  case ATTR_INTS:
    put(p, "[");
    for (uint32_t i = 0; i < a->n; i++)
      text_printf(p->out, "%s%lld", i ? "," : "", (long long)a->ints[i]);
    put(p, "]");
  }
}

static void put_attrs(Printer *p, uint32_t n, const Attr *attrs) {
  for (uint32_t i = 0; i < n; i++) {
    put(p, i ? ", " : " {");
    put_attr(p, &attrs[i]);
  }
  if (n) put(p, "}");
}

/* ---- nodes and blocks ----------------------------------------------------------------------- */

static void put_list(Printer *p, const char *before, uint32_t n, const ValueId *values) {
  for (uint32_t i = 0; i < n; i++) {
    put(p, i ? ", " : before);
    put_value(p, values[i]);
  }
}

/* The node without its blocks. */
static void put_head(Printer *p, const Node *n) {
  for (uint32_t i = 0; i < n->nres; i++) {
    if (i) put(p, ", ");
    put_value(p, n->res + i);
  }
  if (n->nres) put(p, " = ");
  put(p, n->op == OP_cast_policy ? "cast.policy" : n->op < OP_COUNT ? op_name[n->op] : "?");
  put_list(p, " ", n->nops, n->ops);
  put_attrs(p, n->nattrs, n->attrs);
  for (uint32_t i = 0; i < n->nres; i++) {
    put(p, i ? ", " : " : ");
    put_type(p, n->res + i);
  }
}

static void put_nodes(Printer *p, const Block *b, int depth);

static void put_block(Printer *p, BlockId id, int depth) {
  if (id >= p->g->blocks.len || p->state[id] == PRINTED) return;
  p->state[id] = PRINTED;
  const Block *b = &p->g->blocks.at[id];
  put(p, " (");
  for (uint32_t i = 0; i < b->args.len; i++) {
    if (i) put(p, ", ");
    put_typed(p, b->args.at[i]);
  }
  put(p, ") {\n");
  put_nodes(p, b, depth + 1);
  put_indent(p, depth + 1);
  put(p, "yield");
  put_list(p, " ", b->results.len, b->results.at);
  put(p, "\n");
  put_indent(p, depth);
  put(p, "}");
}

static void put_nodes(Printer *p, const Block *b, int depth) {
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    if (b->nodes.at[i] >= p->g->nodes.len) continue;
    const Node *n = &p->g->nodes.at[b->nodes.at[i]];
    put_indent(p, depth);
    put_head(p, n);
    for (uint32_t k = 0; k < n->nblocks; k++) put_block(p, n->blocks[k], depth);
    put_loc(p, n->loc);
    put(p, "\n");
  }
}

/* ---- entries -------------------------------------------------------------------------------- */

static void put_args(Printer *p, const Entry *e, const Block *b) {
  put(p, "(");
  for (uint32_t i = 0; i < e->args.len && i < b->args.len; i++) {
    const Port *port = &e->args.at[i];
    put(p, i ? ",\n  " : "\n  ");
    put_typed(p, b->args.at[i]);
    text_printf(p->out, " = %s", arg_role_name[port->role]);
    put_name(p, " ", port->name);
    put_loc(p, port->loc);
  }
  put(p, b->args.len ? "\n)" : ")");
}

static void put_results(Printer *p, const Entry *e, const Block *b) {
  put(p, "  return");
  for (uint32_t i = 0; i < e->results.len && i < b->results.len; i++) {
    const Port *port = &e->results.at[i];
    text_printf(p->out, "%s\n    %s", i ? "," : "", res_role_name[port->role]);
    put_name(p, " ", port->name);
    put(p, " = ");
    put_value(p, b->results.at[i]);
    put_loc(p, port->loc);
  }
  put(p, "\n");
}

static void put_entry(Printer *p, const Entry *e) {
  if (e->body >= p->g->blocks.len) return;
  const Block *b = &p->g->blocks.at[e->body];
  p->next = 0;
  number_block(p, e->body);
  put(p, "\nentry @");
  put_word(p, e->name);
  text_printf(p->out, " %s ", entry_kind_name[e->kind]);
  if (e->batch) text_printf(p->out, "batch %lld ", (long long)e->batch);
  if (e->full) put(p, "full ");
  put_args(p, e, b);
  put_loc(p, e->loc);
  put(p, " {\n");
  put_nodes(p, b, 1);
  put_results(p, e, b);
  put(p, "}\n");
}

/* ---- the rest of a graph -------------------------------------------------------------------- */

static void put_count(Printer *p, const char *word, int64_t n) {
  if (n) text_printf(p->out, " %s %lld", word, (long long)n);
}

static void put_scale(Printer *p, const Scale *s) {
  text_printf(p->out, " scale %s", scale_kind_name[s->kind]);
  for (int i = 0; i < (s->kind == SCALE_static ? 1 : SCALE_FIELDS); i++) {
    text_printf(p->out, " %s ", scale_field[i].name);
    put_double(p, *(const double *)(const void *)((const char *)s + scale_field[i].offset));
  }
}

static void put_delayed(Printer *p, const Fp8Delayed *d) {
  for (int i = 0; i < FP8_FIELDS; i++) {
    text_printf(p->out, " %s ", fp8_field[i].name);
    put_double(p, *(const double *)(const void *)((const char *)d + fp8_field[i].offset));
  }
}

static void put_loss_scale(Printer *p, const LossScale *s) {
  put_name(p, "loss ", s->loss);
  put_scale(p, &s->scale);
  put_loc(p, s->loc);
  put(p, "\n");
}

static bool is_empty(const Train *t) {
  return !t->precision && !t->residual && !t->master && !t->scale.kind && !t->steps && !t->epochs &&
         !t->accumulate && t->clip == 0;
}

static void put_train(Printer *p, const Train *t) {
  if (is_empty(t)) return;
  put(p, "train");
  put_loc(p, t->loc);
  if (t->precision) {
    put(p, " precision ");
    put_word(p, t->precision);
    if (t->automatic) put(p, " auto");
    put_loc(p, t->precision_loc);
  }
  if (t->delayed.history != 0) put_delayed(p, &t->delayed);
  if (t->residual) {
    put(p, " residual ");
    put_word(p, t->residual);
  }
  if (t->master) {
    put(p, " master ");
    put_word(p, t->master);
  }
  if (t->scale.kind) {
    put_scale(p, &t->scale);
    put_loc(p, t->scale_loc);
  }
  put_count(p, "steps", t->steps);
  put_count(p, "epochs", t->epochs);
  put_count(p, "accumulate", t->accumulate);
  if (t->clip != 0) {
    put(p, " clip ");
    put_double(p, t->clip);
  }
  put(p, "\n");
}

static void put_hyper(Printer *p, const Hyper *h) {
  put(p, "hyper ");
  text_quoted(p->out, h->name);
  put(p, " = ");
  put_double(p, h->value);
  put_name(p, " shown ", h->shown);
  put(p, "\n");
}

static void put_formula(Printer *p, const TotalFormula *f) {
  put_quoted(p, "formula ", f->name);
  put_quoted(p, " = ", f->rpn);
  put_loc(p, f->loc);
  put(p, "\n");
}

static void put_data_source(Printer *p, const DataSource *d) {
  put_quoted(p, "source ", d->name);
  text_printf(p->out, " %s", read_kind_name[d->kind]);
  if (d->kind != READ_rows) text_printf(p->out, " %lld", (long long)d->length);
  put_count(p, "category", d->category);
  put(p, " : ");
  type_print(p->out, d->type);
  put_loc(p, d->loc);
  put(p, "\n");
}

static void put_split(Printer *p, DataSplit s) {
  if (!s.kind) return;
  text_printf(p->out, "split %s ", split_kind_name[s.kind]);
  put_double(p, s.fraction);
  put(p, "\n");
}

static void put_load(Printer *p, const Load *l) {
  put_quoted(p, "load ", l->glob);
  put_quoted(p, " from ", l->from);
  put(p, " (");
  for (uint32_t i = 0; i < l->pairs.len; i++) {
    put_quoted(p, i ? ",\n  " : "\n  ", l->pairs.at[i].to);
    put_quoted(p, " = ", l->pairs.at[i].from);
    if (l->pairs.at[i].transpose) put(p, " transpose");
  }
  put(p, l->pairs.len ? "\n)" : ")");
  put_loc(p, l->loc);
  put(p, "\n");
}

static void put_state(Printer *p, const State *s) {
  text_printf(p->out, "state %s ", state_kind_name[s->kind]);
  text_quoted(p->out, s->path);
  put(p, " : ");
  type_print(p->out, s->type);
  if (s->no_decay) put(p, " no_decay");
  if (s->frozen) put(p, " frozen");
  if (s->must_load) put(p, " must_load");
  if (s->unsaved) put(p, " unsaved");
  if (s->phased) put(p, " phased");
  if (s->private) put(p, " private");
  if (s->store) text_printf(p->out, " %s", state_store_name[s->store]);
  put_name(p, " master ", s->master);
  put_loc(p, s->loc);
  put(p, "\n");
}

static void put_slot(Printer *p, const Fp8Slot *s) {
  put_quoted(p, "slot ", s->name);
  text_printf(p->out, " : %s", dtype_name[s->type]);
  put_loc(p, s->loc);
  put(p, "\n");
}

void graph_print(const Graph *g, Text *out, PrintOptions o) {
  Printer p = printer(g, out, o);
  put(&p, "graph ");
  text_quoted(out, g->name ? g->name : "");
  put_name(&p, " from ", g->source);
  put(&p, g->ordered ? " ordered\n" : "\n");
  put_train(&p, &g->train);
  for (uint32_t i = 0; i < g->scales.len; i++) put_loss_scale(&p, &g->scales.at[i]);
  for (uint32_t i = 0; i < g->hypers.len; i++) put_hyper(&p, &g->hypers.at[i]);
  for (uint32_t i = 0; i < g->formulas.len; i++) put_formula(&p, &g->formulas.at[i]);
  for (uint32_t i = 0; i < g->sources.len; i++) put_data_source(&p, &g->sources.at[i]);
  put_split(&p, g->split);
  for (uint32_t i = 0; i < g->loads.len; i++) put_load(&p, &g->loads.at[i]);
  for (uint32_t i = 0; i < g->states.len; i++) put_state(&p, &g->states.at[i]);
  for (uint32_t i = 0; i < g->slots.len; i++) put_slot(&p, &g->slots.at[i]);
  for (uint32_t i = 0; i < g->entries.len; i++) put_entry(&p, &g->entries.at[i]);
}

/* The block that n stands in, at the top: the body of an entry.  Ids may be wrong. */
static BlockId outermost(const Graph *g, NodeId n) {
  BlockId b = g->nodes.at[n].block;
  for (uint32_t up = 0; up < g->blocks.len && b < g->blocks.len; up++) {
    NodeId owner = g->blocks.at[b].owner;
    if (owner >= g->nodes.len) return b;
    b = g->nodes.at[owner].block;
  }
  return b;
}

void node_print(const Graph *g, NodeId n, Text *out) {
  Printer p = printer(g, out, (PrintOptions){0});
  if (n >= g->nodes.len) return;
  number_block(&p, outermost(g, n)); /* the numbers of the dump */
  put_head(&p, &g->nodes.at[n]);
}
