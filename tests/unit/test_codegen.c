/* test_codegen.c: kernels as machine code equal the evaluator bit for bit, whatever the shape, the
 * level, -O, the number of threads and of real rows.
 *
 * The graphs are templates: capital letters and # stand for sizes, texts and a number of their own.
 */
#include "tests/unit/codegen_fixture.h"

#include <string.h>

typedef struct Values {
  long m, n, k;      /* M, N, K */
  const char *a, *t; /* A, T */
  const char *p, *q; /* P, Q */
} Values;

typedef struct Cases {
  Text text;
  int count;
} Cases;

static void add_letter(Cases *s, char c, const Values *v) {
  switch (c) {
  case '#': text_printf(&s->text, "%d", s->count); return;
  case 'M': text_printf(&s->text, "%ld", v->m); return;
  case 'N': text_printf(&s->text, "%ld", v->n); return;
  case 'K': text_printf(&s->text, "%ld", v->k); return;
  case 'A': text_add(&s->text, v->a); return;
  case 'T': text_add(&s->text, v->t); return;
  case 'P': text_add(&s->text, v->p); return;
  case 'Q': text_add(&s->text, v->q); return;
  default: text_add_n(&s->text, &c, 1);
  }
}

static void add(Cases *s, const char *template, Values v) {
  for (; *template; template ++) add_letter(s, *template, &v);
  s->count++;
}

/* ---- map ------------------------------------------------------------------------------------- */

static const char MAP_FLAT[] =
    "entry @e# infer (%x: f32[N] = input \"x\", %y: f32[N] = input \"y\", %k: f32[] = input \"k\") "
    "{\n"
    "%a, %b, %c, %d = kernel %x, %y, %k {form=map} : f32[N], T[N], i1[N], i32[N]"
    " (%p: f32[N], %q: f32[N], %r: f32[]) {\n"
    "  %0 = broadcast %r {axes=[]} : f32[N]\n"
    "  %1 = mul %p, %0 : f32[N]\n"
    "  %2 = add %1, %q : f32[N]\n"
    "  %3 = exp %2 : f32[N]\n"
    "  %4 = max %3, %p : f32[N]\n"
    "  %5 = cast %4 : T[N]\n"
    "  %6 = lt %p, %q : i1[N]\n"
    "  %7 = select %6, %4, %q : f32[N]\n"
    "  %8 = iota {axis=0} : i32[N]\n"
    "  %9 = cast %7 : i32[N]\n"
    "  %10 = add %8, %9 : i32[N]\n"
    "  yield %7, %5, %6, %10\n}\n"
    "return value \"a\" = %a, value \"b\" = %b, value \"c\" = %c, value \"d\" = %d }\n";

static const char MAP_NARROW[] =
    "entry @e# infer (%x: u8[N] = input \"x\", %y: T[N] = input \"y\", %z: i1[N] = input \"z\") "
    "{\n"
    "%a, %b, %c, %d = kernel %x, %y, %z {form=map} : f32[N], T[N], i1[N], u8[N]"
    " (%p: u8[N], %q: T[N], %r: i1[N]) {\n"
    "  %0 = cast %p : f32[N]\n"
    "  %1 = cast %q : f32[N]\n"
    "  %2 = sub %0, %1 : f32[N]\n"
    "  %3 = add %q, %q : T[N]\n"
    "  %4 = neg %q : T[N]\n"
    "  %5 = select %r, %3, %4 : T[N]\n"
    "  %6 = isfinite %q : i1[N]\n"
    "  %7 = and %6, %r : i1[N]\n"
    "  %8 = not %7 : i1[N]\n"
    "  %9 = cast %1 : u8[N]\n"
    "  yield %2, %5, %8, %9\n}\n"
    "return value \"a\" = %a, value \"b\" = %b, value \"c\" = %c, value \"d\" = %d }\n";

