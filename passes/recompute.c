/* recompute.c: values that are computed again rather than kept, from the forward pass to the
 * backward one.
 *
 * Regions first: what a `recompute` of the program holds, and nobody outside reads but the backward
 * pass, is computed again in front of the first kernel of it that asks, from what the region began
 * with.  Each call of a region is one of its own (attribute `recompute`), so a stack of layers
 * keeps what passes from layer to layer.
 *
 * Then --memory-limit: while a context would hold more, that value which lives over the peak, is
 * not used there, and frees most for what it costs is computed again in front of its next use
 * (Chen et al., Training Deep Nets with Sublinear Memory Cost, chooses by layers; here each value
 * is weighed, since the whole step is known).  The plan is asked how much there is left to do.
 *
 * Clones give the bits of what they are clones of (recompute_chain.c). */
#include "passes/recompute.h"

enum {
  LEAST = 4096, /* bytes that are worth a kernel */
  LONGEST = 100 /* kernels that are worth a value */
};

typedef struct Recompute {
  Graph *g;
  PassCtx *c;
  VEC(bool) clone; /* by NodeId, of those there are */
  bool changed;
} Recompute;

/* `clone` for all nodes that there are by now. */
static void grow_clone(Recompute *s) {
  while (s->clone.len < s->g->nodes.len) vec_push(s->c->arena, &s->clone, false);
}

/* A timeline is made for each value that is computed again, so it has an arena of its own. */
static Timeline timeline(Recompute *s, BlockId block, Arena *arena) {
  grow_clone(s);
  return timeline_of(s->g, block, s->clone.at, arena);
}

static void compute_again(Recompute *s, const Timeline *t, const Again *a) {
  NodeIds clones = {0};
  const Node *of = value_node(s->g, a->chain.at[a->chain.len - 1]);
  const Node *user = timeline_node(t, a->before);
  uint64_t bytes = timeline_bytes(t, a->chain.at[a->chain.len - 1]);
  diag_remark(s->c->diag, REMARK_recompute, false, of->loc,
              "%llu bytes are computed again for line %u, by %u kernel%s",
              (unsigned long long)bytes, (unsigned)user->loc.line, (unsigned)a->chain.len,
              a->chain.len > 1 ? "s" : "");
  again_do(t, a, &clones);
  grow_clone(s);
  for (uint32_t i = 0; i < clones.len; i++) s->clone.at[clones.at[i]] = true;
  s->changed = true;
}

/* ---- regions --------------------------------------------------------------------------------- */

/* Which region the kernel is of; 0: of none, or of several.  What of the backward pass rides along
 * says nothing. */
static int64_t region_of(const Graph *g, const Node *k) {
  int64_t region = 0;
  if (k->op != OP_kernel) return 0;
  const Block *b = &g->blocks.at[k->blocks[0]];
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    const Node *n = &g->nodes.at[b->nodes.at[i]];
    int64_t of = node_int(n, AT_recompute, 0);
    if (n->loc.backward || (op_flags[n->op] & F_VIEW)) continue;
    if (n->op == OP_constant || n->op == OP_cast_policy) continue;
    if (!of || (region && of != region)) return 0;
    region = of;
  }
  return region;
}

/* In a region alone, but for the backward pass. */
static bool is_inside(const Timeline *t, ValueId v) {
  const Node *k = value_node(t->g, v);
  int64_t region = k && !k->loc.backward ? region_of(t->g, k) : 0;
  if (!region || t->until[v] == t->n) return false;
  for (uint32_t i = timeline_next_use(t, v, t->at[k - t->g->nodes.at]); i != NO_ID;
       i = timeline_next_use(t, v, i)) {
    const Node *user = timeline_node(t, i);
    if (!user->loc.backward && region_of(t->g, user) != region) return false;
  }
  return true;
}

/* The first position of the backward pass that uses v; NO_ID: none does. */
static uint32_t first_backward(const Timeline *t, ValueId v) {
  uint32_t i = t->at[t->g->values.at[v].node];
  do i = timeline_next_use(t, v, i);
  while (i != NO_ID && !timeline_node(t, i)->loc.backward);
  return i;
}

