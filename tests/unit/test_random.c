/* test_random.c: random training programs: evaluator = -O0 = -O3, bit for bit.
 *
 *   test_random [--count=N] [--seed=S] [--show]
 *
 * A program is a list of lines, each an op of the table below on earlier values; what no line reads
 * is projected to the classes, so every parameter gets a gradient.  Around it stand random
 * settings: batch, micro-batches, loss, optimizer, clip, precision, an infer entry with a scan.
 * Each entry is run as test_loop does: passes checked by evaluation, the plan on poisoned memory,
 * machine code on 1, 2 and 3 threads, with full, half and single batches, with and without
 * infinities and NaN.
 *
 * Each program runs in a process of its own, so a crash is a failure like others.  A failing
 * program is made smaller as long as it fails in the same way, and printed.
 */
#define _POSIX_C_SOURCE 200809L
#include "frontend/frontend.h"
#include "tests/unit/codegen_fixture.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_LINES = 16, MOST_WIDTH = 40 };
enum {
  VECTOR = 1,
  MATRIX = 2,
  TURNED = 4,
  EVEN = 8,
  HALF = 16 | EVEN,
  DOUBLE = 32,
  FOUR = 64 | EVEN
};

/* %a, %b: earlier values of one width; %p: a parameter of the line's own; %h: half the width of a.
 * The result is as wide as a, or as a trait says. */
static const struct {
  const char *form;
  int traits;
} ops[] = {
    {"relu(%a)", 0},
    {"tanh(%a)", 0},
    {"sigmoid(%a)", 0},
    {"exp(tanh(%a))", 0},
    {"expm1(tanh(%a))", 0},
    {"log(%a * %a + 1)", 0},
    {"sqrt(%a * %a + 0.5)", 0},
    {"softmax(%a)", 0},
    {"-%a", 0},
    {"f32(bf16(%a))", 0},
    {"tanh(%a) precision(f32)", 0},
    {"%a + %b", 0},
    {"%a - %b", 0},
    {"%a * %b", 0},
    {"%a / (%b * %b + 1)", 0},
    {"max(%a, %b)", 0},
    {"min(%a, %b)", 0},
    {"where(%a > %b, %a, %b)", 0},
    {"%a - mean(%a, axis: 1, keep: true)", 0},
    {"%a * sum(%b, axis: 1, keep: true)", 0},
    {"%a / sqrt(mean(%a * %a, axis: 1, keep: true) + 0.001)", 0},
    {"%a + %p", VECTOR},
    {"%a * %p", VECTOR},
    {"%a @ %p", MATRIX},
    {"%a @ transpose(%p)", TURNED},
    {"sum(reshape(%a, [B, 2, %h]), axis: 1)", HALF},
    {"sum(reshape(%a, [B, %h, 2]), axis: 2)", HALF},
    {"dropout(%a, 0.25)", 0},
    {"gelu(%a)", 0},
    {"gelu_tanh(%a)", 0},
    {"silu(%a)", 0},
    {"erf(%a)", 0},
    {"softplus(%a)", 0},
    {"sin(%a) + cos(%b)", 0},
    {"rsqrt(%a * %a + 0.5)", 0},
    {"log1p(%a * %a)", 0},
    {"abs(%a)", 0},
    {"clamp(%a, -1.0, 1.0)", 0},
    {"lerp(%a, %b, 0.3)", 0},
    {"layer_norm(%a)", 0},
    {"rms_norm(%a)", 0},
    {"log_softmax(%a)", 0},
    {"einsum(\"b i, i o -> b o\", %a, %p)", MATRIX},
    {"%p[argmax(%a)] + sum(%a, axis: 1, keep: true)", MATRIX},
    {"rearrange(%a, \"b (h e) -> b (e h)\", h: 2)", EVEN},
    {"%a[:, :%h]", HALF},
    {"%a[:, %h:]", HALF},
    {"concat([%a, %b], axis: 1)", DOUBLE},
    {"reshape(reshape(%a, [B, 2, %h]) @ transpose(reshape(%b, [B, 2, %h])), [B, 4])", FOUR},
};

