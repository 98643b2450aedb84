/* keep.c: --keep=WHAT:W: what it covers works in W (f32, bf16, f16), whatever the program's
 * precision; of several that cover it the last.
 *
 * A pattern of paths: the functions of a module that it covers run in a region precision(W), as if
 * the program said so behind the instance; what reads a parameter that it covers, through views,
 * works in W too.  A line, `mlp.mp:9`: what stands there, in every module, or in those of a pattern
 * in front: `net.*@mlp.mp:9`; with nothing in front of the @, in the model itself.
 */
#include "frontend/sema.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* "mlp.mp:9": the file, and the line; NULL: it is no place. */
static const char *read_place(Sema *s, const char *text, uint32_t *line) {
  const char *colon = strrchr(text, ':');
  char *end;
  if (!colon || colon == text || !isdigit((unsigned char)colon[1])) return NULL;
  unsigned long n = strtoul(colon + 1, &end, 10);
  if (*end || !n || n > UINT32_MAX) return NULL;
  *line = (uint32_t)n;
  return arena_text(s->arena, text, (size_t)(colon - text));
}

void keep_begin(Sema *s) {
  for (uint32_t i = 0; i < s->options->nkeeps; i++) {
    const char *text = s->options->keeps[i].glob, *at = strchr(text, '@');
    Keep k = {.text = text, .precision = s->options->keeps[i].precision, .every = !at};
    k.file = read_place(s, at ? at + 1 : text, &k.line);
    const char *glob = !k.file ? text : at ? arena_text(s->arena, text, (size_t)(at - text)) : "";
    k.own = at && !*glob;
    if (!*glob || glob_read(s, glob, (Loc){0}, &k.glob)) vec_push(s->arena, &s->keeps, k);
  }
}

/* The precision that the path keeps, or NULL. */
static const char *kept_in(Sema *s, const char *path) {
  const char *precision = NULL;
  for (uint32_t i = 0; i < s->keeps.len; i++) {
    Keep *k = &s->keeps.at[i];
    if (k->file || !glob_matches(&k->glob, path)) continue;
    k->met = true;
    precision = k->precision;
  }
  return precision;
}

void keep_instance(Sema *s, Instance *inst) {
  const char *precision = s->keeps.len ? kept_in(s, inst->path) : NULL;
  if (!precision) return;
  Region *r = NEW(s->arena, Region);
  if (inst->scope->region) *r = *inst->scope->region;
  r->precision = precision;
  inst->scope->region = r;
}

void keep_check(Sema *s) {
  for (uint32_t i = 0; s->keeps.len && i < s->params.len; i++) kept_in(s, s->params.at[i]->path);
  for (uint32_t i = 0; i < s->keeps.len; i++) {
    const Keep *k = &s->keeps.at[i];
    if (!k->met && !k->file)
      diag_error(s->diag, (Loc){0}, "--keep=%s: no module or parameter matches%s", k->text,
                 near_paths(s, k->text));
  }
}

void keep_check_lines(Sema *s) {
  for (uint32_t i = 0; i < s->keeps.len; i++) {
    const Keep *k = &s->keeps.at[i];
    if (!k->met && k->file)
      diag_error(s->diag, (Loc){0},
                 "--keep=%s: nothing is computed there; --explain-precision shows lines and paths",
                 k->text);
  }
}

/* ---- nodes of an entry ----------------------------------------------------------------------- */

/* kept: by value, of a covered parameter, or a view of one: its precision. */
static void mark_readers(Graph *g, BlockId block, const char **kept) {
  for (uint32_t i = 0; i < g->blocks.at[block].nodes.len; i++) {
    NodeId id = g->blocks.at[block].nodes.at[i];
    const Node *n = &g->nodes.at[id];
    bool view = op_flags[n->op] & F_VIEW;
    const char *reads = NULL;
    for (uint32_t k = 0; k < n->nops; k++) {
      if (kept[n->ops[k]]) reads = kept[n->ops[k]];
      if (n->op == OP_loop) kept[g->blocks.at[n->blocks[0]].args.at[k + 1]] = kept[n->ops[k]];
    }
    if (n->op == OP_loop) mark_readers(g, n->blocks[0], kept);
    else if (reads && view) kept[n->res] = reads;
    else if (reads) node_set_attr(g, id, attr_text(AT_prec, reads));
  }
}

static bool stands_at(const Sema *s, const Keep *k, Loc loc) {
  if (!k->file || loc.line != k->line) return false;
  const char *name = s->diag->sources.at[loc.source].name;
  if (strcmp(name, k->file) && strcmp(path_base(name), k->file)) return false;
  return k->every || (k->own ? !loc.module : loc.module && glob_matches(&k->glob, loc.module));
}

static void mark_lines(Sema *s, BlockId block) {
  Graph *g = s->g;
  for (uint32_t i = 0; i < g->blocks.at[block].nodes.len; i++) {
    NodeId id = g->blocks.at[block].nodes.at[i];
    const Node *n = &g->nodes.at[id];
    for (uint32_t b = 0; b < n->nblocks; b++) mark_lines(s, n->blocks[b]);
    for (uint32_t k = 0; k < s->keeps.len; k++) {
      if (!stands_at(s, &s->keeps.at[k], g->nodes.at[id].loc)) continue;
      s->keeps.at[k].met = true;
      if (g->nodes.at[id].nblocks) continue;
      node_set_attr(g, id, attr_text(AT_prec, s->keeps.at[k].precision));
    }
  }
}

void keep_entry(Sema *s) {
  if (!s->keeps.len) return;
  const Entry *e = &s->g->entries.at[s->entry];
  const Block *body = &s->g->blocks.at[e->body];
  const char **kept = NEW_ARRAY(s->arena, const char *, s->g->values.len);
  for (uint32_t i = 0; i < e->args.len; i++)
    if (e->args.at[i].role == ARG_state) kept[body->args.at[i]] = kept_in(s, e->args.at[i].name);
  mark_readers(s->g, e->body, kept);
  mark_lines(s, e->body);
}
