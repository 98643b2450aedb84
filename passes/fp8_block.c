/* fp8_block.c: fp8(block) and mx8: a scale for each block of neighbouring elements along the
 * contracted axis, so for each product its own; the product adds a block's chain times the two
 * blocks' scales in f32.
 *
 *            block of an activation, a cotangent   of a weight   scale_inv of a block
 *   block    1 × 128                               128 × 128     amax / FMAX, in f32
 *   mx8      1 × 32                                1 × 32        2^(⌊log2 amax⌋ - emax), f8e8m0
 *
 * (docs/precision.md).  A square block serves the products that contract either of its axes: the
 * weight is quantized once, as it lies.  Any other operand becomes lines along the contracted axis,
 * [lines, k], transposed where it lies the other way.  A contraction over the batch takes padding
 * rows as the zeros that they are.
 *
 * Axes are filled with zeros to multiples of 16 (fp8.h).  Blocks are cut out by a reshape, so where
 * there are several the axis is filled to whole ones first, and cut behind.
 */
#include "passes/fp8.h"
#include "ref/expand.h"

typedef struct Format {
  int64_t block;
  bool square;  /* of a weight */
  DType stored; /* scale_inv */
} Format;

/* ---- scales ---------------------------------------------------------------------------------- */

/* OCP Microscaling 1.0, but 2^-126 at least, since subnormal numbers are zeros.  Infinite for what
 * is not finite, so that the product is NaN. */
static ValueId power_scale(Builder *b, ValueId amax, DType to) {
  Type plain = value_type(b->g, amax);
  plain.unit = 0;
  ValueId largest = build_constant(b, plain, to == DT_f8e5m2 ? 0x1p-15 : 0x1p-8);
  ValueId x = build2(b, OP_mul, build1(b, OP_floor_pow2, amax), largest);
  x = build2(b, OP_max, x, build_like(b, x, 0x1p-126));
  return build2(b, OP_div, build_constant(b, plain, 1), x);
}

/* Of a weight put beside every example each has its own; f32 all the same, or what multiplies would
 * not be what scale_inv is the inverse of. */
static ValueId scale_of(Builder *b, const Format *f, ValueId amax, DType to) {
  return build_wide(b, f->stored == DT_f8e8m0 ? power_scale(b, amax, to)
                                              : fp8_own_scale(b, amax, to));
}

/* ---- blocks ---------------------------------------------------------------------------------- */

/* Elements of an axis that become one place of it: a block, or all there are. */
static int64_t share(int64_t n, const Format *f) {
  return fp8_filled(n) < f->block ? fp8_filled(n) : f->block;
}

/* Quantizes x, made of the value `of`, with a scale for each block of the last axis, of the last
 * two where they are `square`: y as long as whole blocks are, and beside it its scale_inv. */
static Fp8Blocks quantize(Fp8 *s, Builder *b, const Format *f, ValueId of, ValueId x, bool square) {
  DType to = fp8_type(s, of);
  Type whole = value_type(s->g, x), cut = whole;
  int64_t axes[MAX_RANK];
  cut.rank = 0;
  for (int i = 0; i < whole.rank; i++) {
    bool blocks = i == whole.rank - 1 || (square && i == whole.rank - 2);
    int64_t n = blocks ? share(whole.dim[i], f) : 1;
    axes[i] = cut.rank;
    int64_t places = (whole.dim[i] + n - 1) / n;
    if (!blocks && i == whole.rank - 2 && i != whole.rows) places = fp8_filled(places);
    cut.dim[cut.rank++] = places;
    if (blocks) cut.dim[cut.rank++] = n;
    whole.dim[i] = places * n;
  }
  if (whole.rows >= 0) cut.rows = (int8_t)axes[whole.rows];
  Attr at = attr_ints(AT_scale_axes, whole.rank, axes);
  x = build_reshape(b, fp8_fill(b, x, whole), cut);
  ValueId scale = scale_of(b, f, build_amax(b, x, &at), to);
  NodeId q = fp8_add_quantize(b, x, scale, to, f->stored, &at);
  fp8_count(s, b, of, q);
  ValueId y = s->g->nodes.at[q].res;
  return (Fp8Blocks){.y = build_reshape(b, y, whole), .scale_inv = y + 1};
}

/* ---- operands -------------------------------------------------------------------------------- */

/* x for the products that contract `along`, its last axis or the one before: as it lies (along -1,
 * for both), or its lines. */
static Fp8Blocks blocks_of(Fp8 *s, Builder *b, const Format *f, ValueId x, int along) {
  x = fp8_source(s, x);
  Type t = value_type(s->g, x);
  Builder at = fp8_builder(s, b, x);
  bool square = f->square && fp8_is_parameter(s, x);
  int key = square ? -1 : along;
  for (uint32_t i = 0; i < s->blocks.len; i++)
    if (s->blocks.at[i].x == x && s->blocks.at[i].along == key) return s->blocks.at[i];
  ValueId lines = x;
  int64_t perm[MAX_RANK] = {0, 1, 2, 3, 4, 5, 6, 7};
  perm[t.rank - 1] = t.rank - 2;
  perm[t.rank - 2] = t.rank - 1;
  if (t.rows == along) lines = build1(&at, OP_untag_rows, lines);
  if (!square && along != t.rank - 1) lines = build_transpose(&at, lines, perm);
  Fp8Blocks q = quantize(s, &at, f, x, lines, square);
  q.x = x;
  q.along = key;
  vec_push(s->arena, &s->blocks, q);
  return q;
}

/* Operand i of the product n, and whether it is read transposed. */
static Fp8Blocks operand(Fp8 *s, Builder *b, const Format *f, const Node *n, int i, bool *swap) {
  ValueId x = n->ops[i];
  Type t = value_type(s->g, x);
  bool swapped = node_bool(n, i ? AT_tb : AT_ta);
  int along = t.rank - 1 - ((i == 1) != swapped);
  Fp8Blocks q = blocks_of(s, b, f, x, along);
  bool lines = q.along >= 0;
  *swap = lines ? i == 1 : swapped;
  q.y = build_part(b, q.y, lines ? t.rank - 1 : along, 0, fp8_filled(t.dim[along]));
  return q;
}

static ValueId multiply(Fp8 *s, Builder *b, const Format *f, const Node *n) {
  bool ta, tb;
  if (value_type(s->g, n->ops[0]).rank + 2 > MAX_RANK) /* no room for blocks: it stays wide */
    return build(b, OP_matmul, n->nops, n->ops, n->nattrs, n->attrs);
  Fp8Blocks x = operand(s, b, f, n, 0, &ta), y = operand(s, b, f, n, 1, &tb);
  ValueId ops[] = {x.y, y.y, x.scale_inv, y.scale_inv};
  return fp8_product(b, n, ops, ta, tb, f->block);
}

ValueId product_fp8_block(Fp8 *s, Builder *b, const Node *n) {
  return multiply(s, b, &(Format){128, true, DT_f32}, n);
}

ValueId product_mx8(Fp8 *s, Builder *b, const Node *n) {
  return multiply(s, b, &(Format){32, false, DT_f8e8m0}, n);
}
