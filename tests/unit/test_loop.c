/* test_loop.c: loops from the graph to machine code.  Every graph goes through the passes, each
 * checked by evaluation; its Program runs on poisoned memory; its code runs with 1, 2 and 3
 * threads. All of them give the evaluator's bits.
 */
#include "tests/unit/codegen_fixture.h"

#include <string.h>

/* A carry, a slice, an invariant, what is seen from outside and a constant among it. */
static const char BASIC[] =
    "entry @basic infer (%h: f32[4] = input \"h\", %xs: f32[3,4] = input \"xs\","
    " %a: f32[4] = input \"a\") {\n"
    "%two = constant {value=2} : f32[]\n"
    "%twos = broadcast %two {axes=[]} : f32[4]\n"
    "%last, %all = loop %h, %xs, %a {trip=3, carries=1, slices=1} : f32[4], f32[3,4]\n"
    "    (%i: i32[], %c: f32[4], %x: f32[4], %inv: f32[4]) {\n"
    "  %ca = mul %c, %inv : f32[4]\n"
    "  %next = add %ca, %x : f32[4]\n"
    "  %seen = add %next, %h : f32[4]\n"
    "  %y = mul %seen, %twos : f32[4]\n"
    "  yield %next, %y\n}\n"
    "return value \"last\" = %last, value \"all\" = %all, value \"h\" = %h }\n";

/* Carries that change places, one that stays, one that is also stacked, a stacked slice, the index
 * as a number, counting down, an argument as a result twice. */
static const char PLACES[] =
    "entry @places infer (%a: f32[5] = input \"a\", %b: f32[5] = input \"b\","
    " %xs: f32[4,5] = input \"xs\") {\n"
    "%p, %q, %r, %s, %t, %u, %v, %w = loop %a, %b, %a, %a, %xs {trip=4, carries=4, slices=1, "
    "reverse}\n"
    "    : f32[5], f32[5], f32[5], f32[5], f32[4,5], f32[4,5], f32[4,5], f32[4]\n"
    "    (%i: i32[], %ca: f32[5], %cb: f32[5], %cc: f32[5], %cd: f32[5], %x: f32[5]) {\n"
    "  %n = add %cd, %x : f32[5]\n"
    "  %f = cast %i : f32[]\n"
    "  yield %cb, %ca, %cc, %n, %n, %x, %ca, %f\n}\n"
    "return value \"p\" = %p, value \"q\" = %q, value \"r\" = %r, value \"s\" = %s,"
    " value \"t\" = %t, value \"u\" = %u, value \"v\" = %v, value \"w\" = %w, value \"a\" = %a }\n";

/* Two carries that both read both: neither can be written first without a shadow. */
static const char CROSSED[] =
    "entry @crossed infer (%a: f32[9] = input \"a\", %b: f32[3,3] = input \"b\") {\n"
    "%p, %q = loop %a, %b {trip=5, carries=2, slices=0} : f32[9], f32[3,3]\n"
    "    (%i: i32[], %x: f32[9], %y: f32[3,3]) {\n"
    "  %yx = reshape %x : f32[3,3]\n"
    "  %xy = reshape %y : f32[9]\n"
    "  %s = add %x, %xy : f32[9]\n"
    "  %t = sub %y, %yx : f32[3,3]\n"
    "  yield %s, %t\n}\n"
    "return value \"p\" = %p, value \"q\" = %q }\n";

/* A recurrence through a matmul; rows of a partial batch; sums along rows inside. */
static const char RECURRENT[] =
    "entry @recurrent infer batch 6 (%x: f32[rows 6,8] = input \"x\", %w: f32[8,8] = input \"w\","
    " %e: f32[7,8] = input \"e\") {\n"
    "%h, %sums, %all = loop %x, %e, %w {trip=7, carries=1, slices=1}\n"
    "    : f32[rows 6,8], f32[7,8], f32[7,rows 6,8]\n"
    "    (%i: i32[], %c: f32[rows 6,8], %b: f32[8], %v: f32[8,8]) {\n"
    "  %m = matmul %c, %v {k_chunk=256} : f32[rows 6,8]\n"
    "  %bb = broadcast %b {axes=[1]} : f32[rows 6,8]\n"
    "  %z = add %m, %bb : f32[rows 6,8]\n"
    "  %t = tanh %z : f32[rows 6,8]\n"
    "  %s = sum %t {axes=[0]} : f32[8]\n"
    "  %o = softmax %t : f32[rows 6,8]\n"
    "  yield %t, %s, %o\n}\n"
    "%total = sum %h {axes=[0,1]} : f32[]\n"
    "return value \"total\" = %total, value \"sums\" = %sums, value \"all\" = %all }\n";

