/* test_eval_order.c: the orders of reductions and contractions, against straight loops that are
 * written here a second time, from the text of the design and not from ref/.  All comparisons are
 * bit for bit, on numbers whose sums depend on the order. */
#include "ir/float_mode.h"
#include "tests/unit/eval_fixture.h"

#include <stdarg.h>

static Fixture *fixture_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static Fixture *fixture_printf(const char *fmt, ...) {
  char text[2048];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  return fixture_new(text, EVAL_EXACT);
}

/* ---- sums ------------------------------------------------------------------------------------ */

/* Elements that lie on rows >= real are left out; row(j) = (start + j) / per_row % rows. */
typedef struct Mask {
  int64_t per_row, rows, real;
} Mask;

static bool masked(const Mask *m, int64_t at) { return at / m->per_row % m->rows >= m->real; }

static float sum_contiguous(const float *x, int64_t start, int64_t n, const Mask *m) {
  float total = 0;
  for (int64_t block = 0; block < n; block += 4096) {
    float p[32] = {0};
    for (int64_t j = block; j < n && j < block + 4096; j++)
      if (!masked(m, start + j)) p[j % 32] += x[start + j];
    for (int i = 0; i < 16; i++) p[i] += p[i + 16];
    for (int i = 0; i < 8; i++) p[i] += p[i + 8];
    for (int i = 0; i < 4; i++) p[i] += p[i + 4];
    p[0] += p[2], p[1] += p[3];
    total += p[0] + p[1];
  }
  return total;
}

/* x is [a, b, c]; the middle axis is reduced. */
static float sum_strided(const float *x, int64_t start, int64_t b, int64_t c, const Mask *m) {
  float total = 0, chain = 0;
  for (int64_t i = 0; i < b; i++) {
    if (!masked(m, start + i * c)) chain += x[start + i * c];
    if (i % 64 == 63 || i == b - 1) total += chain, chain = 0;
  }
  return total;
}

/* Axes 0 and 2 of [a, b, c]: the last one first, then the first as rows. */
static float sum_outer(const float *x, int64_t start, int64_t a, int64_t b, int64_t c,
                       const Mask *m) {
  float total = 0, chain = 0;
  for (int64_t i = 0; i < a; i++) {
    int64_t at = start + i * b * c;
    if (!masked(m, at)) chain += sum_contiguous(x, at, c, m);
    if (i % 64 == 63 || i == a - 1) total += chain, chain = 0;
  }
  return total;
}

static float sum_expected(const float *x, const char *axes, int64_t a, int64_t b, int64_t c,
                          int64_t i, const Mask *m) {
  if (!strcmp(axes, "0,1,2")) return sum_contiguous(x, 0, a * b * c, m);
  if (!strcmp(axes, "1,2")) return sum_contiguous(x, i * b * c, b * c, m);
  if (!strcmp(axes, "2")) return sum_contiguous(x, i * c, c, m);
  if (!strcmp(axes, "1")) return sum_strided(x, i / c * b * c + i % c, b, c, m);
  if (!strcmp(axes, "0")) return sum_strided(x, i, a, b * c, m);
  if (!strcmp(axes, "0,1")) return sum_strided(x, i, a * b, c, m);
  return sum_outer(x, i * c, a, b, c, m); /* 0,2 */
}

static int64_t kept_dims(const char *axes, const int64_t *dim, int tag, Text *type) {
  int64_t n = 1;
  text_add(type, "f32[");
  for (int i = 0, first = 1; i < 3; i++) {
    if (strchr(axes, '0' + i)) continue;
    text_printf(type, "%s%s%lld", first ? "" : ",", i == tag ? "rows " : "", (long long)dim[i]);
    n *= dim[i];
    first = 0;
  }
  text_add(type, "]");
  return n;
}

