/* keep.c: --keep=GLOB:W: what the pattern covers works in W (f32, bf16, f16), whatever the
 * program's precision; of several that cover it the last.
 *
 * The functions of a module that it covers run in a region precision(W), as if the program said so
 * behind the instance; what reads a parameter that it covers, through views, works in W too.
 */
#include "frontend/sema.h"

void keep_begin(Sema *s) {
  for (uint32_t i = 0; i < s->options->nkeeps; i++) {
    Keep k = {0};
    k.precision = s->options->keeps[i].precision;
    if (glob_read(s, s->options->keeps[i].glob, (Loc){0}, &k.glob))
      vec_push(s->arena, &s->keeps, k);
  }
}

/* The precision that the path keeps, or NULL. */
static const char *kept_in(Sema *s, const char *path) {
  const char *precision = NULL;
  for (uint32_t i = 0; i < s->keeps.len; i++) {
    if (!glob_matches(&s->keeps.at[i].glob, path)) continue;
    s->keeps.at[i].met = true;
    precision = s->keeps.at[i].precision;
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
  for (uint32_t i = 0; i < s->keeps.len; i++)
    if (!s->keeps.at[i].met)
      diag_error(s->diag, (Loc){0}, "--keep=%s: no module or parameter matches%s",
                 s->keeps.at[i].glob.text, near_paths(s, s->keeps.at[i].glob.text));
}

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

void keep_entry(Sema *s) {
  if (!s->keeps.len) return;
  const Entry *e = &s->g->entries.at[s->entry];
  const Block *body = &s->g->blocks.at[e->body];
  const char **kept = NEW_ARRAY(s->arena, const char *, s->g->values.len);
  for (uint32_t i = 0; i < e->args.len; i++)
    if (e->args.at[i].role == ARG_state) kept[body->args.at[i]] = kept_in(s, e->args.at[i].name);
  mark_readers(s->g, e->body, kept);
}