/* The region's value that the backward pass asks for first. */
static bool next_of_regions(const Timeline *t, Again *a) {
  ValueId first = NO_ID;
  a->before = NO_ID;
  for (uint32_t i = 0; i < t->n; i++) {
    const Node *n = timeline_node(t, i);
    if (n->op != OP_kernel || n->loc.backward || t->clone[n - t->g->nodes.at]) continue;
    int64_t region = region_of(t->g, n);
    for (uint32_t k = 0; region && k < n->nres; k++) {
      uint32_t at = is_inside(t, n->res + k) ? first_backward(t, n->res + k) : NO_ID;
      Again try = {.anew = true, .before = at, .peak = at};
      if (at >= a->before || !again_plan(t, n->res + k, is_inside, &try)) continue;
      *a = try;
      first = n->res + k;
    }
  }
  return first != NO_ID;
}

static void repeat_regions(Recompute *s, BlockId block) {
  for (uint32_t i = 0; i < s->g->blocks.at[block].nodes.len; i++) {
    const Node *n = &s->g->nodes.at[s->g->blocks.at[block].nodes.at[i]];
    if (n->op == OP_loop) repeat_regions(s, n->blocks[0]);
  }
  for (bool more = true; more;) {
    Arena scratch = {0};
    Timeline t = timeline(s, block, &scratch);
    Again a;
    more = next_of_regions(&t, &a);
    if (more) compute_again(s, &t, &a);
    arena_free(&scratch);
  }
}

/* ---- the limit ------------------------------------------------------------------------------- */

static bool is_kept(const Timeline *t, ValueId v) { return timeline_bytes(t, v) > 0; }

/* Of what lives over the peak without being used there, the best to compute again. */
static bool best_over(const Timeline *t, uint32_t peak, Again *best) {
  double most = 0;
  for (uint32_t i = 0; i < peak; i++) {
    const Node *n = timeline_node(t, i);
    for (uint32_t k = 0; n->op == OP_kernel && k < n->nres; k++) {
      ValueId v = n->res + k;
      uint64_t bytes = timeline_bytes(t, v);
      if (bytes < LEAST || t->until[v] <= peak || t->until[v] == t->n) continue;
      Again a = {.before = timeline_next_use(t, v, peak), .peak = peak};
      bool used = timeline_next_use(t, v, peak - 1) == peak;
      if (used || !again_plan(t, v, is_kept, &a) || a.kept + LEAST > bytes) continue;
      if (a.chain.len > LONGEST) continue;
      double gain = (double)(bytes - a.kept) / a.cost;
      if (gain <= most) continue;
      most = gain;
      *best = a;
    }
  }
  return most > 0;
}

/* One value less over the peak of the block, or of the loop that the peak is in. */
static bool relieve(Recompute *s, BlockId block) {
  Arena scratch = {0};
  Timeline t = timeline(s, block, &scratch);
  BlockId inside = NO_ID;
  Again a;
  uint32_t peak;
  timeline_peak(&t, &peak);
  bool found = t.n && best_over(&t, peak, &a);
  if (found) compute_again(s, &t, &a);
  else if (t.n && timeline_node(&t, peak)->op == OP_loop)
    inside = timeline_node(&t, peak)->blocks[0];
  arena_free(&scratch);
  return found || (inside != NO_ID && relieve(s, inside));
}

/* Until it fits, or nothing is left to do; the least that it came to. */
static uint64_t relieve_all(Recompute *s, uint64_t limit) {
  for (uint64_t least = UINT64_MAX;;) {
    Program *p = plan_make(s->g, s->c);
    uint64_t bytes = p->state_bytes + p->arena_bytes;
    if (bytes < least) least = bytes;
    if (bytes <= limit || !relieve(s, s->g->entries.at[program_largest_entry(p)].body))
      return least;
  }
}

/* Out of reach, the same way leads to the least once more: that is what is reported. */
static void meet_limit(Recompute *s, uint64_t limit) {
  Recompute before = *s;
  Graph *kept = graph_clone(s->g, s->g->arena);
  uint64_t least = relieve_all(s, limit);
  if (least <= limit) return;
  *s->g = *kept;
  *s = before;
  relieve_all(s, least);
}

bool pass_recompute(Graph *g, PassCtx *c) {
  Recompute s = {.g = g, .c = c};
  if (c->options->keep_values) return false; /* all of them are */
  for (uint32_t i = 0; i < g->entries.len; i++) repeat_regions(&s, g->entries.at[i].body);
  if (c->options->memory_limit) meet_limit(&s, c->options->memory_limit);
  return s.changed;
}
