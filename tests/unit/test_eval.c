/* test_eval.c: what ops, regions, rows and draws mean; the two modes; Programs on poisoned memory.
 *
 * Everything else is compared with the evaluator, so the evaluator is compared with numbers that
 * are written out here or come from a formula in double precision; what is defined by something
 * else (a composite op, a kernel, a Program) with that. */
#include "ir/float_mode.h"
#include "ref/expand.h"
#include "tests/unit/eval_fixture.h"

enum { N = 5 };

static void set_doubles(Fixture *f, const char *name, int64_t n, double *x) {
  eval_set(f->e, ARG_input, name,
           &(Tensor){.type = type_make(DT_f32, 1, &n), .wide = true, .data = x});
}

/* ---- elements -------------------------------------------------------------------------------- */

static const char FLOATS[] = "entry @e infer (%x: f32[5] = input \"x\") {\n"
                             "%a = exp %x : f32[5]\n%b = sigmoid %x : f32[5]\n"
                             "%c = constant {value=0.1} : f32[5]\n%d = mul %x, %c : f32[5]\n"
                             "%f = cast %d : bf16[5]\n%g = cast %f : f32[5]\n"
                             "%h = isfinite %a : i1[5]\n%i = relu %x : f32[5]\n"
                             "%j = add %f, %f : bf16[5]\n"
                             "return value \"a\" = %a, value \"b\" = %b, value \"g\" = %g,\n"
                             "value \"h\" = %h, value \"i\" = %i, value \"j\" = %j }\n";

static void test_f64(Tally *t) {
  Fixture *f = fixture_new(FLOATS, EVAL_F64);
  double x[N] = {0.3, -1.7, 800, NAN, -0.25};
  set_doubles(f, "x", N, x);
  run(f, 1, "a");
  for (int i = 0; i < N; i++) {
    expect(t, same_float(result_at(f, "a", i), exp(x[i])), "exp in double");
    expect(t, same_float(result_at(f, "g", i), x[i] * 0.1), "no rounding between floats");
    expect(t, result_at(f, "h", i) == (i < 2 || i > 3), "the guard stays");
    expect(t, same_float(result_at(f, "i", i), x[i] <= 0 ? 0 : x[i]), "relu");
  }
  expect(t, fabs(result_at(f, "b", 1) - 1 / (1 + exp(1.7))) < 1e-16, "sigmoid in double");
  fixture_free(f);
}

static void test_exact(Tally *t) {
  Fixture *f = fixture_new(FLOATS, EVAL_EXACT);
  const float x[N] = {0.3f, -1.7f, 0x1p-127f, NAN, 1.0f};
  set_vector(f, "x", N, x);
  volatile float tiny = 0x1p-126f;
  run(f, 1, "a");
  expect(t, tiny * 0.5f != 0, "the caller's float mode is back");
  expect(t, fabs(result_at(f, "a", 0) - exp(0.3f)) < 1e-7, "exp in f32");
  expect(t, result_at(f, "a", 0) == (float)result_at(f, "a", 0), "f32 results are f32");
  expect(t, result_at(f, "i", 2) == 0, "a subnormal operand is zero");
  expect(t, result_at(f, "g", 4) == 0.10009765625, "0.1 as bf16");
  expect(t, result_at(f, "j", 4) == 0.2001953125, "bf16 arithmetic is rounded f32");
  expect(t, isnan(result_at(f, "i", 3)) && isnan(result_at(f, "j", 3)), "NaN stays");
  fixture_free(f);
}

static void test_compare(Tally *t) {
  static const char *const OPS[] = {"eq", "ne", "lt", "le", "gt", "ge"};
  static const bool WANT[6][4] = {{0, 1, 0, 0}, {1, 0, 1, 1}, {1, 0, 0, 0},
                                  {1, 1, 0, 0}, {0, 0, 0, 0}, {0, 1, 0, 0}};
  float x[4] = {1, 2, NAN, 3}, y[4] = {2, 2, 2, NAN};
  for (int op = 0; op < 6; op++)
    for (int mode = 0; mode < 2; mode++) {
      char text[256];
      snprintf(text, sizeof text,
               "entry @e infer (%%x: f32[4] = input \"x\", %%y: f32[4] = input \"y\") {\n"
               "%%z = %s %%x, %%y : i1[4]\nreturn value \"z\" = %%z }\n",
               OPS[op]);
      Fixture *f = fixture_new(text, mode ? EVAL_F64 : EVAL_EXACT);
      set_vector(f, "x", 4, x);
      set_vector(f, "y", 4, y);
      run(f, 1, "z");
      for (int i = 0; i < 4; i++)
        expect(t, result_at(f, "z", i) == WANT[op][i], "%s, element %d", OPS[op], i);
      fixture_free(f);
    }
}