/* A transpose, a bias, a column, a mask, indices. */
static const char MAP_VIEWS[] =
    "entry @e# infer batch M (%x: f32[rows M,N] = input \"x\", %t: f32[N,M] = input \"t\","
    " %b: f32[N] = input \"b\", %c: f32[M,1] = input \"c\") {\n"
    "%y, %z = kernel %x, %t, %b, %c {form=map} : f32[rows M,N], i32[rows M,N]"
    " (%p: f32[rows M,N], %q: f32[N,M], %r: f32[N], %s: f32[M,1]) {\n"
    "  %0 = transpose %q {perm=[1,0]} : f32[M,N]\n"
    "  %1 = broadcast %r {axes=[1]} : f32[M,N]\n"
    "  %2 = broadcast %s {axes=[0,1]} : f32[M,N]\n"
    "  %3 = mul %0, %1 : f32[M,N]\n"
    "  %4 = add %3, %2 : f32[M,N]\n"
    "  %5 = mask_rows %p : f32[rows M,N]\n"
    "  %6 = sub %5, %4 : f32[rows M,N]\n"
    "  %7 = iota {axis=0} : i32[M,N]\n"
    "  %8 = iota {axis=1} : i32[rows M,N]\n"
    "  %9 = mul %7, %8 : i32[rows M,N]\n"
    "  yield %6, %9\n}\n"
    "return value \"y\" = %y, value \"z\" = %z }\n";

static const char MAP_GATHER[] =
    "entry @e# infer batch M (%x: f32[rows M,N] = input \"x\", %i: i32[rows M] = input \"i\") {\n"
    "%y = kernel %x, %i {form=map} : f32[rows M] (%p: f32[rows M,N], %q: i32[rows M]) {\n"
    "  %0 = constant {value=3} : i32[]\n"
    "  %1 = broadcast %0 {axes=[]} : i32[M]\n"
    "  %2 = sub %q, %1 : i32[rows M]\n"
    "  %3 = exp %p : f32[rows M,N]\n"
    "  %4 = gather %3, %2 : f32[rows M]\n"
    "  yield %4\n}\n"
    "return value \"y\" = %y }\n";

/* Folds as far as b's stepping along the middle axis lets it. */
static const char MAP_MIDDLE[] =
    "entry @e# infer (%x: f32[M,N,K] = input \"x\", %b: f32[N] = input \"b\") {\n"
    "%y = kernel %x, %b {form=map} : T[M,N,K] (%p: f32[M,N,K], %q: f32[N]) {\n"
    "  %0 = broadcast %q {axes=[1]} : f32[M,N,K]\n"
    "  %1 = add %p, %0 : f32[M,N,K]\n"
    "  %2 = cast.policy %1 : T[M,N,K]\n"
    "  yield %2\n}\n"
    "return value \"y\" = %y }\n";

/* A state updated in place under a predicate. */
static const char MAP_COMMIT[] =
    "state param \"w#\" : f32[N]\n"
    "entry @e# step (%w: f32[N] = state \"w#\", %g: f32[N] = input \"g\", %o: f32[] = input \"o\") "
    "{\n"
    "%ok, %bad = kernel %o {form=map} : i1[], i1[] (%c: f32[]) {\n"
    "  %z = constant {value=0} : f32[]\n"
    "  %y = gt %c, %z : i1[]\n"
    "  %n = not %y : i1[]\n"
    "  yield %y, %n\n}\n"
    "%v = kernel %ok, %w, %g {form=map} : f32[N] (%p: i1[], %q: f32[N], %r: f32[N]) {\n"
    "  %0 = sub %q, %r : f32[N]\n"
    "  %1 = commit %p, %0, %q : f32[N]\n"
    "  yield %1\n}\n"
    "return ok \"ok\" = %ok, state \"w#\" = %v }\n";

