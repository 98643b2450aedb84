/* order.c: the parts of a data set, and lanes through it.
 *
 * `split last` holds out the last rows, `split random` those behind a fixed permutation of all: the
 * same for every seed, so runs of different seeds are judged by the same rows.  Lanes cut a part
 * into as many stretches as the batch has rows; position i is the (i / lanes)-th row of stretch
 * i % lanes, so that each row of the batch goes on where the batch before it ended.
 */
#include "runtime/data.h"

enum { SPLIT_SEED = 0x5911, SPLIT_EPOCH = 0 };

mp_part mp_part_split(int64_t all, mp_split_kind split, double fraction, bool held_out) {
  int64_t out = split == MP_SPLIT_NONE ? 0 : (int64_t)((double)all * fraction);
  int64_t first = held_out ? all - out : 0;
  return (mp_part){all, first, held_out ? out : all - out, split == MP_SPLIT_RANDOM, 0};
}

void mp_part_make_lanes(mp_part *p, int64_t lanes) {
  p->lanes = lanes;
  p->rows -= p->rows % lanes;
}

int64_t mp_part_row(const mp_part *p, int64_t position) {
  if (p->lanes) position = position % p->lanes * (p->rows / p->lanes) + position / p->lanes;
  position += p->first;
  if (!p->random) return position;
  mp_shuffle fixed = mp_shuffle_new((uint64_t)p->all, SPLIT_SEED, SPLIT_EPOCH);
  return (int64_t)mp_shuffle_at(&fixed, (uint64_t)position);
}
