/* text.c: one-sentence errors, growing text, checked sizes, and "did you mean".
 *
 * mp_text never fails in the middle: memory that runs out sets `failed`, later calls do nothing,
 * and the owner looks once before it uses the text.
 */
#include "runtime/rt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int mp_fail(mp_error *err, int status, const char *fmt, ...) {
  if (!err) return status;
  va_list args;
  va_start(args, fmt);
  vsnprintf(err->text, sizeof err->text, fmt, args);
  va_end(args);
  return status;
}

static bool text_room(mp_text *t, size_t more) {
  if (t->len + more < t->cap) return true;
  size_t cap = (t->len + more + 1) * 2;
  char *at = realloc(t->at, cap);
  if (!at) {
    t->failed = true;
    return false;
  }
  t->at = at;
  t->cap = cap;
  return true;
}

void mp_text_add(mp_text *t, const char *fmt, ...) {
  if (t->failed) return;
  va_list args, again;
  va_start(args, fmt);
  va_copy(again, args);
  int n = vsnprintf(NULL, 0, fmt, args);
  va_end(args);
  if (n < 0) t->failed = true;
  else if (text_room(t, (size_t)n)) {
    vsnprintf(t->at + t->len, (size_t)n + 1, fmt, again);
    t->len += (size_t)n;
  }
  va_end(again);
}

void mp_text_bytes(mp_text *t, const void *bytes, size_t n) {
  if (t->failed || !text_room(t, n)) return;
  memcpy(t->at + t->len, bytes, n);
  t->len += n;
  t->at[t->len] = 0;
}

void mp_text_free(mp_text *t) {
  free(t->at);
  *t = (mp_text){0};
}

bool mp_mul(uint64_t a, uint64_t b, uint64_t *out) {
  if (b && a > UINT64_MAX / b) return false;
  *out = a * b;
  return true;
}

bool mp_add(uint64_t a, uint64_t b, uint64_t *out) {
  if (a > UINT64_MAX - b) return false;
  *out = a + b;
  return true;
}

/* ---- near names: Levenshtein's distance, one row at a time ---- */

enum { NEAR_MAX = 63 };

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

static size_t edit_distance(const char *a, const char *b) {
  size_t n = strlen(a), m = strlen(b), row[NEAR_MAX + 1];
  if (n > NEAR_MAX || m > NEAR_MAX) return SIZE_MAX;
  for (size_t j = 0; j <= m; j++) row[j] = j;
  for (size_t i = 1; i <= n; i++) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= m; j++) {
      size_t above = row[j];
      row[j] = smaller(smaller(above, row[j - 1]) + 1, diagonal + (a[i - 1] != b[j - 1]));
      diagonal = above;
    }
  }
  return row[m];
}

mp_near mp_near_to(const char *name) { return (mp_near){name, NULL, strlen(name) / 3 + 2}; }

void mp_near_try(mp_near *n, const char *candidate) {
  size_t d = edit_distance(n->name, candidate);
  if (d >= n->distance) return;
  n->distance = d;
  n->best = candidate;
}

const char *mp_near_text(const mp_near *n, char *out, size_t size) {
  if (n->best) snprintf(out, size, ", did you mean '%s'?", n->best);
  else out[0] = 0;
  return out;
}
