/* safetensors.c: the file format of weights and state, read as if an enemy had written it.
 *
 *   u64 n, little-endian | n bytes of JSON, padded with spaces to 8 | tensor data, no holes
 *   {"__metadata__": {string: string}, NAME: {"dtype", "shape", "data_offsets": [begin, end]}, …}
 *
 * Our own files carry in __metadata__ "mpcc" (format version), "crc32" (of everything before the
 * data, its own eight digits taken as zeros) and "crc32:NAME" (of a tensor's bytes).  A file with
 * one of these must have all of them, so that a flipped byte in a key is noticed too; a file with
 * none comes from elsewhere and loads.
 *
 * Invariants of an mp_st that was read: sizes fit, dtype and shape give each tensor's bytes,
 * tensors cover the data exactly once, names and keys are unique, the header's CRC is right if
 * present.
 */
#include "runtime/rt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { MAX_HEADER = 100000000, DIGITS = 8 };
#define CRC_PREFIX "crc32:"

/* ---- growing arrays of the parser ---- */

typedef struct Reader {
  mp_st *st;
  mp_json json;
  uint32_t cap_tensors, cap_notes;
  bool no_memory;
} Reader;

static void *grow(Reader *r, void *at, uint32_t len, uint32_t *cap, size_t size) {
  if (len < *cap) return at;
  uint32_t more = *cap ? *cap * 2 : 16;
  void *bigger = realloc(at, more * size);
  if (bigger) *cap = more;
  else r->no_memory = true;
  return bigger;
}

static mp_st_tensor *new_tensor(Reader *r) {
  mp_st *st = r->st;
  void *p = grow(r, st->tensors, st->n_tensors, &r->cap_tensors, sizeof *st->tensors);
  if (!p) return NULL;
  st->tensors = p;
  st->tensors[st->n_tensors] = (mp_st_tensor){0};
  return &st->tensors[st->n_tensors++];
}

static mp_st_note *new_note(Reader *r) {
  mp_st *st = r->st;
  void *p = grow(r, st->notes, st->n_notes, &r->cap_notes, sizeof *st->notes);
  if (!p) return NULL;
  st->notes = p;
  return &st->notes[st->n_notes++];
}

/* ---- the JSON of the header ---- */

static bool bad(Reader *r, const char *what) {
  if (!r->json.bad) r->json.bad = what;
  return false;
}

static bool read_notes(Reader *r) {
  mp_json *j = &r->json;
  if (!mp_json_expect(j, '{')) return false;
  if (mp_json_take(j, '}')) return true;
  do {
    char *key = mp_json_string(j);
    if (!key || !mp_json_expect(j, ':')) return false;
    char *value = mp_json_string(j);
    mp_st_note *note = value ? new_note(r) : NULL;
    if (!note) return false;
    *note = (mp_st_note){key, value};
  } while (mp_json_take(j, ','));
  return mp_json_expect(j, '}');
}

static bool read_shape(Reader *r, mp_st_tensor *t) {
  mp_json *j = &r->json;
  if (!mp_json_expect(j, '[')) return false;
  if (mp_json_take(j, ']')) return true;
  do {
    uint64_t n;
    if (t->ndim == MP_MAX_RANK) return bad(r, "a tensor has more than 8 dims");
    if (!mp_json_u64(j, &n)) return false;
    if (n > INT64_MAX) return bad(r, "a dim is too large");
    t->dims[t->ndim++] = (int64_t)n;
  } while (mp_json_take(j, ','));
  return mp_json_expect(j, ']');
}

static bool read_offsets(Reader *r, mp_st_tensor *t) {
  mp_json *j = &r->json;
  return mp_json_expect(j, '[') && mp_json_u64(j, &t->begin) && mp_json_expect(j, ',') &&
         mp_json_u64(j, &t->end) && mp_json_expect(j, ']');
}

