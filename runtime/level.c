/* level.c: which of a model's instruction-set levels a context runs.
 *
 * The last whose features this CPU has: levels stand in ascending order, and all give the same
 * bits.  Two things beside CPUID decide on vdpbf16ps, the instruction that adds two products of
 * bf16 (docs/why/dot-bf16.md).  It must round as strict numerics say, which is tried on witnesses
 * whenever it would be used; and it must pay, which it does on AMD's processors alone so far, so
 * that others take it only when asked to.
 */
#include "runtime/rt.h"

#include <math.h>
#include <string.h>

/* ---- witnesses ------------------------------------------------------------------------------- */

enum { LANES = MP_DOT_LANES, ROUNDS = 40 };

static uint32_t draw(uint64_t *seed) { /* splitmix64 */
  uint64_t z = *seed += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return (uint32_t)((z ^ z >> 31) >> 32);
}

static float as_float(uint32_t bits) {
  float f;
  memcpy(&f, &bits, sizeof f);
  return f;
}

/* What tells one way of rounding from another: any bits at all, numbers near 1, products around the
 * smallest and the largest numbers, subnormal operands. */
static uint32_t draw_bf16(uint64_t *seed, int kind) {
  static const uint32_t exponent[] = {0, 120, 56, 184, 0};
  static const uint32_t range[] = {256, 14, 16, 16, 2};
  uint32_t word = draw(seed), e = exponent[kind] + (word >> 8 & 0xff) % range[kind];
  return (word & 0x807f) | e << 7;
}

static float link(float acc, uint32_t x, uint32_t y) {
  return fmaf(as_float(x << 16), as_float(y << 16), acc);
}

/* The chain of strict numerics: the pair's upper half, then its lower one. */
static float chain(float acc, uint32_t x, uint32_t y) {
  return link(link(acc, x >> 16, y >> 16), x & 0xffff, y & 0xffff);
}

static bool same(float a, float b) { return (isnan(a) && isnan(b)) || !memcmp(&a, &b, sizeof a); }

/* Of every third lane the accumulator all but cancels the first product. */
static bool round_agrees(mp_dot_fn *dot, uint64_t *seed, int kind) {
  uint32_t x[LANES], y[LANES];
  float acc[LANES], got[LANES];
  for (int i = 0; i < LANES; i++) {
    x[i] = draw_bf16(seed, kind) << 16 | draw_bf16(seed, kind);
    y[i] = draw_bf16(seed, kind) << 16 | draw_bf16(seed, kind);
    acc[i] = as_float(draw_bf16(seed, kind) << 16 | (draw(seed) & 0xffff));
    if (i % 3 == 0) acc[i] = -link(acc[i] * 0x1p-20f, x[i] >> 16, y[i] >> 16);
  }
  dot(x, y, acc, got);
  for (int i = 0; i < LANES; i++)
    if (!same(got[i], chain(acc[i], x[i], y[i]))) return false;
  return true;
}

bool mp_dot_agrees(mp_dot_fn *dot) {
  uint64_t seed = 1, mode = mp_float_enter();
  bool ok = true;
  for (int i = 0; ok && i < ROUNDS; i++) ok = round_agrees(dot, &seed, i % 5);
  mp_float_leave(mode);
  return ok;
}

/* ---- the choice ------------------------------------------------------------------------------ */

static bool uses_dot(const mp_level *l) {
  for (const char *const *f = l->cpu_features; f && *f; f++)
    if (!strcmp(*f, "avx512bf16")) return true;
  return false;
}

/* What this CPU lacks to run the level; NULL: nothing. */
static const char *lacks(const mp_level *l) {
  const char *missing = mp_cpu_lacks(l->cpu_features);
  if (missing || !uses_dot(l) || mp_dot_agrees(mp_cpu_dot)) return missing;
  return "an avx512bf16 that rounds after each product";
}

static int refuse(const mp_model *m, const mp_level *l, const char *missing, mp_error *err) {
  return mp_fail(err, MP_E_CPU,
                 "%s was compiled for %s, and this CPU (or its operating system) lacks %s; "
                 "compile the model again with %s",
                 m->desc->name, l->cpu, missing, m->cpu_flag);
}

static int choose_asked(const mp_model *m, const char *cpu, const mp_level **out, mp_error *err) {
  for (uint64_t i = 0; i < m->n_levels; i++) {
    const mp_level *l = &m->levels[i];
    if (strcmp(l->cpu, cpu)) continue;
    const char *missing = lacks(l);
    if (!missing) *out = l;
    return missing ? mp_fail(err, MP_E_CPU,
                             "this CPU (or its operating system) lacks %s, which %s "
                             "of %s uses",
                             missing, cpu, m->desc->name)
                   : MP_OK;
  }
  return mp_fail(err, MP_E_ARG, "%s holds no code for '%s', only for %s", m->desc->name, cpu,
                 m->desc->target);
}

int mp_choose_level(const mp_model *m, const char *cpu, const mp_level **out, mp_error *err) {
  if (cpu) return choose_asked(m, cpu, out, err);
  const char *missing = NULL;
  for (uint64_t i = m->n_levels; i-- > 0;) {
    const mp_level *l = &m->levels[i];
    if (i && uses_dot(l) && !mp_cpu_dot_pays()) continue;
    missing = lacks(l);
    if (missing) continue;
    *out = l;
    return MP_OK;
  }
  return refuse(m, &m->levels[0], missing, err);
}
