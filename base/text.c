/* text.c: growing text, interned strings, nearest names, whole files.
 *
 * A Text grows in an arena and always ends with a zero.  Of interned strings there is one copy, so
 * equal strings have equal addresses and may be compared as such.  nearest_name is what "did you
 * mean" asks, with an edit distance that a name's length bounds. */
#include "base/base.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void text_room(Text *t, size_t n) {
  if (t->len + n < t->cap) return;
  size_t cap = t->cap ? t->cap : 64;
  while (cap <= t->len + n) cap *= 2;
  char *at = arena_alloc(t->arena, cap);
  if (t->len) memcpy(at, t->at, t->len);
  t->at = at;
  t->cap = cap;
}

void text_add_n(Text *t, const char *s, size_t n) {
  text_room(t, n);
  if (n) memcpy(t->at + t->len, s, n);
  t->len += n;
  t->at[t->len] = 0;
}

void text_add(Text *t, const char *s) { text_add_n(t, s, strlen(s)); }

void text_vprintf(Text *t, const char *fmt, va_list ap) {
  va_list again;
  va_copy(again, ap);
  int n = vsnprintf(NULL, 0, fmt, ap);
  if (n > 0) {
    text_room(t, (size_t)n);
    vsnprintf(t->at + t->len, (size_t)n + 1, fmt, again);
    t->len += (size_t)n;
  }
  va_end(again);
}

void text_printf(Text *t, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  text_vprintf(t, fmt, ap);
  va_end(ap);
}

void text_quoted(Text *t, const char *s) {
  text_add(t, "\"");
  for (; *s; s++) {
    unsigned char c = (unsigned char)*s;
    if (c == '"' || c == '\\') text_printf(t, "\\%c", c);
    else if (c == '\n') text_add(t, "\\n");
    else if (c < 32 || c == 127) text_printf(t, "\\x%02x", c);
    else text_add_n(t, s, 1);
  }
  text_add(t, "\"");
}

void text_json(Text *t, const char *s) {
  text_add(t, "\"");
  for (; *s; s++) {
    unsigned char c = (unsigned char)*s;
    if (c == '"' || c == '\\') text_printf(t, "\\%c", c);
    else if (c < 32) text_printf(t, "\\u%04x", c);
    else text_add_n(t, s, 1);
  }
  text_add(t, "\"");
}

void text_json_field(Text *t, const char *key, const char *s) {
  text_json(t, key);
  text_add(t, ":");
  text_json(t, s);
  text_add(t, ",");
}

void text_double(Text *t, double v) {
  char s[40];
  for (int digits = 1; digits <= 17; digits++) {
    snprintf(s, sizeof s, "%.*g", digits, v);
    if (strtod(s, NULL) == v || v != v) break;
  }
  text_add(t, s);
}

uint64_t hash_bytes(const void *p, size_t n, uint64_t seed) {
  uint64_t h = seed ^ 0xcbf29ce484222325u;
  for (const unsigned char *b = p; n--; b++) h = (h ^ *b) * 0x100000001b3u;
  return h;
}

static void strings_grow(Strings *s) {
  const char **old = s->slot;
  uint32_t cap = s->cap;
  s->cap = cap ? cap * 2 : 256;
  s->slot = NEW_ARRAY(s->arena, const char *, s->cap);
  for (uint32_t i = 0; i < cap; i++) {
    if (!old[i]) continue;
    uint32_t k = (uint32_t)hash_bytes(old[i], strlen(old[i]), 0);
    while (s->slot[k & (s->cap - 1)]) k++;
    s->slot[k & (s->cap - 1)] = old[i];
  }
}

const char *intern(Strings *s, const char *text, size_t n) {
  if (s->count * 2 >= s->cap) strings_grow(s);
  uint32_t k = (uint32_t)hash_bytes(text, n, 0);
  for (const char *c; (c = s->slot[k & (s->cap - 1)]); k++)
    if (!strncmp(c, text, n) && !c[n]) return c;
  s->count++;
  return s->slot[k & (s->cap - 1)] = arena_text(s->arena, text, n);
}

