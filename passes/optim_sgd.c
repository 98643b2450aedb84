/* optim_sgd.c: stochastic gradient descent, as torch.optim.SGD with dampening 0.
 *
 *   g = g + wd·p                     where weight decay applies
 *   v = momentum·v + g               where momentum is not 0, then g = v
 *   p = p - lr·g
 *
 * Each operation rounds to f32; products before sums, as written.
 */
#include "passes/pass.h"

static bool keeps(const Train *t, int moment) {
  (void)moment;
  return train_setting(t, AT_momentum, 0) != 0;
}

static void update(Update *u) {
  Builder *b = &u->b;
  ValueId g = u->g;
  double decay = train_setting(u->train, AT_weight_decay, 0);
  if (u->decay && decay != 0)
    g = build2(b, OP_add, g, build2(b, OP_mul, update_constant(u, decay), u->p));
  if (u->old[0] != NO_ID) {
    ValueId beta = update_constant(u, train_setting(u->train, AT_momentum, 0));
    g = u->new[0] = build2(b, OP_add, build2(b, OP_mul, beta, u->old[0]), g);
  }
  u->new_p = build2(b, OP_sub, u->p, build2(b, OP_mul, update_splat(u, u->lr), g));
}

const Optimizer optim_sgd = {"sgd", {"m", NULL}, update, keeps};