/* tag: the axis of the batch, -1: none. */
static void check_sum(Tally *t, const int64_t *dim, const char *axes, int tag, int64_t batch,
                      int64_t rows) {
  char shape[96];
  Arena scratch = {0};
  Text out = {.arena = &scratch};
  int64_t n = kept_dims(axes, dim, tag, &out), count = dim[0] * dim[1] * dim[2];
  snprintf(shape, sizeof shape, "%s%lld,%s%lld,%s%lld", tag == 0 ? "rows " : "", (long long)dim[0],
           tag == 1 ? "rows " : "", (long long)dim[1], tag == 2 ? "rows " : "", (long long)dim[2]);
  char head[64] = "infer";
  if (tag >= 0) snprintf(head, sizeof head, "infer batch %lld", (long long)batch);
  Fixture *f = fixture_printf("entry @e %s (%%x: f32[%s] = input \"x\") {\n"
                              "%%one = constant {value=1} : f32[%s]\n"
                              "%%nan = constant {value=nan} : f32[%s]\n"
                              "%%mask = %s %%one : f32[%s]\n"
                              "%%real = eq %%mask, %%one : i1[%s]\n"
                              "%%z = select %%real, %%x, %%nan : f32[%s]\n"
                              "%%y = sum %%z {axes=[%s]} : %s\n"
                              "return value \"y\" = %%y }\n",
                              head, shape, shape, shape, tag < 0 ? "relu" : "mask_rows", shape,
                              shape, shape, axes, out.at);
  float *x = noise_vector(f, count, (uint32_t)count);
  set_f32(f, "x", 3, dim, x);
  Mask m = {1, 1, 1};
  if (tag >= 0) {
    m = (Mask){1, dim[tag], dim[tag] / batch * rows};
    for (int i = tag + 1; i < 3; i++) m.per_row *= dim[i];
    for (int64_t i = 0; i < count; i++)
      if (masked(&m, i)) x[i] = NAN;
    if (!strchr(axes, '0' + tag)) m = (Mask){1, 1, 1};
  }
  const Tensor *y = run(f, rows, "y");
  uint64_t saved = float_mode_set();
  for (int64_t i = 0; i < n; i++) {
    float want = sum_expected(x, axes, dim[0], dim[1], dim[2], i, &m);
    expect(t, same_float(tensor_get(y, i), want),
           "sum of [%s] over %s, %lld rows: %lld is %a, not %a", shape, axes, (long long)rows,
           (long long)i, tensor_get(y, i), (double)want);
  }
  float_mode_restore(saved);
  fixture_free(f);
  arena_free(&scratch);
}

static void test_sums(Tally *t) {
  static const int64_t SHAPES[][3] = {
      {1, 1, 1},  {1, 1, 31}, {1, 1, 32},  {1, 1, 33},   {1, 2, 4096}, {1, 1, 4097}, {2, 1, 10000},
      {3, 65, 2}, {64, 3, 7}, {130, 2, 5}, {7, 129, 40}, {67, 66, 3},  {3, 0, 2}};
  static const char *const AXES[] = {"0", "1", "2", "0,1", "0,2", "1,2", "0,1,2"};
  for (size_t s = 0; s < sizeof SHAPES / sizeof *SHAPES; s++)
    for (size_t a = 0; a < sizeof AXES / sizeof *AXES; a++)
      check_sum(t, SHAPES[s], AXES[a], -1, 1, 1);
}

static void test_masked_sums(Tally *t) {
  static const char *const AXES[] = {"0", "1", "2", "0,1", "0,2", "1,2", "0,1,2"};
  const int64_t dim[3] = {24, 16, 48};
  for (size_t a = 0; a < sizeof AXES / sizeof *AXES; a++)
    for (int tag = 0; tag < 3; tag++)
      for (int64_t rows = 1; rows <= 8; rows += rows < 4 ? 2 : 3)
        check_sum(t, dim, AXES[a], tag, 8, rows);
  check_sum(t, (int64_t[]){8, 700, 3}, "0,1,2", 0, 8, 5); /* a block total of padding alone */
}

/* ---- maximum, minimum, logic ----------------------------------------------------------------- */

static void test_extremes(Tally *t) {
  Fixture *f = fixture_new("entry @e infer batch 4 (%x: f32[rows 4,3] = input \"x\") {\n"
                           "%a = reduce_max %x {axes=[0]} : f32[3]\n"
                           "%b = reduce_min %x {axes=[0]} : f32[3]\n"
                           "%c = cast %x : i32[rows 4,3]\n"
                           "%d = reduce_max %c {axes=[0,1]} : i32[]\n"
                           "%e = reduce_min %c {axes=[0,1]} : i32[]\n"
                           "%z = constant {value=0} : f32[rows 4,3]\n"
                           "%p = lt %x, %z : i1[rows 4,3]\n"
                           "%q = reduce_and %p {axes=[0]} : i1[3]\n"
                           "%r = reduce_or %p {axes=[0,1]} : i1[]\n"
                           "return value \"a\" = %a, value \"b\" = %b, value \"d\" = %d,\n"
                           "value \"e\" = %e, value \"q\" = %q, value \"r\" = %r }\n",
                           EVAL_EXACT);
  const float x[] = {-1, -2, NAN, -5, -7, -3}; /* two rows: the padding must not count */
  set_f32(f, "x", 2, (int64_t[]){2, 3}, x);
  run(f, 2, "a");
  expect(t, result_at(f, "a", 0) == -1 && result_at(f, "a", 1) == -2, "max of negative numbers");
  expect(t, isnan(result_at(f, "a", 2)) && isnan(result_at(f, "b", 2)), "max and min keep a NaN");
  expect(t, result_at(f, "b", 0) == -5 && result_at(f, "b", 1) == -7, "min");
  expect(t, result_at(f, "d", 0) == 0 && result_at(f, "e", 0) == -7, "integer extremes, NaN is 0");
  expect(t, result_at(f, "q", 0) == 1 && result_at(f, "q", 2) == 0, "and");
  expect(t, result_at(f, "r", 0) == 1, "or");
  fixture_free(f);
}

/* ---- contraction ----------------------------------------------------------------------------- */

