/* test_scaler.c: the loss scaler, model-checked.
 *
 * A configuration's step is built by the passes and evaluated once for each state and kind of step
 * that is met; so what it does is a finite automaton.  All sequences of steps up to a length are
 * walked through it, and behind each step S and both counters are compared with a model that looks
 * back over the steps so far instead of counting.  Two scalers of one program: each is a model of
 * its own, which sees only the steps that concern it.
 */
#include "tests/unit/pass_fixture.h"

enum { LENGTH = SANITIZED ? 8 : 12, MOST_STATES = 4096, SCALERS = 2 };

/* Kinds of steps.  MAIN, AUX, BOTH: whose gradients are not finite.  LOSS: skipped, though all
 * gradients are finite; NONE: no row has a weight. */
typedef enum Kind { CLEAN, MAIN, LOSS, NONE, AUX, BOTH, KINDS } Kind;

typedef struct Counters {
  double scale, clean, late;
} Counters;

typedef struct Scalers {
  Counters of[SCALERS];
} Scalers;

typedef struct Config {
  double growth, backoff, interval, hysteresis, init, floor, cap;
} Config;

/* ---- what the passes make of it -------------------------------------------------------------- */

typedef struct Automaton {
  PassFixture f;
  const Config *config;
  Scalers state[MOST_STATES];
  int next[MOST_STATES][KINDS]; /* -1: not evaluated yet */
  int states;
} Automaton;

static const char *const counter[SCALERS][3] = {{"scale", "clean", "hysteresis"},
                                                {"scale:aux", "clean:aux", "hysteresis:aux"}};

static const char *scale_text(Arena *a, const Config *c) {
  return arena_printf(a,
                      "scale dynamic init %.17g growth %.17g backoff %.17g interval %.17g "
                      "hysteresis %.17g floor %.17g cap %.17g",
                      c->init, c->growth, c->backoff, c->interval, c->hysteresis, c->floor, c->cap);
}

static const char *graph_text(Arena *a, const Config c[SCALERS]) {
  return arena_printf(
      a,
      "graph \"t\"\ntrain precision f32 %s\nloss \"aux\" %s\n"
      "state param \"p\" : f32[]\nstate param \"q\" : f32[]\n"
      "entry @step step (%%p: f32[] = state \"p\", %%q: f32[] = state \"q\", %%x: f32[] = input "
      "\"x\", %%y: f32[] = input \"y\", %%n: f32[] = input \"n\") {\n"
      "%%a = mul %%p, %%x : f32[]\n%%b = mul %%q, %%y : f32[]\n"
      "return loss \"main\" = %%a, weight \"main\" = %%n, loss \"aux\" = %%b, weight \"aux\" = "
      "%%n\n}\n"
      "entry @\"update:p\" update (%%p: f32[] = state \"p\", %%g: f32[] = grad \"p\") {\n"
      "%%r = sub %%p, %%g : f32[]\nreturn state \"p\" = %%r\n}\n"
      "entry @\"update:q\" update (%%p: f32[] = state \"q\", %%g: f32[] = grad \"q\") {\n"
      "%%r = sub %%p, %%g : f32[]\nreturn state \"q\" = %%r\n}\n",
      scale_text(a, &c[0]), scale_text(a, &c[1]));
}

static int find_state(Automaton *m, Scalers s) {
  int i = 0;
  while (i < m->states && memcmp(&m->state[i], &s, sizeof s)) i++;
  if (i == MOST_STATES) printf("FAILED: more than %d states\n", MOST_STATES), exit(1);
  if (i < m->states) return i;
  for (int k = 0; k < KINDS; k++) m->next[i][k] = -1;
  m->state[m->states++] = s;
  return i;
}

/* A loss is p · x: its gradient is x, so p alone makes it infinite. */
static void set_step(Eval *e, Kind kind) {
  eval_set_number(e, ARG_state, "p", kind == LOSS ? INFINITY : 1);
  eval_set_number(e, ARG_state, "q", 0);
  eval_set_number(e, ARG_input, "x", kind == MAIN || kind == BOTH ? INFINITY : 0.5);
  eval_set_number(e, ARG_input, "y", kind == AUX || kind == BOTH ? NAN : 0.5);
  eval_set_number(e, ARG_input, "n", kind == NONE ? 0 : 3);
}

static int step(Automaton *m, int from, Kind kind) {
  Eval *e = m->f.e;
  Scalers s = m->state[from];
  if (m->next[from][kind] >= 0) return m->next[from][kind];
  set_step(e, kind);
  for (int i = 0; i < SCALERS; i++) {
    eval_set_number(e, ARG_state, counter[i][0], s.of[i].scale);
    eval_set_number(e, ARG_state, counter[i][1], s.of[i].clean);
    eval_set_number(e, ARG_state, counter[i][2], s.of[i].late);
  }
  eval_run(e, 0, 1);
  for (int i = 0; i < SCALERS; i++)
    s.of[i] = (Counters){tensor_get(eval_result(e, RES_state, counter[i][0]), 0),
                         tensor_get(eval_result(e, RES_state, counter[i][1]), 0),
                         tensor_get(eval_result(e, RES_state, counter[i][2]), 0)};
  return m->next[from][kind] = find_state(m, s);
}