static bool read_field(Reader *r, mp_st_tensor *t, unsigned *seen) {
  static const char *const names[] = {"dtype", "shape", "data_offsets"};
  char *key = mp_json_string(&r->json);
  if (!key || !mp_json_expect(&r->json, ':')) return false;
  unsigned i = 0;
  while (i < 3 && strcmp(key, names[i])) i++;
  if (i == 3) return bad(r, "a tensor has an unknown field");
  if (*seen & 1u << i) return bad(r, "a tensor has a field twice");
  *seen |= 1u << i;
  if (i == 0) return (t->dtype = mp_json_string(&r->json)) != NULL;
  return i == 1 ? read_shape(r, t) : read_offsets(r, t);
}

static bool read_tensor(Reader *r, char *name) {
  mp_st_tensor *t = new_tensor(r);
  unsigned seen = 0;
  if (!t || !mp_json_expect(&r->json, '{')) return false;
  t->name = name;
  do {
    if (!read_field(r, t, &seen)) return false;
  } while (mp_json_take(&r->json, ','));
  return mp_json_expect(&r->json, '}') && (seen == 7 || bad(r, "a tensor lacks a field"));
}

static bool read_object(Reader *r) {
  mp_json *j = &r->json;
  bool have_notes = false;
  if (*j->at != '{' || !mp_json_expect(j, '{')) return bad(r, "the header does not begin with '{'");
  if (mp_json_take(j, '}')) return mp_json_end(j);
  do {
    char *name = mp_json_string(j);
    if (!name || !mp_json_expect(j, ':')) return false;
    bool notes = !strcmp(name, "__metadata__");
    if (notes && have_notes) return bad(r, "__metadata__ stands there twice");
    have_notes |= notes;
    if (!(notes ? read_notes(r) : read_tensor(r, name))) return false;
  } while (mp_json_take(j, ','));
  return mp_json_expect(j, '}') && mp_json_end(j);
}

/* ---- what the numbers must satisfy ---- */

static uint64_t element_size(const char *dtype) {
  static const struct {
    const char *name;
    uint8_t size;
  } foreign[] = {{"F64", 8}, {"U64", 8}, {"I16", 2}, {"I8", 1}}; /* legal, but not the language's */
  for (int32_t d = MP_F32; d <= MP_I1; d++)
    if (!strcmp(mp_type_of(d)->safetensors, dtype)) return mp_type_of(d)->size;
  for (size_t i = 0; i < MP_LEN(foreign); i++)
    if (!strcmp(foreign[i].name, dtype)) return foreign[i].size;
  return 0;
}

static int check_size(const mp_st_tensor *t, const char *where, mp_error *err) {
  uint64_t bytes = element_size(t->dtype);
  if (!bytes)
    return mp_fail(err, MP_E_FORMAT, "%s: '%.80s' has the unknown type '%.40s'", where, t->name,
                   t->dtype);
  bool fits = t->end >= t->begin;
  for (int32_t i = 0; i < t->ndim && fits; i++) fits = mp_mul(bytes, (uint64_t)t->dims[i], &bytes);
  if (fits && t->end - t->begin == bytes) return MP_OK;
  char dims[128];
  return mp_fail(err, MP_E_FORMAT, "%s: '%.80s' is %.40s%s, which is not bytes %llu to %llu", where,
                 t->name, t->dtype, mp_dims_text(t->dims, t->ndim, dims, sizeof dims),
                 (unsigned long long)t->begin, (unsigned long long)t->end);
}

static int by_place(const void *a, const void *b) {
  const mp_st_tensor *x = a, *y = b;
  if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
  return (x->end > y->end) - (x->end < y->end); /* empty ones first */
}

