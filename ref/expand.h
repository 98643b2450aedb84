/* expand.h: composite ops as graphs of simpler ones (column EXPAND).
 *
 * The pass `expand` and the evaluator share it, so both mean the same.  The gradient is taken
 * before: a composite op with a rule in column VJP is differentiated as a whole. */
#ifndef REF_EXPAND_H
#define REF_EXPAND_H

#include "ir/ir.h"

bool expand_is_composite(Op op);

/* Every composite node of every entry is replaced where it stands and leaves its block.  Gives the
 * map of replaced values (NO_ID: not replaced), one element a value of the expanded graph. */
const ValueId *expand_graph(Graph *g, Arena *scratch, bool *changed);

/* The largest |x| in f32, NaN if any is: of all, or one for each place of `axes` of x, the last
 * axes of which are none of them. */
ValueId build_amax(Builder *b, ValueId x, const Attr *axes);

/* x in f32 less its mean along the last axis (center), over the root of its variance + eps, which
 * is *inverse's reciprocal.  Of norms; their gradients compute it again. */
ValueId build_standard(Builder *b, ValueId x, bool center, double eps, ValueId *inverse);

#endif