/* Cut with steps, backwards, one place; put back among zeros; told apart by the index. */
static const char MAP_SLICES[] =
    "entry @e# infer batch 3 (%x: f32[rows 3,M,N] = input \"x\") {\n"
    "%a, %b = kernel %x {form=map} : f32[rows 3,M,N], i32[rows 3,M,N] (%p: f32[rows 3,M,N]) {\n"
    "  %0 = slice %p {starts=[0,A,0], steps=[1,-1,1]} : f32[rows 3,M,N]\n"
    "  %1 = slice %p {starts=[0,A,0], steps=[1,1,1]} : f32[rows 3,1,N]\n"
    "  %2 = broadcast %1 {axes=[0,1,2]} : f32[rows 3,M,N]\n"
    "  %3 = slice %p {starts=[0,0,0], steps=[1,1,2]} : f32[rows 3,M,K]\n"
    "  %4 = exp %3 : f32[rows 3,M,K]\n"
    "  %5 = pad %4 {starts=[0,0,T], steps=[1,1,1]} : f32[rows 3,M,N]\n"
    "  %6 = pad %3 {starts=[0,0,0], steps=[1,1,2]} : f32[rows 3,M,N]\n"
    "  %7 = add %0, %2 : f32[rows 3,M,N]\n"
    "  %8 = sub %5, %6 : f32[rows 3,M,N]\n"
    "  %9 = mul %7, %8 : f32[rows 3,M,N]\n"
    "  %10 = mask_rows %9 : f32[rows 3,M,N]\n"
    "  %11 = iota {axis=2} : i32[rows 3,M,N]\n"
    "  %12 = slice %11 {starts=[0,0,0], steps=[1,1,2]} : i32[rows 3,M,K]\n"
    "  %13 = pad %12 {starts=[0,0,T], steps=[1,1,1]} : i32[rows 3,M,N]\n"
    "  yield %10, %13\n}\n"
    "return value \"a\" = %a, value \"b\" = %b }\n";

static void slices(Cases *s, long m, long n) {
  char last[24], start[24];
  snprintf(last, sizeof last, "%ld", m - 1);
  snprintf(start, sizeof start, "%ld", n - (n + 1) / 2);
  add(s, MAP_SLICES, (Values){.m = m, .n = n, .k = (n + 1) / 2, .a = last, .t = start});
}

/* Indices are 0 … 7, so five rows clamp some. */
static const char EMBEDDING[] =
    "entry @e# infer batch 4 (%t: f32[5,N] = input \"t\", %u: bf16[5,N] = input \"u\","
    " %i: i32[rows 4,M] = input \"i\") {\n"
    "%a = kernel %t, %u, %i {form=map} : f32[rows 4,M,N]"
    " (%p: f32[5,N], %q: bf16[5,N], %r: i32[rows 4,M]) {\n"
    "  %0 = exp %p : f32[5,N]\n"
    "  %1 = embedding %0, %r : f32[rows 4,M,N]\n"
    "  %2 = embedding %q, %r : bf16[rows 4,M,N]\n"
    "  %3 = cast %2 : f32[rows 4,M,N]\n"
    "  %4 = add %1, %3 : f32[rows 4,M,N]\n"
    "  yield %4\n}\n"
    "return value \"a\" = %a }\n";

static const char SCATTER[] =
    "entry @e# infer batch 4 (%x: P = input \"x\", %i: i32[rows 4,M] = input \"i\","
    " %c: f32[5,N] = input \"c\") {\n"
    "%a = kernel %x, %i {form=scatter} : f32[5,N] (%p: P, %q: i32[rows 4,M]) {\n"
    "  %0 = neg %p : P\n"
    "  %1 = scatter_add %0, %q : f32[5,N]\n"
    "  yield %1\n}\n"
    "%b = kernel %x, %i, %c {form=scatter} : f32[5,N]"
    " (%s: P, %t: i32[rows 4,M], %u: f32[5,N]) {\n"
    "  %2 = scatter_add %s, %t, %u : f32[5,N]\n"
    "  yield %2\n}\n"
    "return value \"a\" = %a, value \"b\" = %b }\n";

