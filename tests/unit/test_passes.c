/* test_passes.c: what a pass keeps, by evaluation before and after, bit for bit, on whole models;
 * with each optional pass left out in turn; and that the check itself, and the verifier behind each
 * pass, can fail. */
#define _POSIX_C_SOURCE 200809L
#include "tests/unit/pass_fixture.h"

#include <sys/wait.h>
#include <unistd.h>

/* A classifier with everything a step may have: a partial batch, a tied weight, a mean over other
 * axes than the last, state, a fault, a metric, evaluation beside it. */
static const char MODEL[] =
    "graph \"model\"\ntrain precision f32 scale dynamic init 1024 interval 1 steps 10 clip 0.5\n"
    "hyper \"x\" = 1 shown \"1\"\nhyper \"lr\" = 0.5 shown \"0.5\"\n"
    "state param \"w\" : f32[6,6]\nstate param \"b\" : f32[6] no_decay\nstate state \"mean\" : "
    "f32[6]\nstate moment \"w:m\" : f32[6,6] master \"w\"\n"
    "entry @init init () {\n%z = constant {value=0.25} : f32[]\n"
    "%w = broadcast %z {axes=[]} : f32[6,6]\n%b = broadcast %z {axes=[]} : f32[6]\n"
    "return state \"w\" = %w, state \"b\" = %b, state \"mean\" = %b, state \"w:m\" = %w }\n"
    "entry @step step batch 5 (%x: f32[rows 5,2,3] = input \"x\", %t: u8[rows 5] = input \"t\",\n"
    "  %w: f32[6,6] = state \"w\", %b: f32[6] = state \"b\", %s: f32[6] = state \"mean\",\n"
    "  %lr: f32[] = hyper \"lr\") {\n"
    "%i = cast %t : i32[rows 5]\n%f = reshape %x : f32[rows 5,6]\n"
    "%wt = transpose %w {perm=[1,0]} : f32[6,6]\n"
    "%h = matmul %f, %wt {k_chunk=256} : f32[rows 5,6]\n%c = broadcast %b {axes=[1]} : f32[rows "
    "5,6]\n"
    "%a = add %h, %c : f32[rows 5,6]\n%r = relu %a : f32[rows 5,6]\n"
    "%z = matmul %r, %w {tb, k_chunk=256} : f32[rows 5,6]\n"
    "%e = cross_entropy %z, %i : f32[rows 5]\n%l = sum %e {axes=[0]} : f32[]\n"
    "%one = constant {value=1} : f32[rows 5]\n%n = sum %one {axes=[0]} : f32[]\n"
    "%am = argmax %z : i32[rows 5]\n%hit = eq %am, %i : i1[rows 5]\n%hf = cast %hit : f32[rows 5]\n"
    "%acc = sum %hf {axes=[0]} : f32[]\n"
    "%k = sum %x {axes=[1]} : f32[rows 5,3]\n%q = sum %k {axes=[0,1]} : f32[]\n"
    "%u = sum %r {axes=[0]} : f32[6]\n%m = add %s, %u : f32[6]\n"
    "%six = constant {value=6} : i32[rows 5]\n%out = ge %i, %six : i1[rows 5]\n"
    "%never = constant {value=0} : i1[rows 5]\n%bad = and %out, %never : i1[rows 5]\n"
    "%fault = reduce_or %bad {axes=[0]} : i1[]\n"
    "return loss \"l\" = %l, weight \"l\" = %n, metric \"acc\" = %acc, weight \"acc\" = %n,\n"
    "  metric \"q\" = %q, weight \"q\" = %n, state \"mean\" = %m, fault \"t\" = %fault,\n"
    "  hyper \"lr\" = %lr }\n"
    "entry @\"update:w\" update (%p: f32[6,6] = state \"w\", %g: f32[6,6] = grad \"w\",\n"
    "  %m: f32[6,6] = state \"w:m\", %lr: f32[] = hyper \"lr\") {\n%n = add %m, %g : f32[6,6]\n"
    "%r = broadcast %lr {axes=[]} : f32[6,6]\n%d = mul %r, %n : f32[6,6]\n"
    "%q = sub %p, %d : f32[6,6]\nreturn state \"w\" = %q, state \"w:m\" = %n }\n"
    "entry @\"update:b\" update (%p: f32[6] = state \"b\", %g: f32[6] = grad \"b\") {\n"
    "%q = sub %p, %g : f32[6]\nreturn state \"b\" = %q }\n"
    "entry @eval eval batch 7 (%x: f32[rows 7,2,3] = input \"x\", %w: f32[6,6] = state \"w\") {\n"
    "%f = reshape %x : f32[rows 7,6]\n%z = matmul %f, %w {tb, k_chunk=4} : f32[rows 7,6]\n"
    "%p = softmax %z : f32[rows 7,6]\n%v = sum %p {axes=[0]} : f32[6]\n"
    "%y = sum %p {axes=[0,1]} : f32[]\n%mx = sum %x {axes=[0,2]} : f32[2]\n"
    "%one = constant {value=1} : f32[rows 7]\n%n = sum %one {axes=[0]} : f32[]\n"
    "return metric \"y\" = %y, weight \"y\" = %n, value \"p\" = %p, value \"v\" = %v, value \"mx\" "
    "= %mx }\n";

