/* op.h: element types, tensor types, operations and their attributes: what ops.def and attrs.def
 * say, as tables that everybody reads.
 *
 * A column that one room alone reads is expanded there.  Included through ir.h.
 */
#ifndef IR_OP_H
#define IR_OP_H

#include "base/base.h"

/* ---- type.c ---------------------------------------------------------------------------------- */

/* DTYPE(name, bytes, kind: f float, i integer, b bool), in the order of mp_dtype. */
// clang-format off
#define DTYPES(DTYPE)                                                                             \
  DTYPE(f32, 4, 'f') DTYPE(bf16, 2, 'f') DTYPE(f16, 2, 'f') DTYPE(f8e4m3fn, 1, 'f')               \
  DTYPE(f8e5m2, 1, 'f') DTYPE(f8e8m0, 1, 'f') DTYPE(i64, 8, 'i') DTYPE(i32, 4, 'i')               \
  DTYPE(u32, 4, 'i') DTYPE(u16, 2, 'i') DTYPE(u8, 1, 'i') DTYPE(i1, 1, 'b')
// clang-format on

typedef enum DType {
#define DTYPE(name, bytes, kind) DT_##name,
  DTYPES(DTYPE)
#undef DTYPE
      DT_COUNT
} DType;

enum { MAX_RANK = 8, MAX_SCALERS = 8 };

typedef uint32_t Unit;    /* unit_map.c: the loss scales in a value; 0: none */
enum { UNIT_S = 0x0101 }; /* the scale of scaler 0, once */

typedef struct Type {
  uint8_t dtype; /* DType */
  uint8_t rank;
  int8_t rows; /* the axis whose leading part is real rows, -1: none.  dim[rows] = m · batch */
  Unit unit;   /* which loss scales, to which power, the values are multiplied by */
  int64_t dim[MAX_RANK];
} Type;

extern const char *const dtype_name[DT_COUNT];
extern const uint8_t dtype_bytes[DT_COUNT];
extern const char dtype_kind[DT_COUNT];
/* A finite number other than 0 stays one when it is rounded to the float type d. */
bool dtype_holds(DType d, double v);
double fp8_largest(DType d); /* finite number of f8e4m3fn, f8e5m2 */

Type type_make(DType dtype, int rank, const int64_t *dims); /* no rows, unit 0 */
Type type_scalar(DType dtype);
Type type_with(Type t, DType dtype); /* the same dims, rows and unit */
bool type_equal(Type a, Type b);     /* everything */
bool type_same_dims(Type a, Type b); /* rank and dims */
bool type_is_fp8(Type t);            /* f8e4m3fn, f8e5m2 */
bool type_is_float(Type t);
int64_t type_count(Type t);                  /* elements; fits in i64 once verified */
uint64_t type_size(Type t);                  /* bytes of a verified type */
bool type_bytes(Type t, uint64_t *bytes);    /* false: does not fit in 2^46 bytes */
void type_print(Text *t, Type type);         /* f32[rows 64,784]*S */
bool type_parse(const char **s, Type *type); /* the inverse; *s moves behind it */
bool dtype_parse(const char *name, size_t n, DType *d);

/* ---- unit_map.c ------------------------------------------------------------------------------ */

Unit unit_of_scales(unsigned set, int power); /* the least scale of the set, to that power */
unsigned unit_scales(Unit u);                 /* the set, where the power is 1 and alone; else 0 */
bool unit_times(Unit a, Unit b, int power, Unit *product); /* a · b^power; false: out of range */
bool unit_root(Unit u, Unit *root);                        /* false: an odd power */
void unit_print(Text *out, Unit u);                        /* *S*min(S,S1)^-1 */
bool unit_parse(const char **s, Unit *u);                  /* the inverse; *s moves behind it */

/* ---- op.c: the readers of ops.def and attrs.def that everybody needs ------------------------- */

typedef enum Op {
#define OP(name, doc) OP_##name,
#include "ir/ops.def"
  OP_COUNT
} Op;

typedef enum AttrKey {
#define ATTR(name, kind, doc) AT_##name,
#include "ir/attrs.def"
#undef ATTR
  AT_COUNT
} AttrKey;

typedef enum AttrKind { ATTR_INT, ATTR_FLOAT, ATTR_BOOL, ATTR_TEXT, ATTR_INTS } AttrKind;

typedef enum OpFlags {
  F_EW = 1,
  F_COMM = 2,
  F_VIEW = 4,
  F_REDUCE = 8,
  F_RANDOM = 16,
  F_STATE = 32,
  F_REGION = 64,
  F_ELSEWHERE = 128
} OpFlags;

typedef enum ArgKind { ARG_END, ARG_IN, ARG_OPT, ARG_REST, ARG_OUT, ARG_RESTOUT, ARG_ATTR } ArgKind;
typedef struct OpArg {
  ArgKind kind;
  const char *name;
  int key; /* AttrKey of an ARG_ATTR */
} OpArg;

extern const char *const op_name[OP_COUNT], *const op_doc[OP_COUNT];
extern const OpArg *const op_args[OP_COUNT]; /* ends with ARG_END */
extern const uint8_t op_flags[OP_COUNT];
extern const char *const attr_name[AT_COUNT];
extern const uint8_t attr_kind[AT_COUNT];
bool attr_is_common(AttrKey key); /* any op may have it */

typedef enum Form { FORM_none, FORM_map, FORM_reduce, FORM_gemm, FORM_scatter, FORM_COUNT } Form;
extern const uint8_t op_form[OP_COUNT];
extern const char *const form_name[FORM_COUNT];

/* Column SCALAR: the ScalarId of its program over elements of type d; SC_none: it has none. */
unsigned op_program(Op op, DType d);
/* The ScalarIds that turn a stored element of a float type into f32 and back, as casts do; SC_none:
 * there is nothing to do. */
unsigned dtype_widen(DType d);
unsigned dtype_narrow(DType d);
int op_results(Op op); /* fixed number of results, -1: any */
bool op_arity_ok(Op op, uint32_t operands);

#endif