static void tables(Cases *s) {
  static const long widths[] = {1, 2, 7, 8, 15, 16, 17, 48, 100};
  for (int i = 0; i < 9; i++) {
    char p[48];
    Values v = {.m = 1 + i * 3 % 7, .n = widths[i], .p = p};
    snprintf(p, sizeof p, "%s[rows 4,%ld,%ld]", i % 2 ? "bf16" : "f32", v.m, v.n);
    add(s, EMBEDDING, v);
    add(s, SCATTER, v);
    slices(s, 1 + i, widths[i]);
    slices(s, 4, widths[i]);
  }
}

/* ---- reduce ---------------------------------------------------------------------------------- */

/* Two stages, row results, results that need the last stage. */
static const char REDUCE_SOFTMAX[] =
    "entry @e# infer batch M (%x: f32[rows M,N] = input \"x\", %i: i32[rows M] = input \"i\") {\n"
    "%y, %l, %g = kernel %x, %i {form=reduce} : f32[rows M,N], f32[rows M], f32[rows M]"
    " (%p: f32[rows M,N], %j: i32[rows M]) {\n"
    "  %0 = reduce_max %p {axes=[1]} : f32[rows M]\n"
    "  %1 = broadcast %0 {axes=[0]} : f32[rows M,N]\n"
    "  %2 = sub %p, %1 : f32[rows M,N]\n"
    "  %3 = exp %2 : f32[rows M,N]\n"
    "  %4 = sum %3 {axes=[1]} : f32[rows M]\n"
    "  %5 = broadcast %4 {axes=[0]} : f32[rows M,N]\n"
    "  %6 = div %3, %5 : f32[rows M,N]\n"
    "  %7 = log %4 : f32[rows M]\n"
    "  %8 = add %7, %0 : f32[rows M]\n"
    "  %9 = gather %p, %j : f32[rows M]\n"
    "  %10 = sub %8, %9 : f32[rows M]\n"
    "  yield %6, %8, %10\n}\n"
    "return value \"y\" = %y, value \"l\" = %l, value \"g\" = %g }\n";

/* Every reduction over everything, with padding inside. */
static const char REDUCE_ALL[] =
    "entry @e# infer batch M (%x: f32[rows M,N] = input \"x\", %u: T[N] = input \"u\","
    " %j: i32[rows M,N] = input \"j\") {\n"
    "%a, %b, %c, %d, %e = kernel %x, %u, %j {form=reduce} : f32[], f32[], i1[], i32[], T[]"
    " (%p: f32[rows M,N], %q: T[N], %r: i32[rows M,N]) {\n"
    "  %0 = sum %p {axes=[0,1]} : f32[]\n"
    "  %1 = reduce_min %p {axes=[0,1]} : f32[]\n"
    "  %2 = isfinite %p : i1[rows M,N]\n"
    "  %3 = reduce_and %2 {axes=[0,1]} : i1[]\n"
    "  %4 = reduce_max %r {axes=[0,1]} : i32[]\n"
    "  %5 = broadcast %q {axes=[1]} : T[M,N]\n"
    "  %6 = sum %5 {axes=[0,1]} : T[]\n"
    "  yield %0, %1, %3, %4, %6\n}\n"
    "return value \"a\" = %a, value \"b\" = %b, value \"c\" = %c, value \"d\" = %d, value \"e\" = "
    "%e }\n";

/* A bias gradient, and statistics of columns that go back to the elements. */
static const char REDUCE_COLUMNS[] =
    "entry @e# infer batch M (%x: f32[rows M,N] = input \"x\", %b: f32[N] = input \"b\") {\n"
    "%a, %o, %y = kernel %x, %b {form=reduce} : f32[N], i1[N], f32[rows M,N]"
    " (%p: f32[rows M,N], %q: f32[N]) {\n"
    "  %0 = sum %p {axes=[0]} : f32[N]\n"
    "  %1 = broadcast %0 {axes=[1]} : f32[rows M,N]\n"
    "  %2 = sub %p, %1 : f32[rows M,N]\n"
    "  %3 = mul %2, %2 : f32[rows M,N]\n"
    "  %4 = sum %3 {axes=[0]} : f32[N]\n"
    "  %5 = add %4, %q : f32[N]\n"
    "  %6 = isfinite %p : i1[rows M,N]\n"
    "  %7 = reduce_or %6 {axes=[0]} : i1[N]\n"
    "  %8 = broadcast %5 {axes=[1]} : f32[rows M,N]\n"
    "  %9 = div %2, %8 : f32[rows M,N]\n"
    "  yield %5, %7, %9\n}\n"
    "return value \"a\" = %a, value \"o\" = %o, value \"y\" = %y }\n"
    "entry @f# infer batch M (%x: f32[rows M,N] = input \"x\") {\n"
    "%a = kernel %x {form=reduce} : f32[N] (%p: f32[rows M,N]) {\n"
    "  %0 = sum %p {axes=[0]} : f32[N]\n"
    "  yield %0\n}\n"
    "return value \"a\" = %a }\n";