/* Three layers, of which the inner one multiplies in fp8, trained and evaluated. */
#define LAYERS                                                                                     \
  "%h = matmul %x, %u {k_chunk=256} : f32[rows 7,6]\n%r = relu %h : f32[rows 7,6]\n"               \
  "%i = matmul %r, %v {k_chunk=256} : f32[rows 7,6]\n%s = relu %i : f32[rows 7,6]\n"               \
  "%z = matmul %s, %w {k_chunk=256} : f32[rows 7,6]\n%q = sum %z {axes=[0,1]} : f32[]\n"           \
  "%one = constant {value=1} : f32[rows 7]\n%n = sum %one {axes=[0]} : f32[]\n"
#define ARGUMENTS                                                                                  \
  "(%x: f32[rows 7,6] = input \"x\", %u: f32[6,6] = state \"u\", %v: f32[6,6] = state \"v\",\n"    \
  "  %w: f32[6,6] = state \"w\") {\n"
#define UPDATE(name)                                                                               \
  "entry @\"update:" name "\" update (%p: f32[6,6] = state \"" name                                \
  "\", %g: f32[6,6] = grad \"" name "\") {\n"                                                      \
  "%q = sub %p, %g : f32[6,6]\nreturn state \"" name "\" = %q }\n"
static const char FP8[] =
    "state param \"u\" : f32[6,6]\nstate param \"v\" : f32[6,6]\nstate param \"w\" : f32[6,6]\n"
    "entry @init init () {\n%z = constant {value=0.25} : f32[]\n"
    "%w = broadcast %z {axes=[]} : f32[6,6]\n"
    "return state \"u\" = %w, state \"v\" = %w, state \"w\" = %w }\n"
    "entry @step step batch 7 " ARGUMENTS LAYERS
    "return loss \"l\" = %q, weight \"l\" = %n }\n" UPDATE("u") UPDATE("v")
        UPDATE("w") "entry @eval eval batch 7 " ARGUMENTS LAYERS
                    "return metric \"y\" = %q, weight \"y\" = %n, value \"z\" = %z }\n";
static const char *const fp8_train[] = {
    "fp8_current", "fp8_delayed history 4 margin 0 scale static init 64", "fp8_block", "mx8"};

static Graph *parse(PassFixture *f, const char *text) {
  f->strings.arena = &f->arena;
  diag_init(&f->diag, &f->arena, stdout);
  return graph_parse(&f->arena, &f->strings, &f->diag,
                     diag_source(&f->diag, "model", text, strlen(text)));
}

