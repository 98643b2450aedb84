/* shuffle.c: the order of an epoch, without a table.
 *
 * A Feistel network permutes [0, 4^half), the smallest such range that holds n; walking its cycle
 * until the result is below n ("cycle walking") makes it a permutation of [0, n).  Fewer than four
 * tries are expected.  Keys come from seed and epoch alone, so row p of epoch e is known in O(1):
 * resuming needs no history, and any machine reads the same order.
 */
#include "runtime/rt.h"

/* The finalizer of SplitMix64: a bijection of u64 in which every input bit moves every output bit.
 */
static uint64_t mix(uint64_t x) {
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

mp_shuffle mp_shuffle_new(uint64_t n, uint64_t seed, uint64_t epoch) {
  mp_shuffle s = {.n = n, .half = 1};
  while (s.half < 32 && (uint64_t)1 << 2 * s.half < n) s.half++;
  s.mask = ((uint64_t)1 << s.half) - 1;
  uint64_t key = mix(seed + 0x9e3779b97f4a7c15u) ^ epoch;
  for (size_t i = 0; i < MP_LEN(s.keys); i++) s.keys[i] = mix(key += 0x9e3779b97f4a7c15u);
  return s;
}

static uint64_t permute(const mp_shuffle *s, uint64_t x) {
  uint64_t left = x >> s->half, right = x & s->mask;
  for (size_t i = 0; i < MP_LEN(s->keys); i++) {
    uint64_t next = left ^ (mix(right ^ s->keys[i]) & s->mask);
    left = right;
    right = next;
  }
  return left << s->half | right;
}

uint64_t mp_shuffle_at(const mp_shuffle *s, uint64_t position) {
  uint64_t x = permute(s, position);
  while (x >= s->n) x = permute(s, x);
  return x;
}
