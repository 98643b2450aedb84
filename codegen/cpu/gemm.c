/* gemm.c: C = A·B with the order of additions that architecture.md fixes.
 *
 *   for each element: total = init or +0
 *     for each chunk of k_chunk: chain = +0; k ascending: chain = fma(a, b, chain)
 *                                total = total + chain, or + chain · (row's · column's factor)
 *
 * C is cut into tiles of mr rows × nv vectors that live in registers for one chunk (gemm_micro.c).
 * A panel of b, one chunk high, is met by all strips of a block before the next chunk comes; the
 * totals of these tiles wait in scratch.  The expression on the store runs right after a tile's
 * last chunk.  The loops, from outside in:
 *
 *   block of strips (its part of a stays in L2; a is widened here if it is narrow)
 *     panel
 *       chunk (b is packed here, where that pays)
 *         strip: micro-kernel; after the last chunk the stores
 *
 * Sizes are constants, so tile shape, edges and packing are chosen here, per gemm.  Edge tiles get
 * micro-kernels of their own size.  A thread takes a contiguous run of tiles, numbered in the order
 * of the loops: balanced to one tile, and a panel is packed twice at most where two threads meet.
 * Each element's order of additions does not depend on any of this.
 *
 * Where the processor multiplies pairs of bf16 (vdpbf16ps) both operands are packed as pairs of k
 * in 32 bits and go through it two steps of the chain at a time (docs/why/dot-bf16.md).
 *
 * The first addition, +0 + chain, stays: a chain of one flushed product may be -0.
 */
#include "codegen/cpu/gemm_parts.h"

#include <assert.h>

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t div_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
static int64_t round_up(int64_t a, int64_t to) { return div_up(a, to) * to; }

/* ---- the plan ------------------------------------------------------------------------------- */

/* Chunks of an even length: an odd k ends the last pair alone. */
static bool goes_in_pairs(const GemmSpec *s) {
  return s->vec.dot_bf16 && s->vec.f32_lanes == 16 && s->a == GEMM_BF16 && s->b == GEMM_BF16 &&
         s->k_chunk % 2 == 0;
}

/* In eighths of a cycle: two fmas or two loads a cycle, an fma's result after four; loads cost a
 * little even where they are hidden (a core shared with another thread has no slots to spare). */
static int64_t tile_cost(const GemmSpec *s, int64_t rows, int64_t vecs) {
  int64_t fma = rows * vecs, load = rows + vecs, units = goes_in_pairs(s) ? s->k / 2 : s->k;
  return units * (4 * max64(max64(fma, load), 8) + load) + 16 * fma + 64;
}

static void plan_shape(const GemmSpec *s, GemmPlan *p, int64_t mr, int64_t nv) {
  int64_t vectors = div_up(s->n, s->vec.f32_lanes);
  p->mr = mr;
  p->strips = div_up(s->m, mr);
  p->mr_last = s->m - (p->strips - 1) * mr;
  p->nv = nv;
  p->panels = div_up(vectors, nv);
  p->nv_last = vectors - (p->panels - 1) * nv;
}

static double plan_cost(const GemmSpec *s, const GemmPlan *p) {
  double strips = (double)(p->strips - 1), panels = (double)(p->panels - 1);
  double cost = strips * panels * (double)tile_cost(s, p->mr, p->nv) +
                strips * (double)tile_cost(s, p->mr, p->nv_last) +
                panels * (double)tile_cost(s, p->mr_last, p->nv) +
                (double)tile_cost(s, p->mr_last, p->nv_last);
  int edges = (p->mr_last != p->mr) + (p->nv_last != p->nv);
  return cost * (1 + 0.08 * edges); /* each is one more micro-kernel */
}

