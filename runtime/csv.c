/* csv.c: columns of a CSV file by the names in its first line (RFC 4180).
 *
 * Cells are separated by commas; a cell in quotes may hold commas, line ends and "" for a quote.
 * Every row has as many cells as the header; lines at the end that are empty do not count.  A cell
 * that is empty is a missing value: an error, as is everything that is not a number of the source's
 * type.  A category(n) column holds numbers 0 … n-1, or up to n different names, which are numbered
 * in the order of their bytes: as the training data has them.
 */
#define _DEFAULT_SOURCE /* strdup */
#include "runtime/data.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CELL = 255 };

typedef struct Reader {
  const mp_file *file;
  const char *at, *end;
  int64_t line; /* of the cell read last */
  int64_t next; /* of the one behind it */
  char cell[MAX_CELL + 1];
  size_t len;
  bool last; /* the cell ended its row */
  mp_error *err;
} Reader;

static int bad_row(const Reader *r, const char *what) {
  return mp_fail(r->err, MP_E_FORMAT, "'%s' line %lld: %s", r->file->path, (long long)r->line,
                 what);
}

/* ---- cells ---- */

static bool put(Reader *r, char c) {
  if (r->len == MAX_CELL || !c) return false;
  r->cell[r->len++] = c;
  r->next += c == '\n';
  return true;
}

static int read_quoted(Reader *r) {
  for (r->at++; r->at < r->end; r->at++) {
    if (*r->at == '"' && (r->at + 1 == r->end || r->at[1] != '"')) {
      r->at++;
      return MP_OK;
    }
    r->at += *r->at == '"';
    if (!put(r, *r->at)) return bad_row(r, "a cell of more than 255 bytes, or with a NUL");
  }
  return bad_row(r, "a quote is never closed");
}

static bool ends_cell(const Reader *r) {
  return r->at == r->end || *r->at == ',' || *r->at == '\n' ||
         (*r->at == '\r' && r->at + 1 < r->end && r->at[1] == '\n');
}

static int read_plain(Reader *r) {
  for (; !ends_cell(r); r->at++)
    if (*r->at == '"') return bad_row(r, "a quote inside a cell that does not begin with one");
    else if (!put(r, *r->at)) return bad_row(r, "a cell of more than 255 bytes, or with a NUL");
  return MP_OK;
}

static int read_cell(Reader *r) {
  r->len = 0;
  r->line = r->next;
  int status = r->at < r->end && *r->at == '"' ? read_quoted(r) : read_plain(r);
  if (status) return status;
  if (!ends_cell(r)) return bad_row(r, "text behind a closing quote");
  r->cell[r->len] = 0;
  r->last = r->at == r->end || *r->at != ',';
  r->next += r->last;
  if (r->at < r->end) r->at += *r->at == '\r' ? 2 : 1;
  return MP_OK;
}

static bool at_end(const Reader *r) {
  const char *p = r->at;
  while (p < r->end && (*p == '\n' || *p == '\r')) p++;
  return p == r->end;
}

/* ---- the header ---- */

static int add_column(mp_file *f, Reader *r) {
  mp_column *more = realloc(f->columns, (f->n_columns + 1) * sizeof *more);
  if (more) f->columns = more;
  char *name = more ? strdup(r->cell) : NULL;
  if (!name) return mp_fail(r->err, MP_E_MEMORY, "no memory for the columns of '%s'", f->path);
  for (uint32_t i = 0; i < f->n_columns; i++)
    if (!strcmp(f->columns[i].name, name)) {
      free(name);
      return mp_fail(r->err, MP_E_FORMAT, "'%s' has two columns '%s'", f->path, r->cell);
    }
  f->columns[f->n_columns++].name = name;
  return MP_OK;
}

static int read_csv(mp_file *f, mp_error *err) {
  const char *text = (const char *)f->at;
  Reader r = {.file = f, .at = text, .end = text + f->size, .next = 1, .err = err};
  if (f->size >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) r.at += 3; /* a byte order mark */
  do {
    int status = read_cell(&r);
    if (!status) status = add_column(f, &r);
    if (status) return status;
  } while (!r.last);
  f->body = (uint64_t)(r.at - text);
  return MP_OK;
}

void mp_csv_close(mp_file *f) {
  for (uint32_t i = 0; i < f->n_columns; i++) free(f->columns[i].name);
  free(f->columns);
}