/* A loop in a loop: slices of slices, a carry of the outer one in the inner one, stacks of stacks,
 * the outer index inside. */
static const char NESTED[] =
    "entry @nested infer (%x: f32[3,4,5] = input \"x\", %s: f32[5] = input \"s\") {\n"
    "%last, %all = loop %s, %x {trip=3, carries=1, slices=1} : f32[5], f32[3,4,5]\n"
    "    (%i: i32[], %c: f32[5], %y: f32[4,5]) {\n"
    "  %in, %inner = loop %c, %y {trip=4, carries=1, slices=1} : f32[5], f32[4,5]\n"
    "      (%j: i32[], %d: f32[5], %z: f32[5]) {\n"
    "    %k = add %i, %j : i32[]\n"
    "    %f = cast %k : f32[]\n"
    "    %ff = broadcast %f {axes=[]} : f32[5]\n"
    "    %e = add %d, %z : f32[5]\n"
    "    %g = mul %e, %ff : f32[5]\n"
    "    %o = add %g, %c : f32[5]\n"
    "    yield %g, %o\n"
    "  }\n"
    "  yield %in, %inner\n}\n"
    "return value \"last\" = %last, value \"all\" = %all }\n";

/* Loops one behind the other; one that never runs, one that runs once; a carry that a loop begins
 * with and that is read later too. */
static const char CHAINED[] =
    "entry @chained infer (%x: f32[2,6] = input \"x\", %none: f32[0,6] = input \"none\") {\n"
    "%zero = constant {value=0} : f32[]\n"
    "%z = broadcast %zero {axes=[]} : f32[6]\n"
    "%a, %aa = loop %z, %x {trip=2, carries=1, slices=1} : f32[6], f32[2,6]\n"
    "    (%i: i32[], %c: f32[6], %y: f32[6]) {\n"
    "  %n = add %c, %y : f32[6]\n  yield %n, %n\n}\n"
    "%b, %bb = loop %a, %none {trip=0, carries=1, slices=1} : f32[6], f32[0,6]\n"
    "    (%j: i32[], %d: f32[6], %w: f32[6]) {\n"
    "  %m = mul %d, %w : f32[6]\n  yield %m, %m\n}\n"
    "%t = transpose %aa {perm=[1,0]} : f32[6,2]\n"
    "%e = loop %b, %t {trip=1, carries=1, slices=0} : f32[6]\n"
    "    (%k: i32[], %f: f32[6], %u: f32[6,2]) {\n"
    "  %s = sum %u {axes=[1]} : f32[6]\n"
    "  %g = add %f, %s : f32[6]\n  yield %g\n}\n"
    "%r = add %e, %a : f32[6]\n"
    "return value \"r\" = %r, value \"b\" = %b, value \"bb\" = %bb }\n";

/* A row of two blocks is summed in two parts: slots that the next turn must not overwrite. */
static const char SLOTS[] = "entry @slots infer (%x: f32[5,9000] = input \"x\") {\n"
                            "%zero = constant {value=0} : f32[]\n"
                            "%n = loop %zero, %x {trip=5, carries=1, slices=1} : f32[]\n"
                            "    (%i: i32[], %c: f32[], %y: f32[9000]) {\n"
                            "  %s = sum %y {axes=[0]} : f32[]\n"
                            "  %t = add %c, %s : f32[]\n  yield %t\n}\n"
                            "return value \"n\" = %n }\n";

/* States: one carried by a loop and stored, two that change places, one read as a result. */
static const char STATES[] =
    "state state \"a\" : f32[7] private\nstate state \"b\" : f32[7] private\nstate state \"s\" : "
    "f32[7] private\n"
    "entry @states infer (%a: f32[7] = state \"a\", %b: f32[7] = state \"b\", %s: f32[7] = state "
    "\"s\", %xs: f32[3,7] = input \"xs\") {\n"
    "%n = loop %s, %xs {trip=3, carries=1, slices=1} : f32[7]\n"
    "    (%i: i32[], %c: f32[7], %x: f32[7]) {\n"
    "  %m = add %c, %x : f32[7]\n  yield %m\n}\n"
    "return state \"a\" = %b, state \"b\" = %a, state \"s\" = %n, value \"old\" = %s, value \"new\""
    " = %n, value \"b\" = %b }\n";

