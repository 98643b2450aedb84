/* test_checkpoint.c: saving, loading, and everything that can go wrong with either.
 *
 * Linked with --wrap for the calls below, so that the n-th of them can fail, for every n: after
 * each failure the previous checkpoint must load, and the error must be one.
 */
#define _GNU_SOURCE
#include "runtime/rt.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/check.h"
#include "tests/unit/fake_model.h"

/* ---- failing system calls ---- */

static struct Faults { /* the one variable of the tests: wrapped functions have no user pointer */
  int left;            /* calls that still work; negative: all do */
  int error;
  int short_write; /* the failing write writes half first */
} faults = {-1, 0, 0};

static int fails(void) {
  if (faults.left < 0) return 0;
  if (faults.left-- > 0) return 0;
  faults.left = 0; /* and all that follow */
  errno = faults.error;
  return 1;
}

void *__real_malloc(size_t n);
void *__real_realloc(void *p, size_t n);
void *__real_calloc(size_t n, size_t size);
ssize_t __real_write(int fd, const void *p, size_t n);
int __real_open(const char *path, int flags, ...);
int __real_fsync(int fd);
int __real_close(int fd);
int __real_rename(const char *from, const char *to);
int __real_mkdir(const char *path, mode_t mode);

void *__wrap_malloc(size_t n);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_calloc(size_t n, size_t size);
ssize_t __wrap_write(int fd, const void *p, size_t n);
int __wrap_open(const char *path, int flags, ...);
int __wrap_fsync(int fd);
int __wrap_close(int fd);
int __wrap_rename(const char *from, const char *to);
int __wrap_mkdir(const char *path, mode_t mode);

void *__wrap_malloc(size_t n) { return fails() ? NULL : __real_malloc(n); }
void *__wrap_realloc(void *p, size_t n) { return fails() ? NULL : __real_realloc(p, n); }
void *__wrap_calloc(size_t n, size_t size) { return fails() ? NULL : __real_calloc(n, size); }
int __wrap_fsync(int fd) { return fails() ? -1 : __real_fsync(fd); }
int __wrap_rename(const char *from, const char *to) {
  return fails() ? -1 : __real_rename(from, to);
}
int __wrap_mkdir(const char *path, mode_t mode) { return fails() ? -1 : __real_mkdir(path, mode); }

int __wrap_open(const char *path, int flags, ...) {
  return fails() ? -1 : __real_open(path, flags, 0666); /* the mode that all of ours have */
}

int __wrap_close(int fd) {
  int failed = fails(), status = __real_close(fd); /* it closes either way */
  return failed ? (errno = faults.error, -1) : status;
}

ssize_t __wrap_write(int fd, const void *p, size_t n) {
  if (!fails()) return __real_write(fd, p, n);
  if (!faults.short_write || n < 2) return -1;
  return __real_write(fd, p, n / 2); /* the next one fails */
}

/* ---- helpers ---- */

static const char dir[] = "test_checkpoint.tmp";

static const mp_api *fake(void) { return fake_get_api(MP_ABI); }

static mp_ctx *trained(Checks *c, int steps) {
  mp_ctx *ctx = NULL;
  mp_error err;
  float x[FAKE_BATCH][FAKE_X], y[FAKE_BATCH];
  for (int r = 0; r < FAKE_BATCH; r++) {
    for (int i = 0; i < FAKE_X; i++) x[r][i] = (float)((r * 5 + i * 3) % 7) / 7;
    y[r] = (float)r / 8;
  }
  mp_options o = {.struct_size = sizeof o, .threads = 1};
  CHECK(c, fake()->create(&o, &ctx, &err) == MP_OK);
  fake()->init(ctx, 77);
  fake()->bind(ctx, FAKE_STEP, 0, x, sizeof x);
  fake()->bind(ctx, FAKE_STEP, 1, y, sizeof y);
  for (int i = 0; i < steps; i++) CHECK(c, fake()->run(ctx, FAKE_STEP, NULL, NULL) == MP_OK);
  return ctx;
}

static bool same_state(const mp_ctx *a, const mp_ctx *b) {
  const mp_desc *d = a->model->desc;
  for (uint32_t i = 0; i < d->n_states; i++)
    if (memcmp(mp_state_data(a, i), mp_state_data(b, i), mp_tensor_bytes(&d->states[i].tensor)))
      return false;
  return a->seed == b->seed && !memcmp(&a->cursor, &b->cursor, sizeof a->cursor) &&
         !memcmp(a->hypers, b->hypers, d->n_hypers * sizeof *a->hypers);
}

static bool says(mp_ctx *ctx, const char *part) {
  if (strstr(fake()->error(ctx), part)) return true;
  fprintf(stderr, "  error is: %s\n", fake()->error(ctx));
  return false;
}

