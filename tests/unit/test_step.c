/* test_step.c: what stands between the backward pass and the optimizer, against its formulas in
 * double precision: seeds of several losses, the norm, the clip, the factor k; and that the loss
 * scale cancels to the last bit, as a whole and in halves.
 *
 * The losses are Σ a·w and Σ b·w·v, whose gradients at w = 1, v = 0 are a and, by v, b.  The update
 * is p - grad, so v shows every bit of the gradient that an optimizer sees.
 */
#include "tests/unit/pass_fixture.h"

enum { N = 5 };

typedef struct Case {
  const char *what, *train;
  double na, nb, size; /* weights of the losses, size of the gradients */
  double clip;         /* 0: none */
} Case;

static const Case cases[] = {
    {"equal weights", "", 4, 4, 1, 0},
    {"another weight each", "", 3, 7, 1, 0},
    {"the second has none", "", 5, 0, 1, 0},
    {"the first has none", "", 0, 2, 1, 0},
    {"weights below 1", "", 0.37, 0.001, 1, 0},
    {"clip", " clip 0.25", 3, 7, 1, 0.25},
    {"clip that is not reached", " clip 100", 3, 7, 1, 100},
    {"clip of large gradients", " clip 1", 3, 7, 1e18, 1},
    {"clip of small gradients", " clip 1e-16", 3, 7, 1e-15, 1e-16},
    {"many rows", " clip 1", 1e6, 3e6, 1, 1},
};

static const char *graph_text(Arena *a, const Case *c, const char *scale) {
  const char *text =
      "graph \"t\"\ntrain precision f32%s steps 1%s\n"
      "state param \"w\" : f32[5]\nstate param \"v\" : f32[5]\n"
      "entry @step step (%%w: f32[5] = state \"w\", %%v: f32[5] = state \"v\", %%a: f32[5] = input "
      "\"a\",\n"
      "  %%b: f32[5] = input \"b\", %%na: f32[] = input \"na\", %%nb: f32[] = input \"nb\") {\n"
      "%%0 = mul %%w, %%a : f32[5]\n%%1 = sum %%0 {axes=[0]} : f32[]\n"
      "%%2 = mul %%w, %%v : f32[5]\n%%3 = mul %%2, %%b : f32[5]\n%%4 = sum %%3 {axes=[0]} : f32[]\n"
      "return loss \"first\" = %%1, weight \"first\" = %%na, loss \"second\" = %%4,\n"
      "  weight \"second\" = %%nb\n}\n"
      "entry @\"update:w\" update (%%p: f32[5] = state \"w\", %%g: f32[5] = grad \"w\") {\n"
      "%%q = sub %%p, %%g : f32[5]\nreturn state \"w\" = %%q\n}\n"
      "entry @\"update:v\" update (%%p: f32[5] = state \"v\", %%g: f32[5] = grad \"v\") {\n"
      "%%q = sub %%p, %%g : f32[5]\nreturn state \"v\" = %%q\n}\n";
  return arena_printf(a, text, scale, c->train);
}

static void set_vector(PassFixture *f, ArgRole role, const char *name, const double *x) {
  Tensor t = tensor_new(&f->arena, type_make(DT_f32, 1, (int64_t[]){N}), true);
  memcpy(t.data, x, N * sizeof *x);
  eval_set(f->e, role, name, &t);
}

typedef struct Seen { /* after a step from w = 1, v = 0 */
  double w[N], v[N], norm, ok;
} Seen;

static double result(PassFixture *f, ResRole role, const char *name, int i) {
  return tensor_get(eval_result(f->e, role, name), i);
}

/* The step in halves; the host reduces nothing, but knows all weights. */
static void run_halves(PassFixture *f, double na, double nb) {
  eval_set_number(f->e, ARG_state, "weight:first", na);
  eval_set_number(f->e, ARG_state, "weight:second", nb);
  eval_run(f->e, (uint32_t)graph_entry_find(f->g, ENTRY_grads), 1);
  eval_carry_states(f->e);
  eval_run(f->e, (uint32_t)graph_entry_find(f->g, ENTRY_apply), 1);
}

static bool run(Tally *t, const Case *c, const char *scale, const double *a, const double *b,
                double na, double nb, bool halves, Seen *seen) {
  PassFixture f = {0};
  double w[N] = {1, 1, 1, 1, 1}, v[N] = {0, 0, 0, 0, 0}, zero = 0;
  bool ok = fixture_start(&f, graph_text(&f.arena, c, scale),
                          "simplify, grad, optimize, simplify, cse, dce", EVAL_EXACT);
  if (!expect(t, ok, "%s: the graph", c->what)) return false;
  set_vector(&f, ARG_state, "w", w);
  set_vector(&f, ARG_state, "v", v);
  set_vector(&f, ARG_input, "a", a);
  set_vector(&f, ARG_input, "b", b);
  eval_set_number(f.e, ARG_input, "na", na);
  eval_set_number(f.e, ARG_input, "nb", nb);
  static const char *const counters[] = {"step", "attempt", "skipped"};
  for (int i = 0; i < 3; i++)
    eval_set(f.e, ARG_state, counters[i],
             &(Tensor){.type = type_scalar(DT_f32), .wide = true, .data = &zero});
  if (halves) run_halves(&f, na, nb);
  else eval_run(f.e, 0, 1);
  for (int i = 0; i < N; i++) {
    seen->w[i] = result(&f, RES_state, "w", i);
    seen->v[i] = result(&f, RES_state, "v", i);
  }
  seen->norm = result(&f, RES_gauge, "grad_norm", 0);
  seen->ok = result(&f, RES_ok, "ok", 0);
  fixture_end(&f);
  return true;
}

