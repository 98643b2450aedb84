/* demotions.c: the sites of a step at which something is stored or read low: what --keep=SITE:f32
 * can take back, one by one (frontend/keep.c).
 *
 * A site is a line of the program in one instance of a module.  Sites are those of the forward pass
 * as the frontend wrote it, because that is what the flag marks; the backward pass follows. */
#include "tools/demotions.h"

#include <string.h>

static bool is_low(Type t) { return type_is_float(t) && t.dtype != DT_f32; }

static bool is_arithmetic(const Graph *g, const Node *n) {
  bool plain = op_flags[n->op] & F_VIEW || n->op == OP_constant || n->op == OP_cast ||
               n->op == OP_cast_policy || n->op == OP_broadcast;
  return !plain && n->loc.line && n->nres && value_is_float(g, n->res);
}

static const char *base_of(const Diag *sources, Loc loc) {
  return path_base(sources->sources.at[loc.source].name);
}

static Site *find_site(Demotions *d, const Diag *sources, Loc loc) {
  const char *module = loc.module ? loc.module : "", *file = base_of(sources, loc);
  for (uint32_t i = 0; i < d->sites.len; i++) {
    Site *s = &d->sites.at[i];
    if (s->line == loc.line && !strcmp(s->file, file) && !strcmp(s->module, module)) return s;
  }
  return NULL;
}

static void add_op(Demotions *d, Site *s, const char *op) {
  size_t n = strlen(op);
  for (const char *at = s->ops; (at = strstr(at, op)); at += n)
    if ((at == s->ops || at[-1] == ' ') && (!at[n] || at[n] == ' ')) return;
  s->ops = *s->ops ? arena_printf(d->arena, "%s %s", s->ops, op) : op;
}

static void add_sites(Demotions *d, const Graph *g, BlockId block, const Diag *sources) {
  for (uint32_t i = 0; i < g->blocks.at[block].nodes.len; i++) {
    const Node *n = &g->nodes.at[g->blocks.at[block].nodes.at[i]];
    if (n->op == OP_loop) add_sites(d, g, n->blocks[0], sources);
    if (n->op == OP_loop || !is_arithmetic(g, n)) continue;
    Site *s = find_site(d, sources, n->loc);
    if (!s) {
      Site new = {.module = n->loc.module ? n->loc.module : "",
                  .file = base_of(sources, n->loc),
                  .ops = "",
                  .line = n->loc.line};
      vec_push(d->arena, &d->sites, new);
      s = &d->sites.at[d->sites.len - 1];
    }
    add_op(d, s, op_name[n->op]);
  }
}

void demotions_sites(Demotions *d, const Graph *g, const Diag *sources) {
  for (uint32_t e = 0; e < g->entries.len; e++)
    if (g->entries.at[e].kind == ENTRY_step) add_sites(d, g, g->entries.at[e].body, sources);
}

/* ---- what became of them ---- */

static bool touches_low(const Graph *g, const Node *k) {
  bool low = false;
  for (uint32_t i = 0; i < k->nops; i++) low = low || is_low(value_type(g, k->ops[i]));
  for (uint32_t i = 0; i < k->nres; i++) low = low || is_low(value_type(g, k->res + i));
  return low;
}

static void mark_low(Demotions *d, const Graph *g, BlockId block, const Diag *sources, bool low) {
  for (uint32_t i = 0; i < g->blocks.at[block].nodes.len; i++) {
    const Node *n = &g->nodes.at[g->blocks.at[block].nodes.at[i]];
    Site *s = low && n->loc.line && !n->nblocks ? find_site(d, sources, n->loc) : NULL;
    if (s) s->low = true;
    bool kernel = n->op == OP_kernel;
    if (n->nblocks) mark_low(d, g, n->blocks[0], sources, kernel && touches_low(g, n));
  }
}

void demotions_measure(Demotions *d, const Graph *g, const PrecisionReport *r,
                       const Diag *sources) {
  d->bytes = 0;
  for (uint32_t e = 0; e < g->entries.len; e++) {
    if (g->entries.at[e].kind != ENTRY_step) continue;
    mark_low(d, g, g->entries.at[e].body, sources, false);
    for (uint32_t i = 0; i < r->entries.len; i++)
      if (!strcmp(r->entries.at[i].name, g->entries.at[e].name))
        d->bytes += r->entries.at[i].chosen.bytes;
  }
}
