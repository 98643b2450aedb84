/* test_grad.c: the gradient of every differentiable op against central differences, in f64.
 *
 * Each rule of column VJP has a recipe here: a few lines of IR that make %z of parameters %p and %q
 * with `OP`.  The table is generated from ops.def, so a new rule without a recipe does not compile.
 * The loss is Σ c·z with random c; every element of p and q is moved by ±h.  The difference must
 * stay within 1e-7 of the largest element of the gradient: the error of the difference itself is
 * about h²·f''' / 6 + u·|loss| / h, some 1e-10 here.
 */
#include "tests/unit/pass_fixture.h"

static const double H = 1e-5, TOLERANCE = 1e-7;

/* Types without element type: dims of %p, %q (NULL: there is none) and %z.  Further arguments of
 * the entry begin with a comma.  lo, hi: where p lies; both signs where lo < 0. */
typedef struct Recipe {
  const char *p, *q, *more, *body, *z;
  double lo, hi;
  int batch, rows; /* 0: no batch */
} Recipe;

/* clang-format off */
#define UNARY(name, low, high)                                                                     \
  static const Recipe recipe_##name = {                                                            \
      .p = "3,4", .body = "%z = OP %p : f32[3,4]", .z = "3,4", .lo = low, .hi = high}
#define BINARY(name, low, high)                                                                    \
  static const Recipe recipe_##name = {                                                            \
      .p = "3,4", .q = "3,4", .z = "3,4", .lo = low, .hi = high,                                   \
      .body = "%z = OP %p, %q : f32[3,4]"}

BINARY(add, -2, 2);
BINARY(sub, -2, 2);
BINARY(mul, -2, 2);
BINARY(div, 0.5, 2);
BINARY(max, -2, 2);
BINARY(min, -2, 2);
UNARY(neg, -2, 2);
UNARY(sqrt, 0.5, 2);
UNARY(exp, -2, 2);
UNARY(expm1, -2, 2);
UNARY(log, 0.5, 2);
UNARY(tanh, -2, 2);
UNARY(sigmoid, -3, 3);
UNARY(relu, -2, 2);
UNARY(log1p, -0.5, 2);
UNARY(rsqrt, 0.5, 2);
BINARY(pow, 0.5, 2);
UNARY(erf, -2, 2);
UNARY(gelu, -3, 3);
UNARY(gelu_tanh, -3, 3);
UNARY(silu, -3, 3);
UNARY(softplus, -3, 3);
UNARY(sin, -4, 4);
UNARY(cos, -4, 4);
UNARY(abs, -2, 2);
UNARY(softmax, -2, 2);
UNARY(log_softmax, -2, 2);
BINARY(bce_logits, -2, 2);

static const Recipe recipe_select = {
    .p = "3,4", .q = "3,4", .z = "3,4", .lo = -2, .hi = 2, .more = ", %c: i1[3,4] = input \"cond\"",
    .body = "%z = OP %c, %p, %q : f32[3,4]"};
static const Recipe recipe_reshape = {
    .p = "3,4", .z = "2,6", .lo = -2, .hi = 2, .body = "%z = OP %p : f32[2,6]"};
static const Recipe recipe_transpose = {
    .p = "2,3,4", .z = "4,2,3", .lo = -2, .hi = 2,
    .body = "%z = OP %p {perm=[2,0,1]} : f32[4,2,3]"};
static const Recipe recipe_broadcast = {
    .p = "1,3", .q = "4,3", .z = "3,2,4", .lo = -2, .hi = 2,
    .body = "%a = OP %p {axes=[1,0]} : f32[3,2,4]\n%b = OP %q {axes=[2,0]} : f32[3,2,4]\n"
            "%z = mul %a, %b : f32[3,2,4]"};
static const Recipe recipe_cast = {
    .p = "3,4", .z = "3,4", .lo = -2, .hi = 2,
    .body = "%a = OP %p : bf16[3,4]\n%z = OP %a : f32[3,4]"};
static const Recipe recipe_mask_rows = {
    .p = "4", .z = "rows 3,4", .lo = -2, .hi = 2, .batch = 3, .rows = 2,
    .body = "%a = broadcast %p {axes=[1]} : f32[rows 3,4]\n%z = OP %a : f32[rows 3,4]"};
static const Recipe recipe_sum = {
    .p = "2,3,4", .z = "3", .lo = -2, .hi = 2, .body = "%z = OP %p {axes=[0,2]} : f32[3]"};
static const Recipe recipe_reduce_max = {
    .p = "3,4", .z = "3", .lo = -2, .hi = 2, .body = "%z = OP %p {axes=[1]} : f32[3]"};
static const Recipe recipe_reduce_min = {
    .p = "3,4", .z = "4", .lo = -2, .hi = 2, .body = "%z = OP %p {axes=[0]} : f32[4]"};
