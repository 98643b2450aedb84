/* custom_grad.c: functions that say what their gradient is.
 *
 *   fn f(x) { … } grad (dy) { … }    names of f are its residuals, read by the rule
 *   fn f(x) = … grad g               g takes f's arguments, then dy
 *
 * Either gives a cotangent for each float tensor among the arguments.  In the step the rule is
 * elaborated once a call, for an op `cotangent`; the pass grad copies it for what really arrives. A
 * rule must be linear in dy, or the loss scale would not come off again: S is followed through its
 * nodes as everywhere (ir/unit.c).
 */
#include "frontend/sema.h"

#include <string.h>

enum { MOST_INPUTS = 64 };

struct CustomGrad {
  Sema *s;
  const Ast *fn;
  Scope *scope; /* of the call: parameters and what the code bound */
  uint32_t n;
  ValueId x[MOST_INPUTS]; /* the float tensors among the arguments */
  const Ast *param[MOST_INPUTS];
  Val *args;   /* all of them, as they were passed */
  NodeId from; /* the first node of the call */
  Loc loc;     /* of the rule */
};

typedef struct CustomGrad Rule;

static bool has_rule(Sema *s, const Ast *fn) {
  return fn->kid[FN_GRAD] && s->building && s->g->entries.at[s->entry].kind == ENTRY_step;
}

CustomGrad *custom_grad_begin(Sema *s, const Ast *fn, Scope *sc) {
  if (!has_rule(s, fn)) return NULL;
  Rule *r = NEW(s->arena, Rule);
  *r = (Rule){.s = s, .fn = fn, .scope = sc, .loc = fn->kid[FN_GRAD]->loc};
  r->from = s->g->nodes.len;
  const Ast *params = fn->kid[FN_PARAMS];
  r->args = NEW_ARRAY(s->arena, Val, params->len);
  for (uint32_t i = 0; i < params->len && r->n < MOST_INPUTS; i++) {
    const Binding *b = scope_find_here(sc, params->kid[i]->name);
    r->args[i] = b->val;
    if (!val_is_tensor(b->val)) continue;
    ValueId v = tensor_of(s, b->val, params->kid[i]->loc);
    if (v == NO_ID || !value_is_float(s->g, v)) continue;
    r->x[r->n] = v;
    r->param[r->n++] = params->kid[i];
  }
  return r;
}

/* ---- the rule's values ----------------------------------------------------------------------- */

/* grad (dy) …: a function inside the call. */
static Val call_inner(Rule *r, Val dy) {
  const Ast *grad = r->fn->kid[FN_GRAD];
  Fn *fn = NEW(r->s->arena, Fn);
  *fn = (Fn){.ast = grad, .scope = r->scope};
  Arg arg = {NULL, dy, r->loc};
  Call c = {.loc = r->loc, .n = 1, .arg = &arg};
  return call_value(r->s, (Val){.kind = VAL_FN, .fn = fn}, &c);
}

/* grad NAME: all arguments as they were passed, then dy. */
static Val call_named_rule(Rule *r, Val dy) {
  const Ast *params = r->fn->kid[FN_PARAMS];
  Arg *at = NEW_ARRAY(r->s->arena, Arg, params->len + 1);
  for (uint32_t i = 0; i < params->len; i++) at[i] = (Arg){NULL, r->args[i], r->loc};
  at[params->len] = (Arg){NULL, dy, r->loc};
  Call c = {.loc = r->loc, .n = params->len + 1, .arg = at};
  return call_value(r->s, eval_name(r->s, r->scope, r->fn->kid[FN_GRAD]), &c);
}

static bool take_gradient(Rule *r, uint32_t i, Val v, ValueId *g) {
  Sema *s = r->s;
  Type want = value_type(s->g, r->x[i]);
  double number;
  if (val_number(v, &number)) {
    s->b.loc = r->loc;
    *g = build_constant(&s->b, want, number);
    return true;
  }
  *g = tensor_of(s, v, r->loc);
  if (*g == NO_ID) return false;
  Type have = value_type(s->g, *g);
  if (type_same_dims(have, want) && value_is_float(s->g, *g)) return true;
  diag_error(s->diag, r->loc, "the gradient of `%s` is %s, but `%s` is %s", r->param[i]->name,
             val_describe(s, v), r->param[i]->name, val_describe(s, val_tensor(r->x[i])));
  return false;
}

static bool take_gradients(Rule *r, Val v, ValueId *g) {
  bool several = v.kind == VAL_TUPLE;
  if (v.kind == VAL_BAD) return false;
  if ((several ? v.list.n : 1) != r->n) {
    diag_error(r->s->diag, r->loc, "the rule gives %s: a gradient for each of %u tensors is wanted",
               val_describe(r->s, v), (unsigned)r->n);
    return false;
  }
  for (uint32_t i = 0; i < r->n; i++)
    if (!take_gradient(r, i, several ? v.list.at[i] : v, &g[i])) return false;
  return true;
}