static void remove_all(void) { CHECK(&(Checks){0}, !system("rm -rf test_checkpoint.tmp")); }

/* ---- files in memory ---- */

typedef struct Bytes {
  unsigned char at[8192];
  size_t len, pos;
} Bytes;

static int write_bytes(void *user, const void *p, size_t n) {
  Bytes *b = user;
  if (n > sizeof b->at - b->len) return -1;
  memcpy(b->at + b->len, p, n);
  b->len += n;
  return 0;
}

static int read_bytes(void *user, void *p, size_t n) {
  Bytes *b = user;
  if (n > b->len - b->pos) return -1;
  memcpy(p, b->at + b->pos, n);
  b->pos += n;
  return 0;
}

/* ---- tests ---- */

static void test_roundtrip(Checks *c) {
  mp_ctx *a = trained(c, 7), *b = trained(c, 0);
  a->cursor = (mp_cursor){3, 40, 100, 5000};
  fake()->hyper(a, "lr", 0.1234567890123);
  CHECK(c, fake()->save(a, "test_checkpoint.tmp/step-000007/") == MP_OK);
  CHECK(c, fake()->load(b, "test_checkpoint.tmp/step-000007", NULL) == MP_OK && same_state(a, b));
  fake()->init(b, 1);
  CHECK(c, !same_state(a, b) && fake()->load(b, dir, NULL) == MP_OK && same_state(a, b));

  mp_ctx *later = trained(c, 9); /* the newest is taken, the same name is replaced */
  CHECK(c, fake()->save(later, "test_checkpoint.tmp/step-000009") == MP_OK);
  CHECK(c, fake()->load(b, dir, NULL) == MP_OK && same_state(later, b));
  CHECK(c, fake()->save(a, "test_checkpoint.tmp/step-000009") == MP_OK);
  CHECK(c, fake()->load(b, dir, NULL) == MP_OK && same_state(a, b));
  CHECK(c, fake()->load(b, "no-such", NULL) == MP_E_IO && says(b, "cannot open"));
  CHECK(c, mkdir("test_checkpoint.tmp/empty", 0777) == 0);
  CHECK(c,
        fake()->load(b, "test_checkpoint.tmp/empty", NULL) == MP_E_IO && says(b, "no checkpoint"));
  CHECK(c, same_state(a, b));

  Bytes bytes = {.len = 0};
  CHECK(c, fake()->save_to(later, write_bytes, &bytes) == MP_OK);
  CHECK(c, fake()->load_from(b, read_bytes, &bytes) == MP_OK && same_state(later, b));
  for (mp_ctx **p = (mp_ctx *[]){a, b, later, NULL}; *p; p++) fake()->destroy(*p);
  remove_all();
}

/* save never deletes what is not a checkpoint. */
static void test_other_files(Checks *c) {
  mp_ctx *a = trained(c, 1);
  CHECK(c, !mkdir(dir, 0777));
  FILE *f = fopen("test_checkpoint.tmp/photo", "w");
  fclose(f);
  CHECK(c, fake()->save(a, dir) == MP_E_IO && says(a, "is not a checkpoint"));
  CHECK(c, fake()->save(a, "test_checkpoint.tmp/photo") == MP_E_IO);
  CHECK(c, mp_is_file("test_checkpoint.tmp/photo"));
  fake()->destroy(a);
  remove_all();
}

static void test_prune(Checks *c) {
  mp_ctx *a = trained(c, 1);
  for (int step = 1; step <= 6; step++) {
    char *path = mp_checkpoint_path(dir, step * 100);
    CHECK(c, fake()->save(a, path) == MP_OK);
    free(path);
  }
  CHECK(c, !mkdir("test_checkpoint.tmp/.tmp-step-000700-1", 0777));
  CHECK(c, !mkdir("test_checkpoint.tmp/step-000900", 0777)); /* not whole */
  mp_checkpoint_prune(dir, 2);
  mp_checkpoint_clean(dir);
  CHECK(c, mp_checkpoint_newest(dir) == 600 && mp_is_dir("test_checkpoint.tmp/step-000500"));
  CHECK(c, !mp_is_dir("test_checkpoint.tmp/step-000400"));
  CHECK(c, !mp_is_dir("test_checkpoint.tmp/step-000100"));
  CHECK(c, !mp_is_dir("test_checkpoint.tmp/.tmp-step-000700-1"));
  mp_checkpoint_prune(dir, 9);
  CHECK(c, mp_is_dir("test_checkpoint.tmp/step-000500"));
  fake()->destroy(a);
  remove_all();
}