static const Recipe recipe_logsumexp = {
    .p = "3,4", .z = "3", .lo = -2, .hi = 2, .body = "%z = OP %p : f32[3]"};
static const Recipe recipe_layer_norm = {
    .p = "2,3,5", .q = "5", .z = "2,3,5", .lo = -2, .hi = 2,
    .body = "%z = OP %p, %q, %q {eps=0.01} : f32[2,3,5]"};
static const Recipe recipe_rms_norm = {
    .p = "2,3,5", .q = "5", .z = "2,3,5", .lo = -2, .hi = 2,
    .body = "%z = OP %p, %q {eps=0.01} : f32[2,3,5]"};
static const Recipe recipe_dropout = {
    .p = "3,40", .z = "3,40", .lo = -2, .hi = 2, .more = ", %i: i32[] = input \"word\"",
    .body = "%z = OP %p, %i, %i, %i {site=7, rate=0.25} : f32[3,40]"};
static const Recipe recipe_matmul = {
    .p = "3,4", .q = "4,2", .z = "3,2", .lo = -2, .hi = 2,
    .body = "%z = OP %p, %q {k_chunk=256} : f32[3,2]"};
static const Recipe recipe_gather = {
    .p = "3,8", .z = "3", .lo = -2, .hi = 2, .more = ", %i: i32[3] = input \"index\"",
    .body = "%z = OP %p, %i : f32[3]"};
static const Recipe recipe_cross_entropy = {
    .p = "3,8", .z = "3", .lo = -2, .hi = 2, .more = ", %i: i32[3] = input \"index\"",
    .body = "%z = OP %p, %i : f32[3]"};
static const Recipe recipe_custom_grad = { /* (pq)² */
    .p = "3", .q = "3", .z = "3", .lo = -2, .hi = 2,
    .body = "%a = mul %p, %q : f32[3]\n%y = mul %a, %a : f32[3]\n%d = cotangent : f32[3]*S\n"
            "%e = mul %d, %a : f32[3]*S\n%t = add %e, %e : f32[3]*S\n"
            "%gp = mul %t, %q : f32[3]*S\n%gq = mul %t, %p : f32[3]*S\n"
            "%z = OP %y, %d, %p, %q, %gp, %gq : f32[3]"};
static const Recipe recipe_slice = {
    .p = "5,4", .z = "2,4", .lo = -2, .hi = 2,
    .body = "%z = OP %p {starts=[1,3], steps=[3,-1]} : f32[2,4]"};
static const Recipe recipe_pad = {
    .p = "2,3", .z = "5,4", .lo = -2, .hi = 2,
    .body = "%z = OP %p {starts=[1,0], steps=[2,1]} : f32[5,4]"};
static const Recipe recipe_concat = {
    .p = "2,3", .q = "2,1", .z = "2,7", .lo = -2, .hi = 2,
    .body = "%z = OP %p, %q, %p {axis=1} : f32[2,7]"};
static const Recipe recipe_embedding = {
    .p = "8,3", .z = "5,2,3", .lo = -2, .hi = 2, .more = ", %i: i32[5,2] = input \"index\"",
    .body = "%z = OP %p, %i : f32[5,2,3]"};
static const Recipe recipe_stop = {0}, recipe_nondiff = {0}, recipe_loop = {0};

static const Recipe *const recipe[OP_COUNT] = {
#define OP(name, doc) [OP_##name] =
#define VJP(rule) &recipe_##rule,
#include "ir/ops.def"
};

/* What one recipe a rule does not reach: the layouts and accumulator of matmul, uses that add up,
 * the batch, whole chains. */