static const char *const infer[] = {
    "",
    "  fn g(x: [B, width], s: f32) -> [B, classes] = f(x) * s\n",
    "  fn g(x: [B, width], s: f32) -> [B, classes] =\n"
    "    scan(fn (h, i) = tanh(f(x) + h * s), f(x), over: iota(3))\n",
    "  fn g(x: [B, width]) -> i32[4, B] = scan(fn (i) = categorical(f(x)), over: iota(4))\n",
    "  fn g(h: [B, classes], xs: [B, 3, width]) -> ([B, classes], [B, 3, classes]) =\n"
    "    scan(fn (h, x) {\n      z = f(x) + h\n      return z, tanh(z)\n"
    "    }, h, over: xs, axis: 1, reverse: true)\n",
};
static const char *const losses[] = {
    "cross_entropy(z, y)", "sum(z * z, axis: 1)", "cross_entropy(z, y) weight(y > 1)",
    "cross_entropy(z, y)\n  loss b = sum(z * z, axis: 1) weight(y > 2)"};
static const char *const optimizers[] = {
    "sgd(lr: 0.1)", "sgd(lr: linear(0.1, to: 0), momentum: 0.9, weight_decay: 0.01)",
    "adamw(lr: 0.01, weight_decay: 0.1)", "adam(lr: 0.01)"};
static const char *const precisions[] = {"f32",
                                         "bf16",
                                         "f16 scale(dynamic)",
                                         "fp8(current)",
                                         "fp8(delayed, history: 3)",
                                         "fp8 scale(2^8)",
                                         "fp8(block)",
                                         "mx8 scale(2^4)"};

typedef struct Line {
  int op, a, b, width; /* a, b: 0 is x, i + 1 is line i */
} Line;

typedef struct Random {
  int lines, width, classes, batch, times, loss, optimizer, precision, infer;
  bool clip;
  Line line[MOST_LINES];
} Random;

/* ---- making one ------------------------------------------------------------------------------ */

static uint32_t next(uint64_t *state, uint32_t n) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(*state >> 33) % n;
}

#define COUNT(array) (uint32_t)(sizeof(array) / sizeof *(array))

static int width_of(const Random *r, int value) {
  return value ? r->line[value - 1].width : r->width;
}

static int partner(const Random *r, uint64_t *s, int values, int a) {
  int b = (int)next(s, (uint32_t)values);
  return width_of(r, b) == width_of(r, a) ? b : a;
}

static void add_line(Random *r, uint64_t *s) {
  static const int widths[] = {1, 4, 7, 8, 17, 32};
  int values = r->lines + 1, a = (int)next(s, (uint32_t)values), op = (int)next(s, COUNT(ops));
  Line l = {op, a, partner(r, s, values, a), width_of(r, a)};
  if (ops[op].traits & (MATRIX | TURNED)) l.width = widths[next(s, COUNT(widths))];
  int traits = ops[op].traits;
  if ((traits & EVEN && l.width % 2) || (traits & DOUBLE && 2 * l.width > MOST_WIDTH)) return;
  if ((traits & HALF) == HALF) l.width /= 2;
  if (traits & DOUBLE) l.width *= 2;
  if ((traits & FOUR) == FOUR) l.width = 4;
  r->line[r->lines++] = l;
}

static Random make(uint64_t seed) {
  uint64_t s = hash_bytes(&seed, sizeof seed, 1);
  Random r = {.width = 4 + (int)next(&s, 13), .classes = 5 + (int)next(&s, 6)};
  r.batch = 1 + (int)next(&s, 9);
  r.times = next(&s, 3) ? 1 : 2 + (int)next(&s, 3);
  r.loss = (int)next(&s, COUNT(losses));
  r.optimizer = (int)next(&s, COUNT(optimizers));
  r.precision = (int)next(&s, COUNT(precisions));
  r.infer = (int)next(&s, COUNT(infer));
  r.clip = next(&s, 2);
  int wanted = 1 + (int)next(&s, MOST_LINES);
  for (int i = 0; i < wanted; i++) add_line(&r, &s);
  return r;
}