/* Every byte, changed in three ways, is noticed, and the context keeps its state. */
static void test_flips(Checks *c) {
  mp_ctx *a = trained(c, 5), *b = trained(c, 2), *keep = trained(c, 2);
  Bytes good = {.len = 0};
  int missed = 0;
  CHECK(c, fake()->save_to(a, write_bytes, &good) == MP_OK && good.len > 600);
  for (size_t i = 0; i < good.len; i++)
    for (int k = 0; k < 3; k++) {
      static const unsigned char flips[] = {0x01, 0x20, 0x80};
      Bytes bad = good;
      bad.at[i] ^= flips[k];
      bool noticed = fake()->load_from(b, read_bytes, &bad) < 0 && same_state(b, keep);
      missed += !noticed;
      if (!noticed) fprintf(stderr, "  byte %zu ^ %02x is not noticed\n", i, flips[k]);
    }
  CHECK(c, missed == 0);
  for (size_t n = 0; n < good.len; n += 7) { /* every length */
    Bytes cut = good;
    cut.len = n;
    CHECK(c, fake()->load_from(b, read_bytes, &cut) < 0);
  }
  CHECK(c, same_state(b, keep));
  for (mp_ctx **p = (mp_ctx *[]){a, b, keep, NULL}; *p; p++) fake()->destroy(*p);
}

/* ---- headers written by hand ---- */

static Bytes with_header(const char *json, size_t data) {
  Bytes b = {.len = 8};
  size_t n = strlen(json);
  for (int i = 0; i < 8; i++) b.at[i] = (unsigned char)((uint64_t)n >> (8 * i));
  memcpy(b.at + 8, json, n);
  b.len = 8 + n + data;
  return b;
}

#define W "\"w\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]}"
#define B "\"b\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[12,16]}"

/* Parameters alone, from another tool: accepted after init. */
static void test_foreign(Checks *c) {
  mp_ctx *a = trained(c, 3);
  Bytes b = with_header("{" B "," W "}  ", 16);
  float three = 3;
  memcpy(b.at + b.len - 4, &three, 4);
  CHECK(c, fake()->load_from(a, read_bytes, &b) == MP_OK);
  CHECK(c, *(float *)mp_state_data(a, 1) == 3 && mp_counter(a, "step") == 3);
  b = with_header(
      "{\"__metadata__\":{\"format\":\"pt\"},\"\\u0077\":{\"shape\":[3],\"dtype\":\"F32\","
      "\"data_offsets\":[0,12]}," B "}",
      16);
  CHECK(c, fake()->load_from(a, read_bytes, &b) == MP_OK);
  a->ready = false;
  b.pos = 0;
  CHECK(c, fake()->load_from(a, read_bytes, &b) == MP_E_ARG && says(a, "call init"));
  fake()->destroy(a);
}

static const struct {
  const char *json, *words;
} broken[] = {
    {"[]", "does not begin with '{'"},
    {" {}", "does not begin with '{'"},
    {"{}", "'w' is missing"},
    {"{" W "}", "'b' is missing"},
    {"{" W "," B "} x", "after the end"},
    {"{" W "," B ",}", "expected a string"},
    {"{" W "," B, "expected ',' or '}'"},
    {"{" W "," W "," B "}", "overlap"},
    {"{" W ",\"b\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[8,12]}}", "overlap"},
    {"{" W ",\"b\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[16,20]}}", "a hole"},
    {"{" W "," B ",\"b\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[16,20]}}", "twice"},
    {"{" W "," B ",\"q\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[16,20]}}", "has no 'q'"},
    {"{" W ",\"b\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[12,20]}}",
     "expected F32[], found F64[]"},
    {"{" W ",\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[12,16]}}",
     "expected F32[], found F32[1]"},
    {"{" W ",\"b\":{\"dtype\":\"F33\",\"shape\":[],\"data_offsets\":[12,16]}}", "unknown type"},
    {"{" W ",\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[12,16]}}",
     "not bytes 12 to 16"},
    {"{" W ",\"b\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[16,12]}}",
     "not bytes 16 to 12"},
    {"{\"w\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]}}",
     "not bytes 0 to 0"},
    {"{\"w\":{\"dtype\":\"F32\",\"shape\":[99999999999999999999],\"data_offsets\":[0,12]}}",
     "too large"},
    {"{\"w\":{\"dtype\":\"F32\",\"shape\":[-3],\"data_offsets\":[0,12]}}", "expected a number"},
    {"{\"w\":{\"dtype\":\"F32\",\"shape\":[03],\"data_offsets\":[0,12]}}", "begins with 0"},
    {"{\"w\":{\"dtype\":\"F32\",\"shape\":[3.0],\"data_offsets\":[0,12]}}", "expected ',' or ']'"},
    {"{\"w\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,3],\"data_offsets\":[0,12]}}",
     "more than 8"},
    {"{\"w\":{\"dtype\":\"F32\",\"shape\":[3]}}", "lacks a field"},
    {"{\"w\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]}}",
     "twice"},
    {"{\"w\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12],\"x\":1}}", "unknown field"},
    {"{\"__metadata__\":{\"a\":1}," W "," B "}", "expected a string"},
    {"{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}," W "," B "}", "twice"},
    {"{\"__metadata__\":{},\"__metadata__\":{}," W "," B "}", "twice"},
    {"{\"__metadata__\":{\"mpcc\":\"1\"}," W "," B "}", "a checksum is missing"},
    {"{\"__metadata__\":{\"crc32\":\"00000000\"}," W "," B "}", "a checksum is missing"},
    {"{\"__metadata__\":{\"crc32:q\":\"00000000\"}," W "," B "}", "checksum of 'q'"},
    {"{\"w\\q\":{}}", "bad escape"},
    {"{\"w\\ud800\":{}}", "bad escape"},
    {"{\"w\\u0000\":{}}", "bad escape"},
    {"{\"w\xff\":{}}", "UTF-8"},
    {"{\"w\xed\xa0\x80\":{}}", "UTF-8"},
    {"{\"w\n\":{}}", "control character"},
    {"{\"w", "no end"},
};

