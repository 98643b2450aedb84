/* keep.c: --keep=GLOB:f32: what the pattern covers stays in f32, whatever the program's precision.
 *
 * The functions of a module that it covers run in a region precision(f32), as if the program said
 * so behind the instance; what reads a parameter that it covers, through views, works in f32 too.
 */
#include "frontend/sema.h"

void keep_begin(Sema *s) {
  for (uint32_t i = 0; i < s->options->nkeeps; i++) {
    Keep k = {0};
    if (glob_read(s, s->options->keeps[i], (Loc){0}, &k.glob)) vec_push(s->arena, &s->keeps, k);
  }
}

static bool covers(Sema *s, const char *path) {
  bool any = false;
  for (uint32_t i = 0; i < s->keeps.len; i++) {
    if (!glob_matches(&s->keeps.at[i].glob, path)) continue;
    s->keeps.at[i].met = any = true;
  }
  return any;
}

void keep_instance(Sema *s, Instance *inst) {
  if (!s->keeps.len || !covers(s, inst->path)) return;
  Region *r = NEW(s->arena, Region);
  if (inst->scope->region) *r = *inst->scope->region;
  r->precision = "f32";
  inst->scope->region = r;
}

void keep_check(Sema *s) {
  for (uint32_t i = 0; s->keeps.len && i < s->params.len; i++) covers(s, s->params.at[i]->path);
  for (uint32_t i = 0; i < s->keeps.len; i++)
    if (!s->keeps.at[i].met)
      diag_error(s->diag, (Loc){0}, "--keep=%s: no module or parameter matches%s",
                 s->keeps.at[i].glob.text, near_paths(s, s->keeps.at[i].glob.text));
}

/* kept: values that are a covered parameter, or a view of one. */
static void mark_readers(Graph *g, BlockId block, bool *kept) {
  for (uint32_t i = 0; i < g->blocks.at[block].nodes.len; i++) {
    NodeId id = g->blocks.at[block].nodes.at[i];
    const Node *n = &g->nodes.at[id];
    bool view = op_flags[n->op] & F_VIEW, reads = false;
    for (uint32_t k = 0; k < n->nops; k++) {
      reads = reads || kept[n->ops[k]];
      if (n->op == OP_loop) kept[g->blocks.at[n->blocks[0]].args.at[k + 1]] = kept[n->ops[k]];
    }
    if (n->op == OP_loop) mark_readers(g, n->blocks[0], kept);
    else if (reads && view) kept[n->res] = true;
    else if (reads) node_set_attr(g, id, attr_text(AT_prec, "f32"));
  }
}

void keep_entry(Sema *s) {
  if (!s->keeps.len) return;
  const Entry *e = &s->g->entries.at[s->entry];
  const Block *body = &s->g->blocks.at[e->body];
  bool *kept = NEW_ARRAY(s->arena, bool, s->g->values.len);
  for (uint32_t i = 0; i < e->args.len; i++)
    kept[body->args.at[i]] = e->args.at[i].role == ARG_state && covers(s, e->args.at[i].name);
  mark_readers(s->g, e->body, kept);
}