/* A state updated in place beside reductions that do not hold it up, over axes A to type T. */
static const char REDUCE_UPDATE[] =
    "state state \"v#\" : f32[M,N] private\n"
    "entry @e# infer (%w: f32[M,N] = state \"v#\", %g: f32[M,N] = input \"g\") {\n"
    "%v, %o, %t = kernel %w, %g {form=reduce} : f32[M,N], i1T, f32T (%p: f32[M,N], %q: f32[M,N]) "
    "{\n"
    "  %0 = sub %p, %q : f32[M,N]\n"
    "  %1 = isfinite %0 : i1[M,N]\n"
    "  %2 = reduce_and %1 {axes=A} : i1T\n"
    "  %3 = not %2 : i1T\n"
    "  %4 = mul %0, %0 : f32[M,N]\n"
    "  %5 = sum %4 {axes=A} : f32T\n"
    "  yield %0, %3, %5\n}\n"
    "return state \"v#\" = %v, value \"o\" = %o, value \"t\" = %t }\n";

/* Runs of two axes that do not fold, because of b. */
static const char REDUCE_RANK3[] =
    "entry @e# infer (%x: f32[M,N,K] = input \"x\", %b: f32[N] = input \"b\") {\n"
    "%y, %z = kernel %x, %b {form=reduce} : f32T, f32[M,N,K] (%p: f32[M,N,K], %q: f32[N]) {\n"
    "  %0 = broadcast %q {axes=[1]} : f32[M,N,K]\n"
    "  %1 = add %p, %0 : f32[M,N,K]\n"
    "  %2 = sum %1 {axes=A} : f32T\n"
    "  yield %2, %1\n}\n"
    "return value \"y\" = %y, value \"z\" = %z }\n";

/* ---- gemm ------------------------------------------------------------------------------------ */

static const char GEMM[] =
    "entry @e# infer batch M (%a: P = input \"a\", %b: Q = input \"b\", %c: f32[N] = input \"c\","
    " %d: f32[M,N] = input \"d\") {\n"
    "%y, %z, %w = kernel %a, %b, %c, %d {form=gemm} : f32[M,N], T[M,N], i1[M,N]"
    " (%p: P, %q: Q, %r: f32[N], %s: f32[M,N]) {\n"
    "  %0 = matmul %p, %q, %s {Ak_chunk=256} : f32[M,N]\n"
    "  %1 = broadcast %r {axes=[1]} : f32[M,N]\n"
    "  %2 = add %0, %1 : f32[M,N]\n"
    "  %3 = relu %2 : f32[M,N]\n"
    "  %4 = cast %3 : T[M,N]\n"
    "  %5 = gt %3, %s : i1[M,N]\n"
    "  yield %0, %4, %5\n}\n"
    "return value \"y\" = %y, value \"z\" = %z, value \"w\" = %w }\n";

static const char *const LOW[] = {"bf16", "f16"};

