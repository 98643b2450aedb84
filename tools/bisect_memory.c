/* bisect_memory.c: what programs gave that were run: a key of a program's bytes and its arguments,
 * and the loss.  With --trials=FILE, a line of hexadecimal digits each, written as soon as it is
 * known; the loss as its bits, so that a run that goes on decides as the first one did. */
#include "tools/bisect.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static bool failed(const char *path) {
  fprintf(stderr, "mpcc --bisect-precision: cannot use %s: %s\n", path, strerror(errno));
  return false;
}

bool memory_open(Bisect *b) {
  const char *path = b->t.o.trials;
  FILE *f = path ? fopen(path, "a+") : NULL;
  Remembered r;
  uint64_t bits;
  if (!path) return true;
  if (!f) return failed(path);
  rewind(f);
  while (fscanf(f, "%" SCNx64 " %" SCNx64, &r.key, &bits) == 2) {
    memcpy(&r.loss, &bits, sizeof bits);
    vec_push(b->t.arena, &b->memory, r);
  }
  bool whole = feof(f);
  fclose(f);
  if (!whole) fprintf(stderr, "mpcc --bisect-precision: %s is not a file of --trials\n", path);
  return whole;
}

uint64_t memory_key(const Bisect *b, const char *program) {
  Arena scratch = {0};
  const char *why;
  size_t size = 0;
  const char *bytes = read_file(&scratch, program, &size, &why);
  uint64_t key = hash_bytes(bytes ? bytes : "", size, 0);
  for (uint32_t i = 0; i < b->t.args.len; i++)
    key = hash_bytes(b->t.args.at[i], strlen(b->t.args.at[i]) + 1, key);
  arena_free(&scratch);
  return key;
}

bool memory_find(const Bisect *b, uint64_t key, double *loss) {
  for (uint32_t i = 0; i < b->memory.len; i++)
    if (b->memory.at[i].key == key) return *loss = b->memory.at[i].loss, true;
  return false;
}

int memory_add(Bisect *b, uint64_t key, double loss) {
  const char *path = b->t.o.trials;
  vec_push(b->t.arena, &b->memory, ((Remembered){key, loss}));
  FILE *f = path ? fopen(path, "a") : NULL;
  uint64_t bits;
  memcpy(&bits, &loss, sizeof bits);
  if (!path) return 0;
  bool ok = f && fprintf(f, "%016" PRIx64 " %016" PRIx64 "\n", key, bits) > 0;
  if (f) ok = !fclose(f) && ok;
  return !ok && !failed(path);
}
