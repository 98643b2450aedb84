/* compare_match.c: which values of two programs are the same one, and where the two part.
 *
 * A value's name (passes/values.c) is the same under every precision but for the storage type at
 * its end.  The two part where a value differs by much more than what went into it did: `grown` is
 * its relative L2 over the largest of theirs, or over one rounding's, if that is more.  A sum of
 * squares that overflows, a difference of large numbers, a mean in eight bits stand out; errors
 * that are handed on do not. */
#include "tools/compare.h"

#include <stdlib.h>
#include <string.h>

const char *const phase_name[PHASES] = {"forward", "backward", "gradient", "weight"};

/* By how an element type's or a precision's name begins: how large a rounding is beside what it
 * rounds, at most.  Under fp8 that of bf16, in which all is stored that is shown. */
static double rounding_of(const char *word) {
  static const struct {
    const char *word;
    double unit;
  } units[] = {{"f32", 0x1p-24}, {"f16", 0x1p-11}};
  for (size_t i = 0; i < sizeof units / sizeof *units; i++)
    if (!strncmp(word, units[i].word, strlen(units[i].word))) return units[i].unit;
  return 0x1p-8;
}

/* ---- names ---- */

typedef struct Name { /* "forward net.0 matmul mlp.mp:9 #0 bf16" */
  const char *word[6];
  size_t stem; /* how long it is without the type */
} Name;

static Name split_name(Arena *a, const char *text) {
  Name n = {.stem = strlen(text)};
  const char *last = strrchr(text, ' ');
  if (last) n.stem = (size_t)(last - text);
  for (int i = 0; i < 6; i++) {
    size_t len = strcspn(text, " ");
    n.word[i] = arena_text(a, text, len);
    text += len + (text[len] == ' ');
  }
  return n;
}

static Phase phase_of(const char *word) {
  for (int i = 0; i < PHASES; i++)
    if (!strcmp(word, phase_name[i])) return (Phase)i;
  return PHASE_forward;
}

/* ---- matching ---- */

typedef struct Match {
  Comparison *c;
  const mp_file *t[SIDES];
  Name *name[SIDES];
  bool *met;        /* by tensor of the second side */
  double *relative; /* by tensor of the first side; what is alone stands for what went into it */
  const char **reads;
  double rounding;
} Match;

/* A program may hold a value in two types: the same one is better, any other will do. */
static const mp_st_tensor *find_other(Match *m, uint32_t i) {
  const mp_st *a = &m->t[0]->st, *b = &m->t[1]->st;
  uint32_t found = b->n_tensors;
  for (uint32_t k = 0; k < b->n_tensors; k++) {
    bool like = m->name[0][i].stem == m->name[1][k].stem &&
                !memcmp(a->tensors[i].name, b->tensors[k].name, m->name[0][i].stem);
    if (!like) continue;
    m->met[k] = true;
    bool same = !strcmp(a->tensors[i].name, b->tensors[k].name);
    if (same || found == b->n_tensors) found = k;
  }
  return found < b->n_tensors ? &b->tensors[found] : NULL;
}

static double largest_read(const Match *m, const char *reads) {
  double most = 0;
  for (char *end; *reads; reads = end) {
    unsigned long k = strtoul(reads, &end, 10);
    if (end == reads) break;
    if (k < m->t[0]->st.n_tensors && m->relative[k] > most) most = m->relative[k];
  }
  return most;
}

static void add_value(Match *m, uint32_t i) {
  const mp_st_tensor *x = &m->t[0]->st.tensors[i], *y = find_other(m, i);
  const Name *n = &m->name[0][i];
  Pair p = {.phase = phase_of(n->word[0]),
            .path = n->word[1],
            .op = n->word[2],
            .place = n->word[3],
            .number = n->word[4],
            .stored = {n->word[5]}};
  double read = largest_read(m, m->reads[i]);
  m->relative[i] = read; /* of what is alone */
  if (!y || !tensors_differ(m->t[1], y, m->t[0], x, &p.d)) {
    m->c->alone[0]++;
    return;
  }
  p.stored[1] = m->name[1][y - m->t[1]->st.tensors].word[5];
  m->relative[i] = p.d.relative;
  p.grown = p.d.relative / fmax(read, m->rounding);
  if (isnan(p.grown)) p.grown = 1; /* what is not finite was made of what is not */
  vec_push(m->c->arena, &m->c->pairs, p);
}