/* Edit distance with transpositions, blind to case; names beyond MAX_NAME are never near. */
enum { MAX_NAME = 63 };

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; }

/* ---- names ----------------------------------------------------------------------------------- */

struct NameSlot {
  const char *name; /* NULL: free */
  uint32_t kind, number;
};

/* Where it stands, or where it would. */
static struct NameSlot *name_slot(const NameTable *n, uint32_t kind, const char *name) {
  uint32_t k = (uint32_t)hash_bytes(name, strlen(name), kind);
  struct NameSlot *s;
  while ((s = &n->slot[k & (n->cap - 1)])->name && (s->kind != kind || strcmp(s->name, name))) k++;
  return s;
}

static void names_grow(NameTable *n) {
  NameTable old = *n;
  n->cap = old.cap ? old.cap * 2 : 64;
  n->slot = NEW_ARRAY(n->arena, struct NameSlot, n->cap);
  for (uint32_t i = 0; i < old.cap; i++)
    if (old.slot[i].name) *name_slot(n, old.slot[i].kind, old.slot[i].name) = old.slot[i];
}

bool names_add(NameTable *n, uint32_t kind, const char *name, uint32_t number) {
  if (n->count * 2 >= n->cap) names_grow(n);
  struct NameSlot *s = name_slot(n, kind, name);
  if (s->name) return false;
  *s = (struct NameSlot){name, kind, number};
  n->count++;
  return true;
}

uint32_t names_find(const NameTable *n, uint32_t kind, const char *name) {
  return n->cap && name_slot(n, kind, name)->name ? name_slot(n, kind, name)->number : NO_NAME;
}

/* ---- near names ------------------------------------------------------------------------------ */

static int edit_distance(const char *a, size_t n, const char *b, size_t m) {
  int row[3][MAX_NAME + 1];
  for (size_t j = 0; j <= m; j++) row[0][j] = (int)j;
  for (size_t i = 1; i <= n; i++) {
    int *cur = row[i % 3], *up = row[(i + 2) % 3], *up2 = row[(i + 1) % 3];
    cur[0] = (int)i;
    for (size_t j = 1; j <= m; j++) {
      int best = up[j - 1] + (lower(a[i - 1]) != lower(b[j - 1]));
      if (up[j] + 1 < best) best = up[j] + 1;
      if (cur[j - 1] + 1 < best) best = cur[j - 1] + 1;
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && up2[j - 2] + 1 < best)
        best = up2[j - 2] + 1;
      cur[j] = best;
    }
  }
  return row[n % 3][m];
}

const char *nearest_name(const char *name, const char *const *names, size_t n) {
  size_t len = strlen(name);
  const char *found = NULL;
  int best = len < 3 ? 1 : len < 6 ? 2 : 3;
  for (size_t i = 0; len <= MAX_NAME && i < n; i++) {
    size_t m = strlen(names[i]);
    if (m > MAX_NAME) continue;
    int d = edit_distance(name, len, names[i], m);
    if (d > best || (d == best && found) || d >= (int)m) continue;
    best = d;
    found = names[i];
  }
  return found;
}

const char *path_base(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

char *read_file(Arena *a, const char *path, size_t *size, const char **why) {
  FILE *f = strcmp(path, "-") ? fopen(path, "rb") : stdin;
  if (!f) {
    *why = strerror(errno);
    return NULL;
  }
  Text t = {.arena = a};
  char part[1 << 14];
  for (size_t n; (n = fread(part, 1, sizeof part, f)) > 0;) text_add_n(&t, part, n);
  int bad = ferror(f) ? errno : 0;
  if (f != stdin) fclose(f);
  if (bad) {
    *why = strerror(bad);
    return NULL;
  }
  text_add_n(&t, "", 0);
  *size = t.len;
  return t.at;
}