/* ---- the formulas -------------------------------------------------------------------------- */

static bool near(double have, double want, double operand) {
  return fabs(have - want) <= 8 * 0x1p-24 * fmax(fabs(operand), fabs(want));
}

static void fill(const Case *c, double *a, double *b) {
  uint64_t seed = 3;
  for (int i = 0; i < N; i++) {
    a[i] = (float)(c->size * random_in(&seed, -1, 1));
    b[i] = (float)(c->size * random_in(&seed, -1, 1));
  }
}

static void test_formula(Tally *t, const Case *c) {
  double a[N], b[N], gw[N], gv[N], squares = 0;
  Seen s;
  fill(c, a, b);
  for (int i = 0; i < N; i++) { /* at w = 1, v = 0 */
    gw[i] = c->na > 0 ? a[i] / c->na : 0;
    gv[i] = c->nb > 0 ? b[i] / c->nb : 0;
    squares += gw[i] * gw[i] + gv[i] * gv[i];
  }
  double norm = sqrt(squares), k = c->clip > 0 ? fmin(1, c->clip / norm) : 1;
  if (!run(t, c, "", a, b, c->na, c->nb, false, &s)) return;
  expect(t, s.ok == 1, "%s: commits", c->what);
  expect(t, near(s.norm, norm, norm), "%s: norm %.9g, not %.9g", c->what, s.norm, norm);
  for (int i = 0; i < N; i++) {
    expect(t, near(s.w[i], 1 - k * gw[i], 1), "%s: w[%d] = %.9g, not %.9g", c->what, i, s.w[i],
           1 - k * gw[i]);
    expect(t, near(s.v[i], -k * gv[i], 0), "%s: v[%d] = %.9g, not %.9g", c->what, i, s.v[i],
           -k * gv[i]);
  }
}

/* ---- the scale cancels --------------------------------------------------------------------- */

static void test_scale(Tally *t, const Case *c) {
  double a[N], b[N];
  Seen plain, scaled, halves;
  fill(c, a, b);
  if (!run(t, c, "", a, b, c->na, c->nb, false, &plain)) return;
  for (int k = 0; k <= 16; k += 4) {
    char scale[64];
    snprintf(scale, sizeof scale, " scale static init %d", 1 << k);
    if (!run(t, c, scale, a, b, c->na, c->nb, false, &scaled)) return;
    expect(t, !memcmp(&plain, &scaled, sizeof plain), "%s: S = 2^%d changes no bit", c->what, k);
    if (!run(t, c, scale, a, b, c->na, c->nb, true, &halves)) return;
    expect(t, !memcmp(&plain, &halves, sizeof plain), "%s: nor do halves, S = 2^%d", c->what, k);
  }
}

/* ---- what must not commit ------------------------------------------------------------------ */

static void refuse(Tally *t, const char *what, const char *scale, double x, double na, double nb,
                   bool halves) {
  static const Case c = {.what = "refused", .train = " clip 1"};
  double a[N] = {1, 1, x, 1, 1}, b[N] = {1, 1, 1, 1, 1};
  Seen s;
  if (!run(t, &c, scale, a, b, na, nb, halves, &s)) return;
  expect(t, s.ok == 0, "%s: does not commit", what);
  for (int i = 0; i < N; i++)
    expect(t, s.w[i] == 1 && s.v[i] == 0, "%s: element %d moved", what, i);
}

static void test_refused(Tally *t, const char *what, double x, double na, double nb) {
  for (int halves = 0; halves < 2; halves++) refuse(t, what, "", x, na, nb, halves);
}

int main(void) {
  Tally t = {0};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    test_formula(&t, &cases[i]);
    test_scale(&t, &cases[i]);
  }
  test_refused(&t, "an infinite gradient", INFINITY, 3, 7);
  test_refused(&t, "NaN in a gradient", NAN, 3, 7);
  test_refused(&t, "a norm that overflows", 1e30, 3, 7);
  test_refused(&t, "no weight at all", 1, 0, 0);
  test_refused(&t, "a weight below 0", 1, 3, -1);
  test_refused(&t, "a weight that is NaN", 1, NAN, 7);
  test_refused(&t, "an infinite weight", 1, 3, INFINITY);
  refuse(&t, "an infinite S·N", " scale static init 4611686018427387904", 1, 1e30, 1e30, false);
  return tally_end(&t);
}