/* ---- its text -------------------------------------------------------------------------------- */

static bool is_read(const Random *r, int value) {
  for (int i = 0; i < r->lines; i++) {
    bool b = strstr(ops[r->line[i].op].form, "%b");
    if (r->line[i].a == value || (b && r->line[i].b == value)) return true;
  }
  return false;
}

static void put_value(Text *t, int value) {
  if (value) text_printf(t, "v%d", value);
  else text_add(t, "x");
}

static void put_line(Text *t, const Random *r, int i) {
  Line l = r->line[i];
  text_printf(t, "    v%d = ", i + 1);
  for (const char *c = ops[l.op].form; *c; c++) {
    if (*c != '%') {
      text_add_n(t, c, 1);
      continue;
    }
    c++;
    if (*c == 'a') put_value(t, l.a);
    if (*c == 'b') put_value(t, l.b);
    if (*c == 'p') text_printf(t, "p%d", i + 1);
    if (*c == 'h') text_printf(t, "%d", width_of(r, l.a) / 2);
  }
  text_add(t, "\n");
}

static void put_params(Text *t, const Random *r) {
  for (int i = 0; i < r->lines; i++) {
    Line l = r->line[i];
    int in = width_of(r, l.a), traits = ops[l.op].traits;
    if (traits & VECTOR) text_printf(t, "  p%d: param[%d] = normal(0, 0.5)\n", i + 1, in);
    if (traits & MATRIX)
      text_printf(t, "  p%d: param[%d, %d] = normal(0, 0.5)\n", i + 1, in, l.width);
    if (traits & TURNED)
      text_printf(t, "  p%d: param[%d, %d] = normal(0, 0.5)\n", i + 1, l.width, in);
  }
  for (int v = 0; v <= r->lines; v++)
    if (!is_read(r, v))
      text_printf(t, "  q%d: param[%d, classes] = normal(0, 0.5)\n", v, width_of(r, v));
}

static void put_result(Text *t, const Random *r) {
  const char *between = "    return ";
  for (int v = 0; v <= r->lines; v++) {
    if (is_read(r, v)) continue;
    text_add(t, between);
    put_value(t, v);
    text_printf(t, " @ q%d", v);
    between = " + ";
  }
  text_add(t, "\n");
}

static char *text_of(Arena *a, const Random *r) {
  Text t = {.arena = a};
  text_printf(&t, "version 1\nconfig width = %d, classes = %d\nmodel M {\n", r->width, r->classes);
  put_params(&t, r);
  text_add(&t, "  fn f [B](x: [B, width]) -> [B, classes] {\n");
  for (int i = 0; i < r->lines; i++) put_line(&t, r, i);
  put_result(&t, r);
  text_printf(&t, "  }\n}\ntrain M {\n  batch B = %d\n  data { x: f32[B, width]; y: u8[B] }\n",
              r->batch);
  text_add(&t, "  steps 9\n");
  if (r->times > 1) text_printf(&t, "  accumulate %d\n", r->times);
  text_printf(&t, "  z = f(x)\n  loss %s\n  metric hit = argmax(z) == y\n  optimizer %s\n",
              losses[r->loss], optimizers[r->optimizer]);
  if (r->clip) text_add(&t, "  clip 1.0\n");
  text_printf(&t, "  precision %s\n}\n", precisions[r->precision]);
  if (*infer[r->infer]) text_printf(&t, "infer M {\n  batch B = 3\n%s}\n", infer[r->infer]);
  return t.at;
}

/* ---- running it ------------------------------------------------------------------------------ */

enum { GOOD, REFUSED = 3, WRONG = 4 };

static int run_here(const Random *r) {
  static const Build builds[] = {{NULL, 0, 1, false}, {NULL, 3, 1, true}};
  Checks c = {0};
  Fixture f = {0};
  f.strings.arena = &f.arena;
  diag_init(&f.diag, &f.arena, stderr);
  const char *text = text_of(&f.arena, r);
  uint32_t source = diag_source(&f.diag, "random.mp", text, strlen(text));
  Ast *ast = frontend_parse(&f.arena, &f.strings, &f.diag, source);
  FrontendOptions o = {.name = "random", .source = "random.mp"};
  f.g = ast ? frontend_compile(&f.arena, &f.strings, &f.diag, ast, &o) : NULL;
  if (!f.g) return REFUSED;
  fixture_passes(&f);
  fixture_run(&c, &f, builds, 2);
  fixture_free(&f);
  return c.failed ? WRONG : GOOD;
}