/* Reading an f16 is written twice: as a scalar program and in ref/tensor.c. */
static void test_f16(Tally *t) {
  Arena arena = {0};
  const Scalars *s = scalars_parse(&arena);
  Tensor x = tensor_new(&arena, type_make(DT_f16, 1, &(int64_t){1}), false), y = x;
  y.data = NEW(&arena, uint16_t);
  for (uint32_t code = 0; code < 0x10000; code++) {
    uint32_t program;
    *(uint16_t *)x.data = (uint16_t)code;
    scalar_run(&s->prog[SC_f16_to_f32], &code, &program);
    bool nan = (code & 0x7fff) > 0x7c00;
    expect(t, tensor_get_bits(&x, 0) == program, "f16 %04x to f32", code);
    tensor_set(s, &y, 0, tensor_get(&x, 0));
    expect(t, *(uint16_t *)y.data == (nan ? code | 0x200 : code), "f16 %04x and back", code);
  }
  tensor_set(s, &y, 0, 1e-7);
  expect(t, tensor_get(&y, 0) == 0x1p-23, "a subnormal f16");
  tensor_set(s, &y, 0, -65520);
  expect(t, tensor_get(&y, 0) == -INFINITY, "too large for f16");
  arena_free(&arena);
}

static void test_casts(Tally *t) {
  Fixture *f = fixture_new("entry @e infer (%x: f32[8] = input \"x\") {\n"
                           "%i = cast %x : i32[8]\n%f = cast %i : f32[8]\n%b = cast %x : bf16[8]\n"
                           "%u = cast %i : u8[8]\n%g = cast %u : f32[8]\n%p = ne %x, %f : i1[8]\n"
                           "%q = cast %p : f32[8]\n"
                           "%one = constant {value=1} : i32[8]\n%j = add %i, %one : i32[8]\n"
                           "%k = cast %j : f32[8]\n"
                           "return value \"i\" = %i, value \"f\" = %f, value \"b\" = %b,\n"
                           "value \"g\" = %g, value \"q\" = %q, value \"k\" = %k }\n",
                           EVAL_EXACT);
  const float x[8] = {-1.9f, 2.5f, 3e9f, -3e9f, NAN, 16777216, 1.00390625f, 1.01171875f};
  const double i32[8] = {-1, 2, INT32_MAX, INT32_MIN, 0, 16777216, 1, 1};
  const double bf16[8] = {-1.8984375, 2.5, 3003121664., -3003121664., NAN, 16777216, 1, 1.015625};
  const double u8[8] = {255, 2, 255, 0, 0, 0, 1, 1};
  set_vector(f, "x", 8, x);
  run(f, 1, "i");
  for (int i = 0; i < 8; i++) {
    expect(t, result_at(f, "i", i) == i32[i], "f32 to i32, element %d", i);
    expect(t, result_at(f, "f", i) == (float)i32[i], "i32 to f32, element %d", i);
    double next = i == 2 ? INT32_MIN : i32[i] + 1; /* integers wrap; 2^24 + 1 is a tie */
    expect(t, result_at(f, "k", i) == (float)next, "i32 to f32 of the next, element %d", i);
    expect(t, same_float(result_at(f, "b", i), bf16[i]), "f32 to bf16, element %d", i);
    expect(t, result_at(f, "g", i) == u8[i], "i32 to u8, element %d", i);
    expect(t, result_at(f, "q", i) == (x[i] != i32[i]), "i1 to f32, element %d", i);
  }
  fixture_free(f);
}

/* ---- places ---------------------------------------------------------------------------------- */