static int check_layout(mp_st *st, uint64_t room, const char *where, mp_error *err) {
  if (st->n_tensors) qsort(st->tensors, st->n_tensors, sizeof *st->tensors, by_place);
  for (uint32_t i = 0; i < st->n_tensors; i++) {
    const mp_st_tensor *t = &st->tensors[i];
    int status = check_size(t, where, err);
    if (status) return status;
    if (t->begin != st->data_bytes)
      return mp_fail(err, MP_E_FORMAT, "%s: %s before '%.80s'", where,
                     t->begin < st->data_bytes ? "tensors overlap" : "a hole in the data", t->name);
    st->data_bytes = t->end;
  }
  if (room != UINT64_MAX && room != st->data_bytes)
    return mp_fail(err, MP_E_FORMAT, "%s: expected %llu bytes of data, found %llu", where,
                   (unsigned long long)st->data_bytes, (unsigned long long)room);
  return MP_OK;
}

static int by_name(const void *a, const void *b) {
  return strcmp((*(mp_st_tensor *const *)a)->name, (*(mp_st_tensor *const *)b)->name);
}

static int by_key(const void *a, const void *b) {
  return strcmp(((const mp_st_note *)a)->key, ((const mp_st_note *)b)->key);
}

static int check_names(mp_st *st, const char *where, mp_error *err) {
  st->by_name = malloc((st->n_tensors + 1) * sizeof(mp_st_tensor *));
  if (!st->by_name) return mp_fail(err, MP_E_MEMORY, "%s: no memory", where);
  for (uint32_t i = 0; i < st->n_tensors; i++) st->by_name[i] = &st->tensors[i];
  qsort(st->by_name, st->n_tensors, sizeof *st->by_name, by_name);
  if (st->n_notes) qsort(st->notes, st->n_notes, sizeof *st->notes, by_key);
  for (uint32_t i = 1; i < st->n_tensors; i++)
    if (!by_name(&st->by_name[i - 1], &st->by_name[i]))
      return mp_fail(err, MP_E_FORMAT, "%s: '%.80s' stands there twice", where,
                     st->by_name[i]->name);
  for (uint32_t i = 1; i < st->n_notes; i++)
    if (!by_key(&st->notes[i - 1], &st->notes[i]))
      return mp_fail(err, MP_E_FORMAT, "%s: metadata '%.80s' stands there twice", where,
                     st->notes[i].key);
  return MP_OK;
}

/* ---- checksums ---- */

static void put_digits(char *out, uint32_t crc) {
  char digits[DIGITS + 1];
  snprintf(digits, sizeof digits, "%08lx", (unsigned long)crc);
  memcpy(out, digits, DIGITS);
}

/* Of the length and the header; `at` is where the header's own digits stand. */
static uint32_t header_crc(const char *whole, size_t n, size_t at) {
  static const unsigned char zeros[] = "00000000";
  const unsigned char *p = (const unsigned char *)whole;
  uLong crc = crc32_z(0, p, at);
  crc = crc32_z(crc, zeros, DIGITS);
  return (uint32_t)crc32_z(crc, p + at + DIGITS, n - at - DIGITS);
}

/* From the first of them in order, every note with the prefix belongs to a tensor. */
static int count_crcs(const mp_st *st, uint32_t *count, const char *where, mp_error *err) {
  *count = 0;
  for (uint32_t i = 0; i < st->n_notes; i++) {
    const char *key = st->notes[i].key;
    if (strncmp(key, CRC_PREFIX, strlen(CRC_PREFIX))) continue;
    if (!mp_st_find(st, key + strlen(CRC_PREFIX)))
      return mp_fail(err, MP_E_FORMAT, "%s: a checksum of '%.80s', which is not there", where,
                     key + strlen(CRC_PREFIX));
    ++*count;
  }
  return MP_OK;
}

static int check_header_crc(mp_st *st, const char *whole, size_t n, const char *where,
                            mp_error *err) {
  const char *own = mp_st_note_of(st, "crc32");
  uint32_t crcs;
  int status = count_crcs(st, &crcs, where, err);
  if (status || (!own && !crcs && !mp_st_note_of(st, "mpcc"))) return status;
  if (!own || crcs != st->n_tensors || strlen(own) != DIGITS)
    return mp_fail(err, MP_E_FORMAT, "%s: damaged: a checksum is missing", where);
  size_t at = (size_t)(own - st->text) + 8;
  char digits[DIGITS];
  put_digits(digits, header_crc(whole, n, at));
  if (memcmp(digits, whole + at, DIGITS))
    return mp_fail(err, MP_E_FORMAT, "%s: damaged: the header's checksum is wrong", where);
  st->has_crc = true;
  return MP_OK;
}

