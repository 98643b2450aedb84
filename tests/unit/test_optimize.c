/* test_optimize.c: what std/optim.mp computes, against its formulas in double precision (written
 * here a second time, from torch.optim's documentation); and that a step is a transaction: a
 * skipped one changes nothing but its counters.
 *
 * Each step starts from the state that the last one left in f32, so errors do not add up: the new
 * value must lie within 4 ulp of the formula's, an ulp being that of the largest operand: of the
 * terms of a sum, where they cancel.
 */
#include "frontend/frontend.h"
#include "tests/unit/pass_fixture.h"

enum { N = 64, ROWS = 8, STEPS = 12 };

typedef struct Rule {
  const char *optimizer;
  bool adam, decoupled;
  double lr, lr_to, momentum, beta1, beta2, eps, decay;
} Rule;

static const Rule formulas[] = {
    {"sgd(lr: 0.1)", .lr = 0.1, .lr_to = 0.1},
    {"sgd(lr: 0.1, momentum: 0.9, weight_decay: 0.01)", .lr = 0.1, .lr_to = 0.1, .momentum = 0.9,
     .decay = 0.01},
    {"adam(lr: 0.003, weight_decay: 0.02)", true, .lr = 0.003, .lr_to = 0.003, .beta1 = 0.9,
     .beta2 = 0.999, .eps = 1e-8, .decay = 0.02},
    {"adamw(lr: linear(0.01, to: 0), betas: (0.8, 0.95), eps: 1e-6, weight_decay: 0.1)", true, true,
     .lr = 0.01, .lr_to = 0, .beta1 = 0.8, .beta2 = 0.95, .eps = 1e-6, .decay = 0.1},
};

/* The gradient is row 0 of x over the number of rows that weigh; the others are 0. */
static const char SOURCE[] = "version 1\n"
                             "model M { p: param[64] = zeros() }\n"
                             "train M {\n"
                             "  batch B = 8\n"
                             "  data { x: f32[B, 64]; w: f32[B] }\n"
                             "  loss sum(x * p, axis: 1) weight(w)\n"
                             "  optimizer %s\n"
                             "  steps 12\n"
                             "}\n";

/* false: an error, which was printed. */
static bool compile(PassFixture *f, const char *optimizer) {
  static const PassOptions options = {0};
  const FrontendOptions o = {.name = "m", .source = "m.mp"};
  PassCtx c = {.arena = &f->arena, .diag = &f->diag, .options = &options};
  f->strings.arena = &f->arena;
  diag_init(&f->diag, &f->arena, stdout);
  char *text = arena_printf(&f->arena, SOURCE, optimizer);
  uint32_t source = diag_source(&f->diag, "m.mp", text, strlen(text));
  Ast *ast = frontend_parse(&f->arena, &f->strings, &f->diag, source);
  f->g = ast ? frontend_compile(&f->arena, &f->strings, &f->diag, ast, &o) : NULL;
  if (!f->g || !passes_run(&f->g, "grad, optimize, simplify, cse, dce", &c)) return false;
  f->e = eval_new(&f->arena, f->g, scalars_parse(&f->arena), EVAL_EXACT);
  return true;
}

static void set_vector(PassFixture *f, ArgRole role, const char *name, const double *x) {
  Tensor t = tensor_new(&f->arena, type_make(DT_f32, 1, (int64_t[]){N}), true);
  memcpy(t.data, x, N * sizeof *x);
  eval_set(f->e, role, name, &t);
}

static void set_count(PassFixture *f, const char *name, double v) {
  eval_set(f->e, ARG_state, name, &(Tensor){.type = type_scalar(DT_f32), .wide = true, .data = &v});
}

static void set_batch(PassFixture *f, const double *x, double n) {
  Tensor rows = tensor_new(&f->arena, type_make(DT_f32, 2, (int64_t[]){ROWS, N}), true);
  Tensor weights = tensor_new(&f->arena, type_make(DT_f32, 1, (int64_t[]){ROWS}), true);
  memset(rows.data, 0, ROWS * N * sizeof(double));
  memcpy(rows.data, x, N * sizeof *x);
  for (int i = 0; i < ROWS; i++) ((double *)weights.data)[i] = i < n;
  eval_set(f->e, ARG_input, "x", &rows);
  eval_set(f->e, ARG_input, "w", &weights);
}

