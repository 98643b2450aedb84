/* sites.c: where a step's floats can first be not finite: its arguments and what its kernels write.
 *
 * When a step does not commit, the runtime runs it again, the same to the last bit, and looks at
 * each site as soon as it is written (runtime/origin.c).  For that a site says what and where it
 * is, and of which sites it is computed: `from`, through views, loops, ints and bools.  The guard's
 * own questions mark the sites that they ask about, so what is not finite by design, or is but does
 * not matter, is not taken for the cause.
 *
 * A constant that is infinite (the -inf of a mask) makes its sign lawful in what is computed from
 * it, up to the next kernel that is no map: behind a softmax, say, nothing is.
 */
#include "codegen/cpu/emit.h"

#include <math.h>
#include <string.h>

typedef struct Finder {
  const Module *m;
  Sites *s;
  const Entry *entry;
  const Block *body;
  uint32_t *asked; /* by value: the question it was last met in */
  uint32_t question;
  VEC(uint64_t) from;
} Finder;

/* ---- what a site is called ------------------------------------------------------------------- */

/* The value inside a kernel that its result is: through the cast that narrows it, and what commits
 * it. */
static ValueId made(const Graph *g, const Node *kernel, uint32_t result) {
  ValueId v = g->blocks.at[kernel->blocks[0]].results.at[result];
  for (const Node *n; (n = value_node(g, v)) && (n->op == OP_cast_policy || n->op == OP_commit);)
    v = n->ops[n->op == OP_commit];
  return v;
}

/* What the argument v of a block is from outside; NO_ID: of an entry, or what a loop carries. */
static ValueId outside(const Graph *g, ValueId v) {
  NodeId owner = g->blocks.at[g->values.at[v].block].owner;
  uint32_t index = g->values.at[v].index;
  if (owner == NO_ID) return NO_ID;
  const Node *n = &g->nodes.at[owner];
  if (n->op == OP_kernel) return n->ops[index];
  return index > node_int(n, AT_carries, 0) ? n->ops[index - 1] : NO_ID;
}

/* What computes *v, in whichever kernel; NULL: *v has become an argument. */
static const Node *maker(const Graph *g, ValueId *v) {
  for (;;) {
    const Node *n = value_node(g, *v);
    ValueId next = !n                    ? outside(g, *v)
                   : n->op == OP_kernel  ? made(g, n, *v - n->res)
                   : n->op == OP_reshape ? n->ops[0]
                                         : NO_ID;
    if (next == NO_ID) return n;
    *v = next;
  }
}

/* "matmul of net.0", "exp backward" */
static const char *name_node(const Module *m, const Node *n) {
  return arena_printf(m->arena, "%s%s%s%s", op_name[n->op], n->loc.backward ? " backward" : "",
                      n->loc.module ? " of " : "", n->loc.module ? n->loc.module : "");
}

typedef struct Company { /* the lines of a kernel that a result of it is computed on */
  Finder *f;
  const Node *of;
  Text text;
} Company;

static bool is_told(const Company *c, const Node *n) {
  bool computes = value_is_float(c->f->m->g, n->res) && n->op != OP_constant &&
                  n->op != OP_cast_policy && !(op_flags[n->op] & F_VIEW);
  return computes && n->loc.line && n->loc.line != c->of->loc.line;
}

static void add_company(Company *c, ValueId v) {
  const Module *m = c->f->m;
  const Node *n = value_node(m->g, v);
  if (!n || c->f->asked[v] == c->f->question) return;
  c->f->asked[v] = c->f->question;
  for (uint32_t i = 0; i < n->nops; i++) add_company(c, n->ops[i]);
  if (is_told(c, n))
    text_printf(&c->text, "%s%s at %s", c->text.len ? ", " : ", in one kernel with ",
                name_node(m, n), module_place(m, n->loc));
}

/* ", in one kernel with exp at m.mp:12:8": what else may be to blame. */
static const char *company(Finder *f, const Node *of) {
  Company c = {.f = f, .of = of, .text = {.arena = f->m->arena}};
  f->question++;
  for (uint32_t i = 0; of->op != OP_kernel && i < of->nops; i++) add_company(&c, of->ops[i]);
  return c.text.len ? c.text.at : "";
}

static const char *name_argument(const Module *m, const Port *p) {
  const char *kind = p->role == ARG_input ? "input" : "state";
  return arena_printf(m->arena, "%s: %s '%s'", module_place(m, p->loc), kind, p->name);
}