int mp_st_check_crc(const mp_st *st, const mp_st_tensor *t, uint32_t crc, const char *where,
                    mp_error *err) {
  if (!st->has_crc) return MP_OK;
  mp_text key = {0};
  mp_text_add(&key, CRC_PREFIX "%s", t->name);
  const char *want = key.failed ? NULL : mp_st_note_of(st, key.at);
  char digits[DIGITS + 1] = "";
  put_digits(digits, crc);
  bool good = want && !strcmp(want, digits);
  mp_text_free(&key);
  if (good) return MP_OK;
  return mp_fail(err, MP_E_FORMAT, "%s: damaged: the checksum of '%.80s' is wrong", where, t->name);
}

/* ---- reading ---- */

static uint64_t load_u64(const char *p) {
  uint64_t n = 0;
  for (int i = 7; i >= 0; i--) n = n << 8 | (unsigned char)p[i];
  return n;
}

static int parse(mp_st *st, const char *whole, uint64_t n, uint64_t room, const char *where,
                 mp_error *err) {
  Reader r = {.st = st, .json = {st->text, st->text + n, NULL}};
  if (!read_object(&r)) {
    if (r.no_memory) return mp_fail(err, MP_E_MEMORY, "%s: no memory", where);
    return mp_fail(err, MP_E_FORMAT, "%s: header, byte %lld: %s", where,
                   (long long)(r.json.at - st->text) + 8, r.json.bad ? r.json.bad : "bad");
  }
  int status = check_layout(st, room, where, err);
  if (!status) status = check_names(st, where, err);
  return status ? status : check_header_crc(st, whole, (size_t)n + 8, where, err);
}

static int read_whole(mp_st *st, char **whole, uint64_t *n, mp_read_fn read, void *user,
                      uint64_t size, const char *where, mp_error *err) {
  char head[8];
  if (size < 8 || read(user, head, 8))
    return mp_fail(err, MP_E_FORMAT, "%s: not a safetensors file: shorter than 8 bytes", where);
  *n = load_u64(head);
  if (*n < 2 || *n > MAX_HEADER || *n > size - 8)
    return mp_fail(err, MP_E_FORMAT, "%s: not a safetensors file: a header of %llu bytes", where,
                   (unsigned long long)*n);
  *whole = malloc((size_t)*n + 9);
  st->text = malloc((size_t)*n + 1);
  if (!*whole || !st->text) return mp_fail(err, MP_E_MEMORY, "%s: no memory", where);
  memcpy(*whole, head, 8);
  if (read(user, *whole + 8, (size_t)*n))
    return mp_fail(err, MP_E_IO, "%s: the header cannot be read", where);
  memcpy(st->text, *whole + 8, (size_t)*n);
  st->text[*n] = 0;
  return MP_OK;
}

int mp_st_read_header(mp_st *st, mp_read_fn read, void *user, uint64_t size, const char *where,
                      mp_error *err) {
  *st = (mp_st){0};
  char *whole = NULL;
  uint64_t n = 0;
  int status = read_whole(st, &whole, &n, read, user, size, where, err);
  uint64_t room = size == UINT64_MAX ? size : size - 8 - n;
  if (!status) status = parse(st, whole, n, room, where, err);
  free(whole);
  if (status) mp_st_free(st);
  return status;
}

const mp_st_tensor *mp_st_find(const mp_st *st, const char *name) {
  mp_st_tensor key = {.name = (char *)name}, *at = &key;
  mp_st_tensor **found = bsearch(&at, st->by_name, st->n_tensors, sizeof at, by_name);
  return found ? *found : NULL;
}