/* All accumulators, a step's vectors of b and one broadcast fit the registers. */
static void plan_tile(const GemmSpec *s, GemmPlan *p) {
  double best = 0;
  int64_t vectors = div_up(s->n, s->vec.f32_lanes);
  for (int64_t nv = 1; nv <= min64(vectors, GEMM_MAX_VECS); nv++)
    for (int64_t mr = min64(s->m, ((int64_t)s->vec.vector_regs - 1 - nv) / nv); mr > 0; mr--) {
      GemmPlan q = *p;
      plan_shape(s, &q, mr, nv);
      double cost = plan_cost(s, &q);
      if (best != 0 && cost >= best) continue;
      best = cost;
      *p = q;
    }
}

/* A block's part of a takes half of a usual second-level cache, but a packed panel must be worth
 * its copy. */
static void plan_blocks(const GemmSpec *s, GemmPlan *p) {
  int64_t rows = min64(max64((1 << 20) * p->per_unit / (4 * s->k), 96), 1024);
  p->blocks = div_up(p->strips, max64(rows / p->mr, 1));
  p->block_strips = div_up(p->strips, p->blocks);
  p->blocks = div_up(p->strips, p->block_strips);
}

/* Floats between rows of a copy: an odd number of cache lines, so that equal places in successive
 * rows spread over all sets of the first-level cache. */
static int64_t row_distance(int64_t floats) {
  int64_t line = GEMM_LINE / 4, lines = div_up(floats, line);
  return (lines + (lines % 2 == 0)) * line;
}

/* Walking down the columns of a matrix whose rows are a page or more apart costs a TLB entry a row
 * and, at multiples of a page, one cache set for all of them. */
static bool is_far(int64_t floats) { return 4 * floats >= GEMM_PAGE; }

static bool packs_a(const GemmSpec *s, const GemmPlan *p) {
  return s->a != GEMM_F32 || (s->ta && is_far(s->lda) && p->panels > 1);
}

/* Reading b in place wins where it can: the copy costs a few cycles a vector. */
static bool packs_b(const GemmSpec *s, const GemmPlan *p) {
  if (s->tb || p->pairs) return true;
  if (p->block_strips == 1) return false;
  if (s->b != GEMM_F32) return true;
  bool aliased = 4 * s->ldb % GEMM_PAGE == 0;
  return is_far(s->ldb) && min64(s->k, s->k_chunk) > 64 && (aliased || p->block_strips >= 16);
}

static void plan_packing(const GemmSpec *s, GemmPlan *p) {
  int64_t lanes = s->vec.f32_lanes, nr = p->nv * lanes;
  int64_t k = div_up(s->k, p->per_unit), rows = p->block_strips * p->mr;
  int64_t chunk = div_up(min64(s->k, s->k_chunk), p->per_unit);
  p->pack_a = packs_a(s, p);
  p->pack_b = packs_b(s, p);
  p->lda = p->pack_a ? row_distance(s->ta ? rows : k) : s->lda;
  p->ldb = p->pack_b ? nr : s->ldb;
  int64_t tiles = p->chunks > 1 ? p->block_strips : 1;
  int64_t blocks_of = max64(8, 16 / gemm_elem_bytes(s->b)); /* k that are transposed at once */
  int64_t panel = p->pack_b ? round_up(chunk, blocks_of) * nr : 0;
  int64_t block = p->pack_a ? (s->ta ? k : rows) * p->lda : 0;
  p->panel_at = (uint64_t)round_up(4 * tiles * p->mr * nr, GEMM_LINE);
  p->a_at = p->panel_at + (uint64_t)round_up(4 * panel, GEMM_LINE);
  p->factors_at = p->a_at + (uint64_t)round_up(4 * block, GEMM_LINE);
  p->bytes = p->factors_at + (s->scale ? (uint64_t)round_up(4 * nr, GEMM_LINE) : 0);
}

