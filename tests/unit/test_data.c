/* test_data.c: IDX files, right ones and broken ones. */
#include "runtime/rt.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "tests/unit/check.h"

static const char path[] = "test_data.tmp";

static const mp_tensor images = {"images", MP_U8, 3, {64, 2, 3}};
static const mp_tensor labels = {"labels", MP_U8, 1, {64}};
static const mp_tensor reals = {"reals", MP_F32, 2, {64, 2}};

/* Four rows of 2 × 3 bytes 0 … 23. */
static size_t good_file(uint8_t *out) {
  static const uint8_t head[] = {0, 0, 8, 3, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0, 3};
  memcpy(out, head, sizeof head);
  for (int i = 0; i < 24; i++) out[sizeof head + (size_t)i] = (uint8_t)i;
  return sizeof head + 24;
}

static void write_plain(const void *bytes, size_t n) {
  FILE *f = fopen(path, "wb");
  fwrite(bytes, 1, n, f);
  fclose(f);
}

static void write_packed(const void *bytes, size_t n) {
  gzFile z = gzopen(path, "wb");
  gzwrite(z, bytes, (unsigned)n);
  gzclose(z);
}

static size_t read_back(uint8_t *out, size_t size) {
  FILE *f = fopen(path, "rb");
  size_t n = fread(out, 1, size, f);
  fclose(f);
  return n;
}

/* The file on disk is refused, with these words. */
static void refused(Checks *c, const mp_tensor *want, const char *words) {
  mp_source s;
  mp_error err = {""};
  int status = mp_source_open(&s, path, want, &err);
  if (!CHECK(c, status < 0 && strstr(err.text, words)))
    fprintf(stderr, "  %d: %s\n", status, err.text);
  CHECK(c, !s.at && !s.heap && !s.map);
}

static void accepted(Checks *c) {
  mp_source s;
  mp_error err = {""};
  uint8_t row[6];
  if (!CHECK(c, mp_source_open(&s, path, &images, &err) == MP_OK)) return;
  CHECK(c, s.rows == 4 && s.row_bytes == 6);
  mp_source_row(&s, 2, row);
  CHECK(c, row[0] == 12 && row[5] == 17);
  mp_source_close(&s);
}

static void test_good(Checks *c) {
  uint8_t bytes[64];
  size_t n = good_file(bytes);
  write_plain(bytes, n);
  accepted(c);
  write_packed(bytes, n);
  accepted(c);
}

/* Elements are big-endian in the file. */
static void test_reals(Checks *c) {
  static const uint8_t bytes[] = {0, 0, 0x0d, 2,    0, 0, 0,    1, 0, 0,
                                  0, 2, 0x3f, 0x80, 0, 0, 0xc0, 0, 0, 0};
  mp_source s;
  mp_error err;
  float row[2];
  write_plain(bytes, sizeof bytes);
  if (!CHECK(c, mp_source_open(&s, path, &reals, &err) == MP_OK)) return;
  mp_source_row(&s, 0, row);
  CHECK(c, row[0] == 1.0f && row[1] == -2.0f);
  mp_source_close(&s);
}

static void test_fit(Checks *c) {
  uint8_t bytes[64];
  size_t n = good_file(bytes);
  write_plain(bytes, n);
  refused(c, &labels, "expected u8[rows], found u8[4, 2, 3]");
  refused(c, &reals, "expected f32[rows, 2], found u8[4, 2, 3]");
  bytes[11] = 7;
  write_plain(bytes, n);
  refused(c, &images, "expected u8[rows, 2, 3], found u8[4, 7, 3]");
  bytes[2] = 0x0b;
  write_plain(bytes, n);
  refused(c, &images, "found i16[4, 7, 3]");
}

static void test_broken(Checks *c) {
  uint8_t bytes[64];
  size_t n = good_file(bytes);
  write_plain(bytes, 0);
  refused(c, &images, "is empty");
  write_plain(bytes, 3);
  refused(c, &images, "not an IDX file");
  write_plain(bytes, 9);
  refused(c, &images, "ends inside its header");
  write_plain(bytes, n - 1);
  refused(c, &images, "truncated: expected 24 bytes of data, found 23");
  write_plain(bytes, n + 2);
  refused(c, &images, "2 bytes after its data");
  write_plain("\x89PNG\r\n", 6);
  refused(c, &images, "not an IDX file (it begins with 89 50 4e 47");
  bytes[2] = 0x42;
  write_plain(bytes, n);
  refused(c, &images, "not an IDX file");
  bytes[2] = 8, bytes[3] = 200;
  write_plain(bytes, n);
  refused(c, &images, "ends inside its header");
  bytes[3] = 3, bytes[7] = 0;
  write_plain(bytes, n);
  refused(c, &images, "holds no rows");
  memset(bytes + 4, 0xff, 4); /* 4 G rows */
  write_plain(bytes, n);
  refused(c, &images, "truncated: expected 25769803770");
  unlink(path);
  refused(c, &images, "cannot open");
}

static void test_absurd(Checks *c) {
  static const uint8_t head[] = {0,    0,    8,    3,    0xff, 0xff, 0xff, 0xff,
                                 0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff};
  static const mp_tensor huge = {"huge", MP_U8, 3, {1, 0x7fffffff, 0x7fffffff}};
  write_plain(head, sizeof head);
  refused(c, &huge, "more bytes than can exist");
  write_packed(head, sizeof head);
  refused(c, &huge, "more bytes than can exist");
}

static void test_packed(Checks *c) {
  uint8_t bytes[64], packed[256];
  size_t n = good_file(bytes);
  write_packed(bytes, n - 1);
  refused(c, &images, "truncated: expected 24 bytes of data, found 23");
  write_packed(bytes, n + 1);
  refused(c, &images, "bytes after its data");
  memset(bytes + 4, 0xff, 4);
  write_packed(bytes, n);
  refused(c, &images, "too short for the 25769803770 bytes");
  good_file(bytes);
  write_packed(bytes, n);
  size_t m = read_back(packed, sizeof packed);
  write_plain(packed, m - 5);
  refused(c, &images, "damaged");
  write_plain(packed, 12);
  refused(c, &images, "");
  packed[m - 6] ^= 1; /* in gzip's own checksum */
  write_plain(packed, m);
  refused(c, &images, "damaged");
}

int main(void) {
  Checks c = {0};
  test_good(&c);
  test_reals(&c);
  test_fit(&c);
  test_broken(&c);
  test_absurd(&c);
  test_packed(&c);
  unlink(path);
  return checks_end(&c, "data");
}