static bool never(const uint8_t *at, uint64_t size) {
  (void)at, (void)size;
  return false;
}

static const char *const suffixes[] = {".csv", NULL};
const mp_format mp_format_csv = {"CSV", suffixes, never, read_csv};

/* ---- one column ---- */

typedef struct Column {
  Reader r;
  mp_source *s;
  const mp_source_desc *d;
  int32_t dtype;
  uint32_t index;
  uint64_t cap; /* rows there is room for */
} Column;

static int bad_cell(Column *c, const char *what) {
  return mp_fail(c->r.err, MP_E_FORMAT, "'%s' line %lld, column '%s': %s%.40s%s%s", c->r.file->path,
                 (long long)c->r.line, c->d->name, c->r.len ? "'" : "", c->r.cell,
                 c->r.len ? "' " : "", what);
}

/* Reads a row and leaves our cell in the reader. */
static int read_row(Column *c) {
  char cell[MAX_CELL + 1] = "";
  int64_t line = 0;
  size_t len = 0;
  for (uint32_t i = 0; i < c->r.file->n_columns; i++) {
    int status = read_cell(&c->r);
    if (status) return status;
    if (i == c->index) memcpy(cell, c->r.cell, (len = c->r.len) + 1), line = c->r.line;
    if (c->r.last != (i + 1 == c->r.file->n_columns))
      return mp_fail(c->r.err, MP_E_FORMAT, "'%s' line %lld: %s than the header's %u cells",
                     c->r.file->path, (long long)c->r.line, c->r.last ? "fewer" : "more",
                     c->r.file->n_columns);
  }
  memcpy(c->r.cell, cell, len + 1);
  c->r.len = len;
  c->r.line = line;
  return len ? MP_OK : bad_cell(c, "a value is missing");
}

typedef int Visit(Column *c);

static int for_each_row(Column *c, Visit *visit) {
  const mp_file *f = c->r.file;
  c->r.at = (const char *)f->at + f->body;
  c->r.next = 1;
  for (const char *p = (const char *)f->at; p < c->r.at; p++) c->r.next += *p == '\n';
  while (!at_end(&c->r)) {
    int status = read_row(c);
    if (!status) status = visit(c);
    if (status) return status;
  }
  return MP_OK;
}

/* ---- numbers ---- */

static const struct {
  int32_t dtype;
  int64_t least, most;
} ranges[] = {{MP_I64, INT64_MIN, INT64_MAX}, {MP_I32, INT32_MIN, INT32_MAX},
              {MP_U32, 0, UINT32_MAX},        {MP_U16, 0, UINT16_MAX},
              {MP_U8, 0, UINT8_MAX},          {MP_I1, 0, 1}};

static bool whole_number(const Reader *r, int64_t *out) {
  char *end;
  if (r->cell[strspn(r->cell, "+-0123456789")]) return false;
  errno = 0;
  long long n = strtoll(r->cell, &end, 10);
  *out = n;
  return !*end && !errno;
}

static void *room(Column *c) {
  mp_source *s = c->s;
  if ((uint64_t)s->rows == c->cap) {
    uint64_t cap = c->cap ? 2 * c->cap : 1024;
    void *more = realloc(s->heap, cap * s->row_bytes);
    if (!more) return NULL;
    s->heap = more;
    c->cap = cap;
  }
  return (char *)s->heap + (uint64_t)s->rows++ * s->row_bytes;
}

static int store(Column *c, const void *little) {
  void *at = room(c);
  if (!at) return mp_fail(c->r.err, MP_E_MEMORY, "no memory for the rows of '%s'", c->r.file->path);
  memcpy(at, little, c->s->row_bytes);
  return MP_OK;
}

static int store_int(Column *c, int64_t n) {
  int32_t i32 = (int32_t)n;
  uint32_t u32 = (uint32_t)n;
  uint16_t u16 = (uint16_t)n;
  uint8_t u8 = (uint8_t)n;
  switch (c->s->row_bytes) {
  case 8: return store(c, &n);
  case 4: return c->dtype == MP_I32 ? store(c, &i32) : store(c, &u32);
  case 2: return store(c, &u16);
  default: return store(c, &u8);
  }
}

/* Digits alone: no inf, nan or hexadecimal. */
static int visit_float(Column *c) {
  char *end;
  float v = strtof(c->r.cell, &end);
  if (*end || c->r.cell[strspn(c->r.cell, "+-.0123456789eE")] || !isfinite(v))
    return bad_cell(c, "is not an f32");
  return store(c, &v);
}

