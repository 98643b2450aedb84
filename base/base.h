/* base.h: arenas, vectors, text buffers, interned strings, diagnostics.  Knows no IR.
 *
 * Memory has lifetimes, not owners: every allocation belongs to an arena (session, graph, pass
 * scratch) and goes with it; nothing is freed alone.  Allocation never fails: a compiler without
 * memory says so and exits 70.  Allocated memory is zero.
 */
#ifndef BASE_H
#define BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* ---- arena.c ------------------------------------------------------------------------------ */

typedef struct ArenaBlock ArenaBlock;
typedef struct Arena {
  ArenaBlock *head;
  size_t used; /* bytes handed out */
} Arena;

void *arena_alloc(Arena *a, size_t bytes);               /* zeroed, aligned to 16 */
void *arena_array(Arena *a, size_t count, size_t size);  /* checked multiplication */
void *arena_copy(Arena *a, const void *p, size_t bytes); /* NULL for 0 bytes */
char *arena_text(Arena *a, const char *s, size_t n);     /* NUL-terminated copy */
char *arena_printf(Arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void arena_free(Arena *a); /* all of it; the arena is empty and usable afterwards */

#define NEW(arena, T) ((T *)arena_alloc((arena), sizeof(T)))
#define NEW_ARRAY(arena, T, n) ((T *)arena_array((arena), (size_t)(n), sizeof(T)))

/* ---- vectors: VEC(int) v = {0}; vec_push(arena, &v, 3); v.at[0]; v.len ---------------------- */

#define VEC(T)                                                                                     \
  struct {                                                                                         \
    T *at;                                                                                         \
    uint32_t len, cap;                                                                             \
  }

#define vec_push(arena, v, ...)                                                                    \
  do {                                                                                             \
    if ((v)->len == (v)->cap) (v)->at = vec_grow((arena), (v)->at, &(v)->cap, sizeof *(v)->at);    \
    (v)->at[(v)->len++] = (__VA_ARGS__);                                                           \
  } while (0)

void *vec_grow(Arena *a, void *at, uint32_t *cap, size_t size); /* a copy with room for more */

/* ---- text.c: growing text and interned strings ---------------------------------------------- */

typedef struct Text {
  Arena *arena;
  char *at; /* NUL-terminated once anything was written */
  size_t len, cap;
} Text;

void text_add(Text *t, const char *s);
void text_add_n(Text *t, const char *s, size_t n);
void text_printf(Text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void text_vprintf(Text *t, const char *fmt, va_list ap);
void text_quoted(Text *t, const char *s); /* "s" with \" \\ \n \xHH escapes */
void text_json(Text *t, const char *s);   /* "s" as a JSON string */
void text_json_field(Text *t, const char *key, const char *s); /* "key":"s", */
void text_double(Text *t, double v);      /* shortest of %.17g forms that reads back equal */

/* Interned strings: equal text, equal pointer. */
typedef struct Strings {
  Arena *arena;
  const char **slot;
  uint32_t count, cap;
} Strings;

const char *intern(Strings *s, const char *text, size_t n);
uint64_t hash_bytes(const void *p, size_t n, uint64_t seed); /* FNV-1a, 64 bits */

/* Numbers by kind and name, for what would else be looked up by walking a list once for each of its
 * members. */
typedef struct NameTable {
  Arena *arena;
  struct NameSlot *slot;
  uint32_t count, cap;
} NameTable;

#define NO_NAME UINT32_MAX
/* false: there is one already. */
bool names_add(NameTable *n, uint32_t kind, const char *name, uint32_t number);
uint32_t names_find(const NameTable *n, uint32_t kind, const char *name); /* or NO_NAME */

/* The entry of `names` nearest to `name` by edit distance, or NULL when none is near. */
const char *nearest_name(const char *name, const char *const *names, size_t n);

const char *path_base(const char *path); /* without folders: "mlp.mp" of examples/mlp.mp */

/* The whole file, NUL-terminated, or NULL with *why set (strerror text). */
char *read_file(Arena *a, const char *path, size_t *size, const char **why);

/* Files that are part of the program: cmake/Embed.cmake makes tables of them, ending with NULL. */
typedef struct EmbeddedFile {
  const char *name, *text; /* NUL-terminated */
  size_t size;
} EmbeddedFile;

/* ---- diag.c: what the user is told ---------------------------------------------------------- */

/* A place in a source.  line and col count from 1; line 0 means "nowhere known". */
typedef struct Loc {
  uint32_t source; /* index given by diag_source */
  uint32_t line, col;
  bool backward;      /* of what the gradient of what stands there computes */
  const char *module; /* path of the instance whose function it is, interned: "net.0"; or NULL */
} Loc;

bool same_place(Loc a, Loc b); /* of the same source */

typedef struct Source {
  const char *name; /* as the user wrote it */
  const char *text;
  size_t size;
  const uint32_t *line_start; /* offsets; lines + 1 of them */
  uint32_t lines;
  bool built_in; /* not a file of the user's: part of mpcc itself */
} Source;

typedef enum Warning {
#define WARNING(id, name, shown, meaning) WARN_##id,
#include "base/warnings.def"
  WARNINGS
} Warning;

typedef enum WarnLevel { WARN_OFF, WARN_SAY, WARN_ERROR } WarnLevel;

typedef enum Remark {
#define REMARK(id, meaning) REMARK_##id,
#include "base/remarks.def"
  REMARKS
} Remark;

typedef struct Diag {
  Arena *arena;
  FILE *out; /* NULL: count only */
  VEC(Source) sources;
  uint32_t errors, warnings;
  uint32_t limit;     /* stop printing after so many errors; 0: no limit */
  bool json;          /* an object a line instead of text with carets */
  bool color;         /* escape codes of terminals */
  bool werror;        /* warnings are errors */
  uint8_t level[WARNINGS]; /* WarnLevel of each */
  uint32_t remarks[2]; /* those wanted of what was done, of what was missed: bits by Remark */
  VEC(uint64_t) said; /* hashes of places and messages */
  bool repeated;      /* the last error or warning was, so its notes are not shown either */
} Diag;

void diag_init(Diag *d, Arena *a, FILE *out);
uint32_t diag_source(Diag *d, const char *name, const char *text, size_t size);

/* file:line:col: error: message, the line and a caret.  A note belongs to what came before it. */
void diag_error(Diag *d, Loc loc, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void diag_warning(Diag *d, Warning w, Loc loc, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* What the compiler did, or could not do; said where it is wanted, else free. */
void diag_remark(Diag *d, Remark r, bool missed, Loc loc, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
void diag_note(Diag *d, Loc loc, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* What mends the error just reported, where that is certain: `text` for `length` bytes at loc, a
 * place of the line that was shown.  Printed under the caret. */
void diag_fixit(Diag *d, Loc loc, uint32_t length, const char *text);

/* ---- warnings.c ------------------------------------------------------------------------------ */

const char *warning_name(Warning w);
void warnings_default(Diag *d);
/* The word behind -W: all, error, NAME, no-NAME, error=NAME.  false: *near is what it may have
 * meant, or NULL. */
bool warnings_set(Diag *d, const char *word, const char **near);
void warnings_describe(Text *out);

/* ---- remarks.c ------------------------------------------------------------------------------- */

const char *remark_name(Remark r);
bool remarks_wanted(const Diag *d, Remark r, bool missed);
/* Those whose names match; false: none does, or it is no regular expression. */
bool remarks_set(Diag *d, const char *pattern, bool missed);
void remarks_describe(Text *out);

#endif
