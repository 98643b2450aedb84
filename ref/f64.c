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

static double f64_log1p(const double *x) { return log1p(x[0]); }
static double f64_rsqrt(const double *x) { return 1 / sqrt(x[0]); }
static double f64_pow(const double *x) { return pow(x[0], x[1]); }
static double f64_erf(const double *x) { return erf(x[0]); }
static double f64_sin(const double *x) { return sin(x[0]); }
static double f64_cos(const double *x) { return cos(x[0]); }
static double f64_abs(const double *x) { return fabs(x[0]); }
static double f64_sign(const double *x) { return x[0] > 0 ? 1 : x[0] < 0 ? -1 : x[0]; }
static double f64_round(const double *x) { return rint(x[0]); }
static double f64_floor(const double *x) { return floor(x[0]); }

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

static double f64_silu(const double *x) { return x[0] < -700 ? -0.0 : x[0] * f64_sigmoid(x); }

static double f64_softplus(const double *x) {
  return (x[0] <= 0 ? 0 : x[0]) + log1p(exp(-fabs(x[0])));
}

/* The bounds keep an infinity from meeting a zero. */
static double f64_gelu(const double *x) {
  return x[0] < -40 ? -0.0 : x[0] * 0.5 * erfc(-x[0] * 0.70710678118654752440);
}

static double f64_gelu_grad(const double *x) {
  double t = fmax(-40, fmin(40, x[0])), pdf = 0.39894228040143267794 * exp(-0.5 * t * t);
  return isnan(x[0]) ? x[0] : t * pdf + 0.5 * erfc(-t * 0.70710678118654752440);
}

static const double TANH_0 = 1.5957691216057307117, TANH_1 = 0.044715; /* sqrt(8/pi) */

static double f64_gelu_tanh(const double *x) {
  double v = TANH_0 * (x[0] + TANH_1 * x[0] * x[0] * x[0]);
  return x[0] < -40 ? -0.0 : x[0] * f64_sigmoid(&v);
}

static double f64_gelu_tanh_grad(const double *x) {
  double t = fmax(-40, fmin(40, x[0])), v = TANH_0 * (t + TANH_1 * t * t * t), minus = -v;
  double slope = TANH_0 * (1 + 3 * TANH_1 * t * t), s = f64_sigmoid(&v);
  return isnan(x[0]) ? x[0] : s + t * s * f64_sigmoid(&minus) * slope;
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
/* In f64 a cast keeps all of a number, so there is no rest. */
static double f64_zero(const double *x) {
  (void)x;
  return 0;
}
static double f64_third(const double *x) { return x[2]; }
static double f64_select(const double *x) { return x[0] != 0 ? x[1] : x[2]; }

F64Fn *const f64_fn[OP_COUNT] = {
#define OP(name, doc) [OP_##name] =
#define SCALAR(f32, i32, f64) f64_##f64,
#include "ir/ops.def"
};