static void test_places(Tally *t) {
  Fixture *f = fixture_new("entry @e infer (%x: f32[2,3] = input \"x\") {\n"
                           "%t = transpose %x {perm=[1,0]} : f32[3,2]\n"
                           "%r = reshape %x : f32[3,2]\n"
                           "%b = broadcast %x {axes=[0,2]} : f32[2,4,3]\n"
                           "%s = reduce_max %x {axes=[1]} : f32[2]\n%v = reshape %s : f32[2,1]\n"
                           "%w = broadcast %v {axes=[0,1]} : f32[2,5]\n"
                           "%i = iota {axis=1} : i32[2,3]\n"
                           "return value \"t\" = %t, value \"r\" = %r, value \"b\" = %b,\n"
                           "value \"w\" = %w, value \"i\" = %i }\n",
                           EVAL_EXACT);
  const float x[6] = {0, 1, 2, 3, 4, 5};
  set_f32(f, "x", 2, (int64_t[]){2, 3}, x);
  run(f, 1, "t");
  for (int i = 0; i < 6; i++) {
    expect(t, result_at(f, "t", i) == i % 2 * 3 + i / 2, "transpose");
    expect(t, result_at(f, "r", i) == i, "reshape");
    expect(t, result_at(f, "i", i) == i % 3, "iota");
  }
  for (int i = 0; i < 24; i++)
    expect(t, result_at(f, "b", i) == i / 12 * 3 + i % 3, "broadcast with a new axis");
  for (int i = 0; i < 10; i++) expect(t, result_at(f, "w", i) == i / 5 * 3 + 2, "stretched axis");
  fixture_free(f);
}