/* The real rows come apart: the last iterations have some or none. */
static const char ROWS[] =
    "entry @rows infer batch 12 (%x: f32[rows 12,5] = input \"x\", %t: i32[rows 24] = input \"t\","
    " %w: f32[5,3] = input \"w\") {\n"
    "%zero = constant {value=0} : f32[]\n"
    "%zz = broadcast %zero {axes=[]} : f32[5,3]\n"
    "%g, %n, %y, %m = loop %zz, %zero, %x, %t, %w {trip=3, carries=2, slices=2, rows=4}\n"
    "    : f32[5,3], f32[], f32[rows 12,3], i32[3]\n"
    "    (%i: i32[], %a: f32[5,3], %s: f32[], %p: f32[rows 4,5], %q: i32[rows 8], %v: f32[5,3]) {\n"
    "  %h = matmul %p, %v {k_chunk=256} : f32[rows 4,3]\n"
    "  %e = exp %h : f32[rows 4,3]\n"
    "  %k = mask_rows %e : f32[rows 4,3]\n"
    "  %b = matmul %p, %k, %a {ta, k_chunk=256} : f32[5,3]\n"
    "  %r = sum %e {axes=[0,1]} : f32[]\n"
    "  %u = add %s, %r : f32[]\n"
    "  %d = reduce_max %q {axes=[0]} : i32[]\n"
    "  yield %b, %u, %k, %d\n}\n"
    "%z = sum %y {axes=[0]} : f32[3]\n"
    "return value \"g\" = %g, value \"n\" = %n, value \"z\" = %z, value \"m\" = %m }\n";

/* A whole step in micro-batches: gradients, sums and a state carried, an update, a commit. */
static const char STEP[] =
    "train accumulate 3\nhyper \"lr\" = 0.5 shown \"0.5\"\n"
    "state param \"w\" : f32[5,3]\nstate param \"b\" : f32[3]\nstate state \"seen\" : f32[]\n"
    "entry @step step batch 4 (%x: f32[rows 4,5] = input \"x\", %w: f32[5,3] = state \"w\","
    " %b: f32[3] = state \"b\", %s: f32[] = state \"seen\", %i: i32[rows 4] = input \"i\","
    " %lr: f32[] = hyper \"lr\") {\n"
    "%h = matmul %x, %w {k_chunk=256} : f32[rows 4,3]\n"
    "%bb = broadcast %b {axes=[1]} : f32[rows 4,3]\n"
    "%z = add %h, %bb : f32[rows 4,3]\n"
    "%e = cross_entropy %z, %i : f32[rows 4]\n"
    "%l = sum %e {axes=[0]} : f32[]\n"
    "%one = constant {value=1} : f32[]\n"
    "%ones = broadcast %one {axes=[]} : f32[rows 4]\n"
    "%n = sum %ones {axes=[0]} : f32[]\n"
    "%s1 = add %s, %l : f32[]\n"
    "%c = constant {value=6} : i32[]\n"
    "%cc = broadcast %c {axes=[]} : i32[rows 4]\n"
    "%f = gt %i, %cc : i1[rows 4]\n"
    "%bad = reduce_or %f {axes=[0]} : i1[]\n"
    "return loss \"l\" = %l, weight \"l\" = %n, state \"seen\" = %s1, fault \"i\" = %bad,"
    " hyper \"lr\" = %lr }\n"
    "entry @\"update:w\" update (%p: f32[5,3] = state \"w\", %g: f32[5,3] = grad \"w\","
    " %lr: f32[] = hyper \"lr\") {\n"
    "%r = broadcast %lr {axes=[]} : f32[5,3]\n%d = mul %r, %g : f32[5,3]\n"
    "%q = sub %p, %d : f32[5,3]\nreturn state \"w\" = %q }\n"
    "entry @\"update:b\" update (%p: f32[3] = state \"b\", %g: f32[3] = grad \"b\","
    " %lr: f32[] = hyper \"lr\") {\n"
    "%r = broadcast %lr {axes=[]} : f32[3]\n%d = mul %r, %g : f32[3]\n"
    "%q = sub %p, %d : f32[3]\nreturn state \"b\" = %q }\n";

static void test(Checks *c, const char *text) {
  static const Build builds[] = {{NULL, 0, 1, false}, {NULL, 3, 1, true}};
  Fixture f;
  fixture_init(&f, text);
  fixture_passes(&f);
  fixture_run(c, &f, builds, 2);
  fixture_free(&f);
}

int main(void) {
  Checks c = {0};
  static const char *const texts[] = {BASIC,   PLACES, CROSSED, RECURRENT, NESTED,
                                      CHAINED, SLOTS,  STATES,  ROWS,      STEP};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) test(&c, texts[i]);
  return checks_end(&c, "loops");
}
