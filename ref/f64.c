/* f64.c: the elementwise ops in double precision (last name of column SCALAR).  These are the
 * mathematics, not the scalar programs: f64 mode judges the programs' accuracy.  Numbers of i1
 * operands and results are 0 and 1.
 */
#include "ref/cells.h"

#include <math.h>

#define f64_none NULL

static double f64_add(const double *x) { return x[0] + x[1]; }
static double f64_sub(const double *x) { return x[0] - x[1]; }
static double f64_mul(const double *x) { return x[0] * x[1]; }
static double f64_div(const double *x) { return x[0] / x[1]; }
static double f64_neg(const double *x) { return -x[0]; }
static double f64_sqrt(const double *x) { return sqrt(x[0]); }
static double f64_exp(const double *x) { return exp(x[0]); }
static double f64_expm1(const double *x) { return expm1(x[0]); }
static double f64_log(const double *x) { return log(x[0]); }
static double f64_tanh(const double *x) { return tanh(x[0]); }

/* fmax drops a NaN; ours keeps it: the guard of a step must see it. */
static double f64_max(const double *x) { return isnan(x[1]) || x[0] < x[1] ? x[1] : x[0]; }
static double f64_min(const double *x) { return isnan(x[1]) || x[1] < x[0] ? x[1] : x[0]; }
static double f64_relu(const double *x) { return x[0] <= 0 ? 0 : x[0]; }

/* Each side in the form that cannot overflow. */
static double f64_sigmoid(const double *x) {
  double t = exp(-fabs(x[0]));
  return x[0] < 0 ? t / (1 + t) : 1 / (1 + t);
}

static double f64_floor_pow2(const double *x) {
  int e;
  if (x[0] == 0 || !isfinite(x[0])) return x[0] == 0 ? 0 : INFINITY;
  frexp(x[0], &e);
  return ldexp(1, e - 1);
}

static double f64_eq(const double *x) { return x[0] == x[1]; }
static double f64_ne(const double *x) { return x[0] != x[1]; }
static double f64_lt(const double *x) { return x[0] < x[1]; }
static double f64_le(const double *x) { return x[0] <= x[1]; }
static double f64_gt(const double *x) { return x[0] > x[1]; }
static double f64_ge(const double *x) { return x[0] >= x[1]; }
static double f64_and(const double *x) { return x[0] != 0 && x[1] != 0; }
static double f64_or(const double *x) { return x[0] != 0 || x[1] != 0; }
static double f64_not(const double *x) { return x[0] == 0; }
static double f64_isfinite(const double *x) { return isfinite(x[0]) != 0; }
static double f64_select(const double *x) { return x[0] != 0 ? x[1] : x[2]; }

F64Fn *const f64_fn[OP_COUNT] = {
#define OP(name, doc) [OP_##name] =
#define SCALAR(f32, i32, f64) f64_##f64,
#include "ir/ops.def"
};