static void gemm(Cases *s, const long *dim, bool ta, bool tb, const char *of_a, const char *of_b) {
  char p[64], q[64], attrs[16];
  long m = dim[0], n = dim[1], k = dim[2];
  snprintf(p, sizeof p, "%s[%ld,%ld]", of_a, ta ? k : m, ta ? m : k);
  snprintf(q, sizeof q, "%s[%ld,%ld]", of_b, tb ? n : k, tb ? k : n);
  snprintf(attrs, sizeof attrs, "%s%s", ta ? "ta, " : "", tb ? "tb, " : "");
  add(s, GEMM, (Values){.m = m, .n = n, .a = attrs, .p = p, .q = q, .t = LOW[s->count % 2]});
}

/* Two leading axes, the batch first; a bias and a mask ride along. */
static const char GEMM_BATCH[] =
    "entry @e# infer batch 3 (%a: P = input \"a\", %b: Q = input \"b\", %c: f32[N] = input \"c\") "
    "{\n"
    "%y, %z = kernel %a, %b, %c {form=gemm} : f32T, bf16T (%p: P, %q: Q, %r: f32[N]) {\n"
    "  %0 = matmul %p, %q {Ak_chunk=16} : f32T\n"
    "  %1 = broadcast %r {axes=[3]} : f32T\n"
    "  %2 = add %0, %1 : f32T\n"
    "  %3 = mask_rows %2 : f32T\n"
    "  %4 = cast %3 : bf16T\n"
    "  yield %2, %4\n}\n"
    "return value \"y\" = %y, value \"z\" = %z }\n";

/* Operands and result [3, H, …], or with the second axis behind the rows: [3, …, H, …]. */
static void gemm_batch(Cases *s, const long *d, unsigned how, const char *type) {
  long h = d[0], m = d[1], n = d[2], k = d[3];
  bool ta = how & 1, tb = how >> 1 & 1, inner = how >> 2 & 1;
  char p[64], q[64], t[64], attrs[96];
  static const char form[] = "%s[rows 3,%ld,%ld,%ld]";
  long am = ta ? k : m, ak = ta ? m : k, bk = tb ? n : k, bn = tb ? k : n;
  snprintf(p, sizeof p, form, type, inner ? am : h, inner ? h : am, ak);
  snprintf(q, sizeof q, form, type, inner ? bk : h, inner ? h : bk, bn);
  snprintf(t, sizeof t, form, "", inner ? m : h, inner ? h : m, n);
  const char *perm = "perm_a=[0,2,1,3], perm_b=[0,2,1,3], perm_c=[0,2,1,3], ";
  snprintf(attrs, sizeof attrs, "%s%s%s", ta ? "ta, " : "", tb ? "tb, " : "", inner ? perm : "");
  add(s, GEMM_BATCH, (Values){.n = n, .a = attrs, .p = p, .q = q, .t = t});
}

static void batches(Cases *s) {
  static const long dims[][4] = {{1, 1, 1, 1}, {2, 17, 33, 7}, {5, 8, 16, 40}, {1, 30, 5, 16}};
  for (int i = 0; i < 4; i++)
    for (unsigned how = 0; how < 8; how++)
      gemm_batch(s, dims[i], how, (how + (unsigned)i) % 2 ? "bf16" : "f32");
}

/* ---- all ------------------------------------------------------------------------------------- */

static void maps(Cases *s) {
  static const long sizes[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 257, 1000};
  enum { N = sizeof sizes / sizeof *sizes };
  for (int i = 0; i < N; i++) {
    for (int low = 0; low < 2; low++) {
      add(s, MAP_FLAT, (Values){.n = sizes[i], .t = LOW[low]});
      add(s, MAP_NARROW, (Values){.n = sizes[i], .t = LOW[low]});
    }
    add(s, MAP_COMMIT, (Values){.n = sizes[i]});
    add(s, MAP_GATHER, (Values){.m = sizes[i], .n = 1 + i});
    add(s, MAP_VIEWS, (Values){.m = sizes[i], .n = sizes[N - 1 - i] % 101 + 1});
  }
  add(s, MAP_MIDDLE, (Values){.m = 5, .n = 7, .k = 19, .t = "bf16"});
  add(s, MAP_MIDDLE, (Values){.m = 2, .n = 3, .k = 64, .t = "f16"});
  add(s, MAP_MIDDLE, (Values){.m = 1, .n = 40, .k = 3, .t = "bf16"});
  add(s, MAP_MIDDLE, (Values){.m = 40, .n = 1, .k = 16, .t = "f16"});
}

