/* optim_adam.c: Adam (Kingma and Ba 2015, arXiv 1412.6980) and AdamW (Loshchilov and Hutter 2019,
 * arXiv 1711.05101), with the meaning and defaults of torch.optim.
 *
 *   g  = g + wd·p                            Adam, where weight decay applies
 *   q  = p - (lr·wd)·p                       AdamW, where it applies; else q = p
 *   m  = beta1·m + (1 - beta1)·g
 *   v  = beta2·v + ((1 - beta2)·g)·g
 *   c1 = -expm1(t·ln beta1),  c2 = -expm1(t·ln beta2)      1 - beta^t without cancellation
 *   p  = q - (lr / c1)·(m / (sqrt(v / c2) + eps))
 *
 * t is the number of this step, from 1.  ln beta and 1 - beta are computed in f64 by the compiler
 * and rounded once.  Each operation rounds to f32, products before sums, as written: p stays within
 * 4 ulp of its largest operand of the same formula in f64.  A power beta^t in f32 would not: at
 * t = 1 it has lost what 1 - 0.999 is made of.
 */
#include "passes/pass.h"

#include <math.h>

static ValueId add(Update *u, ValueId x, ValueId y) { return build2(&u->b, OP_add, x, y); }
static ValueId sub(Update *u, ValueId x, ValueId y) { return build2(&u->b, OP_sub, x, y); }
static ValueId mul(Update *u, ValueId x, ValueId y) { return build2(&u->b, OP_mul, x, y); }
static ValueId divide(Update *u, ValueId x, ValueId y) { return build2(&u->b, OP_div, x, y); }

static ValueId number(Update *u, double v) { return build_constant(&u->b, type_scalar(DT_f32), v); }

/* 1 - beta^t; for beta = 0, whose logarithm is infinite, that is 1. */
static ValueId bias_correction(Update *u, double beta) {
  if (beta == 0) return number(u, 1);
  ValueId power = build1(&u->b, OP_expm1, mul(u, u->t, number(u, log(beta))));
  return build1(&u->b, OP_neg, power);
}

static ValueId blend(Update *u, double beta, ValueId old, ValueId fresh) {
  return add(u, mul(u, update_constant(u, beta), old), fresh);
}

static void update(Update *u, ValueId q, ValueId g) {
  double beta1 = train_setting(u->train, AT_beta1, 0.9);
  double beta2 = train_setting(u->train, AT_beta2, 0.999);
  ValueId fresh2 = mul(u, mul(u, update_constant(u, 1 - beta2), g), g);
  ValueId m = blend(u, beta1, u->old[0], mul(u, update_constant(u, 1 - beta1), g));
  ValueId v = blend(u, beta2, u->old[1], fresh2);
  ValueId c1 = bias_correction(u, beta1), c2 = bias_correction(u, beta2);
  ValueId root = build1(&u->b, OP_sqrt, divide(u, v, update_splat(u, c2)));
  ValueId eps = update_constant(u, train_setting(u->train, AT_eps, 1e-8));
  ValueId rate = update_splat(u, divide(u, u->lr, c1));
  u->new_p = sub(u, q, mul(u, rate, divide(u, m, add(u, root, eps))));
  u->new[0] = m;
  u->new[1] = v;
}

static void update_adam(Update *u) {
  double decay = train_setting(u->train, AT_weight_decay, 0);
  ValueId g = u->g;
  if (u->decay && decay != 0) g = add(u, g, mul(u, update_constant(u, decay), u->p));
  update(u, u->p, g);
}

static void update_adamw(Update *u) {
  double decay = train_setting(u->train, AT_weight_decay, 0.01);
  ValueId q = u->p;
  if (u->decay && decay != 0) {
    ValueId rate = update_splat(u, mul(u, u->lr, number(u, decay)));
    q = sub(u, u->p, mul(u, rate, u->p));
  }
  update(u, q, u->g);
}

const Optimizer optim_adam = {"adam", {"m", "v"}, update_adam, NULL};
const Optimizer optim_adamw = {"adamw", {"m", "v"}, update_adamw, NULL};