static float bf16_round(float x) {
  uint32_t u;
  memcpy(&u, &x, sizeof u);
  u = (u + 0x7fff + (u >> 16 & 1)) & 0xffff0000;
  memcpy(&x, &u, sizeof u);
  return x;
}

typedef struct Product {
  int64_t m, n, k, chunk;
  bool ta, tb, acc, low_a, low_b;
} Product;

static float product_at(const Product *p, const float *a, const float *b, float acc, int64_t i,
                        int64_t j) {
  float total = p->acc ? acc : 0;
  for (int64_t from = 0; from < p->k; from += p->chunk) {
    float chain = 0;
    int64_t k = from;
    for (; k < p->k && k < from + p->chunk; k++)
      chain = fmaf(a[p->ta ? k * p->m + i : i * p->k + k], b[p->tb ? j * p->k + k : k * p->n + j],
                   chain);
    if (k == p->k && k % 2 && p->low_a && p->low_b) chain = fmaf(0.0f, 0.0f, chain);
    total = total + chain;
  }
  return total;
}

static Fixture *product_fixture(const Product *p) {
  long long m = p->m, n = p->n, k = p->k;
  return fixture_printf(
      "entry @e infer (%%a: f32[%lld] = input \"a\", %%b: f32[%lld] = input \"b\",\n"
      "%%c: f32[%lld,%lld] = input \"c\") {\n"
      "%%s = reshape %%a : f32[%lld,%lld]\n%%t = reshape %%b : f32[%lld,%lld]\n"
      "%%u = cast %%s : %s[%lld,%lld]\n%%v = cast %%t : %s[%lld,%lld]\n"
      "%%y = matmul %%u, %%v%s {ta=%s, tb=%s, k_chunk=%lld} : f32[%lld,%lld]\n"
      "return value \"y\" = %%y }\n",
      m * k, k * n, m, n, p->ta ? k : m, p->ta ? m : k, p->tb ? n : k, p->tb ? k : n,
      p->low_a ? "bf16" : "f32", p->ta ? k : m, p->ta ? m : k, p->low_b ? "bf16" : "f32",
      p->tb ? n : k, p->tb ? k : n, p->acc ? ", %c" : "", p->ta ? "true" : "false",
      p->tb ? "true" : "false", (long long)p->chunk, m, n);
}

static void check_product(Tally *t, const Product *p) {
  Fixture *f = product_fixture(p);
  float *a = noise_vector(f, p->m * p->k, 1), *b = noise_vector(f, p->k * p->n, 2);
  float *acc = noise_vector(f, p->m * p->n, 3);
  set_vector(f, "a", p->m * p->k, a);
  set_vector(f, "b", p->k * p->n, b);
  set_f32(f, "c", 2, (int64_t[]){p->m, p->n}, acc);
  const Tensor *y = run(f, 1, "y");
  for (int64_t i = 0; p->low_a && i < p->m * p->k; i++) a[i] = bf16_round(a[i]);
  for (int64_t i = 0; p->low_b && i < p->k * p->n; i++) b[i] = bf16_round(b[i]);
  uint64_t saved = float_mode_set();
  for (int64_t i = 0; i < p->m * p->n; i++) {
    float want = product_at(p, a, b, acc[i], i / p->n, i % p->n);
    expect(t, same_float(tensor_get(y, i), want), "%lldx%lldx%lld, element %lld is %a, not %a",
           (long long)p->m, (long long)p->n, (long long)p->k, (long long)i, tensor_get(y, i),
           (double)want);
  }
  float_mode_restore(saved);
  fixture_free(f);
}

static void test_products(Tally *t) {
  static const int64_t K[] = {0, 1, 2, 7, 255, 256, 257, 512, 513, 1000};
  for (size_t i = 0; i < sizeof K / sizeof *K; i++)
    for (int bits = 0; bits < 32; bits++)
      check_product(t, &(Product){3, 4, K[i], bits & 1 ? 256 : 64, bits & 1, bits >> 1 & 1,
                                  bits >> 2 & 1, bits >> 3 & 1, bits >> 4 & 1});
}

/* A chain of products that vanish is -0; odd k of bf16 ends with +0 · +0 and gives +0, so that the
 * accumulator's -0 stays only without it. */
static void test_odd_pad(Tally *t) {
  for (int low = 0; low < 2; low++) {
    Fixture *f = product_fixture(&(Product){1, 1, 1, 256, false, false, true, low, low});
    set_vector(f, "a", 1, &(float){-0x1p-100f});
    set_vector(f, "b", 1, &(float){0x1p-100f});
    set_f32(f, "c", 2, (int64_t[]){1, 1}, &(float){-0.0f});
    run(f, 1, "y");
    expect(t, same_float(result_at(f, "y", 0), low ? 0.0 : -0.0), "odd k, bf16 = %d", low);
    fixture_free(f);
  }
}

int main(void) {
  Tally t = {0};
  test_sums(&t);
  test_masked_sums(&t);
  test_extremes(&t);
  test_products(&t);
  test_odd_pad(&t);
  return tally_end(&t);
}
