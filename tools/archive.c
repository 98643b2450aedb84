/* archive.c: -o model.a: an ar archive that holds the model's object and the whole runtime, so that
 * linking a model takes this one file (and -lz -lm -pthread).  Made without a linker or ar: the
 * members of libmpcc_rt.a are copied as they are, the symbol table in front is extended by the
 * model's one symbol.
 *
 * The format is System V's, as GNU ld reads it: "!<arch>\n", members with headers of 60 characters,
 * first "/" (big-endian: count, an offset of a member for each symbol, the names) and "//" (long
 * names).
 */
#include "tools/tools.h"

#include <stdlib.h>
#include <string.h>

enum { MAGIC = 8, HEADER = 60 };

typedef struct Member {
  const char *header; /* HEADER characters, then the contents */
  size_t size;        /* of the contents */
} Member;

static uint32_t big_endian(const char *s) {
  const unsigned char *b = (const unsigned char *)s;
  return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static void add_big_endian(Text *t, uint32_t v) {
  char b[4] = {(char)(v >> 24), (char)(v >> 16), (char)(v >> 8), (char)v};
  text_add_n(t, b, 4);
}

/* Time, owner and mode are fixed: the same bytes each time. */
static void add_header(Text *t, const char *name, size_t size) {
  text_printf(t, "%-16s%-12d%-6d%-6d%-8s%-10zu`\n", name, 0, 0, 0, "100644", size);
}

static void add_member(Text *t, const char *name, const char *bytes, size_t size) {
  add_header(t, name, size);
  text_add_n(t, bytes, size);
  if (size % 2) text_add(t, "\n");
}

/* The next member at *at, which moves behind it; false at the end or in a damaged file. */
static bool next_member(const char *text, size_t size, size_t *at, Member *m) {
  if (*at + HEADER > size) return false;
  m->header = text + *at;
  m->size = strtoul(m->header + 48, NULL, 10);
  *at += HEADER + m->size + m->size % 2;
  return *at <= size;
}

static bool is_named(const Member *m, const char *name) {
  return !strncmp(m->header, name, strlen(name)) && m->header[strlen(name)] == ' ';
}

bool archive_make(Arena *arena, const char *runtime, size_t runtime_size, const CpuCode *object,
                  const char *symbol, Text *out) {
  Member table, names = {0}, m;
  size_t at = MAGIC, begin;
  if (runtime_size < MAGIC || memcmp(runtime, "!<arch>\n", MAGIC)) return false;
  if (!next_member(runtime, runtime_size, &at, &table) || !is_named(&table, "/")) return false;
  for (begin = at; next_member(runtime, runtime_size, &at, &m) && is_named(&m, "//"); begin = at)
    names = m;
  uint32_t count = big_endian(table.header + HEADER);
  const char *offsets = table.header + HEADER + 4, *strings = offsets + 4 * (size_t)count;
  size_t strings_size = table.size - 4 - 4 * (size_t)count;

  size_t index_size = 8 + 4 * (size_t)count + strlen(symbol) + 1 + strings_size;
  size_t names_size = names.header ? HEADER + names.size + names.size % 2 : 0;
  size_t first = MAGIC + HEADER + index_size + index_size % 2 + names_size;
  size_t moved = first + HEADER + object->size + object->size % 2 - begin; /* of the runtime's */

  Text index = {.arena = arena};
  add_big_endian(&index, count + 1);
  add_big_endian(&index, (uint32_t)first);
  for (uint32_t i = 0; i < count; i++)
    add_big_endian(&index, (uint32_t)(big_endian(offsets + 4 * (size_t)i) + moved));
  text_add_n(&index, symbol, strlen(symbol) + 1);
  text_add_n(&index, strings, strings_size);
  text_add(out, "!<arch>\n");
  add_member(out, "/", index.at, index.len);
  text_add_n(out, names.header ? names.header : "", names_size);
  add_member(out, "model.o/", object->at, object->size);
  text_add_n(out, runtime + begin, runtime_size - begin);
  return true;
}