const char *mp_st_note_of(const mp_st *st, const char *key) {
  mp_st_note want = {.key = (char *)key};
  if (!st->n_notes) return NULL;
  mp_st_note *found = bsearch(&want, st->notes, st->n_notes, sizeof want, by_key);
  return found ? found->value : NULL;
}

void mp_st_free(mp_st *st) {
  free(st->text);
  free(st->tensors);
  free(st->by_name);
  free(st->notes);
  *st = (mp_st){0};
}

/* ---- writing ---- */

static void add_note(mp_text *t, const char *key, const char *value) {
  mp_text_add(t, ",");
  mp_json_quote(t, key);
  mp_text_add(t, ":");
  mp_json_quote(t, value);
}

static const void *bytes_of(const mp_st_item *item) {
  const mp_ctx *ctx = item->joins;
  if (ctx) mp_parts_join(ctx->model, ctx->state, item->state, (void *)item->data);
  return item->data;
}

static void add_crc(mp_text *t, const mp_st_item *item) {
  uLong crc = crc32_z(0, bytes_of(item), mp_tensor_bytes(item->tensor));
  mp_text_add(t, ",");
  mp_text key = {0};
  mp_text_add(&key, CRC_PREFIX "%s", item->tensor->name);
  if (key.failed) t->failed = true;
  else mp_json_quote(t, key.at);
  mp_text_free(&key);
  mp_text_add(t, ":\"%08lx\"", (unsigned long)crc);
}

static uint64_t add_tensor(mp_text *t, const mp_tensor *tensor, uint64_t begin) {
  uint64_t end = begin + mp_tensor_bytes(tensor);
  mp_text_add(t, ",");
  mp_json_quote(t, tensor->name);
  mp_text_add(t, ":{\"dtype\":\"%s\",\"shape\":[", mp_type_of(tensor->dtype)->safetensors);
  for (int32_t i = 0; i < tensor->ndim; i++)
    mp_text_add(t, i ? ",%lld" : "%lld", (long long)tensor->dims[i]);
  mp_text_add(t, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)begin,
              (unsigned long long)end);
  return end;
}

#define HEADER_START "{\"__metadata__\":{\"crc32\":\""

static void build_header(mp_text *t, const mp_st_item *items, uint32_t n, const mp_st_note *notes,
                         uint32_t n_notes) {
  mp_text_add(t, "%8s" HEADER_START "00000000\",\"mpcc\":\"1\"", ""); /* 8 bytes for the length */
  for (uint32_t i = 0; i < n_notes; i++) add_note(t, notes[i].key, notes[i].value);
  for (uint32_t i = 0; i < n; i++) add_crc(t, &items[i]);
  mp_text_add(t, "}");
  uint64_t at = 0;
  for (uint32_t i = 0; i < n; i++) at = add_tensor(t, items[i].tensor, at);
  mp_text_add(t, "}");
  while (!t->failed && t->len % 8) mp_text_add(t, " ");
  if (t->failed) return;
  for (int i = 0; i < 8; i++) t->at[i] = (char)((uint64_t)(t->len - 8) >> (8 * i) & 0xff);
  size_t digits = 8 + strlen(HEADER_START);
  put_digits(t->at + digits, header_crc(t->at, t->len, digits));
}

int mp_st_write(const mp_st_item *items, uint32_t n, const mp_st_note *notes, uint32_t n_notes,
                mp_write_fn write, void *user, mp_error *err) {
  mp_text header = {0};
  build_header(&header, items, n, notes, n_notes);
  int status = MP_OK;
  if (header.failed) status = mp_fail(err, MP_E_MEMORY, "no memory for the header of a file");
  else if (write(user, header.at, header.len)) status = MP_E_IO;
  for (uint32_t i = 0; i < n && !status; i++)
    if (write(user, bytes_of(&items[i]), mp_tensor_bytes(items[i].tensor))) status = MP_E_IO;
  mp_text_free(&header);
  return status;
}