/* The exit status, or minus the signal.  quiet: of a program that is known to fail. */
static int run(const Random *r, bool quiet) {
  fflush(NULL);
  pid_t child = fork();
  if (!child) {
    if (quiet && (!freopen("/dev/null", "w", stderr) || !freopen("/dev/null", "w", stdout)))
      exit(2);
    exit(run_here(r));
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) < 0) return 1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* ---- making it smaller ----------------------------------------------------------------------- */

/* Without line i; who read it reads its operand, if that is as wide.  False: it cannot go. */
static bool without(Random *r, int i) {
  int gone = i + 1, instead = r->line[i].a;
  if (is_read(r, gone) && width_of(r, instead) != r->line[i].width) return false;
  for (int k = i + 1; k < r->lines; k++) {
    int *of[] = {&r->line[k].a, &r->line[k].b};
    for (int j = 0; j < 2; j++)
      if (*of[j] == gone) *of[j] = instead;
      else if (*of[j] > gone) --*of[j];
    if (width_of(r, r->line[k].b) != width_of(r, r->line[k].a)) r->line[k].b = r->line[k].a;
  }
  r->lines--;
  memmove(&r->line[i], &r->line[i + 1], (size_t)(r->lines - i) * sizeof *r->line);
  return true;
}

static bool still(Random *best, Random tried, int status) {
  if (!memcmp(best, &tried, sizeof tried) || run(&tried, true) != status) return false;
  *best = tried;
  return true;
}

static bool shrink_settings(Random *best, int status) {
  bool changed = false;
  Random r = *best;
  int *setting[] = {&r.infer, &r.loss, &r.optimizer, &r.precision};
  for (size_t i = 0; i < sizeof setting / sizeof *setting; i++) {
    r = *best;
    *setting[i] = 0;
    changed |= still(best, r, status);
  }
  r = *best, r.times = 1, changed |= still(best, r, status);
  r = *best, r.batch = r.batch > 1 ? r.batch / 2 : 1, changed |= still(best, r, status);
  r = *best, r.clip = false, changed |= still(best, r, status);
  return changed;
}

static Random shrink(Random best, int status) {
  for (bool changed = true; changed;) {
    changed = shrink_settings(&best, status);
    for (int i = best.lines; i-- > 0;) {
      Random r = best;
      changed |= without(&r, i) && still(&best, r, status);
    }
  }
  return best;
}

static bool test(uint64_t seed, bool show) {
  Arena a = {0};
  Random r = make(seed);
  if (show) printf("// seed %llu\n%s\n", (unsigned long long)seed, text_of(&a, &r));
  int status = run(&r, false);
  if (status != GOOD) {
    r = shrink(r, status);
    printf("FAILED: seed %llu, status %d; made smaller:\n%s\n", (unsigned long long)seed, status,
           text_of(&a, &r));
  }
  arena_free(&a);
  return status == GOOD;
}

int main(int argc, char **argv) {
  uint64_t count = 70, first = 1, failed = 0;
  bool show = false;
  const char *more = getenv("MPCC_LONG");
  if (more && !strcmp(more, "1")) count = 10000;
  for (int i = 1; i < argc; i++) {
    if (!strncmp(argv[i], "--count=", 8)) count = strtoull(argv[i] + 8, NULL, 10);
    else if (!strncmp(argv[i], "--seed=", 7)) first = strtoull(argv[i] + 7, NULL, 10);
    else if (!strcmp(argv[i], "--show")) show = true;
    else return 2;
  }
  for (uint64_t i = 0; i < count && failed < 5; i++) failed += !test(first + i, show);
  printf("%llu random programs, %llu failed\n", (unsigned long long)count,
         (unsigned long long)failed);
  return failed != 0;
}
