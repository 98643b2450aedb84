/* formula.c: metrics of totals, in reverse Polish notation over f64: "$loss exp".
 *
 * Tokens by blanks: $NAME, a number, or an operation.  A formula whose text is wrong, or that names
 * what its entry does not measure, has no value there; the compiler writes none of the first kind.
 */
#include "runtime/rt.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_STACK = 64 };

typedef enum Op { ADD, SUB, MUL, DIV, POW, MIN, MAX, NEG, EXP, LOG, SQRT, OP_COUNT } Op;

static const struct {
  const char *name;
  int operands;
} ops[OP_COUNT] = {
    [ADD] = {"add", 2}, [SUB] = {"sub", 2}, [MUL] = {"mul", 2},   [DIV] = {"div", 2},
    [POW] = {"pow", 2}, [MIN] = {"min", 2}, [MAX] = {"max", 2},   [NEG] = {"neg", 1},
    [EXP] = {"exp", 1}, [LOG] = {"log", 1}, [SQRT] = {"sqrt", 1},
};

/* Unlike fmin and fmax these let a NaN through. */
static double smaller(double a, double b) { return a < b || isnan(a) ? a : b; }
static double larger(double a, double b) { return a > b || isnan(a) ? a : b; }

static double apply(Op op, double a, double b) {
  switch (op) {
  case ADD: return a + b;
  case SUB: return a - b;
  case MUL: return a * b;
  case DIV: return a / b;
  case POW: return pow(a, b);
  case MIN: return smaller(a, b);
  case MAX: return larger(a, b);
  case NEG: return -a;
  case EXP: return exp(a);
  case LOG: return log(a);
  case SQRT: return sqrt(a);
  default: return NAN;
  }
}

typedef struct Stack {
  double at[MAX_STACK];
  int len;
} Stack;

static bool push(Stack *s, double v) {
  if (s->len == MAX_STACK) return false;
  s->at[s->len++] = v;
  return true;
}

static bool operate(Stack *s, const char *word) {
  for (int op = 0; op < OP_COUNT; op++) {
    if (strcmp(word, ops[op].name)) continue;
    if (s->len < ops[op].operands) return false;
    double b = ops[op].operands == 2 ? s->at[--s->len] : 0, a = s->at[--s->len];
    return push(s, apply((Op)op, a, b));
  }
  return false;
}

static bool step(Stack *s, const char *word, mp_mean_fn *mean, void *user) {
  double v;
  char *end;
  if (*word == '$') return mean(user, word + 1, &v) && push(s, v);
  if (!strchr("0123456789.-", *word)) return operate(s, word);
  v = strtod(word, &end);
  return !*end && push(s, v);
}

bool mp_formula(const char *rpn, mp_mean_fn *mean, void *user, double *out) {
  Stack s = {.len = 0};
  for (const char *p = rpn; *(p += strspn(p, " "));) {
    char word[128];
    size_t n = strcspn(p, " ");
    if (n >= sizeof word) return false;
    memcpy(word, p, n);
    word[n] = 0;
    if (!step(&s, word, mean, user)) return false;
    p += n;
  }
  if (s.len != 1) return false;
  *out = s.at[0];
  return true;
}

const char *mp_formula_of(const mp_desc *d, const char *name) {
  for (uint32_t i = 0; i < d->n_formulas; i++)
    if (!strcmp(d->formulas[i].name, name)) return d->formulas[i].rpn;
  return NULL;
}