static void run_step(PassFixture *f) {
  eval_run(f->e, (uint32_t)graph_entry_find(f->g, ENTRY_step), ROWS);
}

static bool begin(PassFixture *f, const char *optimizer) {
  uint64_t seed = 7;
  double p[N], zero[N] = {0};
  if (!compile(f, optimizer)) return false;
  for (int i = 0; i < N; i++) p[i] = random_in(&seed, -1, 1);
  set_vector(f, ARG_state, "p", p);
  if (graph_state(f->g, "p:m")) set_vector(f, ARG_state, "p:m", zero);
  if (graph_state(f->g, "p:v")) set_vector(f, ARG_state, "p:v", zero);
  set_count(f, "step", 0);
  set_count(f, "attempt", 0);
  set_count(f, "skipped", 0);
  eval_set_number(f->e, ARG_hyper, "steps", STEPS);
  return true;
}

static double state(PassFixture *f, const char *name, int i) {
  const Tensor *t = eval_arg(f->e, ARG_state, name);
  return t ? tensor_get(t, i) : 0;
}

static double result(PassFixture *f, ResRole role, const char *name, int i) {
  return tensor_get(eval_result(f->e, role, name), i);
}

/* ---- the formulas -------------------------------------------------------------------------- */

typedef struct Point {
  double p, m, v, g;
} Point;

static Point sgd(const Rule *o, Point x, double lr) {
  double g = x.g + o->decay * x.p;
  if (o->momentum != 0) g = x.m = o->momentum * x.m + g;
  x.p -= lr * g;
  return x;
}

static Point adam(const Rule *o, Point x, double lr, double t) {
  double g = o->decoupled ? x.g : x.g + o->decay * x.p;
  x.m = o->beta1 * x.m + (1 - o->beta1) * g;
  x.v = o->beta2 * x.v + (1 - o->beta2) * g * g;
  double m = x.m / (1 - pow(o->beta1, t)), v = x.v / (1 - pow(o->beta2, t));
  x.p = (o->decoupled ? x.p - lr * o->decay * x.p : x.p) - lr * m / (sqrt(v) + o->eps);
  return x;
}

static double ulp(double x) {
  int e;
  frexp(x, &e);
  return ldexp(1, e - 24);
}

static bool near(double have, double want, double operand) {
  return fabs(have - want) <= 4 * ulp(fmax(fabs(operand), fabs(want)));
}

static void check_step(Tally *t, PassFixture *f, const Rule *o, int step, uint64_t *seed) {
  double x[N], n = 3 + step % 4, lr = o->lr + (o->lr_to - o->lr) * fmin((double)step / STEPS, 1);
  Point want[N];
  for (int i = 0; i < N; i++) {
    x[i] = (float)(random_in(seed, -1, 1) * pow(10, i % 7 - 5));
    want[i] = (Point){state(f, "p", i), state(f, "p:m", i), state(f, "p:v", i), x[i] / n};
  }
  set_batch(f, x, n);
  eval_set_number(f->e, ARG_hyper, "lr", o->lr == o->lr_to ? o->lr : NAN);
  run_step(f);
  expect(t, result(f, RES_ok, "ok", 0) == 1, "%s: step %d commits", o->optimizer, step);
  expect(t, result(f, RES_nonfinite, "p", 0) == 0, "%s: step %d stays finite", o->optimizer, step);
  eval_carry_states(f->e);
  for (int i = 0; i < N; i++) {
    Point old = want[i], new = o->adam ? adam(o, old, lr, step + 1) : sgd(o, old, lr);
    double p = state(f, "p", i), m = state(f, "p:m", i), v = state(f, "p:v", i);
    double g = fmax(fabs(old.g), o->decoupled ? 0 : fabs(o->decay * old.p));
    expect(t, near(p, new.p, old.p), "%s: step %d, p[%d] is %.9g, not %.9g", o->optimizer, step, i,
           p, new.p);
    expect(t, near(m, new.m, fmax(fabs(old.m), g)), "%s: step %d, m[%d] is %.9g, not %.9g",
           o->optimizer, step, i, m, new.m);
    expect(t, near(v, new.v, fmax(old.v, (1 - o->beta2) * g * g)),
           "%s: step %d, v[%d] is %.9g, not %.9g", o->optimizer, step, i, v, new.v);
  }
}