static void reductions(Cases *s) {
  static const long rows[] = {1, 2, 5, 64, 65, 130};
  static const long lengths[] = {1, 7, 10, 16, 31, 32, 33, 256, 1000};
  for (int i = 0; i < 6; i++)
    for (int j = i % 3; j < 9; j += 3) {
      Values v = {.m = rows[i], .n = lengths[j], .t = LOW[i % 2]};
      add(s, REDUCE_SOFTMAX, v);
      add(s, REDUCE_ALL, v);
      add(s, REDUCE_COLUMNS, v);
    }
  add(s, REDUCE_SOFTMAX, (Values){.m = 2, .n = 4095});
  add(s, REDUCE_SOFTMAX, (Values){.m = 2, .n = 4096});
  add(s, REDUCE_SOFTMAX, (Values){.m = 2, .n = 8200});
  add(s, REDUCE_ALL, (Values){.m = 3, .n = 4097, .t = "f16"});
}

static void updates(Cases *s) {
  static const long dims[][2] = {{1, 5},    {5, 1},    {7, 10},   {64, 64},
                                 {70, 130}, {3, 4096}, {40, 1000}};
  for (int i = 0; i < 7; i++) {
    char columns[32], rows[32];
    Values v = {.m = dims[i][0], .n = dims[i][1]};
    snprintf(columns, sizeof columns, "[%ld]", v.n);
    snprintf(rows, sizeof rows, "[%ld]", v.m);
    v.a = "[0,1]", v.t = "[]", add(s, REDUCE_UPDATE, v);
    v.a = "[0]", v.t = columns, add(s, REDUCE_UPDATE, v);
    v.a = "[1]", v.t = rows, add(s, REDUCE_UPDATE, v);
  }
}

static void unfolded(Cases *s) {
  static const Values dims[] = {
      {.m = 5, .n = 7, .k = 19}, {.m = 3, .n = 6, .k = 32}, {.m = 70, .n = 2, .k = 5}};
  for (int i = 0; i < 3; i++) {
    char t[32];
    Values v = dims[i];
    v.t = t;
    snprintf(t, sizeof t, "[%ld]", v.m), v.a = "[1,2]", add(s, REDUCE_RANK3, v);
    snprintf(t, sizeof t, "[%ld]", v.k), v.a = "[0,1]", add(s, REDUCE_RANK3, v);
    snprintf(t, sizeof t, "[%ld,%ld]", v.n, v.k), v.a = "[0]", add(s, REDUCE_RANK3, v);
    snprintf(t, sizeof t, "[%ld,%ld]", v.m, v.n), v.a = "[2]", add(s, REDUCE_RANK3, v);
  }
}

static void gemms(Cases *s) {
  static const long dims[][3] = {{1, 1, 1}, {3, 10, 7}, {64, 16, 33}, {17, 33, 256}, {5, 40, 300}};
  static const char *const types[] = {"f32", "bf16", "f16"};
  for (int i = 0; i < 5; i++)
    for (int t = 0; t < 4; t++) {
      gemm(s, dims[i], t & 1, t >> 1, types[(i + t) % 3], types[(i + t) % 3]);
      if (i % 2) gemm(s, dims[i], t & 1, t >> 1, types[t % 3], types[(t + 1 + i / 2) % 3]);
    }
}

/* ---- fp8 ------------------------------------------------------------------------------------- */