static const struct {
  const char *name;
  Recipe r;
} more[] = {
    {"matmul nt", {.p = "3,4", .q = "2,4", .z = "3,2", .lo = -2, .hi = 2,
                   .body = "%z = matmul %p, %q {tb, k_chunk=256} : f32[3,2]"}},
    {"matmul tn", {.p = "4,3", .q = "4,2", .z = "3,2", .lo = -2, .hi = 2,
                   .body = "%z = matmul %p, %q {ta, k_chunk=256} : f32[3,2]"}},
    {"matmul tt", {.p = "4,3", .q = "2,4", .z = "3,2", .lo = -2, .hi = 2,
                   .body = "%z = matmul %p, %q {ta, tb, k_chunk=256} : f32[3,2]"}},
    {"matmul batched", {.p = "2,3,4", .q = "2,4,5", .z = "2,3,5", .lo = -2, .hi = 2,
                        .body = "%z = matmul %p, %q {k_chunk=256} : f32[2,3,5]"}},
    {"matmul batched tt", {.p = "2,4,3", .q = "2,5,4", .z = "2,3,5", .lo = -2, .hi = 2,
                           .body = "%z = matmul %p, %q {ta, tb, k_chunk=256} : f32[2,3,5]"}},
    {"matmul stored otherwise",
     {.p = "3,2,4", .q = "5,2,4", .z = "3,2,5", .lo = -2, .hi = 2,
      .body = "%z = matmul %p, %q {tb, perm_a=[1,0,2], perm_b=[1,0,2], perm_c=[1,0,2], "
              "k_chunk=256} : f32[3,2,5]"}},
    {"smoothing", {.p = "3,8", .z = "3", .lo = -2, .hi = 2,
                   .more = ", %i: i32[3] = input \"index\"",
                   .body = "%s = constant {value=0.1} : f32[]\n"
                           "%z = cross_entropy %p, %i, %s : f32[3]"}},
    {"norm alone", {.p = "2,5", .q = "2,5", .z = "2,5", .lo = -2, .hi = 2,
                    .body = "%a = layer_norm %p {eps=0.01} : f32[2,5]\n"
                            "%b = rms_norm %q {eps=0.01} : f32[2,5]\n%z = mul %a, %b : f32[2,5]"}},
    {"tied embedding",
     {.p = "8,3", .z = "5,8", .lo = -2, .hi = 2, .more = ", %i: i32[5] = input \"index\"",
      .body = "%a = embedding %p, %i : f32[5,3]\n%b = tanh %a : f32[5,3]\n"
              "%z = matmul %b, %p {tb, k_chunk=256} : f32[5,8]"}},
    {"embedding used twice",
     {.p = "8,3", .z = "5,3", .lo = -2, .hi = 2, .more = ", %i: i32[5] = input \"index\"",
      .body = "%a = embedding %p, %i : f32[5,3]\n%b = embedding %p, %i : f32[5,3]\n"
              "%z = mul %a, %b : f32[5,3]"}},
    {"accumulator", {.p = "3,3", .q = "3,3", .z = "3,3", .lo = -2, .hi = 2,
                     .body = "%z = matmul %p, %q, %q {k_chunk=256} : f32[3,3]"}},
    {"tied weight", {.p = "3,3", .z = "3,3", .lo = -1, .hi = 1,
                     .body = "%a = matmul %p, %p {ta, k_chunk=2} : f32[3,3]\n"
                             "%b = tanh %a : f32[3,3]\n"
                             "%z = matmul %b, %p {tb, k_chunk=2} : f32[3,3]"}},
    {"many uses", {.p = "3,4", .z = "3,4", .lo = 0.5, .hi = 2,
                   .body = "%a = exp %p : f32[3,4]\n%b = mul %a, %p : f32[3,4]\n"
                           "%d = sub %b, %a : f32[3,4]\n%e = div %d, %p : f32[3,4]\n"
                           "%z = mul %e, %e : f32[3,4]"}},
    {"partial batch",
     {.p = "2,3", .q = "2", .z = "rows 5", .lo = -2, .hi = 2, .batch = 5, .rows = 3,
      .more = ", %x: f32[rows 5,3] = input \"x\"",
      .body = "%a = matmul %x, %p {tb, k_chunk=256} : f32[rows 5,2]\n"
              "%b = broadcast %q {axes=[1]} : f32[rows 5,2]\n%d = add %a, %b : f32[rows 5,2]\n"
              "%h = tanh %d : f32[rows 5,2]\n%z = sum %h {axes=[1]} : f32[rows 5]"}},
    {"normalisation",
     {.p = "2,8", .q = "8", .z = "2,8", .lo = -2, .hi = 2,
      .body = "%s = sum %p {axes=[1]} : f32[2]\n%k = constant {value=0.125} : f32[2]\n"
              "%m = mul %s, %k : f32[2]\n%b = broadcast %m {axes=[0]} : f32[2,8]\n"
              "%d = sub %p, %b : f32[2,8]\n%e = mul %d, %d : f32[2,8]\n"
              "%v = sum %e {axes=[1]} : f32[2]\n%r = sqrt %v : f32[2]\n"
              "%w = broadcast %r {axes=[0]} : f32[2,8]\n%y = div %d, %w : f32[2,8]\n"
              "%g = broadcast %q {axes=[1]} : f32[2,8]\n%z = mul %y, %g : f32[2,8]"}},
};
/* clang-format on */

/* ---- a recipe as a graph ------------------------------------------------------------------- */

typedef struct Case {
  PassFixture f;
  const Recipe *r;
} Case;

static void add_with_op(Text *t, const char *body, const char *op) {
  for (const char *at; (at = strstr(body, "OP ")); body = at + 2) {
    text_add_n(t, body, (size_t)(at - body));
    text_add(t, op);
  }
  text_add(t, body);
}

