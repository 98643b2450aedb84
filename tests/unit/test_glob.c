/* test_glob.c: the patterns of paths of the compiler (frontend/glob.c) and those of the runtime
 * (runtime/glob.c) are two programs, since neither room includes the other, and must be one
 * language: a model's `load` is checked by the one and carried out by the other.
 *
 * Random patterns over all that has a meaning in one, on random paths, with few letters, so that
 * many match.  Patterns that the compiler refuses are skipped: they reach no runtime.
 */
#include "frontend/sema.h"
#include "runtime/rt.h"

#include <string.h>

enum { PATTERNS = 20000, PATHS = 8 };

typedef struct Random {
  uint64_t x;
} Random;

static uint32_t draw(Random *r, uint32_t n) { /* 0 … n-1; Knuth's MMIX constants */
  r->x = r->x * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(r->x >> 33) % n;
}

static void random_pattern(Random *r, char *out) {
  static const char *const piece[] = {"a",   "b", ".", "*", "?",  "**",
                                      "**.", "{", "}", ",", "a.", ".b"};
  static const char *const braces[] = {"{a,b}", "{*,a.}", "{,**}", "{{a,?}.,b}"};
  *out = 0;
  for (uint32_t n = 1 + draw(r, 6); n; n--)
    strcat(out, draw(r, 4) ? piece[draw(r, sizeof piece / sizeof *piece)] : braces[draw(r, 4)]);
}

static void random_path(Random *r, char *out) {
  uint32_t segments = 1 + draw(r, 4);
  for (uint32_t i = 0; i < segments; i++) {
    if (i) *out++ = '.';
    for (uint32_t n = 1 + draw(r, 2); n; n--) *out++ = draw(r, 2) ? 'a' : 'b';
  }
  *out = 0;
}

int main(void) {
  Random r = {7};
  uint32_t matched = 0, refused = 0, compared = 0, differ = 0;
  for (uint32_t i = 0; i < PATTERNS; i++) {
    Arena arena = {0};
    Diag diag = {.arena = &arena};
    Sema *s = NEW(&arena, Sema);
    char pattern[128], path[64];
    Glob glob;
    s->arena = &arena;
    s->diag = &diag;
    random_pattern(&r, pattern);
    bool sound = glob_read(s, pattern, (Loc){0}, &glob);
    refused += !sound;
    for (int k = 0; sound && k < PATHS; k++, compared++) {
      mp_glob_parts parts;
      random_path(&r, path);
      bool ours = glob_matches(&glob, path), theirs = mp_glob_match(pattern, path, &parts);
      matched += ours;
      if (ours != theirs && differ++ < 10)
        fprintf(stderr, "\"%s\" on %s: compiler %d, runtime %d\n", pattern, path, ours, theirs);
    }
    arena_free(&arena);
  }
  printf("%u pairs, %u match, %u differ; %u patterns refused\n", compared, matched, differ,
         refused);
  bool telling = matched > compared / 20 && matched < compared / 2; /* both answers are asked for */
  return differ || !telling;
}
