/* test_accumulate.c: k micro-batches of B give what one batch of k·B gives.
 *
 * In double precision, where the two differ in the order of sums alone: n terms of size at most a
 * differ by at most n²·a·2^-52, and 1e-9 of the largest value is far above that here.  In f32 bit
 * for bit where the design promises it: the gradient of a weight that is one matmul, with B a
 * multiple of k_chunk.  Full and partial batches, among them some where micro-batches have no row
 * at all.
 */
#include "tests/unit/pass_fixture.h"

/* A layer with a state that each micro-batch writes; B and k are the text's %d. */
static const char LAYER[] =
    "graph \"t\"\ntrain accumulate %d\n"
    "state param \"w\" : f32[5,3]\nstate param \"b\" : f32[3]\nstate state \"seen\" : f32[]\n"
    "entry @step step batch %d (%%x: f32[rows %d,5] = input \"x\", %%w: f32[5,3] = state \"w\",\n"
    "  %%b: f32[3] = state \"b\", %%s: f32[] = state \"seen\", %%i: i32[rows %d] = input \"i\") {\n"
    "%%h = matmul %%x, %%w {k_chunk=256} : f32[rows %d,3]\n"
    "%%bb = broadcast %%b {axes=[1]} : f32[rows %d,3]\n%%z = add %%h, %%bb : f32[rows %d,3]\n"
    "%%e = cross_entropy %%z, %%i : f32[rows %d]\n%%l = sum %%e {axes=[0]} : f32[]\n"
    "%%one = constant {value=1} : f32[]\n%%ones = broadcast %%one {axes=[]} : f32[rows %d]\n"
    "%%n = sum %%ones {axes=[0]} : f32[]\n%%s1 = add %%s, %%l : f32[]\n"
    "%%c = constant {value=3} : i32[]\n%%cc = broadcast %%c {axes=[]} : i32[rows %d]\n"
    "%%f = ge %%i, %%cc : i1[rows %d]\n%%bad = reduce_or %%f {axes=[0]} : i1[]\n"
    "return loss \"loss\" = %%l, weight \"loss\" = %%n, state \"seen\" = %%s1, fault \"i\" = "
    "%%bad,\n"
    "  metric \"m\" = %%s1, weight \"m\" = %%n }\n";

/* Two losses; the weight of the second is data, and zero in some micro-batches. */
static const char LOSSES[] =
    "graph \"t\"\ntrain accumulate %d\nstate param \"w\" : f32[5]\n"
    "entry @step step batch %d (%%x: f32[rows %d,5] = input \"x\", %%w: f32[5] = state \"w\",\n"
    "  %%m: i1[rows %d] = input \"m\") {\n"
    "%%ww = broadcast %%w {axes=[1]} : f32[rows %d,5]\n%%p = mul %%x, %%ww : f32[rows %d,5]\n"
    "%%q = tanh %%p : f32[rows %d,5]\n%%a = sum %%q {axes=[0,1]} : f32[]\n"
    "%%one = constant {value=1} : f32[]\n%%ones = broadcast %%one {axes=[]} : f32[rows %d]\n"
    "%%na = sum %%ones {axes=[0]} : f32[]\n%%mf = cast %%m : f32[rows %d]\n"
    "%%r = mul %%p, %%p : f32[rows %d,5]\n%%rr = sum %%r {axes=[1]} : f32[rows %d]\n"
    "%%rm = mul %%rr, %%mf : f32[rows %d]\n%%b = sum %%rm {axes=[0]} : f32[]\n"
    "%%nb = sum %%mf {axes=[0]} : f32[]\n"
    "return loss \"a\" = %%a, weight \"a\" = %%na, loss \"b\" = %%b, weight \"b\" = %%nb }\n";

/* B stands wherever the text has a %d behind the first. */
static char *text_of(Arena *a, const char *form, int times, int batch) {
  const int b = batch;
  return arena_printf(a, form, times, b, b, b, b, b, b, b, b, b, b, b, b, b);
}

static const char PASSES[] = "simplify, grad, accumulate, simplify, cse, dce";

static void run(PassFixture *f, int64_t rows) {
  eval_set_random(f->e, 0, 5);
  eval_run(f->e, 0, rows);
}

static double largest(const Tensor *t) {
  double most = 0;
  for (int64_t i = 0; i < type_count(t->type); i++) most = fmax(most, fabs(tensor_get(t, i)));
  return most;
}

/* name's metric "m" shows a running value: it is no sum over the micro-batches of one batch. */
static void compare(Tally *t, const PassFixture *x, const PassFixture *y, int64_t rows) {
  const Entry *e = &y->g->entries.at[0];
  for (uint32_t i = 0; i < e->results.len; i++) {
    Port p = e->results.at[i];
    const Tensor *a = eval_result(x->e, (ResRole)p.role, p.name),
                 *b = eval_result(y->e, (ResRole)p.role, p.name);
    if (p.role == RES_metric) continue;
    if (!expect(t, a && b, "both give %s \"%s\"", res_role_name[p.role], p.name)) continue;
    for (int64_t k = 0; k < type_count(a->type); k++)
      expect(t, fabs(tensor_get(a, k) - tensor_get(b, k)) <= 1e-9 * largest(b),
             "%s \"%s\"[%lld] of %lld rows: %.17g in micro-batches, %.17g in one",
             res_role_name[p.role], p.name, (long long)k, (long long)rows, tensor_get(a, k),
             tensor_get(b, k));
  }
}

static void test_sums(Tally *t, const char *form) {
  static const int64_t rows[] = {12, 11, 8, 5, 4, 1};
  PassFixture parts = {0}, whole = {0};
  if (!expect(t,
              fixture_start(&parts, text_of(&parts.arena, form, 3, 4), PASSES, EVAL_F64) &&
                  fixture_start(&whole, text_of(&whole.arena, form, 1, 12), PASSES, EVAL_F64),
              "compiles"))
    return;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    run(&parts, rows[i]);
    run(&whole, rows[i]);
    compare(t, &parts, &whole, rows[i]);
  }
  fixture_end(&parts);
  fixture_end(&whole);
}

static void test_bits(Tally *t) {
  PassFixture parts = {0}, whole = {0};
  if (!expect(t,
              fixture_start(&parts, text_of(&parts.arena, LAYER, 3, 256), PASSES, EVAL_EXACT) &&
                  fixture_start(&whole, text_of(&whole.arena, LAYER, 1, 768), PASSES, EVAL_EXACT),
              "compiles"))
    return;
  for (int64_t rows = 768; rows > 200; rows -= 171) {
    int64_t at = 0;
    run(&parts, rows);
    run(&whole, rows);
    expect(
        t,
        tensor_same(eval_result(parts.e, RES_grad, "w"), eval_result(whole.e, RES_grad, "w"), &at),
        "the gradient's bits in micro-batches of whole chunks, %lld rows", (long long)rows);
  }
  fixture_end(&parts);
  fixture_end(&whole);
}

int main(void) {
  Tally t = {0};
  test_sums(&t, LAYER);
  test_sums(&t, LOSSES);
  test_bits(&t);
  return tally_end(&t);
}