static const char *graph_text(Case *k, const char *op) {
  const Recipe *r = k->r;
  Text t = {.arena = &k->f.arena};
  text_printf(&t, "graph \"t\"\nstate param \"p\" : f32[%s]\n", r->p);
  if (r->q) text_printf(&t, "state param \"q\" : f32[%s]\n", r->q);
  text_add(&t, "entry @step step ");
  if (r->batch) text_printf(&t, "batch %d ", r->batch);
  text_printf(&t, "(%%p: f32[%s] = state \"p\"", r->p);
  if (r->q) text_printf(&t, ", %%q: f32[%s] = state \"q\"", r->q);
  text_printf(&t, ", %%coef: f32[%s] = input \"coef\"%s) {\n", r->z, r->more ? r->more : "");
  add_with_op(&t, r->body, op);
  text_printf(&t, "\n%%cz = mul %%z, %%coef : f32[%s]\n%%l = sum %%cz {axes=[", r->z);
  int axes = 1;
  for (const char *s = r->z; *s; s++) axes += *s == ',';
  for (int i = 0; i < axes; i++) text_printf(&t, "%s%d", i ? "," : "", i);
  text_add(&t, "]} : f32[]\n%n = constant {value=1} : f32[]\nreturn loss \"l\" = %l, weight \"l\" "
               "= %n\n}\n");
  return t.at;
}

static Tensor random_parameter(Case *k, const char *name, uint64_t seed) {
  const Recipe *r = k->r;
  const char *type = arena_printf(&k->f.arena, "f32[%s]", *name == 'p' ? r->p : r->q);
  Type t;
  if (!type_parse(&type, &t)) exit(1);
  Tensor x = tensor_new(&k->f.arena, t, true);
  for (int64_t i = 0; i < type_count(t); i++)
    ((double *)x.data)[i] = random_in(&seed, r->lo, r->hi);
  return x;
}

static bool start(Case *k, const char *op) {
  if (!fixture_start(&k->f, graph_text(k, op), "grad", EVAL_F64)) return false;
  Tensor p = random_parameter(k, "p", 1), q = k->r->q ? random_parameter(k, "q", 2) : p;
  eval_set(k->f.e, ARG_state, "p", &p);
  if (k->r->q) eval_set(k->f.e, ARG_state, "q", &q);
  eval_set_random(k->f.e, 0, 3);
  return true;
}

/* ---- differences --------------------------------------------------------------------------- */

static double loss(Case *k) {
  eval_run(k->f.e, 0, k->r->batch ? k->r->rows : 1);
  return tensor_get(eval_result(k->f.e, RES_loss, "l"), 0);
}

static double loss_at(Case *k, const char *name, Tensor x, int64_t i, double v) {
  double *at = (double *)x.data + i, old = *at;
  *at = v;
  eval_set(k->f.e, ARG_state, name, &x);
  double l = loss(k);
  *at = old;
  eval_set(k->f.e, ARG_state, name, &x);
  return l;
}

static void check_parameter(Tally *t, Case *k, const char *label, const char *name, uint64_t seed) {
  Tensor x = random_parameter(k, name, seed);
  int64_t n = type_count(x.type);
  double *g = NEW_ARRAY(&k->f.arena, double, n), norm = 0;
  loss(k);
  const Tensor *grad = eval_result(k->f.e, RES_grad, name);
  if (!expect(t, grad != NULL, "%s: no gradient of %s", label, name)) return;
  for (int64_t i = 0; i < n; i++) {
    g[i] = tensor_get(grad, i);
    norm = fmax(norm, fabs(g[i]));
  }
  expect(t, norm > 0, "%s: the gradient of %s is zero, so nothing is tested", label, name);
  for (int64_t i = 0; i < n; i++) {
    double v = ((double *)x.data)[i];
    double d = (loss_at(k, name, x, i, v + H) - loss_at(k, name, x, i, v - H)) / (2 * H);
    expect(t, fabs(d - g[i]) <= TOLERANCE * norm, "%s: d/d%s[%d] is %.12g, differences give %.12g",
           label, name, (int)i, g[i], d);
  }
}

static void check_recipe(Tally *t, const Recipe *r, const char *label, const char *op) {
  Case k = {.r = r};
  if (expect(t, start(&k, op), "%s: the recipe's graph", label)) {
    check_parameter(t, &k, label, "p", 1);
    if (r->q) check_parameter(t, &k, label, "q", 2);
  }
  fixture_end(&k.f);
}

int main(void) {
  Tally t = {0};
  for (int op = 0; op < OP_COUNT; op++)
    if (recipe[op]->body)
      check_recipe(&t, recipe[op], op_name[op], op == OP_cast_policy ? "cast.policy" : op_name[op]);
  for (size_t i = 0; i < sizeof more / sizeof *more; i++)
    check_recipe(&t, &more[i].r, more[i].name, "");
  return tally_end(&t);
}