static int visit_int(Column *c) {
  int64_t n;
  for (size_t i = 0; i < MP_LEN(ranges); i++) {
    if (ranges[i].dtype != c->dtype) continue;
    if (whole_number(&c->r, &n) && n >= ranges[i].least && n <= ranges[i].most)
      return store_int(c, n);
  }
  char what[40];
  snprintf(what, sizeof what, "is not of type %s", mp_type_of(c->dtype)->name);
  return bad_cell(c, what);
}

/* ---- categories ---- */

/* Index of the name, or of where it would stand. */
static uint32_t place_of(const mp_names *n, const char *name, bool *found) {
  uint32_t low = 0, high = n->len;
  *found = false;
  while (low < high && !*found) {
    uint32_t mid = low + (high - low) / 2;
    int order = strcmp(name, n->at[mid]);
    *found = !order;
    if (order <= 0) high = mid;
    else low = mid + 1;
  }
  return high;
}

static int too_many(Column *c) {
  char what[80];
  snprintf(what, sizeof what, "is one name more than category(%lld) has",
           (long long)c->d->categories);
  return bad_cell(c, what);
}

static int visit_name(Column *c) {
  mp_names *n = &c->s->names;
  bool found;
  uint32_t at = place_of(n, c->r.cell, &found);
  if (found) return MP_OK;
  if (n->len == c->d->categories) return too_many(c);
  if (!n->at) n->at = calloc((size_t)c->d->categories, sizeof *n->at);
  char *name = n->at ? strdup(c->r.cell) : NULL;
  if (!name)
    return mp_fail(c->r.err, MP_E_MEMORY, "no memory for the names in '%s'", c->r.file->path);
  memmove(n->at + at + 1, n->at + at, (n->len - at) * sizeof *n->at);
  n->at[at] = name;
  n->len++;
  return MP_OK;
}

static int visit_known(Column *c) {
  bool found;
  uint32_t at = place_of(&c->s->names, c->r.cell, &found);
  return found ? store_int(c, at) : bad_cell(c, "is a name that the training data does not have");
}

static int visit_number(Column *c) {
  int64_t n;
  if (whole_number(&c->r, &n) && n >= 0 && n < c->d->categories) return store_int(c, n);
  char what[80];
  snprintf(what, sizeof what, "is not one of category(%lld): 0 … %lld", (long long)c->d->categories,
           (long long)c->d->categories - 1);
  return bad_cell(c, what);
}

enum { NOT_NUMBERS = 1 };

static int visit_kind(Column *c) {
  int64_t n;
  return whole_number(&c->r, &n) ? MP_OK : NOT_NUMBERS;
}

static int copy_names(Column *c, const mp_names *from) {
  mp_names *to = &c->s->names;
  to->at = calloc(from->len, sizeof *to->at);
  for (; to->at && to->len < from->len; to->len++)
    if (!(to->at[to->len] = strdup(from->at[to->len]))) break;
  return to->len == from->len ? MP_OK
                              : mp_fail(c->r.err, MP_E_MEMORY, "no memory for names of categories");
}

static int read_categories(Column *c, const mp_source *like) {
  if (like && like->names.len) {
    int status = copy_names(c, &like->names);
    return status ? status : for_each_row(c, visit_known);
  }
  int status = for_each_row(c, visit_kind);
  if (!status) return for_each_row(c, visit_number);
  if (status != NOT_NUMBERS) return status;
  if (like) return bad_cell(c, "is a name, but the training data has numbers");
  status = for_each_row(c, visit_name);
  return status ? status : for_each_row(c, visit_known);
}

int mp_csv_column(mp_source *s, const mp_file *f, const mp_source_desc *d, int32_t dtype,
                  const mp_source *like, mp_error *err) {
  Column c = {.r = {.file = f, .end = (const char *)f->at + f->size, .err = err},
              .s = s,
              .d = d,
              .dtype = dtype};
  while (strcmp(f->columns[c.index].name, d->name)) c.index++;
  int status = d->categories ? read_categories(&c, like)
                             : for_each_row(&c, dtype == MP_F32 ? visit_float : visit_int);
  if (status) return status;
  return s->rows ? MP_OK : mp_fail(err, MP_E_FORMAT, "'%s' holds no rows", f->path);
}
