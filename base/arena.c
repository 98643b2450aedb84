/* arena.c: memory by lifetime: blocks handed out from the front, zeroed, freed all at once.
 *
 * Each block is as large as all before it, up to a limit, so that a growing graph costs a
 * logarithmic number of mallocs.  Nothing is freed alone, and nothing handed out ever moves. Memory
 * that runs out ends the compiler: what it could still say is of no use, and no caller has to
 * check. */
#include "base/base.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGN = 16, FIRST_BLOCK = 1 << 16, LARGEST_BLOCK = 1 << 24 };

struct ArenaBlock {
  ArenaBlock *next;
  size_t at, size; /* of the bytes behind the header */
};

#define HEADER ((sizeof(ArenaBlock) + ALIGN - 1) / ALIGN * ALIGN)

static void out_of_memory(size_t bytes) {
  fprintf(stderr, "mpcc: out of memory (%zu bytes asked for)\n", bytes);
  exit(70);
}

static void add_block(Arena *a, size_t least) {
  size_t size = a->head ? a->head->size * 2 : FIRST_BLOCK;
  if (size > LARGEST_BLOCK) size = LARGEST_BLOCK;
  if (size < least) size = least;
  ArenaBlock *b = calloc(1, HEADER + size);
  if (!b) out_of_memory(size);
  b->size = size;
  b->next = a->head;
  a->head = b;
}

void *arena_alloc(Arena *a, size_t bytes) {
  if (bytes > SIZE_MAX / 2) out_of_memory(bytes);
  bytes = (bytes + ALIGN - 1) / ALIGN * ALIGN;
  if (!a->head || a->head->size - a->head->at < bytes) add_block(a, bytes);
  char *p = (char *)a->head + HEADER + a->head->at;
  a->head->at += bytes;
  a->used += bytes;
  return p;
}

void *arena_array(Arena *a, size_t count, size_t size) {
  if (size && count > SIZE_MAX / 2 / size) out_of_memory(SIZE_MAX);
  return arena_alloc(a, count * size);
}

void *arena_copy(Arena *a, const void *p, size_t bytes) {
  return bytes ? memcpy(arena_alloc(a, bytes), p, bytes) : NULL;
}

char *arena_text(Arena *a, const char *s, size_t n) {
  char *t = arena_alloc(a, n + 1);
  if (n) memcpy(t, s, n);
  return t;
}

char *arena_printf(Arena *a, const char *fmt, ...) {
  Text t = {.arena = a};
  va_list ap;
  va_start(ap, fmt);
  text_vprintf(&t, fmt, ap);
  va_end(ap);
  return t.at ? t.at : arena_text(a, "", 0);
}

void arena_free(Arena *a) {
  for (ArenaBlock *b = a->head, *next; b; b = next) {
    next = b->next;
    free(b);
  }
  *a = (Arena){0};
}

void *vec_grow(Arena *a, void *at, uint32_t *cap, size_t size) {
  if (*cap > UINT32_MAX / 2) out_of_memory(SIZE_MAX);
  uint32_t old = *cap;
  *cap = old ? old * 2 : 8;
  void *p = arena_array(a, *cap, size);
  if (old) memcpy(p, at, old * size);
  return p;
}
