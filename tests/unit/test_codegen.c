/* test_codegen.c: kernels as machine code equal the evaluator bit for bit, whatever the shape, the
 * level, -O, the number of threads and of real rows. */
#include "tests/unit/codegen_fixture.h"

#include <string.h>

typedef struct Cases {
  Text text;
  int entries;
  bool infer;
} Cases;

static void add(Cases *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(Cases *s, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  text_vprintf(&s->text, fmt, ap);
  va_end(ap);
}

static void entry(Cases *s, long batch) {
  if (batch > 0) add(s, "entry @e%d infer batch %ld", s->entries++, batch);
  else add(s, "entry @e%d infer ", s->entries++);
}

/* ---- map ------------------------------------------------------------------------------------------ */

static void map_flat(Cases *s, long n) {
  entry(s, 0);
  add(s, "(%%x: f32[%ld] = input \"x\", %%y: f32[%ld] = input \"y\", %%k: f32[] = input \"k\") {\n", n, n);
  add(s, "%%a, %%b, %%c, %%d = kernel %%x, %%y, %%k {form=map} : f32[%ld], bf16[%ld], i1[%ld], i32[%ld]"
         " (%%p: f32[%ld], %%q: f32[%ld], %%r: f32[]) {\n", n, n, n, n, n, n);
  add(s, "%%0 = broadcast %%r {axes=[]} : f32[%ld]\n", n);
  add(s, "%%1 = mul %%p, %%0 : f32[%ld]\n%%2 = add %%1, %%q : f32[%ld]\n", n, n);
  add(s, "%%3 = exp %%2 : f32[%ld]\n%%4 = max %%3, %%p : f32[%ld]\n", n, n);
  add(s, "%%5 = cast %%4 : bf16[%ld]\n%%6 = lt %%p, %%q : i1[%ld]\n", n, n);
  add(s, "%%7 = select %%6, %%4, %%q : f32[%ld]\n%%8 = iota {axis=0} : i32[%ld]\n", n, n);
  add(s, "%%9 = cast %%7 : i32[%ld]\n%%10 = add %%8, %%9 : i32[%ld]\n", n, n);
  add(s, "yield %%7, %%5, %%6, %%10 }\n");
  add(s, "return value \"a\" = %%a, value \"b\" = %%b, value \"c\" = %%c, value \"d\" = %%d }\n");
}

static void map_narrow(Cases *s, long n) {
  entry(s, 0);
  add(s, "(%%x: u8[%ld] = input \"x\", %%y: bf16[%ld] = input \"y\", %%z: i1[%ld] = input \"z\") {\n", n, n, n);
  add(s, "%%a, %%b, %%c, %%d = kernel %%x, %%y, %%z {form=map} : f32[%ld], bf16[%ld], i1[%ld], u8[%ld]"
         " (%%p: u8[%ld], %%q: bf16[%ld], %%r: i1[%ld]) {\n", n, n, n, n, n, n, n);
  add(s, "%%0 = cast %%p : f32[%ld]\n%%1 = cast %%q : f32[%ld]\n%%2 = sub %%0, %%1 : f32[%ld]\n", n, n, n);
  add(s, "%%3 = add %%q, %%q : bf16[%ld]\n%%4 = neg %%q : bf16[%ld]\n", n, n);
  add(s, "%%5 = select %%r, %%3, %%4 : bf16[%ld]\n%%6 = isfinite %%q : i1[%ld]\n", n, n);
  add(s, "%%7 = and %%6, %%r : i1[%ld]\n%%8 = not %%7 : i1[%ld]\n%%9 = cast %%1 : u8[%ld]\n", n, n, n);
  add(s, "yield %%2, %%5, %%8, %%9 }\n");
  add(s, "return value \"a\" = %%a, value \"b\" = %%b, value \"c\" = %%c, value \"d\" = %%d }\n");
}

/* A bias, a column, a transpose, a mask and a gather over [m, n]. */
static void map_views(Cases *s, long m, long n) {
  entry(s, m);
  add(s, "(%%x: f32[rows %ld,%ld] = input \"x\", %%t: f32[%ld,%ld] = input \"t\", %%b: f32[%ld] = input"
         " \"b\", %%c: f32[%ld,1] = input \"c\") {\n", m, n, n, m, n, m);
  add(s, "%%y, %%z = kernel %%x, %%t, %%b, %%c {form=map} : f32[rows %ld,%ld], i32[rows %ld,%ld]"
         " (%%p: f32[rows %ld,%ld], %%q: f32[%ld,%ld], %%r: f32[%ld], %%s: f32[%ld,1]) {\n",
      m, n, m, n, m, n, n, m, n, m);
  add(s, "%%0 = transpose %%q {perm=[1,0]} : f32[%ld,%ld]\n%%1 = broadcast %%r {axes=[1]} : f32[%ld,%ld]\n",
      m, n, m, n);
  add(s, "%%2 = broadcast %%s {axes=[0,1]} : f32[%ld,%ld]\n%%3 = mul %%0, %%1 : f32[%ld,%ld]\n", m, n, m, n);
  add(s, "%%4 = add %%3, %%2 : f32[%ld,%ld]\n%%5 = mask_rows %%p : f32[rows %ld,%ld]\n", m, n, m, n);
  add(s, "%%6 = sub %%5, %%4 : f32[rows %ld,%ld]\n%%7 = iota {axis=0} : i32[%ld,%ld]\n", m, n, m, n);
  add(s, "%%8 = iota {axis=1} : i32[rows %ld,%ld]\n%%9 = mul %%7, %%8 : i32[rows %ld,%ld]\n", m, n, m, n);
  add(s, "yield %%6, %%9 }\nreturn value \"y\" = %%y, value \"z\" = %%z }\n");
}

static void map_gather(Cases *s, long m, long n) {
  entry(s, m);
  add(s, "(%%x: f32[rows %ld,%ld] = input \"x\", %%i: i32[rows %ld] = input \"i\") {\n", m, n, m);
  add(s, "%%y = kernel %%x, %%i {form=map} : f32[rows %ld] (%%p: f32[rows %ld,%ld], %%q: i32[rows %ld]) {\n",
      m, m, n, m);
  add(s, "%%0 = constant {value=3} : i32[]\n%%1 = broadcast %%0 {axes=[]} : i32[%ld]\n", m);
  add(s, "%%2 = sub %%q, %%1 : i32[rows %ld]\n%%3 = exp %%p : f32[rows %ld,%ld]\n", m, m, n);
  add(s, "%%4 = gather %%3, %%2 : f32[rows %ld]\nyield %%4 }\nreturn value \"y\" = %%y }\n", m);
}

/* Rank 3, folded as far as it goes: x is plain, b steps along the middle axis. */
static void map_middle(Cases *s, long a, long b, long c) {
  entry(s, 0);
  add(s, "(%%x: f32[%ld,%ld,%ld] = input \"x\", %%b: f32[%ld] = input \"b\") {\n", a, b, c, b);
  add(s, "%%y = kernel %%x, %%b {form=map} : bf16[%ld,%ld,%ld] (%%p: f32[%ld,%ld,%ld], %%q: f32[%ld]) {\n",
      a, b, c, a, b, c, b);
  add(s, "%%0 = broadcast %%q {axes=[1]} : f32[%ld,%ld,%ld]\n%%1 = add %%p, %%0 : f32[%ld,%ld,%ld]\n", a, b,
      c, a, b, c);
  add(s, "%%2 = cast.policy %%1 : bf16[%ld,%ld,%ld]\nyield %%2 }\nreturn value \"y\" = %%y }\n", a, b, c);
}

/* A state updated in place under a predicate. */
static void map_commit(Cases *s, long n) {
  int e = s->entries;
  add(s, "state param \"w%d\" : f32[%ld]\n", e, n);
  add(s, "entry @e%d step (%%w: f32[%ld] = state \"w%d\", %%g: f32[%ld] = input \"g\", %%o: f32[] = input"
         " \"o\") {\n", s->entries++, n, e, n);
  add(s, "%%ok, %%bad = kernel %%o {form=map} : i1[], i1[] (%%c: f32[]) {\n%%z = constant {value=0} : f32[]\n"
         "%%y = gt %%c, %%z : i1[]\n%%n = not %%y : i1[]\nyield %%y, %%n }\n");
  add(s, "%%v = kernel %%ok, %%w, %%g {form=map} : f32[%ld] (%%p: i1[], %%q: f32[%ld], %%r: f32[%ld]) {\n",
      n, n, n);
  add(s, "%%0 = sub %%q, %%r : f32[%ld]\n%%1 = commit %%p, %%0, %%q : f32[%ld]\nyield %%1 }\n", n, n);
  add(s, "return ok \"ok\" = %%ok, state \"w%d\" = %%v }\n", e);
}

/* ---- reduce ------------------------------------------------------------------------------------------ */

/* Softmax with its row values: two stages, row and full results. */
static void reduce_softmax(Cases *s, long m, long n) {
  entry(s, m);
  add(s, "(%%x: f32[rows %ld,%ld] = input \"x\", %%i: i32[rows %ld] = input \"i\") {\n", m, n, m);
  add(s, "%%y, %%l, %%g = kernel %%x, %%i {form=reduce} : f32[rows %ld,%ld], f32[rows %ld], f32[rows %ld]"
         " (%%p: f32[rows %ld,%ld], %%j: i32[rows %ld]) {\n", m, n, m, m, m, n, m);
  add(s, "%%0 = reduce_max %%p {axes=[1]} : f32[rows %ld]\n", m);
  add(s, "%%1 = broadcast %%0 {axes=[0]} : f32[rows %ld,%ld]\n%%2 = sub %%p, %%1 : f32[rows %ld,%ld]\n", m, n,
      m, n);
  add(s, "%%3 = exp %%2 : f32[rows %ld,%ld]\n%%4 = sum %%3 {axes=[1]} : f32[rows %ld]\n", m, n, m);
  add(s, "%%5 = broadcast %%4 {axes=[0]} : f32[rows %ld,%ld]\n%%6 = div %%3, %%5 : f32[rows %ld,%ld]\n", m, n,
      m, n);
  add(s, "%%7 = log %%4 : f32[rows %ld]\n%%8 = add %%7, %%0 : f32[rows %ld]\n", m, m);
  add(s, "%%9 = gather %%p, %%j : f32[rows %ld]\n%%10 = sub %%8, %%9 : f32[rows %ld]\n", m, m);
  add(s, "yield %%6, %%8, %%10 }\nreturn value \"y\" = %%y, value \"l\" = %%l, value \"g\" = %%g }\n");
}

/* Every reduction over everything, with a tagged axis inside. */
static void reduce_all(Cases *s, long m, long n) {
  entry(s, m);
  add(s, "(%%x: f32[rows %ld,%ld] = input \"x\", %%u: bf16[%ld] = input \"u\", %%j: i32[rows %ld,%ld] = input"
         " \"j\") {\n", m, n, n, m, n);
  add(s, "%%a, %%b, %%c, %%d, %%e = kernel %%x, %%u, %%j {form=reduce} : f32[], f32[], i1[], i32[], bf16[]"
         " (%%p: f32[rows %ld,%ld], %%q: bf16[%ld], %%r: i32[rows %ld,%ld]) {\n", m, n, n, m, n);
  add(s, "%%0 = sum %%p {axes=[0,1]} : f32[]\n%%1 = reduce_min %%p {axes=[0,1]} : f32[]\n");
  add(s, "%%2 = isfinite %%p : i1[rows %ld,%ld]\n%%3 = reduce_and %%2 {axes=[0,1]} : i1[]\n", m, n);
  add(s, "%%4 = reduce_max %%r {axes=[0,1]} : i32[]\n%%5 = broadcast %%q {axes=[1]} : bf16[%ld,%ld]\n", m, n);
  add(s, "%%6 = sum %%5 {axes=[0,1]} : bf16[]\nyield %%0, %%1, %%3, %%4, %%6 }\n");
  add(s, "return value \"a\" = %%a, value \"b\" = %%b, value \"c\" = %%c, value \"d\" = %%d, value \"e\" = %%e }\n");
}

/* Columns: a bias gradient, and batch statistics that go back to the elements. */
static void reduce_columns(Cases *s, long m, long n) {
  entry(s, m);
  add(s, "(%%x: f32[rows %ld,%ld] = input \"x\", %%b: f32[%ld] = input \"b\") {\n", m, n, n);
  add(s, "%%a, %%o, %%y = kernel %%x, %%b {form=reduce} : f32[%ld], i1[%ld], f32[rows %ld,%ld]"
         " (%%p: f32[rows %ld,%ld], %%q: f32[%ld]) {\n", n, n, m, n, m, n, n);
  add(s, "%%0 = sum %%p {axes=[0]} : f32[%ld]\n%%1 = broadcast %%0 {axes=[1]} : f32[rows %ld,%ld]\n", n, m, n);
  add(s, "%%2 = sub %%p, %%1 : f32[rows %ld,%ld]\n%%3 = mul %%2, %%2 : f32[rows %ld,%ld]\n", m, n, m, n);
  add(s, "%%4 = sum %%3 {axes=[0]} : f32[%ld]\n%%5 = add %%4, %%q : f32[%ld]\n", n, n);
  add(s, "%%6 = isfinite %%p : i1[rows %ld,%ld]\n%%7 = reduce_or %%6 {axes=[0]} : i1[%ld]\n", m, n, n);
  add(s, "%%8 = broadcast %%5 {axes=[1]} : f32[rows %ld,%ld]\n%%9 = div %%2, %%8 : f32[rows %ld,%ld]\n", m, n,
      m, n);
  add(s, "yield %%5, %%7, %%9 }\nreturn value \"a\" = %%a, value \"o\" = %%o, value \"y\" = %%y }\n");
}

/* Trailing and leading runs of two axes that do not fold, because of b. */
static void reduce_rank3(Cases *s, long a, long b, long c) {
  entry(s, 0);
  add(s, "(%%x: f32[%ld,%ld,%ld] = input \"x\", %%b: f32[%ld] = input \"b\") {\n", a, b, c, b);
  for (int i = 0; i < 2; i++) { /* trailing, leading */
    add(s, "%%y%d, %%z%d = kernel %%x, %%b {form=reduce} : f32[%ld], f32[%ld,%ld,%ld]"
           " (%%p%d: f32[%ld,%ld,%ld], %%q%d: f32[%ld]) {\n",
        i, i, i ? c : a, a, b, c, i, a, b, c, i, b);
    add(s, "%%c%d = broadcast %%q%d {axes=[1]} : f32[%ld,%ld,%ld]\n", i, i, a, b, c);
    add(s, "%%d%d = add %%p%d, %%c%d : f32[%ld,%ld,%ld]\n", i, i, i, a, b, c);
    add(s, "%%e%d = sum %%d%d {axes=[%s]} : f32[%ld]\nyield %%e%d, %%d%d }\n", i, i, i ? "0,1" : "1,2",
        i ? c : a, i, i);
  }
  add(s, "return value \"y\" = %%y0, value \"z\" = %%z0, value \"v\" = %%y1, value \"w\" = %%z1 }\n");
}

/* One leading axis over two that do not fold. */
static void reduce_rank3_kept(Cases *s, long a, long b, long c) {
  entry(s, 0);
  add(s, "(%%x: f32[%ld,%ld,%ld] = input \"x\", %%b: f32[%ld] = input \"b\") {\n", a, b, c, b);
  add(s, "%%y = kernel %%x, %%b {form=reduce} : f32[%ld,%ld] (%%p: f32[%ld,%ld,%ld], %%q: f32[%ld]) {\n", b, c,
      a, b, c, b);
  add(s, "%%0 = broadcast %%q {axes=[1]} : f32[%ld,%ld,%ld]\n%%1 = mul %%p, %%0 : f32[%ld,%ld,%ld]\n", a, b, c,
      a, b, c);
  add(s, "%%2 = sum %%1 {axes=[0]} : f32[%ld,%ld]\nyield %%2 }\nreturn value \"y\" = %%y }\n", b, c);
}

/* ---- gemm -------------------------------------------------------------------------------------------- */

static void gemm(Cases *s, long m, long n, long k, bool ta, bool tb, const char *in) {
  entry(s, m);
  add(s, "(%%a: %s[%ld,%ld] = input \"a\", %%b: %s[%ld,%ld] = input \"b\", %%c: f32[%ld] = input \"c\","
         " %%d: f32[%ld,%ld] = input \"d\") {\n", in, ta ? k : m, ta ? m : k, in, tb ? n : k, tb ? k : n, n, m, n);
  add(s, "%%y, %%z, %%w = kernel %%a, %%b, %%c, %%d {form=gemm} : f32[%ld,%ld], bf16[%ld,%ld], i1[%ld,%ld]", m, n, m,
      n, m, n);
  add(s, " (%%p: %s[%ld,%ld], %%q: %s[%ld,%ld], %%r: f32[%ld], %%s: f32[%ld,%ld]) {\n", in, ta ? k : m,
      ta ? m : k, in, tb ? n : k, tb ? k : n, n, m, n);
  add(s, "%%0 = matmul %%p, %%q, %%s {%s%sk_chunk=256} : f32[%ld,%ld]\n", ta ? "ta, " : "", tb ? "tb, " : "", m,
      n);
  add(s, "%%1 = broadcast %%r {axes=[1]} : f32[%ld,%ld]\n%%2 = add %%0, %%1 : f32[%ld,%ld]\n", m, n, m, n);
  add(s, "%%3 = relu %%2 : f32[%ld,%ld]\n%%4 = cast %%3 : bf16[%ld,%ld]\n", m, n, m, n);
  add(s, "%%5 = gt %%3, %%s : i1[%ld,%ld]\nyield %%0, %%4, %%5 }\n", m, n);
  add(s, "return value \"y\" = %%y, value \"z\" = %%z, value \"w\" = %%w }\n");
}

/* ---- all ----------------------------------------------------------------------------------------------- */

static const long SIZES[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 257, 1000};
enum { N_SIZES = sizeof SIZES / sizeof *SIZES };

static void maps(Cases *s) {
  for (int i = 0; i < N_SIZES; i++) {
    map_flat(s, SIZES[i]);
    map_narrow(s, SIZES[i]);
    map_commit(s, SIZES[i]);
    map_gather(s, SIZES[i], 1 + i);
    map_views(s, SIZES[i], SIZES[N_SIZES - 1 - i] % 101 + 1);
  }
  map_middle(s, 5, 7, 19);
  map_middle(s, 2, 3, 64);
  map_middle(s, 1, 40, 3);
  map_middle(s, 40, 1, 16);
}

static void reductions(Cases *s) {
  static const long rows[] = {1, 2, 5, 64, 65, 130};
  static const long lengths[] = {1, 7, 10, 16, 31, 32, 33, 256, 1000};
  for (int i = 0; i < 6; i++)
    for (int j = i % 2; j < 9; j += 2) {
      reduce_softmax(s, rows[i], lengths[j]);
      reduce_all(s, rows[i], lengths[j]);
      reduce_columns(s, rows[i], lengths[j]);
    }
  reduce_softmax(s, 2, 4095);
  reduce_softmax(s, 2, 4096);
  reduce_softmax(s, 2, 8200);
  reduce_all(s, 3, 4097);
  reduce_rank3(s, 5, 7, 19);
  reduce_rank3(s, 3, 6, 32);
  reduce_rank3(s, 67, 2, 5);
  reduce_rank3_kept(s, 70, 3, 5);
  reduce_rank3_kept(s, 9, 4, 32);
}

static void gemms(Cases *s) {
  static const long dims[][3] = {{1, 1, 1}, {3, 10, 7}, {64, 16, 33}, {17, 33, 256}, {5, 40, 300}};
  for (int i = 0; i < 5; i++)
    for (int t = 0; t < 4; t++)
      gemm(s, dims[i][0], dims[i][1], dims[i][2], t & 1, t >> 1, i % 2 ? "bf16" : "f32");
}

typedef void Section(Cases *s);

static void run_section(Checks *c, Section *section) {
  static const Build builds[] = {{"native", 0}, {"native", 3}, {"x86-64-v3", 2}};
  Arena a = {0};
  Cases s = {.text = {.arena = &a}};
  Fixture f;
  section(&s);
  fixture_init(&f, s.text.at);
  for (size_t i = 0; i < sizeof builds / sizeof *builds; i++)
    for (int specials = 0; specials < 2; specials++) fixture_run(c, &f, builds[i], specials);
  fixture_free(&f);
  arena_free(&a);
}

int main(void) {
  Checks c = {0};
  run_section(&c, maps);
  run_section(&c, reductions);
  run_section(&c, gemms);
  return checks_end(&c, "test_codegen");
}