static const char GEMM_FP8[] =
    "entry @e# infer (%a: f32P = input \"a\", %b: f32Q = input \"b\", %s: f32[] = input \"s\","
    " %t: f32[] = input \"t\") {\n"
    "%x = kernel %a, %s {form=map} : f8e4m3fnP (%xp: f32P, %xr: f32[]) {\n"
    "  %8 = saturate %xp, %xr : f8e4m3fnP\n  yield %8\n}\n"
    "%y = kernel %b, %t {form=map} : TQ (%yp: f32Q, %yr: f32[]) {\n"
    "  %9 = saturate %yp, %yr : TQ\n  yield %9\n}\n"
    "%u, %v = kernel %s, %t {form=map} : f32[], f32[] (%up: f32[], %uq: f32[]) {\n"
    "  %5 = constant {value=1} : f32[]\n"
    "  %6 = div %5, %up : f32[]\n"
    "  %7 = div %5, %uq : f32[]\n"
    "  yield %6, %7\n}\n"
    "%z, %w = kernel %x, %y, %u, %v {form=gemm} : f32[M,N], bf16[M,N]"
    " (%p: f8e4m3fnP, %q: TQ, %r: f32[], %h: f32[]) {\n"
    "  %0 = matmul_scaled %p, %q, %r, %h {Ak_chunk=128} : f32[M,N]\n"
    "  %1 = relu %0 : f32[M,N]\n"
    "  %2 = cast %1 : bf16[M,N]\n"
    "  yield %0, %2\n}\n"
    "return value \"x\" = %x, value \"y\" = %y, value \"z\" = %z, value \"w\" = %w }\n";

static void fp8_gemms(Cases *s) {
  static const long dims[][3] = {{1, 1, 1}, {3, 10, 7}, {64, 16, 33}, {17, 33, 256}, {5, 40, 300}};
  for (int i = 0; i < 5; i++)
    for (int t = 0; t < 4; t++) {
      char p[32], q[32];
      long m = dims[i][0], n = dims[i][1], k = dims[i][2];
      bool ta = t & 1, tb = t >> 1;
      const char *attrs = ta ? tb ? "ta, tb, " : "ta, " : tb ? "tb, " : "";
      snprintf(p, sizeof p, "[%ld,%ld]", ta ? k : m, ta ? m : k);
      snprintf(q, sizeof q, "[%ld,%ld]", tb ? n : k, tb ? k : n);
      const char *type = (i + t) % 2 ? "f8e4m3fn" : "f8e5m2";
      add(s, GEMM_FP8, (Values){.m = m, .n = n, .p = p, .q = q, .a = attrs, .t = type});
    }
}

typedef void Section(Cases *s);

static void run_section(Checks *c, Section *section) {
  static const Build builds[] = {{"native", 0, 3, false}, {"native", 3, 1, false}, {NULL, 2, 2, false}};
  Arena a = {0};
  Cases s = {.text = {.arena = &a}};
  Fixture f;
  section(&s);
  fixture_init(&f, s.text.at);
  fixture_run(c, &f, builds, SANITIZED ? 1 : sizeof builds / sizeof *builds);
  fixture_free(&f);
  arena_free(&a);
}

/* Nothing that a library would have to bring: symbols are the runtime's and our own. */
static void check_symbols(Checks *c) {
  Arena a = {0};
  Cases s = {.text = {.arena = &a}};
  Fixture f;
  maps(&s), reductions(&s), gemms(&s);
  fixture_init(&f, s.text.at);
  CpuCode code;
  fixture_compile(&f, (Build){"native", 3, 1, false}, CPU_ASM, &code);
  static const char *const calls[] = {"memset", "memcpy",    "memmove", "fmaf",
                                      "expf",   "roundeven", "trunc"};
  for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
    if (!CHECK(c, !strstr(code.at, calls[i]))) fprintf(stderr, "  %s\n", calls[i]);
  fixture_free(&f);
  arena_free(&a);
}

int main(void) {
  Checks c = {0};
  run_section(&c, maps);
  run_section(&c, reductions);
  run_section(&c, updates);
  run_section(&c, unfolded);
  run_section(&c, gemms);
  run_section(&c, fp8_gemms);
  run_section(&c, batches);
  run_section(&c, tables);
  check_symbols(&c);
  return checks_end(&c, "test_codegen");
}