static void test_gather(Tally *t) {
  Fixture *f =
      fixture_new("entry @e infer (%x: f32[4,3] = input \"x\", %k: i32[4] = input \"k\") {\n"
                  "%y = gather %x, %k : f32[4]\n%h = one_hot %k : f32[4,3]\n"
                  "return value \"y\" = %y, value \"h\" = %h }\n",
                  EVAL_EXACT);
  const float x[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, k[4] = {2, -1, 3, 1};
  const double want[4] = {2, 3, 8, 10};
  set_f32(f, "x", 2, (int64_t[]){4, 3}, x);
  set_vector(f, "k", 4, k);
  run(f, 1, "y");
  for (int i = 0; i < 4; i++) expect(t, result_at(f, "y", i) == want[i], "gather, row %d", i);
  for (int i = 0; i < 12; i++)
    expect(t, result_at(f, "h", i) == (i % 3 == k[i / 3]), "one_hot, element %d", i);
  fixture_free(f);
}

/* Two examples in a batch of four, two lines of the axis each. */
static void test_rows(Tally *t) {
  Fixture *f = fixture_new("entry @e infer batch 4 (%x: f32[rows 8,2] = input \"x\") {\n"
                           "%m = mask_rows %x : f32[rows 8,2]\n"
                           "return value \"x\" = %x, value \"m\" = %m }\n",
                           EVAL_EXACT);
  const float x[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  set_f32(f, "x", 2, (int64_t[]){4, 2}, x);
  run(f, 2, "x");
  for (int i = 0; i < 16; i++) {
    int row = i / 4 < 2 ? i / 4 : 1;
    expect(t, result_at(f, "x", i) == x[row * 4 + i % 4], "padding repeats the last row, %d", i);
    expect(t, result_at(f, "m", i) == (i < 8 ? x[i] : 0), "mask_rows, %d", i);
  }
  fixture_free(f);
}

/* ---- composites ------------------------------------------------------------------------------ */

static const char LOSS[] =
    "entry @e infer (%z: f32[2,4] = input \"z\", %t: i32[2] = input \"t\") {\n"
    "%p = softmax %z : f32[2,4]\n%l = cross_entropy %z, %t : f32[2]\n"
    "%a = argmax %z : i32[2]\n"
    "return value \"p\" = %p, value \"l\" = %l, value \"a\" = %a }\n";

static void test_composites(Tally *t) {
  const float z[8] = {0.5f, 2, -1, 2, 80, 3, 0, 1}, target[2] = {2, 1};
  for (int mode = 0; mode < 2; mode++) {
    Fixture *f = fixture_new(LOSS, mode ? EVAL_F64 : EVAL_EXACT);
    double tolerance = mode ? 1e-15 : 3e-7;
    set_f32(f, "z", 2, (int64_t[]){2, 4}, z);
    set_vector(f, "t", 2, target);
    run(f, 1, "p");
    for (int i = 0; i < 2; i++) {
      double s = 0;
      for (int k = 0; k < 4; k++) s += exp(z[4 * i + k]);
      for (int k = 0; k < 4; k++) {
        double want = exp(z[4 * i + k]) / s, got = result_at(f, "p", 4 * i + k);
        expect(t, fabs(got - want) <= tolerance * want + 1e-37, "softmax %d %d: %g", i, k, got);
      }
      double want = log(s) - z[4 * i + (int)target[i]];
      expect(t, fabs(result_at(f, "l", i) - want) <= tolerance * want, "cross_entropy %d", i);
    }
    expect(t, result_at(f, "a", 0) == 1 && result_at(f, "a", 1) == 0,
           "argmax: the first of equals");
    ValueId p =
        graph_entry_result(f->g, 0, RES_value, "p"); /* an id of the graph with softmax in it */
    expect(t, eval_value(f->e, p) == eval_result(f->e, RES_value, "p"), "ids stay readable");
    fixture_free(f);
  }
}

static void test_argmax_nan(Tally *t) {
  Fixture *f = fixture_new(LOSS, EVAL_EXACT);
  const float z[8] = {1, NAN, 7, NAN, -INFINITY, -INFINITY, -INFINITY, -INFINITY},
              target[2] = {0, 0};
  set_f32(f, "z", 2, (int64_t[]){2, 4}, z);
  set_vector(f, "t", 2, target);
  run(f, 1, "a");
  expect(t, result_at(f, "a", 0) == 1, "argmax: the first NaN");
  expect(t, result_at(f, "a", 1) == 0, "argmax: all minus infinity");
  fixture_free(f);
}

/* The expansions are sound graphs, on tagged axes too. */
static void test_expansions(Tally *t) {
  Fixture *f = fixture_new(
      "entry @e infer batch 4 (%z: f32[rows 4,5] = input \"z\", %b: bf16[3,rows 4,5] = input "
      "\"b\",\n"
      "%t: i32[rows 4] = input \"t\", %s: i32[] = seed \"lo\", %h: i32[] = seed \"hi\") {\n"
      "%p = softmax %z : f32[rows 4,5]\n%q = softmax %b : bf16[3,rows 4,5]\n"
      "%l = cross_entropy %z, %t : f32[rows 4]\n%a = argmax %b : i32[3,rows 4]\n"
      "%o = one_hot %t : bf16[rows 4,5]\n%u = uniform %s, %h {site=1} : f32[3,rows 4,5]\n"
      "%n = normal %s, %h {site=2} : f32[]\n"
      "return value \"p\" = %p, value \"q\" = %q, value \"l\" = %l, value \"a\" = %a,\n"
      "value \"o\" = %o, value \"u\" = %u, value \"n\" = %n }\n",
      EVAL_EXACT);
  Text why = {.arena = &f->arena};
  bool changed;
  const ValueId *map = expand_graph(f->g, &f->arena, &changed);
  expect(t, !graph_verify(f->g, &why), "expanded: %s", why.at ? why.at : "");
  expect(t, changed, "there was something to expand");
  for (uint32_t v = 0; v < f->g->values.len; v++)
    expect(t, map[v] == NO_ID || type_equal(value_type(f->g, v), value_type(f->g, map[v])),
           "value %u keeps its type", (unsigned)v);
  expand_graph(f->g, &f->arena, &changed);
  expect(t, !changed, "nothing is left to expand");
  fixture_free(f);
}

/* Written from the paper: ten rounds, counter (x0..x3), key (k0, k1). */
static uint32_t philox_word0(uint32_t x0, uint32_t x2, uint32_t x3, uint32_t k0, uint32_t k1) {
  uint32_t x1 = 0;
  for (int round = 0; round < 10; round++) {
    uint64_t a = (uint64_t)0xD2511F53 * x0, b = (uint64_t)0xCD9E8D57 * x2;
    uint32_t y0 = (uint32_t)(b >> 32) ^ x1 ^ k0, y2 = (uint32_t)(a >> 32) ^ x3 ^ k1;
    x0 = y0, x1 = (uint32_t)b, x2 = y2, x3 = (uint32_t)a;
    k0 += 0x9E3779B9, k1 += 0xBB67AE85;
  }
  return x0;
}

static void test_draws(Tally *t) {
  const uint64_t site = 0x89abcdef01234567 >> 1, seed = 0xdeadbeefcafef00d;
  for (int zero = 0; zero < 2; zero++) {
    char text[512];
    snprintf(text, sizeof text,
             "entry @e init (%%lo: i32[] = seed \"lo\", %%hi: i32[] = seed \"hi\") {\n"
             "%%u = uniform %%lo, %%hi {site=%lld} : f32[3,70]\n"
             "%%n = normal %%lo, %%hi {site=%lld} : f32[210]\n"
             "return value \"u\" = %%u, value \"n\" = %%n }\n",
             zero ? 0LL : (long long)site, zero ? 0LL : (long long)site);
    Fixture *f = fixture_new(text, EVAL_EXACT);
    eval_set_seed(f->e, zero ? 0 : seed);
    run(f, 1, "u");
    for (int64_t i = 0; i < 210; i++) {
      uint32_t bits = zero ? philox_word0((uint32_t)i, 0, 0, 0, 0)
                           : philox_word0((uint32_t)i, (uint32_t)site, (uint32_t)(site >> 32),
                                          (uint32_t)seed, (uint32_t)(seed >> 32));
      expect(t, result_at(f, "u", i) == (bits >> 8) * 0x1p-24, "uniform draw %d", (int)i);
      double z = result_at(f, "n", i), cdf = 0.5 * erfc(-z * sqrt(0.5));
      expect(t, fabs(cdf - 0.5 - ((int32_t)bits + 0.5) * 0x1p-32) < 1e-6, "normal draw %d", (int)i);
    }
    if (zero) /* the published vector for counter 0 and key 0 */
      expect(t, result_at(f, "u", 0) == (0x6627e8d5u >> 8) * 0x1p-24, "known answer");
    fixture_free(f);
  }
}

/* ---- regions --------------------------------------------------------------------------------- */

/* Carries (a, b) -> (b, a + x[i] * s), stacked: the index and a. */
static void test_loop(Tally *t) {
  Fixture *f = fixture_new(
      "entry @e infer (%a: f32[] = input \"a\", %b: f32[] = input \"b\", %x: f32[4] = input "
      "\"x\",\n"
      "%s: f32[] = input \"s\") {\n"
      "%p, %q, %k, %y = loop %a, %b, %x, %s {trip=4, carries=2, slices=1}"
      " : f32[], f32[], i32[4], f32[4]\n"
      "(%i: i32[], %ca: f32[], %cb: f32[], %xi: f32[], %t: f32[]) {\n"
      "%m = mul %xi, %t : f32[]\n%n = add %ca, %m : f32[]\nyield %cb, %n, %i, %ca }\n"
      "return value \"p\" = %p, value \"q\" = %q, value \"k\" = %k, value \"y\" = %y }\n",
      EVAL_EXACT);
  const float x[4] = {1, 2, 3, 4};
  set_vector(f, "x", 4, x);
  set_f32(f, "a", 0, NULL, &(float){10});
  set_f32(f, "b", 0, NULL, &(float){20});
  set_f32(f, "s", 0, NULL, &(float){100});
  run(f, 1, "p");
  const double ys[4] = {10, 20, 110, 220};
  for (int i = 0; i < 4; i++) {
    expect(t, result_at(f, "k", i) == i, "loop: index");
    expect(t, result_at(f, "y", i) == ys[i], "loop: stacked");
  }
  expect(t, result_at(f, "p", 0) == 410 && result_at(f, "q", 0) == 620, "loop: carries");
  fixture_free(f);
}

/* A loop over whole chunks of k, threading the accumulator, has the bits of one product. */
static void test_chunked_product(Tally *t) {
  Fixture *f = fixture_new(
      "entry @e infer (%a: f32[4,3,256] = input \"a\", %b: f32[4,256,5] = input \"b\") {\n"
      "%z = constant {value=0} : f32[3,5]\n"
      "%y = loop %z, %a, %b {trip=4, carries=1, slices=2} : f32[3,5]\n"
      "(%i: i32[], %acc: f32[3,5], %ai: f32[3,256], %bi: f32[256,5]) {\n"
      "%m = matmul %ai, %bi, %acc {k_chunk=256} : f32[3,5]\nyield %m }\n"
      "%t = transpose %a {perm=[1,0,2]} : f32[3,4,256]\n%u = reshape %t : f32[3,1024]\n"
      "%v = reshape %b : f32[1024,5]\n%w = matmul %u, %v {k_chunk=256} : f32[3,5]\n"
      "return value \"y\" = %y, value \"w\" = %w }\n",
      EVAL_EXACT);
  set_f32(f, "a", 3, (int64_t[]){4, 3, 256}, noise_vector(f, 3072, 5));
  set_f32(f, "b", 3, (int64_t[]){4, 256, 5}, noise_vector(f, 5120, 6));
  run(f, 1, "y");
  int64_t at;
  expect(t, tensor_same(eval_result(f->e, RES_value, "y"), eval_result(f->e, RES_value, "w"), &at),
         "chunks in a loop are one product");
  fixture_free(f);
}

static void test_kernel(Tally *t) {
  Fixture *f = fixture_new(
      "entry @e infer (%x: f32[4,5] = input \"x\") {\n"
      "%a = exp %x : f32[4,5]\n%b = sum %a {axes=[1]} : f32[4]\n"
      "%c, %d = kernel %x {form=reduce} : f32[4], f32[4,5] (%k: f32[4,5]) {\n"
      "%e = exp %k : f32[4,5]\n%s = sum %e {axes=[1]} : f32[4]\nyield %s, %e }\n"
      "return value \"a\" = %a, value \"b\" = %b, value \"c\" = %c, value \"d\" = %d }\n",
      EVAL_EXACT);
  int64_t at;
  eval_set_random(f->e, 0, 7);
  run(f, 1, "a");
  expect(t, tensor_same(eval_result(f->e, RES_value, "a"), eval_result(f->e, RES_value, "d"), &at),
         "a kernel is its body");
  expect(t, tensor_same(eval_result(f->e, RES_value, "b"), eval_result(f->e, RES_value, "c"), &at),
         "a kernel is its body, reduced");
  fixture_free(f);
}

/* ---- state, Programs ------------------------------------------------------------------------- */

/* w <- ok ? w + x : w, and the sum of the old w over a view. */
static const char STEP[] =
    "hyper \"lr\" = 0.5\nstate param \"w\" : f32[32]\nstate counter \"attempt\" : i32[]\n"
    "entry @s step (%x: f32[32] = input \"x\", %w: f32[32] = state \"w\",\n"
    "%n: i32[] = state \"attempt\", %lr: f32[] = hyper \"lr\") {\n"
    "%u, %ok = kernel %w, %x, %lr {form=reduce} : f32[32], i1[] (%a: f32[32], %b: f32[32], %h: "
    "f32[]) {\n"
    "%l = broadcast %h {axes=[]} : f32[32]\n%m = mul %l, %b : f32[32]\n%c = add %a, %m : f32[32]\n"
    "%f = isfinite %c : i1[32]\n%o = reduce_and %f {axes=[0]} : i1[]\nyield %c, %o }\n"
    "%v = reshape %u : f32[4,8]\n"
    "%t = kernel %v {form=reduce} : f32[] (%g: f32[4,8]) {\n"
    "%r = sum %g {axes=[0,1]} : f32[]\nyield %r }\n"
    "%z = kernel %ok, %u, %w {form=map} : f32[32] (%p: i1[], %q: f32[32], %s: f32[32]) {\n"
    "%y = commit %p, %q, %s : f32[32]\nyield %y }\n"
    "%e = kernel %n {form=map} : i32[] (%i: i32[]) {\n"
    "%one = constant {value=1} : i32[]\n%j = add %i, %one : i32[]\nyield %j }\n"
    "return state \"w\" = %z, state \"attempt\" = %e, ok = %ok, value \"t\" = %t }\n";

static void test_carry(Tally *t) {
  Fixture *f = fixture_new(STEP, EVAL_EXACT);
  float x[32] = {[3] = 2}, w[32] = {0};
  set_vector(f, "x", 32, x);
  eval_set(f->e, ARG_state, "w",
           &(Tensor){.type = type_make(DT_f32, 1, (int64_t[]){32}), .data = w});
  eval_set_number(f->e, ARG_state, "attempt", 0);
  for (int step = 0; step < 4; step++) {
    if (step == 2) x[3] = INFINITY;
    set_vector(f, "x", 32, x);
    run(f, 1, "t");
    eval_carry_states(f->e);
    expect(t, tensor_get(eval_arg(f->e, ARG_state, "w"), 3) == (step < 2 ? step + 1 : 2),
           "commit in step %d", step);
  }
  expect(t, tensor_get(eval_arg(f->e, ARG_state, "attempt"), 0) == 4, "the counter is carried");
  fixture_free(f);
}

/* The plan of STEP by hand, in the order of its steps; `moved`: where the last value of the
 * arena goes instead. */
typedef struct Plan {
  Program p;
  ProgramEntry entry;
  Buffer buffer[256];
  uint64_t state_at[2];
} Plan;

static void plan_step(Fixture *f, Plan *plan, uint64_t view_at) {
  const Block *body = &f->g->blocks.at[f->g->entries.at[0].body];
  const uint64_t args[4] = {0, 0, 128, 128};                 /* x, w, n, lr */
  static const Buffer RESULTS[] = {{SPACE_ARENA, 192, NULL}, /* u */
                                   {SPACE_ARENA, 320, NULL}, /* ok */
                                   {SPACE_ARENA, 192, NULL}, /* v, a view of u */
                                   {SPACE_ARENA, 0, NULL},   /* t, where x was */
                                   {SPACE_STATE, 0, NULL},   /* z */
                                   {SPACE_STATE, 128, NULL}};
  *plan = (Plan){.state_at = {0, 128}};
  for (uint32_t i = 0; i < 4; i++) {
    uint8_t space = i == 1 || i == 2 ? SPACE_STATE : SPACE_ARENA;
    plan->buffer[body->args.at[i]] = (Buffer){.space = space, .at = args[i]};
  }
  for (uint32_t i = 0, k = 0; i < body->nodes.len; i++) {
    const Node *n = &f->g->nodes.at[body->nodes.at[i]];
    for (uint32_t r = 0; r < n->nres; r++) plan->buffer[n->res + r] = RESULTS[k++];
    if (n->op == OP_reshape) plan->buffer[n->res].at = view_at;
    else
      vec_push(&f->arena, &plan->entry.steps,
               (ProgramStep){.node = body->nodes.at[i], .barrier = true});
  }
  plan->p = (Program){.g = f->g,
                      .buffer = plan->buffer,
                      .entries = &plan->entry,
                      .state_at = plan->state_at,
                      .state_bytes = 192,
                      .arena_bytes = 384};
}

static void set_step(Fixture *f) {
  set_vector(f, "x", 32, noise_vector(f, 32, 1));
  eval_set(
      f->e, ARG_state, "w",
      &(Tensor){.type = type_make(DT_f32, 1, (int64_t[]){32}), .data = noise_vector(f, 32, 2)});
  eval_set_number(f->e, ARG_state, "attempt", 41);
}

static bool same_results(Fixture *f, Fixture *g) {
  int64_t at;
  return tensor_same(eval_result(f->e, RES_state, "w"), eval_result(g->e, RES_state, "w"), &at) &&
         tensor_same(eval_result(f->e, RES_state, "attempt"),
                     eval_result(g->e, RES_state, "attempt"), &at) &&
         tensor_same(eval_result(f->e, RES_ok, NULL), eval_result(g->e, RES_ok, NULL), &at) &&
         tensor_same(eval_result(f->e, RES_value, "t"), eval_result(g->e, RES_value, "t"), &at);
}

static void test_program(Tally *t) {
  Fixture *f = fixture_new(STEP, EVAL_EXACT), *g = fixture_new(STEP, EVAL_EXACT);
  static Plan plan;
  set_step(f);
  set_step(g);
  eval_run(f->e, 0, 1);
  plan_step(g, &plan, 192);
  eval_run_program(g->e, &plan.p, 0, 1);
  expect(t, same_results(f, g), "a Program gives what its graph gives");
  expect(t, tensor_get(eval_result(g->e, RES_state, "attempt"), 0) == 42,
         "state lies in the state");
  plan_step(g, &plan, 0); /* the view looks at x's bytes, which are dead */
  eval_run_program(g->e, &plan.p, 0, 1);
  expect(t, isnan(result_at(g, "t", 0)), "dead bytes are poisoned");
  plan_step(g, &plan, 192);
  plan.entry.steps.at[1] = plan.entry.steps.at[2]; /* the sum is never computed */
  eval_run_program(g->e, &plan.p, 0, 1);
  expect(t, !same_results(f, g), "a missing launch shows");
  fixture_free(f);
  fixture_free(g);
}

int main(void) {
  Tally t = {0};
  test_f64(&t);
  test_exact(&t);
  test_compare(&t);
  test_f16(&t);
  test_casts(&t);
  test_places(&t);
  test_gather(&t);
  test_rows(&t);
  test_composites(&t);
  test_argmax_nan(&t);
  test_expansions(&t);
  test_draws(&t);
  test_loop(&t);
  test_chunked_product(&t);
  test_kernel(&t);
  test_carry(&t);
  test_program(&t);
  return tally_end(&t);
}