static void run_without(Tally *t, const char *text, const char *left_out, bool roundtrip) {
  static const Target target = {
      .name = "x86-64-v3", .auto_precision = "bf16", .f32_lanes = 8, .costs = &costs_cpu};
  PassFixture f = {0};
  Graph *g = parse(&f, text);
  PassValues values = {0};
  PassOptions o = {.disable = left_out,
                   .roundtrip = roundtrip,
                   .check = pass_check_values,
                   .check_user = &values};
  PassCtx c = {.arena = &f.arena, .diag = &f.diag, .target = &target, .options = &o};
  bool ok = g && !graph_verify_diag(g, &f.diag) && passes_run(&g, passes_default, &c);
  expect(t, ok, "the passes without %s", left_out ? left_out : "nothing");
  arena_free(&values.arena);
  arena_free(&f.arena);
}

static void test_fp8(Tally *t) {
  for (size_t i = 0; i < sizeof fp8_train / sizeof *fp8_train; i++) {
    Arena arena = {0};
    const char *text =
        arena_printf(&arena, "graph \"fp8\"\ntrain precision %s\n%s", fp8_train[i], FP8);
    run_without(t, text, NULL, true);
    arena_free(&arena);
  }
}

static NodeId find_node(const Graph *g, Op op) {
  for (NodeId n = 0; n < g->nodes.len; n++)
    if (g->nodes.at[n].op == op) return n;
  return NO_ID;
}

/* Were the check to pass whatever it is given, the test above would say nothing. */
static void test_check(Tally *t) {
  PassFixture f = {0};
  PassValues values = {0};
  PassOptions o = {.check_user = &values};
  Graph *g = parse(&f, MODEL);
  PassCtx c = {.diag = &f.diag, .options = &o, .scalars = scalars_parse(&f.arena)};
  Node *relu = &g->nodes.at[find_node(g, OP_relu)];
  f.diag.out = NULL;
  pass_check_values(&c, NULL, KEEP_none, g);
  expect(t, pass_check_values(&c, "none", KEEP_bits, g), "a graph equals itself");
  relu->op = OP_exp;
  expect(t, !pass_check_values(&c, "wrong", KEEP_bits, g), "another op is noticed");
  relu->op = OP_relu;
  expect(t, pass_check_values(&c, "wrong", KEEP_others, g), "but not where it may be");
  arena_free(&values.arena);
  arena_free(&f.arena);
}

/* As a pass would that mistakes the loss scale. */
static bool spoil(const PassCtx *c, const char *pass, PassKeeps keeps, const Graph *g) {
  (void)c, (void)keeps;
  NodeId n = find_node(g, OP_relu);
  if (pass) g->values.at[g->nodes.at[n].res].type.unit = UNIT_S;
  return true;
}

/* What one pass has broken the driver finds behind the next, whatever that one did. */
static void test_verified(Tally *t) {
  fflush(stdout);
  pid_t child = fork();
  if (!child) {
    PassFixture f = {0};
    PassOptions o = {.check = spoil, .out = stdout};
    Graph *g = parse(&f, MODEL);
    PassCtx c = {.arena = &f.arena, .diag = &f.diag, .options = &o};
    if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr)) _exit(2);
    passes_run(&g, "dce, dce", &c);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  expect(t, WIFEXITED(status) && WEXITSTATUS(status) == 70, "a broken graph is an ice: %d", status);
}

int main(void) {
  static const char *const optional[] = {NULL,
#define PASS(name, meaning, needs, gives, keeps, optional) optional ? #name : NULL,
#include "passes/passes.def"
                                         "simplify, cse, dce"};
  Tally t = {0};
  run_without(&t, MODEL, NULL, true);
  test_fp8(&t);
  for (size_t i = 0; i < sizeof optional / sizeof *optional; i++)
    if (optional[i]) run_without(&t, MODEL, optional[i], false);
  test_check(&t);
  test_verified(&t);
  return tally_end(&t);
}
