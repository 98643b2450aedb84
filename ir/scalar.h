/* scalar.h: scalar programs, the one place where an elementwise formula exists.
 *
 * scalar.def holds each formula as text over the primitives of SCALAR_PRIMS.  The text is parsed
 * once a session into straight-line code (SProg); ref interprets it, codegen/cpu emits it as
 * vectors, codegen/cuda prints it.  So the three agree bit for bit: every f32 primitive is one
 * IEEE-754 binary32 operation, round to nearest even, with subnormal operands and results read and
 * written as zero of the same sign (DAZ and FTZ).  There is no control flow: both sides of a
 * `select` are computed.
 */
#ifndef IR_SCALAR_H
#define IR_SCALAR_H

#include "base/base.h"

typedef enum SType { S_F32, S_I32, S_I1 } SType; /* i32 also carries u32, u16, u8 and bit patterns */

/* PRIM(name, operands: f float, i int, b bool; result; meaning) */
#define SCALAR_PRIMS(PRIM)                                                                        \
  PRIM(add, "ff", S_F32, "x + y")                                                                 \
  PRIM(sub, "ff", S_F32, "x - y")                                                                 \
  PRIM(mul, "ff", S_F32, "x * y")                                                                 \
  PRIM(div, "ff", S_F32, "x / y")                                                                 \
  PRIM(fma, "fff", S_F32, "x * y + z with one rounding")                                          \
  PRIM(neg, "f", S_F32, "sign bit flipped, no flush, NaN too")                                    \
  PRIM(abs, "f", S_F32, "sign bit cleared, no flush, NaN too")                                    \
  PRIM(sqrt, "f", S_F32, "correctly rounded")                                                     \
  PRIM(rint, "f", S_F32, "to the nearest integer, ties to even")                                  \
  PRIM(lt, "ff", S_I1, "x < y, false for NaN")                                                    \
  PRIM(le, "ff", S_I1, "x <= y, false for NaN")                                                   \
  PRIM(eq, "ff", S_I1, "x == y, false for NaN")                                                   \
  PRIM(iadd, "ii", S_I32, "modulo 2^32")                                                          \
  PRIM(isub, "ii", S_I32, "modulo 2^32")                                                          \
  PRIM(imul, "ii", S_I32, "modulo 2^32")                                                          \
  PRIM(umulhi, "ii", S_I32, "upper half of the unsigned 64-bit product")                          \
  PRIM(and, "ii", S_I32, "bitwise")                                                               \
  PRIM(or, "ii", S_I32, "bitwise")                                                                \
  PRIM(xor, "ii", S_I32, "bitwise")                                                               \
  PRIM(shl, "ii", S_I32, "by y in 0..31; the result for other y is 0")                            \
  PRIM(shr, "ii", S_I32, "logical; by y in 0..31; the result for other y is 0")                   \
  PRIM(sar, "ii", S_I32, "arithmetic; y is taken as min(y unsigned, 31)")                         \
  PRIM(ilt, "ii", S_I1, "signed")                                                                 \
  PRIM(ult, "ii", S_I1, "unsigned")                                                               \
  PRIM(ieq, "ii", S_I1, "equal")                                                                  \
  PRIM(band, "bb", S_I1, "x and y")                                                               \
  PRIM(bor, "bb", S_I1, "x or y")                                                                 \
  PRIM(bnot, "b", S_I1, "not x")                                                                  \
  PRIM(select, "b**", S_F32, "b ? x : y; x and y of one type, which is the result's")             \
  PRIM(bits, "f", S_I32, "the bit pattern, unchanged")                                            \
  PRIM(float, "i", S_F32, "the float with this bit pattern, unchanged")                           \
  PRIM(itof, "i", S_F32, "signed integer to f32, round to nearest even")                          \
  PRIM(utof, "i", S_F32, "unsigned integer to f32, round to nearest even")                        \
  PRIM(ftoi, "f", S_I32, "toward zero; NaN gives 0, out of range saturates")                      \
  PRIM(btoi, "b", S_I32, "0 or 1")

typedef enum SPrim {
#define PRIM(name, operands, result, doc) SP_##name,
  SCALAR_PRIMS(PRIM)
#undef PRIM
  SP_ARG,   /* argument number imm */
  SP_CONST, /* constant with bit pattern imm, of type `type` */
} SPrim;

typedef struct SInst {
  uint8_t prim; /* SPrim */
  uint8_t type; /* SType of the result */
  uint16_t x[3]; /* operands: indices of earlier instructions */
  uint32_t imm;
} SInst;

enum { SCALAR_ARGS = 8, SCALAR_RESULTS = 4, SCALAR_INSTS = 1024 };

typedef struct SProg {
  const char *name, *doc;
  uint32_t nargs, nres, ninst;
  uint8_t arg[SCALAR_ARGS]; /* SType */
  uint8_t res_type[SCALAR_RESULTS];
  uint16_t res[SCALAR_RESULTS]; /* indices of instructions */
  const SInst *inst;            /* no dead instruction, no two equal ones */
} SProg;

/* SC_exp, SC_tanh, …: one a row of scalar.def. */
typedef enum ScalarId {
#define SCALAR(name, signature, doc, text) SC_##name,
#include "ir/scalar.def"
#undef SCALAR
  SC_COUNT,
  SC_none = SC_COUNT
} ScalarId;

typedef struct Scalars {
  SProg prog[SC_COUNT];
} Scalars;

/* Parses scalar.def into `arena`.  The text is ours: a mistake in it ends the process with code 70. */
const Scalars *scalars_parse(Arena *arena);

/* A float and its bit pattern. */
float scalar_float(uint32_t bits);
uint32_t scalar_bits(float f);

/* One primitive on bit patterns (i1: 0 or 1).  The caller has set DAZ and FTZ. */
uint32_t scalar_prim(SPrim prim, uint32_t x, uint32_t y, uint32_t z);

/* The whole program on bit patterns.  The caller has set DAZ and FTZ (ref_float_mode). */
void scalar_run(const SProg *p, const uint32_t *args, uint32_t *results);

/* The same for n arguments: args[k * n + i] and results[r * n + i], i < n.  Many times as fast. */
void scalar_run_many(const SProg *p, uint32_t n, const uint32_t *args, uint32_t *results);

#endif