static GemmPlan gemm_plan(const GemmSpec *s) {
  assert(s->m > 0 && s->n > 0 && s->k > 0 && s->k_chunk > 0);
  assert(s->vec.f32_lanes >= 4 && s->vec.f32_lanes <= 16 && s->vec.vector_regs <= GEMM_MAX_ACC);
  GemmPlan p = {.pairs = goes_in_pairs(s), .per_unit = goes_in_pairs(s) ? 2 : 1};
  p.chunks = div_up(s->k, s->k_chunk);
  p.k_last = s->k - (p.chunks - 1) * s->k_chunk;
  plan_tile(s, &p);
  plan_blocks(s, &p);
  plan_packing(s, &p);
  return p;
}

uint64_t gemm_scratch_bytes(const GemmSpec *spec) { return gemm_plan(spec).bytes; }

/* ---- places --------------------------------------------------------------------------------- */

/* A panel of a block: what the loops below stand in.  vecs and cols are the panel's own size. */
typedef struct Place {
  int64_t vecs, cols;
  LLVMValueRef row0;         /* of the block */
  LLVMValueRef col0;         /* of the panel */
  LLVMValueRef first, after; /* this thread's strips of the block */
  LLVMValueRef a;            /* the block's part of a, as the micro-kernel reads it */
} Place;

static LLVMValueRef scratch_at(Gemm *g, uint64_t bytes) {
  return gemm_at(g, g->scratch, gemm_int(g, (int64_t)bytes));
}

static LLVMValueRef tile_at(Gemm *g, LLVMValueRef strip) {
  if (g->plan.chunks == 1) return g->scratch;
  int64_t bytes = 4 * g->plan.mr * g->plan.nv * g->spec->vec.f32_lanes;
  return gemm_at(g, g->scratch, gemm_mul(g, strip, bytes));
}

/* ---- totals: before the first chunk, after the last ----------------------------------------- */

typedef void Visit(Gemm *g, LLVMValueRef p, LLVMValueRef row, LLVMValueRef col, unsigned lanes);

static LLVMValueRef total_start(Gemm *g, LLVMValueRef row, LLVMValueRef col, unsigned lanes) {
  if (g->spec->init) return g->spec->init(g->spec->ctx, g->b, row, col, lanes);
  return LLVMConstNull(lanes == 1 ? g->f32 : g->vf32);
}

static void visit_start(Gemm *g, LLVMValueRef p, LLVMValueRef row, LLVMValueRef col,
                        unsigned lanes) {
  gemm_store(g, total_start(g, row, col, lanes), p);
}

static void visit_store(Gemm *g, LLVMValueRef p, LLVMValueRef row, LLVMValueRef col,
                        unsigned lanes) {
  LLVMValueRef x = gemm_load(g, lanes == 1 ? g->f32 : g->vf32, p, 4);
  if (g->plan.chunks == 1) x = LLVMBuildFAdd(g->b, total_start(g, row, col, lanes), x, "");
  g->spec->store(g->spec->ctx, g->b, row, col, lanes, x);
}

static void visit_columns(Gemm *g, const Place *at, LLVMValueRef p, LLVMValueRef row, int64_t from,
                          int64_t to, unsigned lanes, Visit *visit) {
  if (from == to) return;
  GemmLoop l = gemm_loop(g, gemm_int(g, from), gemm_int(g, to), lanes);
  visit(g, gemm_at(g, p, gemm_mul(g, l.i, 4)), row, gemm_add(g, at->col0, l.i), lanes);
  gemm_loop_end(g, &l);
}

/* Every element of a tile that C has, by vectors as far as they are full. */
static void visit_tile(Gemm *g, const Place *at, LLVMValueRef strip, Visit *visit) {
  const GemmPlan *p = &g->plan;
  unsigned lanes = g->spec->vec.f32_lanes;
  int64_t full = at->cols - at->cols % lanes;
  LLVMValueRef row0 = gemm_add(g, at->row0, gemm_mul(g, strip, p->mr));
  LLVMValueRef left = gemm_sub(g, gemm_int(g, g->spec->m), row0);
  LLVMValueRef tile = tile_at(g, strip);
  GemmLoop l = gemm_loop(g, gemm_int(g, 0), gemm_min(g, left, gemm_int(g, p->mr)), 1);
  LLVMValueRef row = gemm_add(g, row0, l.i);
  LLVMValueRef from = gemm_at(g, tile, gemm_mul(g, l.i, 4 * p->nv * lanes));
  visit_columns(g, at, from, row, 0, full, lanes, visit);
  visit_columns(g, at, from, row, full, at->cols, 1, visit);
  gemm_loop_end(g, &l);
}