/* What n computes, or the argument v: of the entry, or of the loop that carries it. */
static const char *name_value(const Finder *f, const Node *n, ValueId v) {
  const Module *m = f->m;
  NodeId loop = m->g->blocks.at[m->g->values.at[v].block].owner;
  if (!n && loop == NO_ID) return name_argument(m, &f->entry->args.at[m->g->values.at[v].index]);
  if (!n) n = &m->g->nodes.at[loop];
  return arena_printf(m->arena, "%s: %s", module_place(m, n->loc), name_node(m, n));
}

/* ", stored in f16", where a kernel does nothing but narrow what another has computed. */
static const char *storing(const Finder *f, const Node *kernel, uint32_t result) {
  const Graph *g = f->m->g;
  DType t = (DType)value_type(g, kernel->res + result).dtype;
  bool narrows = t != DT_f32 && !value_node(g, made(g, kernel, result));
  return narrows ? arena_printf(f->m->arena, ", stored in %s", dtype_name[t]) : "";
}

/* ---- of what a site is computed -------------------------------------------------------------- */

static void trace(Finder *f, ValueId v);

/* What the value inside a kernel is computed of: the kernel's operands. */
static void trace_inside(Finder *f, const Node *kernel, ValueId v) {
  const Graph *g = f->m->g;
  const Node *n = value_node(g, v);
  if (f->asked[v] == f->question) return;
  f->asked[v] = f->question;
  if (!n) trace(f, kernel->ops[g->values.at[v].index]);
  for (uint32_t i = 0; n && i < n->nops; i++) trace_inside(f, kernel, n->ops[i]);
}

static void trace_result(Finder *f, const Node *n, uint32_t result) {
  const Graph *g = f->m->g;
  ValueId inside = g->blocks.at[n->blocks[0]].results.at[result];
  if (n->op == OP_kernel) trace_inside(f, n, inside);
  else {
    trace(f, inside);
    if (result < node_int(n, AT_carries, 0)) trace(f, n->ops[result]);
  }
}

/* An argument of a loop's block, behind the index. */
static void trace_argument(Finder *f, const Node *loop, uint32_t index) {
  if (!index) return;
  trace(f, loop->ops[index - 1]);
  if (index - 1 < node_int(loop, AT_carries, 0))
    trace(f, f->m->g->blocks.at[loop->blocks[0]].results.at[index - 1]);
}

static void trace(Finder *f, ValueId v) {
  const Graph *g = f->m->g;
  const Node *n = value_node(g, v);
  if (f->asked[v] == f->question) return;
  f->asked[v] = f->question;
  NodeId owner = n ? NO_ID : g->blocks.at[g->values.at[v].block].owner;
  if (f->s->of[v] != NO_ID) vec_push(f->m->arena, &f->from, f->s->of[v]);
  else if (n && n->op == OP_reshape) trace(f, n->ops[0]);
  else if (n) trace_result(f, n, v - n->res);
  else if (owner != NO_ID) trace_argument(f, &g->nodes.at[owner], g->values.at[v].index);
}

static void ask(Finder *f) {
  f->question++;
  f->from.len = 0;
}

/* ---- what is lawful -------------------------------------------------------------------------- */

static uint32_t lawful(const Finder *f, const Node *kernel) {
  const Graph *g = f->m->g;
  const NodeIds *nodes = &g->blocks.at[kernel->blocks[0]].nodes;
  bool map = node_is_kernel(kernel, FORM_map);
  uint32_t flags = 0;
  for (uint32_t i = 0; i < nodes->len; i++) {
    const Node *n = &g->nodes.at[nodes->at[i]];
    double v = n->op == OP_constant ? node_float(n, AT_value, 0) : 0;
    if (isinf(v) && value_is_float(g, n->res)) flags |= v > 0 ? MP_SITE_INF : MP_SITE_NEGATIVE_INF;
  }
  for (uint32_t i = 0; map && i < f->from.len; i++)
    flags |= f->s->list.at[f->from.at[i]].flags & (MP_SITE_INF | MP_SITE_NEGATIVE_INF);
  return flags;
}

/* ---- the list -------------------------------------------------------------------------------- */

/* where: its name and what else is to be said of it. */
static mp_site *add_site(Finder *f, ValueId v, const char *name, const char *more) {
  const char *where = *more ? arena_printf(f->m->arena, "%s%s", name, more) : name;
  Type t = value_type(f->m->g, v);
  mp_site site = {.tensor = describe_tensor(where, t), .state = -1, .unit = t.unit};
  site.what = hash_bytes(name, strlen(name), 0);
  Buffer b = f->m->p->buffer[v];
  for (uint32_t i = 0; b.space == SPACE_STATE && i < f->m->g->states.len; i++)
    if (f->m->p->state_at[i] == b.at) site.state = (int32_t)i;
  f->s->of[v] = f->s->list.len;
  vec_push(f->m->arena, &f->s->list, site);
  return &f->s->list.at[f->s->list.len - 1];
}