/* ---- linear in dy ---------------------------------------------------------------------------- */

static bool not_linear(Rule *r, Loc loc) {
  diag_error(r->s->diag, loc, "the rule is not linear in dy: it must double when dy doubles");
  return false;
}

/* The types of the rule's nodes get the exponent of S that dy's 1 gives them. */
static bool follow_scale(Rule *r, ValueId dy, NodeId from) {
  Graph *g = r->s->g;
  g->values.at[dy].type.unit = UNIT_S;
  for (NodeId i = from; i < g->nodes.len; i++) {
    const Node *n = &g->nodes.at[i];
    if (n->block != r->s->b.block || n->res == dy) continue;
    Unit unit = value_type(g, n->res).unit;
    Text why = {.arena = r->s->arena};
    if (!unit_infer(g, n->op, n->nops, n->ops, &unit, &why) ||
        (unit && (unit != UNIT_S || !value_is_float(r->s->g, n->res))))
      return not_linear(r, n->loc);
    for (uint32_t k = 0; k < n->nres; k++) g->values.at[n->res + k].type.unit = unit;
  }
  return true;
}

static bool carries_scale(Rule *r, const ValueId *g) {
  for (uint32_t i = 0; i < r->n; i++)
    if (value_type(r->s->g, g[i]).unit != UNIT_S && !unit_is_any(r->s->g, g[i]))
      return not_linear(r, r->loc);
  return true;
}

/* ---- what it reads besides its arguments ----------------------------------------------------- */

static bool is_input(const Rule *r, ValueId v) {
  for (uint32_t i = 0; i < r->n; i++)
    if (r->x[i] == v) return true;
  return false;
}

/* The trained parameter that v is, or NULL. */
static const State *parameter_of(const Sema *s, ValueId v) {
  const Graph *g = s->g;
  const Entry *e = &g->entries.at[s->entry];
  Value x = g->values.at[v];
  if (x.node != NO_ID || x.block != e->body || e->args.at[x.index].role != ARG_state) return NULL;
  const State *p = graph_state(g, e->args.at[x.index].name);
  return p && p->kind == STATE_param && !p->frozen ? p : NULL;
}

/* It gets no gradient from here, which is easily overlooked.  Said of each rule once. */
static void warn_of_parameters(Rule *r) {
  Sema *s = r->s;
  for (NodeId i = 0; i < r->from; i++) {
    const Node *n = &s->g->nodes.at[i];
    if (n->op == OP_custom_grad && same_place(n->loc, r->loc)) return;
  }
  for (NodeId i = r->from; i < s->g->nodes.len; i++) {
    const Node *n = &s->g->nodes.at[i];
    for (uint32_t k = 0; k < n->nops && n->op != OP_stop; k++) {
      const State *p = is_input(r, n->ops[k]) ? NULL : parameter_of(s, n->ops[k]);
      if (!p) continue;
      diag_warning(s->diag, WARN_closed_over, r->loc,
                   "the rule gives no gradient to %s, which the function reads: make it an "
                   "argument, or read stop(…) of it",
                   p->path);
      return;
    }
  }
}

Val custom_grad_end(CustomGrad *r, Val v) {
  if (!r || !r->n || v.kind == VAL_BAD) return v;
  Sema *s = r->s;
  ValueId y = v.kind == VAL_TENSOR ? v.tensor : NO_ID, ops[2 + 2 * MOST_INPUTS];
  if (y == NO_ID || !value_is_float(s->g, y)) {
    diag_error(s->diag, r->loc, "a function with its own gradient returns one float tensor, not %s",
               val_describe(s, v));
    return val_bad();
  }
  warn_of_parameters(r);
  NodeId from = s->g->nodes.len;
  s->b.loc = r->loc;
  ops[0] = y;
  ops[1] = build_typed(&s->b, OP_cotangent, value_type(s->g, y), 0, NULL, 0, NULL);
  memcpy(ops + 2, r->x, r->n * sizeof *ops);
  bool inner = r->fn->kid[FN_GRAD]->kind == AST_FN;
  Val dy = val_tensor(ops[1]);
  Val rule = inner ? call_inner(r, dy) : call_named_rule(r, dy);
  ValueId *g = ops + 2 + r->n;
  if (!take_gradients(r, rule, g)) return val_bad();
  if (!follow_scale(r, ops[1], from) || !carries_scale(r, g)) return val_bad();
  s->b.loc = r->loc;
  return val_tensor(build(&s->b, OP_custom_grad, 2 + 2 * r->n, ops, 0, NULL));
}