/* ---- the loops ------------------------------------------------------------------------------ */

typedef struct Chunk {
  LLVMValueRef k0, kc, last, b;
} Chunk;

static LLVMValueRef chunk_number(Gemm *g, const Chunk *c) {
  return LLVMBuildUDiv(g->b, c->k0, gemm_int(g, g->spec->k_chunk), "");
}

static void emit_strip(Gemm *g, const Place *at, const Chunk *c, LLVMValueRef strip) {
  const GemmPlan *p = &g->plan;
  int64_t row = g->spec->ta ? 4 : 4 * p->lda;
  int64_t k = (g->spec->ta ? 4 * p->lda : 4) / p->per_unit;
  LLVMValueRef off = gemm_add(g, gemm_mul(g, strip, p->mr * row), gemm_mul(g, c->k0, k));
  GemmMicro m = {.rows = p->mr, .vecs = at->vecs, .b = c->b, .kc = c->kc};
  m.a = gemm_at(g, at->a, off);
  m.tile = tile_at(g, strip);
  m.row = gemm_add(g, at->row0, gemm_mul(g, strip, p->mr));
  m.chunk = chunk_number(g, c);
  m.factors = scratch_at(g, p->factors_at);
  if (p->mr_last == p->mr) {
    gemm_micro(g, &m);
    return;
  }
  LLVMValueRef whole = gemm_less(g, m.row, gemm_int(g, (p->strips - 1) * p->mr));
  GemmIf edge = gemm_if(g, whole);
  gemm_micro(g, &m);
  gemm_else(g, &edge);
  m.rows = p->mr_last;
  gemm_micro(g, &m);
  gemm_if_end(g, &edge);
}

static void emit_finish(Gemm *g, const Place *at, const Chunk *c, LLVMValueRef strip) {
  if (g->plan.chunks == 1) {
    visit_tile(g, at, strip, visit_store);
    return;
  }
  GemmIf last = gemm_if(g, c->last);
  visit_tile(g, at, strip, visit_store);
  gemm_else(g, &last);
  gemm_if_end(g, &last);
}

/* The factors of a panel's columns in a row; columns past the last repeat it. */
static void emit_factors(Gemm *g, const Place *at, const Chunk *c) {
  if (!g->spec->scale) return;
  GemmLoop l = gemm_loop(g, gemm_int(g, 0), gemm_int(g, at->vecs * g->spec->vec.f32_lanes), 1);
  LLVMValueRef col = gemm_add(g, at->col0, gemm_min(g, l.i, gemm_int(g, at->cols - 1)));
  LLVMValueRef to = gemm_at(g, scratch_at(g, g->plan.factors_at), gemm_mul(g, l.i, 4));
  gemm_store(g, g->spec->scale(g->spec->ctx, g->b, 1, col, chunk_number(g, c)), to);
  gemm_loop_end(g, &l);
}

static void emit_chunk(Gemm *g, const Place *at, Chunk *c) {
  const GemmPlan *p = &g->plan;
  emit_factors(g, at, c);
  if (p->pack_b) {
    c->b = scratch_at(g, p->panel_at);
    gemm_pack_b(g, at->vecs, at->cols, at->col0, c->k0, c->kc, c->b);
  } else {
    int64_t bytes = gemm_elem_bytes(g->spec->b);
    LLVMValueRef e = gemm_add(g, gemm_mul(g, c->k0, g->spec->ldb), at->col0);
    c->b = gemm_at(g, g->bm, gemm_mul(g, e, bytes));
  }
  GemmLoop l = gemm_loop(g, at->first, at->after, 1);
  emit_strip(g, at, c, l.i);
  emit_finish(g, at, c, l.i);
  gemm_loop_end(g, &l);
}