static void test_broken_headers(Checks *c) {
  mp_ctx *a = trained(c, 1), *keep = trained(c, 1);
  for (size_t i = 0; i < MP_LEN(broken); i++) {
    Bytes b = with_header(broken[i].json, 64);
    CHECK(c, fake()->load_from(a, read_bytes, &b) == MP_E_FORMAT);
    if (!CHECK(c, says(a, broken[i].words))) fprintf(stderr, "  header: %s\n", broken[i].json);
  }
  Bytes b = with_header("{}", 0);
  memset(b.at, 0xff, 8);
  CHECK(c, fake()->load_from(a, read_bytes, &b) == MP_E_FORMAT && says(a, "a header of"));
  b.len = 5, b.pos = 0;
  CHECK(c, fake()->load_from(a, read_bytes, &b) == MP_E_FORMAT && says(a, "shorter than 8"));
  CHECK(c, same_state(a, keep));
  fake()->destroy(a);
  fake()->destroy(keep);
}

/* As files the total size is known too. */
static void test_file_size(Checks *c) {
  mp_ctx *a = trained(c, 1);
  for (size_t extra = 0; extra < 2; extra++) {
    Bytes b = with_header("{" W "," B "}", 15 + 2 * extra);
    FILE *f = fopen("test_checkpoint.tmp", "wb");
    fwrite(b.at, 1, b.len, f);
    fclose(f);
    CHECK(c,
          fake()->load(a, dir, NULL) == MP_E_FORMAT && says(a, "expected 16 bytes of data, found"));
  }
  fake()->destroy(a);
  remove_all();
}

/* ---- the n-th call fails ---- */

static void test_faults(Checks *c, int error, int short_write) {
  mp_ctx *old = trained(c, 3), *new = trained(c, 8), *found = trained(c, 0);
  CHECK(c, fake()->save(old, "test_checkpoint.tmp/step-000003") == MP_OK);
  for (int n = 0, status = -1; status; n++) {
    faults = (struct Faults){n, error, short_write};
    status = fake()->save(new, "test_checkpoint.tmp/step-000008");
    faults.left = -1;
    if (!CHECK(c, n < 500)) break;
    CHECK(c, status == MP_OK || status == MP_E_IO || status == MP_E_MEMORY);
    CHECK(c, fake()->load(found, dir, NULL) == MP_OK);
    CHECK(c, same_state(found, old) || same_state(found, new));
  }
  CHECK(c, same_state(found, new));
  for (int n = 0, status = -1; status; n++) { /* loading, too */
    fake()->init(found, 5);
    faults = (struct Faults){n, error, short_write};
    status = fake()->load(found, dir, NULL);
    faults.left = -1;
    if (!CHECK(c, n < 500)) break;
  }
  CHECK(c, same_state(found, new));
  for (mp_ctx **p = (mp_ctx *[]){old, new, found, NULL}; *p; p++) fake()->destroy(*p);
  remove_all();
}

int main(void) {
  Checks c = {0};
  remove_all();
  test_roundtrip(&c);
  test_other_files(&c);
  test_prune(&c);
  test_flips(&c);
  test_foreign(&c);
  test_broken_headers(&c);
  test_file_size(&c);
  test_faults(&c, ENOSPC, 1);
  test_faults(&c, EIO, 0);
  return checks_end(&c, "checkpoint");
}
