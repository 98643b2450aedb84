/* group_remarks.c: what -Rpass=fusion and -Rpass-missed=fusion say: which ops became one kernel,
 * and what stood between the two ends of a value that goes through memory. */
#include "passes/group.h"

enum {
  NAMED = 6, /* ops of a kernel */
  FEW = 64   /* numbers that are not worth a word */
};

/* "matmul, add, gelu", each op once. */
static const char *ops_of(Grouping *s, const Positions *m, Arena *a) {
  bool seen[OP_COUNT] = {false};
  uint32_t named = 0;
  Text t = {.arena = a};
  for (uint32_t i = 0; i < m->len; i++) {
    Op op = group_node(s, m->at[i])->op;
    if (seen[op]) continue;
    seen[op] = true;
    if (++named <= NAMED) text_printf(&t, "%s%s", named > 1 ? ", " : "", op_name[op]);
  }
  if (named > NAMED) text_printf(&t, " and %u more", (unsigned)(named - NAMED));
  return t.at;
}

/* "train_step, backward of net.0" */
static const char *where(const Grouping *s, Loc loc) {
  Text t = {.arena = s->arena};
  text_printf(&t, "%s%s", s->entry, loc.backward ? ", backward" : "");
  if (loc.module && *loc.module) text_printf(&t, "%s%s", loc.backward ? " of " : ", ", loc.module);
  return t.at;
}

static void say_fused(Grouping *s, uint32_t root, Diag *diag) {
  const Positions m = group_in_order(s, root);
  uint32_t kept = 0;
  const Node *n = group_anchor(s, &m, s->group[root].form);
  for (uint32_t i = 0; i < m.len; i++) kept += !s->used_outside[group_node(s, m.at[i])->res];
  if (m.len < 2 || !kept) return;
  diag_remark(diag, REMARK_fusion, false, n->loc,
              "%s: %s in one %s kernel; %u value%s never leave%s registers", where(s, n->loc),
              ops_of(s, &m, s->arena), form_name[s->group[root].form], (unsigned)kept,
              kept > 1 ? "s" : "", kept > 1 ? "" : "s");
}

static void say_missed(Grouping *s, uint32_t x, Edge e, Diag *diag) {
  Group both;
  Text type = {.arena = s->arena};
  Type t = value_type(s->g, e.value);
  if (group_root(s, e.from) == group_root(s, x) || type_count(t) <= FEW) return;
  type_print(&type, t);
  const char *why = group_obstacle(s, x, e, &both);
  const Node *from = group_node(s, e.from), *to = group_node(s, x);
  diag_remark(diag, REMARK_fusion, true, to->loc,
              "%s: %s reads %s of %s, line %u, through memory: %s", where(s, to->loc),
              op_name[to->op], type.at, op_name[from->op], (unsigned)from->loc.line,
              why ? why : "it was taken into another kernel first");
}

void group_remarks(Grouping *s, Diag *diag) {
  for (uint32_t p = 0; p < s->n; p++) {
    bool form = !s->inlined[p] && s->group[group_root(s, p)].form;
    if (!form) continue;
    if (remarks_wanted(diag, REMARK_fusion, false) && group_root(s, p) == p) say_fused(s, p, diag);
    for (uint32_t k = 0; remarks_wanted(diag, REMARK_fusion, true) && k < s->in[p].len; k++)
      say_missed(s, p, s->in[p].at[k], diag);
  }
}