static void add_arguments(Finder *f, const Entry *e) {
  for (uint32_t i = 0; i < e->args.len; i++) {
    const Port *p = &e->args.at[i];
    bool told = p->role == ARG_input || p->role == ARG_state;
    if (told && value_is_float(f->m->g, f->body->args.at[i]))
      add_site(f, f->body->args.at[i], name_argument(f->m, p), "");
  }
  f->s->arguments = f->s->list.len;
}

/* The result of the kernel whose maker comes first among those without a site; nres: none. */
static uint32_t next_result(const Finder *f, const Node *n) {
  uint32_t next = n->nres;
  for (uint32_t k = 0; k < n->nres; k++) {
    bool open = value_is_float(f->m->g, n->res + k) && f->s->of[n->res + k] == NO_ID;
    if (open && (next == n->nres || made(f->m->g, n, k) < made(f->m->g, n, next))) next = k;
  }
  return next;
}

static void add_results(Finder *f, const Node *n) {
  for (uint32_t k; (k = next_result(f, n)) < n->nres;) {
    ValueId v = n->res + k;
    const Node *of = maker(f->m->g, &v);
    const char *more = of ? company(f, of) : "";
    if (!*more) more = storing(f, n, k);
    mp_site *site = add_site(f, n->res + k, name_value(f, of, v), more);
    if (site->state >= 0) site->flags |= MP_SITE_WRITTEN;
  }
}

static void add_kernels(Finder *f, const ProgramEntry *p) {
  for (uint32_t i = 0; i < p->steps.len; i++)
    if (p->steps.at[i].kind == STEP_kernel) add_results(f, &f->m->g->nodes.at[p->steps.at[i].node]);
}

/* Once all sites have their numbers: a loop's kernels may read what later ones wrote. */
static void link_kernels(Finder *f, const ProgramEntry *p) {
  for (uint32_t i = 0; i < p->steps.len; i++) {
    const Node *n = &f->m->g->nodes.at[p->steps.at[i].node];
    for (uint32_t k = 0; p->steps.at[i].kind == STEP_kernel && k < n->nres; k++) {
      uint32_t number = f->s->of[n->res + k];
      bool last = f->m->p->buffer[n->res + k].space == SPACE_STATE && /* nobody reads it any more */
                  f->entry->kind != ENTRY_grads;
      if (number == NO_ID || last) continue;
      ask(f);
      trace_result(f, n, k);
      mp_site *site = &f->s->list.at[number];
      site->from = arena_copy(f->m->arena, f->from.at, f->from.len * sizeof *f->from.at);
      site->n_from = f->from.len;
      site->flags |= lawful(f, n);
    }
  }
}

/* The guard of a step's first half is in the second, and asks about what it is handed. */
static bool is_asked(const Entry *e, uint32_t result) {
  uint8_t role = e->results.at[result].role;
  return role == RES_finite || (role == RES_state && e->kind == ENTRY_grads);
}

static void mark_guarded(Finder *f) {
  for (uint32_t i = 0; i < f->entry->results.len; i++) {
    if (!is_asked(f->entry, i)) continue;
    ask(f);
    trace(f, f->body->results.at[i]);
    for (uint32_t k = 0; k < f->from.len; k++)
      f->s->list.at[f->from.at[k]].flags |= MP_SITE_GUARDED;
  }
}

static bool has_sites(const Module *m, EntryKind kind) {
  switch (kind) {
  case ENTRY_init:
  case ENTRY_derive: return false; /* they run once */
  case ENTRY_step:
  case ENTRY_grads:
  case ENTRY_apply:
  case ENTRY_replay:
  case ENTRY_origin: return !m->o->no_origin;
  default: return m->o->check_nan;
  }
}

const Sites *sites_of(const Module *m, uint32_t entry) {
  const Graph *g = m->g;
  const Entry *e = &g->entries.at[entry];
  Sites *s = &m->sites[entry];
  if (s->of) return s;
  Finder f = {.m = m, .s = s, .entry = e, .body = &g->blocks.at[e->body]};
  s->of = NEW_ARRAY(m->arena, uint32_t, g->values.len);
  for (ValueId v = 0; v < g->values.len; v++) s->of[v] = NO_ID;
  if (!has_sites(m, e->kind)) return s;
  f.asked = NEW_ARRAY(m->arena, uint32_t, g->values.len);
  add_arguments(&f, e);
  add_kernels(&f, &m->p->entries[entry]);
  link_kernels(&f, &m->p->entries[entry]);
  mark_guarded(&f);
  return s;
}
