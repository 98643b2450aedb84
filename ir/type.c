/* type.c: element types and tensor types, their text and their sizes.
 *
 * The text is that of IR dumps: f32[64,10], with *S for the loss scale and `rows` in front of the
 * axis of the batch. Sizes are counted in 64 bits with every overflow noticed; a type that is too
 * large does not exist (rule 6 of verify.c), so nobody behind has to ask again. */
#include "ir/ir.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const dtype_name[DT_COUNT] = {
#define DTYPE(name, bytes, kind) #name,
    DTYPES(DTYPE)
#undef DTYPE
};
const uint8_t dtype_bytes[DT_COUNT] = {
#define DTYPE(name, bytes, kind) bytes,
    DTYPES(DTYPE)
#undef DTYPE
};
const char dtype_kind[DT_COUNT] = {
#define DTYPE(name, bytes, kind) kind,
    DTYPES(DTYPE)
#undef DTYPE
};

bool type_is_fp8(Type t) { return t.dtype == DT_f8e4m3fn || t.dtype == DT_f8e5m2; }

double fp8_largest(DType d) { return d == DT_f8e5m2 ? 57344 : 448; }

bool dtype_holds(DType d, double v) {
  /* the least magnitude that becomes infinite, the least that does not become zero */
  static const struct {
    double infinite, least;
  } range[DT_COUNT] = {[DT_f32] = {0x1.ffffffp127, 0x1p-126},
                       [DT_bf16] = {0x1.ffp127, 0x1p-126},
                       [DT_f16] = {65520, 0x1.000002p-25},
                       [DT_f8e4m3fn] = {0x1.d00002p8, 0x1.000002p-10},
                       [DT_f8e5m2] = {61440, 0x1.000002p-17}};
  bool known = range[d].infinite > 0;
  return !known || !isfinite(v) || v == 0 ||
         (fabs(v) < range[d].infinite && fabs(v) >= range[d].least);
}

Type type_make(DType dtype, int rank, const int64_t *dims) {
  Type t = {.dtype = (uint8_t)dtype, .rank = (uint8_t)rank, .rows = -1};
  for (int i = 0; i < rank; i++) t.dim[i] = dims[i];
  return t;
}

Type type_scalar(DType dtype) { return type_make(dtype, 0, NULL); }

Type type_with(Type t, DType dtype) {
  t.dtype = (uint8_t)dtype;
  return t;
}

bool type_same_dims(Type a, Type b) {
  if (a.rank != b.rank) return false;
  for (int i = 0; i < a.rank; i++)
    if (a.dim[i] != b.dim[i]) return false;
  return true;
}

bool type_equal(Type a, Type b) {
  return a.dtype == b.dtype && a.rows == b.rows && a.unit == b.unit && type_same_dims(a, b);
}

bool type_is_float(Type t) { return dtype_kind[t.dtype] == 'f'; }

int64_t type_count(Type t) {
  int64_t n = 1;
  for (int i = 0; i < t.rank; i++) n *= t.dim[i];
  return n;
}

bool type_bytes(Type t, uint64_t *bytes) {
  const uint64_t limit = (uint64_t)1 << 46;
  uint64_t n = dtype_bytes[t.dtype];
  bool empty = false;
  for (int i = 0; i < t.rank; i++) {
    if (t.dim[i] < 0) return false;
    if (t.dim[i] == 0) empty = true;
    else if ((uint64_t)t.dim[i] > limit / n) return false;
    else n *= (uint64_t)t.dim[i];
  }
  *bytes = empty ? 0 : n;
  return true;
}

uint64_t type_size(Type t) { return (uint64_t)type_count(t) * dtype_bytes[t.dtype]; }

void type_print(Text *out, Type t) {
  text_printf(out, "%s[", dtype_name[t.dtype]);
  for (int i = 0; i < t.rank; i++)
    text_printf(out, "%s%s%lld", i ? "," : "", i == t.rows ? "rows " : "", (long long)t.dim[i]);
  text_add(out, "]");
  unit_print(out, t.unit);
}

bool dtype_parse(const char *name, size_t n, DType *d) {
  for (int i = 0; i < DT_COUNT; i++)
    if (strlen(dtype_name[i]) == n && !memcmp(dtype_name[i], name, n)) {
      *d = (DType)i;
      return true;
    }
  return false;
}

static bool parse_int(const char **s, int64_t *v) {
  const char *p = *s;
  bool negative = *p == '-';
  if (negative) p++;
  if (!isdigit((unsigned char)*p)) return false;
  int64_t n = 0;
  for (; isdigit((unsigned char)*p); p++) {
    if (n > (INT64_MAX - 9) / 10) return false;
    n = n * 10 + (*p - '0');
  }
  *v = negative ? -n : n;
  *s = p;
  return true;
}

static bool parse_dim(const char **s, Type *t) {
  while (**s == ' ') ++*s;
  if (!strncmp(*s, "rows ", 5)) {
    if (t->rows >= 0) return false;
    t->rows = (int8_t)t->rank;
    *s += 5;
  }
  return t->rank < MAX_RANK && **s != '-' && parse_int(s, &t->dim[t->rank++]);
}

bool type_parse(const char **s, Type *type) {
  const char *p = *s, *name = p;
  while (isalnum((unsigned char)*p)) p++;
  DType d;
  if (!dtype_parse(name, (size_t)(p - name), &d) || *p != '[') return false;
  Type t = type_scalar(d);
  for (p++; *p != ']'; p += *p == ',') {
    if (!parse_dim(&p, &t)) return false;
    if (*p != ',' && *p != ']') return false;
    if (*p == ',' && p[1] == ']') return false;
  }
  p++;
  if (!unit_parse(&p, &t.unit)) return false;
  *s = p;
  *type = t;
  return true;
}