static void emit_panel(Gemm *g, const Place *at) {
  const GemmSpec *s = g->spec;
  Chunk c = {.k0 = gemm_int(g, 0), .kc = gemm_int(g, s->k)};
  c.last = LLVMConstInt(LLVMInt1TypeInContext(g->ctx), 1, false);
  if (g->plan.chunks == 1) {
    emit_chunk(g, at, &c);
    return;
  }
  GemmLoop start = gemm_loop(g, at->first, at->after, 1);
  visit_tile(g, at, start.i, visit_start);
  gemm_loop_end(g, &start);
  GemmLoop l = gemm_loop(g, gemm_int(g, 0), gemm_int(g, s->k), s->k_chunk);
  LLVMValueRef left = gemm_sub(g, gemm_int(g, s->k), l.i);
  c.k0 = l.i;
  c.kc = gemm_min(g, left, gemm_int(g, s->k_chunk));
  c.last = LLVMBuildICmp(g->b, LLVMIntSLE, left, gemm_int(g, s->k_chunk), "");
  emit_chunk(g, at, &c);
  gemm_loop_end(g, &l);
}

/* Tiles lo … hi of a block (numbered from its first, panel by panel, `strips` a panel). */
typedef struct Run {
  LLVMValueRef lo, hi, strips;
} Run;

/* Panels first … after, all of one size. */
static void emit_panels(Gemm *g, Place at, const Run *run, LLVMValueRef first, LLVMValueRef after) {
  LLVMValueRef zero = gemm_int(g, 0);
  GemmLoop l = gemm_loop(g, first, after, 1);
  LLVMValueRef base = LLVMBuildMul(g->b, l.i, run->strips, "");
  at.col0 = gemm_mul(g, l.i, g->plan.nv * g->spec->vec.f32_lanes);
  at.first = gemm_max(g, gemm_sub(g, run->lo, base), zero);
  at.after = gemm_min(g, gemm_sub(g, run->hi, base), run->strips);
  emit_panel(g, &at);
  gemm_loop_end(g, &l);
}

static void emit_run(Gemm *g, Place at, const Run *run) {
  const GemmPlan *p = &g->plan;
  int64_t nr = p->nv * g->spec->vec.f32_lanes, n = g->spec->n;
  int64_t whole = n % nr == 0 ? p->panels : p->panels - 1;
  LLVMValueRef last = gemm_int(g, whole);
  LLVMValueRef up = gemm_sub(g, gemm_add(g, run->hi, run->strips), gemm_int(g, 1));
  LLVMValueRef first = LLVMBuildUDiv(g->b, run->lo, run->strips, "");
  LLVMValueRef after = LLVMBuildUDiv(g->b, up, run->strips, "");
  at.vecs = p->nv;
  at.cols = nr;
  if (whole > 0) emit_panels(g, at, run, first, gemm_min(g, after, last));
  if (whole == p->panels) return;
  at.vecs = p->nv_last;
  at.cols = n - whole * nr;
  emit_panels(g, at, run, gemm_max(g, first, last), after);
}

static LLVMValueRef block_a(Gemm *g, LLVMValueRef row0, LLVMValueRef strips) {
  const GemmSpec *s = g->spec;
  if (!g->plan.pack_a) return gemm_at(g, g->a, gemm_mul(g, row0, s->ta ? 4 : 4 * s->lda));
  LLVMValueRef rows =
      gemm_min(g, gemm_mul(g, strips, g->plan.mr), gemm_sub(g, gemm_int(g, s->m), row0));
  LLVMValueRef dst = scratch_at(g, g->plan.a_at);
  gemm_pack_a(g, row0, rows, dst);
  return dst;
}