/* The lines of note `reads`, one a tensor. */
static const char **read_lines(Arena *a, const mp_file *t) {
  const char *text = mp_st_note_of(&t->st, "reads");
  const char **line = NEW_ARRAY(a, const char *, t->st.n_tensors + 1);
  for (uint32_t i = 0; i < t->st.n_tensors; i++) {
    size_t n = text ? strcspn(text, "\n") : 0;
    line[i] = arena_text(a, text ? text : "", n);
    if (text) text += n + (text[n] == '\n');
  }
  return line;
}

static void find_part(Comparison *c) {
  enum { MUCH = 32 }; /* roundings that add up, a relu that tips over, make less of it */
  for (int phase = 0; phase < PHASE_weight && !c->part; phase++) {
    double most = MUCH;
    for (uint32_t i = 0; i < c->pairs.len; i++) {
      const Pair *p = &c->pairs.at[i];
      if ((int)p->phase != phase || !(p->grown > most)) continue;
      most = p->grown;
      c->part = p;
    }
  }
}

static void sort_by_phase(Comparison *c) {
  VEC(Pair) sorted = {0};
  for (int phase = 0; phase < PHASES; phase++)
    for (uint32_t i = 0; i < c->pairs.len; i++)
      if ((int)c->pairs.at[i].phase == phase) vec_push(c->arena, &sorted, c->pairs.at[i]);
  memcpy(c->pairs.at, sorted.at, sorted.len * sizeof *sorted.at);
}

void compare_values(Comparison *c, const mp_file *x, const mp_file *y) {
  Match m = {.c = c, .t = {x, y}};
  for (int side = 0; side < SIDES; side++) {
    const mp_st *st = &m.t[side]->st;
    const char *word = mp_st_note_of(st, "precision");
    m.name[side] = NEW_ARRAY(c->arena, Name, st->n_tensors + 1);
    m.rounding = fmax(m.rounding, rounding_of(word ? word : ""));
    for (uint32_t i = 0; i < st->n_tensors; i++) {
      m.name[side][i] = split_name(c->arena, st->tensors[i].name);
      m.rounding = fmax(m.rounding, rounding_of(m.name[side][i].word[5]));
    }
  }
  m.met = NEW_ARRAY(c->arena, bool, y->st.n_tensors + 1);
  m.relative = NEW_ARRAY(c->arena, double, x->st.n_tensors + 1);
  m.reads = read_lines(c->arena, x);
  for (uint32_t i = 0; i < x->st.n_tensors; i++) add_value(&m, i);
  for (uint32_t k = 0; k < y->st.n_tensors; k++) c->alone[1] += !m.met[k];
  const char *step = mp_st_note_of(&x->st, "step");
  c->step = arena_printf(c->arena, "%s", step ? step : "?");
  sort_by_phase(c);
  find_part(c);
}

void compare_weights(Comparison *c, const mp_file *x, const mp_file *y) {
  for (uint32_t i = 0; i < x->st.n_tensors; i++) {
    const mp_st_tensor *a = &x->st.tensors[i], *b = mp_st_find(&y->st, a->name);
    Pair p = {.phase = PHASE_weight,
              .path = arena_printf(c->arena, "%s", a->name),
              .op = "-",
              .place = "-",
              .number = "#0"};
    if (!b || !tensors_differ(y, b, x, a, &p.d)) continue;
    p.stored[0] = arena_printf(c->arena, "%s", a->dtype);
    p.stored[1] = arena_printf(c->arena, "%s", b->dtype);
    vec_push(c->arena, &c->pairs, p);
  }
}
