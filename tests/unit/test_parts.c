/* test_parts.c: an f32 and its parts (runtime/parts.c, and the programs that compiled code has for
 * them, two writings of one thing): the low part is the f32 to nearest even, and joining gives the
 * f32 back, for every tie, beside every bf16, and on a stride through all 2^32 patterns, with
 * --long or MPCC_LONG=1 for all of them.  NaN stays NaN.
 */
#include "runtime/rt.h"
#include "tests/unit/oracle.h"

enum { N = 4096, UP = N / 8, STRIDE = 9973 };

static const mp_state_desc states[] = {
    {{.name = "w", .dtype = MP_F32, .ndim = 1, .dims = {N}}, MP_PARAM, -1, MP_STATE_SPLIT, 0},
    {{.name = "w:bf16", .dtype = MP_BF16, .ndim = 1, .dims = {N}}, MP_PART, 0, 0, 0},
    {{.name = "w:rest", .dtype = MP_U16, .ndim = 1, .dims = {N}}, MP_PART, 0, 0, 0},
    {{.name = "w:up", .dtype = MP_U8, .ndim = 1, .dims = {UP}}, MP_PART, 0, 0, 0}};
static const mp_desc desc = {.name = "parts", .states = states, .n_states = 4};
static const uint64_t state_at[] = {UINT64_MAX, 0, 2 * N, 4 * N};
static const mp_model model = {.desc = &desc, .state_at = state_at};

typedef struct Test {
  Checks checks;
  const Scalars *scalars;
  uint32_t bits[N], n; /* filled so far */
} Test;

static uint32_t run(const Test *t, ScalarId id, uint32_t a, uint32_t b, uint32_t c) {
  uint32_t y, args[] = {a, b, c};
  scalar_run(&t->scalars->prog[id], args, &y);
  return y;
}

/* By the definition: the nearer of the two neighbours, of two as near the even one. */
static uint32_t nearest_even(uint32_t bits) {
  uint32_t below = bits >> 16, off = bits & 0xffff;
  if (is_nan(bits)) return below | 0x40;
  return off < 0x8000 || (off == 0x8000 && below % 2 == 0) ? below : below + 1;
}

static bool is_same(uint32_t got, uint32_t want) {
  return is_nan(want) ? is_nan(got) : got == want;
}

static bool is_right(const Test *t, uint32_t bits, uint16_t high, uint16_t rest, bool up,
                     uint32_t back) {
  uint32_t want = is_subnormal(bits) ? bits & 0x80000000 : bits;
  return high == nearest_even(want) && rest == run(t, SC_bf16_rest, want, 0, 0) &&
         is_same(back, want) && is_same(run(t, SC_bf16_join, up, rest, (uint32_t)high << 16), want);
}

static void flush(Test *t) {
  static _Alignas(64) char state[4 * N + UP];
  static uint32_t back[N];
  mp_parts_split(&model, state, 0, t->bits);
  mp_parts_join(&model, state, 0, back);
  const uint16_t *high = (const void *)state, *rest = (const void *)(state + 2 * N);
  const uint8_t *up = (const void *)(state + 4 * N);
  for (uint32_t i = 0; i < t->n; i++)
    if (!is_right(t, t->bits[i], high[i], rest[i], up[i % UP] >> i / UP & 1, back[i])) {
      fprintf(stderr, "%08x\n", (unsigned)t->bits[i]);
      CHECK(&t->checks, !"these are the parts of the number");
    }
  CHECK(&t->checks, t->n <= N);
  t->n = 0;
}

/* Elements of low precision that a host sets, and those that a step rounds. */
static bool narrows_alike(const Test *t, uint32_t bits) {
  uint16_t bf16 = mp_bf16_of_f32(bits), f16 = mp_f16_of_f32(bits);
  bool nan = is_nan(bits) && (f16 & 0x7fff) > 0x7c00;
  return bf16 == run(t, SC_f32_to_bf16, bits, 0, 0) &&
         (nan || f16 == run(t, SC_f32_to_f16, bits, 0, 0));
}

static void add(Test *t, uint32_t bits) {
  t->bits[t->n++] = bits;
  if (t->n == N) flush(t);
}

int main(int argc, char **argv) {
  Arena arena = {0};
  static Test t;
  t.scalars = scalars_parse(&arena);
  uint64_t stride = checks_long(argc, argv) ? 1 : STRIDE;
  for (uint32_t high = 0; high <= 0xffff; high++)
    for (uint32_t rest = 0x7fff; rest <= 0x8001; rest++) add(&t, high << 16 | rest);
  for (uint64_t bits = 0; bits <= UINT32_MAX; bits += stride) add(&t, (uint32_t)bits);
  flush(&t);
  uint64_t alike = 0, tried = 0;
  for (uint64_t bits = 0; bits <= UINT32_MAX; bits += stride, tried++)
    alike += narrows_alike(&t, (uint32_t)bits);
  CHECK(&t.checks, alike == tried);
  arena_free(&arena);
  return checks_end(&t.checks, "test_parts");
}
