/* map.c: the map form: every result at every place of one index space.
 *
 * The innermost Axis goes by vectors, its tail is one shorter vector; the others are one flat loop.
 * Threads share out the outer places, or, where those are few, the inner axis in units of 64
 * elements.
 */
#include "codegen/cpu/emit.h"

enum { UNIT = 64, FEW_ROWS = 32 };

void fit_lanes(Kernel *k, int64_t extent) {
  k->lanes = k->m->level->vec.f32_lanes;
  while (k->lanes > 1 && k->lanes / 2 >= extent) k->lanes /= 2;
  k->valid = k->lanes;
}

static void point(Kernel *k, LLVMValueRef at) {
  if (k->axes > 0) space_place(k, k->axes - 1, 1, at, AXIS_STEP);
  emit_results(k, k->rank);
}

static void tail(Kernel *k, int64_t extent) {
  k->valid = (unsigned)(extent % k->lanes);
  point(k, k_int(k, extent - k->valid));
  k->valid = k->lanes;
}

/* The whole inner axis, or this thread's share of it. */
static void inner_axis(Kernel *k, int64_t extent, bool share) {
  int64_t whole = extent - extent % k->lanes;
  LLVMValueRef from = k_int(k, 0), end = k_int(k, whole);
  if (share) k_share(k, whole, UNIT, &from, &end);
  if (whole > 0) {
    Loop l;
    loop_open(k, &l, from, end, k->lanes, 0, NULL);
    point(k, l.i);
    loop_close(k, &l, NULL);
  }
  if (whole == extent) return;
  LLVMBasicBlockRef exit = share ? branch_open(k, k_is_last_thread(k)) : NULL;
  tail(k, extent);
  if (share) branch_close(k, exit);
}

void emit_map(Kernel *k) {
  space_set(k, value_type(k->g, k->body->results.at[0]), -1, 0);
  int outer = k->axes > 0 ? k->axes - 1 : 0;
  int64_t extent = space_extent(k, outer, k->axes - outer), rows = space_extent(k, 0, outer);
  if (extent == 0 || rows == 0) return;
  fit_lanes(k, extent);
  if (outer == 0) {
    inner_axis(k, extent, true);
    return;
  }
  bool by_rows = rows >= FEW_ROWS || rows >= extent;
  LLVMValueRef from = k_int(k, 0), end = k_int(k, rows);
  if (by_rows) k_share(k, rows, 1, &from, &end);
  Loop l;
  loop_open(k, &l, from, end, 1, 0, NULL);
  space_place(k, 0, outer, l.i, AXIS_SPLAT);
  inner_axis(k, extent, !by_rows);
  loop_close(k, &l, NULL);
}
