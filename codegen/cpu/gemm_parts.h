/* gemm_parts.h: what the three files of the gemm emitter share.  Private to gemm*.c.
 *
 * gemm.c chooses a GemmPlan and emits the loops around, gemm_pack.c the copies, gemm_micro.c the
 * block of accumulators, gemm_ir.c the small change of IR building.
 */
#ifndef CODEGEN_CPU_GEMM_PARTS_H
#define CODEGEN_CPU_GEMM_PARTS_H

#include "codegen/cpu/gemm.h"

#include <stddef.h>

enum { GEMM_MAX_ACC = 32, GEMM_MAX_VECS = 6, GEMM_LINE = 64, GEMM_PAGE = 4096 };

/* C is cut into strips of mr rows and panels of nv vectors; strip × panel is a tile.  Strips come
 * in blocks, whose part of a stays in the second-level cache while the panels go by. */
typedef struct GemmPlan {
  int64_t mr, strips, mr_last; /* rows of a strip, of the last one */
  int64_t nv, panels, nv_last; /* vectors of a panel, of the last one */
  int64_t block_strips, blocks;
  int64_t chunks, k_last;  /* how many, length of the last */
  bool pairs;              /* of k in a unit of 32 bits, for vdpbf16ps; else a unit is an f32 */
  int64_t per_unit;        /* k in a unit of packed a and b: 2, 1 */
  bool pack_a, pack_b;     /* into units; otherwise read where it lies */
  int64_t lda, ldb;        /* elements between rows of what the micro-kernel reads */
  uint64_t panel_at, a_at; /* offsets in scratch; the tiles' totals lie at 0 */
  uint64_t factors_at;     /* of a panel's columns, where chunks are scaled */
  uint64_t bytes;
} GemmPlan;

typedef struct Gemm {
  const GemmSpec *spec;
  GemmPlan plan;
  LLVMBuilderRef b;
  LLVMContextRef ctx;
  LLVMValueRef fn; /* the kernel function we stand in */
  LLVMTypeRef i8, i64, f32, vf32;
  LLVMTypeRef fma_type; /* llvm.fma on vf32, or vdpbf16ps */
  LLVMValueRef fma;
  LLVMValueRef a, bm, scratch; /* operands as given */
} Gemm;

/* ---- gemm_ir.c ------------------------------------------------------------------------------ */

void gemm_ir_init(Gemm *g, LLVMBuilderRef b, LLVMValueRef any);
LLVMValueRef gemm_int(Gemm *g, int64_t v);
LLVMValueRef gemm_add(Gemm *g, LLVMValueRef x, LLVMValueRef y);
LLVMValueRef gemm_sub(Gemm *g, LLVMValueRef x, LLVMValueRef y);
LLVMValueRef gemm_mul(Gemm *g, LLVMValueRef x, int64_t y);
LLVMValueRef gemm_min(Gemm *g, LLVMValueRef x, LLVMValueRef y);
LLVMValueRef gemm_max(Gemm *g, LLVMValueRef x, LLVMValueRef y);
LLVMValueRef gemm_less(Gemm *g, LLVMValueRef x, LLVMValueRef y);
LLVMValueRef gemm_equal(Gemm *g, LLVMValueRef x, LLVMValueRef y);
LLVMValueRef gemm_at(Gemm *g, LLVMValueRef p, LLVMValueRef bytes);
LLVMValueRef gemm_load(Gemm *g, LLVMTypeRef type, LLVMValueRef p, unsigned align);
void gemm_store(Gemm *g, LLVMValueRef value, LLVMValueRef p);
LLVMValueRef gemm_load_f32(Gemm *g, GemmElem elem, unsigned lanes, LLVMValueRef p);
/* Lanes of i32 whose lower 8 bits are codes. */
LLVMValueRef gemm_widen_fp8(Gemm *g, GemmElem elem, unsigned lanes, LLVMValueRef code);
LLVMValueRef gemm_splat(Gemm *g, LLVMValueRef scalar);
int64_t gemm_elem_bytes(GemmElem e);
LLVMValueRef gemm_units(Gemm *g, LLVMValueRef k); /* of packed operands that hold so many k */

/* for (i = lo; i < hi; i += step), signed, tested on top. */
typedef struct GemmLoop {
  LLVMBasicBlockRef head, exit;
  LLVMValueRef i, step;
} GemmLoop;

GemmLoop gemm_loop(Gemm *g, LLVMValueRef lo, LLVMValueRef hi, int64_t step);
void gemm_loop_end(Gemm *g, const GemmLoop *l);

typedef struct GemmIf {
  LLVMBasicBlockRef otherwise, join;
} GemmIf;

GemmIf gemm_if(Gemm *g, LLVMValueRef cond);
void gemm_else(Gemm *g, const GemmIf *c);
void gemm_if_end(Gemm *g, const GemmIf *c); /* gemm_else came before */

/* ---- gemm_pack.c ---------------------------------------------------------------------------- */

/* Rows row0 … row0+rows of a, all k of them, as units to dst, laid out as a is. */
void gemm_pack_a(Gemm *g, LLVMValueRef row0, LLVMValueRef rows, LLVMValueRef dst);

/* b[k0 … k0+kc, col0 … col0+vecs·lanes) as rows of plan.ldb units to dst, transposed where b is
 * [n, k].  cols of them exist; what lies beyond is finite or not, but readable. */
void gemm_pack_b(Gemm *g, int64_t vecs, int64_t cols, LLVMValueRef col0, LLVMValueRef k0,
                 LLVMValueRef kc, LLVMValueRef dst);

/* ---- gemm_micro.c --------------------------------------------------------------------------- */

typedef struct GemmMicro {
  int64_t rows, vecs;
  LLVMValueRef a, b; /* where the tile's rows and columns begin, at the chunk's first k */
  LLVMValueRef kc;
  LLVMValueRef tile;       /* totals, rows of nv vectors */
  LLVMValueRef row, chunk; /* the first of the tile, which one of its row and columns */
  LLVMValueRef factors;    /* where chunks are scaled, of the columns */
} GemmMicro;

/* tile += chains of one chunk, scaled; tile = those where there is one chunk. */
void gemm_micro(Gemm *g, const GemmMicro *m);

#endif