static void test_formula(Tally *t, const Rule *o) {
  PassFixture f = {0};
  uint64_t seed = 11;
  if (expect(t, begin(&f, o->optimizer), "%s: the graph", o->optimizer))
    for (int step = 0; step < STEPS; step++) check_step(t, &f, o, step, &seed);
  fixture_end(&f);
}

/* ---- the transaction ----------------------------------------------------------------------- */

/* One step from the state at hand.  bad: what x[17] is; n: the weight of the loss. */
static void step(PassFixture *f, double bad, double n, double lr) {
  double x[N];
  for (int i = 0; i < N; i++) x[i] = i == 17 ? bad : 0.5;
  set_batch(f, x, n);
  eval_set_number(f->e, ARG_hyper, "lr", lr);
  run_step(f);
  eval_carry_states(f->e);
}

static void check_skip(Tally *t, const char *what, double bad, double n, double lr, int skipped) {
  PassFixture f = {0};
  double p[N], m[N], v[N];
  if (!expect(t, begin(&f, "adamw(lr: linear(0.01, to: 0))"), "the graph")) return;
  step(&f, 0.25, 4, NAN);
  for (int i = 0; i < N; i++)
    p[i] = state(&f, "p", i), m[i] = state(&f, "p:m", i), v[i] = state(&f, "p:v", i);
  step(&f, bad, n, lr);
  expect(t, result(&f, RES_ok, "ok", 0) == 0, "%s: the step is skipped", what);
  expect(t, result(&f, RES_nonfinite, "p", 0) == 0, "%s: a skipped step blames nobody", what);
  for (int i = 0; i < N; i++)
    expect(t,
           state(&f, "p", i) == p[i] && state(&f, "p:m", i) == m[i] && state(&f, "p:v", i) == v[i],
           "%s: element %d moved", what, i);
  expect(t, state(&f, "step", 0) == 1 && state(&f, "attempt", 0) == 2,
         "%s: step stays, attempt counts", what);
  expect(t, state(&f, "skipped", 0) == skipped, "%s: %g skips in a row", what,
         state(&f, "skipped", 0));
  step(&f, bad, n, lr);
  expect(t, state(&f, "skipped", 0) == 2 * skipped, "%s: skips in a row add up", what);
  step(&f, 0.25, 4, NAN);
  expect(t, state(&f, "skipped", 0) == 0 && state(&f, "step", 0) == 2,
         "%s: a good step ends the row", what);
  fixture_end(&f);
}

/* Weight decay of a huge parameter: the gradient is small, what the update makes of it overflows
 * when squared.  The step was good, what it made is not. */
static void test_nonfinite(Tally *t) {
  PassFixture f = {0};
  double p[N] = {[17] = 1e25};
  if (!expect(t, begin(&f, "adam(lr: 0.01, weight_decay: 0.02)"), "the graph")) return;
  set_vector(&f, ARG_state, "p", p);
  step(&f, 0.5, 1, 0.01);
  expect(t, result(&f, RES_ok, "ok", 0) == 1, "the gradient was finite");
  expect(t, result(&f, RES_nonfinite, "p", 0) == 1, "an infinite moment is reported");
  expect(t, isfinite(state(&f, "p", 17)), "though the parameter hides it");
  fixture_end(&f);
}

int main(void) {
  Tally t = {0};
  for (size_t i = 0; i < sizeof formulas / sizeof *formulas; i++) test_formula(&t, &formulas[i]);
  check_skip(&t, "NaN in a gradient", NAN, 4, NAN, 1);
  check_skip(&t, "infinity in a gradient", INFINITY, 4, NAN, 1);
  check_skip(&t, "infinite learning rate", 0.25, 4, INFINITY, 1);
  check_skip(&t, "a batch without weight", 0.25, 0, NAN, 0);
  test_nonfinite(&t);
  return tally_end(&t);
}