/* This thread's tiles are lo … hi of all; do those of the block. */
static void emit_block(Gemm *g, LLVMValueRef block, LLVMValueRef lo, LLVMValueRef hi) {
  const GemmPlan *p = &g->plan;
  LLVMValueRef strip0 = gemm_mul(g, block, p->block_strips);
  LLVMValueRef base = gemm_mul(g, strip0, p->panels);
  Run run = {.strips = gemm_min(g, gemm_int(g, p->block_strips),
                                gemm_sub(g, gemm_int(g, p->strips), strip0))};
  LLVMValueRef tiles = gemm_mul(g, run.strips, p->panels);
  run.lo = gemm_max(g, gemm_sub(g, lo, base), gemm_int(g, 0));
  run.hi = gemm_min(g, gemm_sub(g, hi, base), tiles);
  GemmIf any = gemm_if(g, gemm_less(g, run.lo, run.hi));
  Place at = {.row0 = gemm_mul(g, strip0, p->mr)};
  at.a = block_a(g, at.row0, run.strips);
  emit_run(g, at, &run);
  gemm_else(g, &any);
  gemm_if_end(g, &any);
}

static int64_t tiles_of(const Gemm *g) { return g->plan.strips * g->plan.panels; }

/* The first tile of thread t, of all products'. */
static LLVMValueRef thread_tile(Gemm *g, LLVMValueRef t, LLVMValueRef threads) {
  int64_t products = g->spec->element ? g->spec->batch : 1;
  return LLVMBuildUDiv(g->b, gemm_mul(g, t, products * tiles_of(g)), threads, "");
}

/* Tiles lo … hi of one product. */
static void emit_product(Gemm *g, LLVMValueRef lo, LLVMValueRef hi) {
  GemmLoop l = gemm_loop(g, gemm_int(g, 0), gemm_int(g, g->plan.blocks), 1);
  emit_block(g, l.i, lo, hi);
  gemm_loop_end(g, &l);
}

/* A thread's run of tiles goes on from product to product: where there are many, most are one
 * thread's. */
static void emit_products(Gemm *g, LLVMValueRef lo, LLVMValueRef hi) {
  LLVMValueRef tiles = gemm_int(g, tiles_of(g)), a = g->a, bm = g->bm;
  LLVMValueRef up = gemm_add(g, hi, gemm_int(g, tiles_of(g) - 1));
  LLVMValueRef first = LLVMBuildUDiv(g->b, lo, tiles, "");
  GemmLoop l = gemm_loop(g, first, LLVMBuildUDiv(g->b, up, tiles, ""), 1);
  LLVMValueRef base = LLVMBuildMul(g->b, l.i, tiles, "");
  g->spec->element(g->spec->ctx, g->b, l.i, &g->a, &g->bm);
  lo = gemm_max(g, gemm_sub(g, lo, base), gemm_int(g, 0));
  emit_product(g, lo, gemm_min(g, gemm_sub(g, hi, base), tiles));
  gemm_loop_end(g, &l);
  g->a = a;
  g->bm = bm;
}

void gemm_emit(const GemmSpec *spec, LLVMBuilderRef b, LLVMValueRef tid, LLVMValueRef threads,
               LLVMValueRef a_ptr, LLVMValueRef b_ptr, LLVMValueRef scratch) {
  Gemm g = {.spec = spec, .plan = gemm_plan(spec), .a = a_ptr, .bm = b_ptr, .scratch = scratch};
  gemm_ir_init(&g, b, tid);
  LLVMValueRef t = LLVMBuildZExt(b, tid, g.i64, ""), team = LLVMBuildZExt(b, threads, g.i64, "");
  LLVMValueRef lo = thread_tile(&g, t, team);
  LLVMValueRef hi = thread_tile(&g, gemm_add(&g, t, gemm_int(&g, 1)), team);
  if (spec->element) emit_products(&g, lo, hi);
  else emit_product(&g, lo, hi);
}