static bool start(Automaton *m, const Config c[SCALERS]) {
  static const char *const counters[] = {"step", "attempt", "skipped"};
  *m = (Automaton){.config = c};
  if (!fixture_start(&m->f, graph_text(&m->f.arena, c),
                     "grad, optimize, simplify, cse, dce, expand, simplify, cse, dce", EVAL_EXACT))
    return false;
  for (int i = 0; i < 3; i++) eval_set_number(m->f.e, ARG_state, counters[i], 0);
  Scalers s = {{{c[0].init, 0, 0}, {c[1].init, 0, 0}}};
  return find_state(m, s) == 0;
}

/* ---- the model ------------------------------------------------------------------------------- */

typedef enum Seen { GOOD, BAD, SILENT } Seen; /* what a step says to one scaler */

typedef struct Past {
  Seen seen[LENGTH];
  bool grew[LENGTH];
  double scale[LENGTH + 1]; /* before step i */
} Past;

static Seen seen_by(Kind kind, int scaler) {
  if (kind == CLEAN) return GOOD;
  return kind == BOTH || kind == (scaler ? AUX : MAIN) ? BAD : SILENT;
}

/* Good steps since the scale last grew or a step was bad; bad steps since one was good. */
static int good_in_a_row(const Past *p, int n) {
  int count = 0;
  for (int i = n; i-- > 0 && p->seen[i] != BAD && !p->grew[i];) count += p->seen[i] == GOOD;
  return count;
}

static int bad_in_a_row(const Past *p, int n) {
  int count = 0;
  for (int i = n; i-- > 0 && p->seen[i] != GOOD;) count += p->seen[i] == BAD;
  return count;
}

static void look(Past *p, int n, Seen seen, const Config *c) {
  double scale = p->scale[n];
  p->seen[n] = seen;
  p->grew[n] = false;
  p->grew[n] = seen == GOOD && good_in_a_row(p, n + 1) >= c->interval;
  if (p->grew[n]) scale = fmin(scale * c->growth, c->cap);
  if (seen == BAD && bad_in_a_row(p, n + 1) >= c->hysteresis)
    scale = fmax(scale * c->backoff, c->floor);
  p->scale[n + 1] = scale;
}

/* ---- all sequences --------------------------------------------------------------------------- */

typedef struct Walk {
  Automaton *m;
  Past past[SCALERS];
  Kind kinds[LENGTH];
  int letters, length;
  long steps;
} Walk;

static bool agrees(const Walk *w, int n, int state) {
  for (int i = 0; i < SCALERS; i++) {
    const Past *p = &w->past[i];
    Counters have = w->m->state[state].of[i];
    double late = fmin(bad_in_a_row(p, n), w->m->config[i].hysteresis);
    if (have.scale != p->scale[n] || have.clean != good_in_a_row(p, n) || have.late != late)
      return false;
  }
  return true;
}

static void describe(const Walk *w, int n, int state) {
  for (int i = 0; i < n; i++) putchar("cmlnab"[w->kinds[i]]);
  for (int i = 0; i < SCALERS; i++) {
    Counters have = w->m->state[state].of[i];
    printf(": %g %g %g, the model %g", have.scale, have.clean, have.late, w->past[i].scale[n]);
  }
  putchar('\n');
}

static bool walk(Walk *w, int n, int state) {
  if (n && !agrees(w, n, state)) return describe(w, n, state), false;
  if (n == w->length) return true;
  for (int kind = 0; kind < w->letters; kind++) {
    w->kinds[n] = (Kind)kind;
    for (int i = 0; i < SCALERS; i++)
      look(&w->past[i], n, seen_by((Kind)kind, i), &w->m->config[i]);
    w->steps++;
    if (!walk(w, n + 1, step(w->m, state, (Kind)kind))) return false;
  }
  return true;
}

/* letters: of the kinds, in their order. */
static long check(Tally *t, Automaton *m, const char *what, int letters, int length) {
  Walk w = {.m = m, .letters = letters, .length = length};
  for (int i = 0; i < SCALERS; i++) w.past[i].scale[0] = m->config[i].init;
  expect(t, walk(&w, 0, 0), "%s", what);
  return w.steps;
}

static const double growths[] = {2, 8}, backoffs[] = {0.5, 0.0625}, intervals[] = {1, 2, 3, 5};
static const double hystereses[] = {1, 2, 3},
                    bounds[][3] = {{8, 1, 64}, {4, 4, 4}, {0x1p15, 0x1p-62, 0x1p62}};

int main(void) {
  Tally t = {0};
  Automaton *m = malloc(sizeof *m);
  long steps = 0;
  int configs = 0;
  Config before = {2, 0.5, 2, 2, 0x1p10, 0x1p-10, 0x1p12};
  for (int i = 0; i < 2 * 2 * 4 * 3 * 3; i++, configs++) {
    const double *b = bounds[i / 48];
    Config c[] = {{growths[i % 2], backoffs[i / 2 % 2], intervals[i / 4 % 4],
                   hystereses[i / 16 % 3], b[0], b[1], b[2]},
                  before};
    before = c[0];
    if (!expect(&t, start(m, c), "the graph")) break;
    const char *what = scale_text(&m->f.arena, c);
    steps += check(&t, m, what, MAIN + 1, LENGTH); /* all finite and non-finite ones */
    steps += check(&t, m, what, NONE + 1, 6);
    steps += check(&t, m, what, KINDS, 5);
    if (i % 12 == 5) steps += check(&t, m, what, LOSS + 1, LENGTH);
    fixture_end(&m->f);
  }
  free(m);
  printf("%d configurations, %ld steps\n", configs, steps);
  return tally_end(&t);
}
