/* test_data.c: data files of every format, right ones and broken ones; parts, lanes, categories.
 *
 * A broken file must be refused with the words that say where it is wrong, and never be read past
 * its end: sizes in headers that lie, dims whose product overflows, archives that stop in the
 * middle.  What is right must arrive element for element, whichever format it came in. */
#include "runtime/data.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "tests/unit/check.h"

static const char *path = "test_data.tmp";

static const mp_tensor images = {"images", MP_U8, 3, {64, 2, 3}, 0, 0};
static const mp_tensor labels = {"labels", MP_U8, 1, {64}, 0, 0};
static const mp_tensor reals = {"reals", MP_F32, 2, {64, 2}, 0, 0};

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

/* The file and a source of it, for the input `want`. */
typedef struct Opened {
  mp_file file;
  mp_source source;
  mp_error err;
  int status;
} Opened;

static Opened open_as(const mp_source_desc *d, const mp_tensor *want, const mp_source *like) {
  Opened o = {.err = {""}};
  o.status = mp_file_open(&o.file, path, &o.err);
  if (!o.status) o.status = mp_source_open(&o.source, &o.file, d, want, like, &o.err);
  return o;
}

static Opened open_rows(const mp_tensor *want) {
  mp_source_desc d = {want->name, MP_ROWS, want->dtype, 0, 0};
  return open_as(&d, want, NULL);
}

static void close_both(Opened *o) {
  mp_source_close(&o->source);
  mp_file_close(&o->file);
}

static void check_refused(Checks *c, Opened o, const char *words) {
  if (!CHECK(c, o.status < 0 && strstr(o.err.text, words)))
    fprintf(stderr, "  %d: %s\n  expected: %s\n", o.status, o.err.text, words);
  CHECK(c, !o.source.at && !o.source.heap);
  close_both(&o);
}

/* The file on disk is refused, with these words. */
static void refused(Checks *c, const mp_tensor *want, const char *words) {
  check_refused(c, open_rows(want), words);
}

static void accepted(Checks *c) {
  uint8_t row[6] = {0};
  Opened o = open_rows(&images);
  if (CHECK(c, o.status == MP_OK)) {
    CHECK(c, o.source.rows == 4 && o.source.row_bytes == 6);
    mp_source_row(&o.source, 2, row);
  }
  CHECK(c, row[0] == 12 && row[5] == 17);
  close_both(&o);
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
  float row[2] = {0};
  write_plain(bytes, sizeof bytes);
  Opened o = open_rows(&reals);
  if (CHECK(c, o.status == MP_OK)) mp_source_row(&o.source, 0, row);
  CHECK(c, row[0] == 1.0f && row[1] == -2.0f);
  close_both(&o);
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
  refused(c, &images, "its 3 bytes are not whole rows of 6 (u8[rows, 2, 3])");
  write_plain(bytes, 9);
  refused(c, &images, "ends inside its header");
  write_plain(bytes, n - 1);
  refused(c, &images, "truncated: expected 24 bytes of data, found 23");
  write_plain(bytes, n + 2);
  refused(c, &images, "2 bytes after its data");
  path = "test_data.idx"; /* the suffix is believed where the magic is missing */
  write_plain("\x89PNG\r\n", 6);
  refused(c, &images, "not an IDX file (it begins with 89 50 4e 47");
  bytes[2] = 0x42;
  write_plain(bytes, n);
  refused(c, &images, "not an IDX file");
  bytes[2] = 8, bytes[3] = 200;
  write_plain(bytes, n);
  refused(c, &images, "ends inside its header");
  unlink(path);
  path = "test_data.tmp";
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
  static const mp_tensor huge = {"huge", MP_U8, 3, {1, 0x7fffffff, 0x7fffffff}, 0, 0};
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

/* ---- raw ---- */

static void test_raw(Checks *c) {
  static const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  uint8_t row[6] = {0};
  write_plain(bytes, sizeof bytes);
  Opened o = open_rows(&images);
  if (CHECK(c, !o.status && o.source.rows == 2)) mp_source_row(&o.source, 1, row);
  CHECK(c, row[0] == 7 && row[5] == 12);
  close_both(&o);
  write_plain(bytes, 11);
  refused(c, &images, "its 11 bytes are not whole rows of 6 (u8[rows, 2, 3])");
}

/* ---- NPY ---- */

static void write_npy(int version, const char *dictionary, const void *data, size_t n) {
  size_t m = strlen(dictionary);
  FILE *f = fopen(path, "wb");
  fprintf(f, "\x93NUMPY%c%c%c%c", version, 0, (int)(m & 0xff), (int)(m >> 8));
  if (version > 1) fwrite("\0", 1, 2, f);
  fputs(dictionary, f);
  fwrite(data, 1, n, f);
  fclose(f);
}

#define NPY(type, order, shape)                                                                    \
  "{'descr': '" type "', 'fortran_order': " order ", 'shape': " shape ", }\n"

static const void *bytes_of_zeros(void) {
  static const uint8_t zeros[64];
  return zeros;
}

static void test_npy(Checks *c) {
  static const uint8_t little[] = {0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0};
  static const uint8_t big[] = {0x3f, 0x80, 0, 0, 0xc0, 0, 0, 0};
  for (int version = 1; version <= 3; version++) {
    float row[2] = {0};
    write_npy(version, version == 2 ? NPY(">f4", "False", "(1, 2)") : NPY("<f4", "False", "(1,2)"),
              version == 2 ? big : little, 8);
    Opened o = open_rows(&reals);
    if (CHECK(c, !o.status)) mp_source_row(&o.source, 0, row);
    CHECK(c, row[0] == 1.0f && row[1] == -2.0f);
    close_both(&o);
  }
  write_npy(1, NPY("<f8", "False", "(4, 2)"), bytes_of_zeros(), 64);
  refused(c, &reals, "expected f32[rows, 2], found f64[4, 2]");
  write_npy(1, NPY("<f4", "False", "(1, 3)"), bytes_of_zeros(), 12);
  refused(c, &reals, "expected f32[rows, 2], found f32[1, 3]");
  write_npy(1, NPY("<f4", "False", "()"), bytes_of_zeros(), 4);
  refused(c, &reals, "expected f32[rows, 2], found f32[]");
  write_npy(1, NPY("<f4", "True", "(1, 2)"), little, 8);
  refused(c, &reals, "is in Fortran order: save np.ascontiguousarray(x)");
  write_npy(1, NPY("<f4", "False", "(2, 2)"), little, 8);
  refused(c, &reals, "truncated: expected 16 bytes of data, found 8");
  write_npy(1, NPY("<f4", "False", "(0, 2)"), little, 0);
  refused(c, &reals, "holds no rows");
  write_npy(1, NPY("|O", "False", "(1, 2)"), little, 8);
  refused(c, &reals, "not a header of a plain array near 'O'");
  write_npy(1, "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", little, 8);
  refused(c, &reals, "not a header of a plain array near '[('a'");
  write_npy(1, NPY("<f4", "False", "(9223372036854775807, 9)"), little, 8);
  refused(c, &reals, "not a header");
  write_npy(1, NPY("<f4", "False", "(999999999999999999, 3)"), little, 8);
  refused(c, &reals, "more bytes than can exist");
  write_npy(4, NPY("<f4", "False", "(1, 2)"), little, 8);
  refused(c, &reals, "not an NPY file of version 1, 2 or 3");
  write_plain("\x93NUMPY\x01\0\xff\0{'descr'", 18);
  refused(c, &reals, "ends inside its header");
}

/* ---- windows, parts, lanes ---- */

static void test_windows(Checks *c) {
  static const mp_source_desc text = {"text", MP_WINDOWS, MP_U16, 3, 0};
  static const mp_tensor input = {"text", MP_U16, 2, {8, 4}, 0, 0};
  uint16_t tokens[11], row[4] = {0};
  for (uint16_t i = 0; i < 11; i++) tokens[i] = (uint16_t)(500 + i);
  write_plain(tokens, sizeof tokens);
  Opened o = open_as(&text, &input, NULL);
  if (CHECK(c, !o.status && o.source.rows == 3)) mp_source_row(&o.source, 2, row);
  CHECK(c, row[0] == 506 && row[3] == 509);
  close_both(&o);
  write_plain(tokens, 6);
  check_refused(c, open_as(&text, &input, NULL), "has 3 elements; a window of 3 needs 4");
  write_plain(tokens, 7);
  check_refused(c, open_as(&text, &input, NULL),
                "its 7 bytes are not whole elements of 2 (u16[n])");
  write_npy(1, NPY("<u2", "False", "(11,)"), tokens, sizeof tokens);
  o = open_as(&text, &input, NULL);
  CHECK(c, !o.status && o.source.rows == 3);
  close_both(&o);
  write_npy(1, NPY("<u4", "False", "(5,)"), tokens, 20);
  check_refused(c, open_as(&text, &input, NULL), "expected u16[n], found u32[5]");
}

static void test_parts(Checks *c) {
  for (int split = MP_SPLIT_LAST; split <= MP_SPLIT_RANDOM; split++) {
    mp_part train = mp_part_split(103, split, 0.1, false);
    mp_part held = mp_part_split(103, split, 0.1, true);
    int seen[103] = {0}, moved = 0;
    CHECK(c, train.rows == 93 && held.rows == 10);
    for (int64_t i = 0; i < 93; i++) seen[mp_part_row(&train, i)]++;
    for (int64_t i = 0; i < 10; i++) seen[mp_part_row(&held, i)]++;
    for (int64_t i = 0; i < 10; i++) moved += mp_part_row(&held, i) != 93 + i;
    for (int i = 0; i < 103; i++) CHECK(c, seen[i] == 1);
    CHECK(c, split == MP_SPLIT_LAST ? !moved : moved > 5);
  }
  mp_part all = mp_part_split(23, MP_SPLIT_NONE, 0.5, false);
  CHECK(c, all.rows == 23 && mp_part_row(&all, 22) == 22);
  mp_part_make_lanes(&all, 4); /* four stretches of five rows */
  CHECK(c, all.rows == 20);
  for (int64_t i = 0; i < 20; i++) CHECK(c, mp_part_row(&all, i) == i % 4 * 5 + i / 4);
}

/* ---- CSV ---- */

static const mp_tensor age = {"age", MP_F32, 1, {8}, 0, 0}, city = {"city", MP_I32, 1, {8}, 0, 0};
static const mp_tensor small = {"small", MP_U8, 1, {8}, 0, 0};

static void write_text(const char *text) { write_plain(text, strlen(text)); }

static Opened open_city(const mp_source *like) {
  static const mp_source_desc d = {"city", MP_ROWS, MP_I32, 0, 3};
  return open_as(&d, &city, like);
}

static void test_csv(Checks *c) {
  float v[3] = {0};
  path = "test_data.csv";
  write_text(
      "\xef\xbb\xbf\"id\",age,\"a \"\"b\"\"\"\r\n1,1.5,x\r\n2,\"-2e1\",\"y,\nz\"\n3,.25,\n\n");
  Opened o = open_rows(&age);
  CHECK(c, mp_file_has(&o.file, "a \"b\"") && mp_file_has(&o.file, "id"));
  for (int64_t i = 0; i < 3 && !o.status; i++) mp_source_row(&o.source, i, &v[i]);
  CHECK(c, !o.status && o.source.rows == 3 && v[0] == 1.5f && v[1] == -20.0f && v[2] == 0.25f);
  close_both(&o);
  refused(c, &small, "has no column 'small'");
  write_text("age,small\n1,255\n2,0\n");
  o = open_rows(&small);
  CHECK(c, !o.status && o.source.at[0] == 255 && o.source.at[1] == 0);
  close_both(&o);
  refused(c, &images, "has no column 'images', did you mean");
  static const struct {
    const char *text, *words;
  } bad[] = {
      {"small,age\n1,2\n3\n", "line 3: fewer than the header's 2 cells"},
      {"small,age\n1,2\n3,4,5\n", "line 3: more than the header's 2 cells"},
      {"small,age\n1,2\n\"x\n\",\n", "line 4, column 'age': a value is missing"},
      {"small,age\n1,nan\n", "line 2, column 'age': 'nan' is not an f32"},
      {"small,age\n1,0x10\n", "line 2, column 'age': '0x10' is not an f32"},
      {"small,age\n1,1e99\n", "'1e99' is not an f32"},
      {"small,age\n1, 2\n", "' 2' is not an f32"},
      {"small,age\n1,\"2\n", "line 2: a quote is never closed"},
      {"small,age\n1,\"2\"3\n", "line 2: text behind a closing quote"},
      {"small,age\n1,2\"3\n", "line 2: a quote inside a cell"},
      {"age,age\n1,2\n", "has two columns 'age'"},
      {"small,age\n", "holds no rows"},
  };
  for (size_t i = 0; i < MP_LEN(bad); i++) {
    write_text(bad[i].text);
    refused(c, &age, bad[i].words);
  }
  write_text("small,age\n256,1\n");
  refused(c, &small, "line 2, column 'small': '256' is not of type u8");
  write_text("small,age\n1.5,1\n");
  refused(c, &small, "'1.5' is not of type u8");
}

static void test_categories(Checks *c) {
  static const int32_t expected[] = {2, 0, 1, 2};
  int32_t v = -1;
  write_text("city\nRome\nBonn\n\"Lima\"\nRome\n");
  Opened train = open_city(NULL);
  for (int64_t i = 0; i < 4 && !train.status; i++) {
    mp_source_row(&train.source, i, &v);
    CHECK(c, v == expected[i]);
  }
  CHECK(c, !train.status && train.source.rows == 4);
  write_text("city\nRome\n"); /* alone it would be 0 */
  Opened eval = open_city(&train.source);
  if (CHECK(c, !eval.status)) mp_source_row(&eval.source, 0, &v);
  CHECK(c, v == 2);
  close_both(&eval);
  write_text("city\nRome\nOslo\n");
  check_refused(c, open_city(&train.source), "line 3, column 'city': 'Oslo' is a name that the");
  close_both(&train);
  write_text("city\n2\n0\n");
  train = open_city(NULL);
  if (CHECK(c, !train.status)) mp_source_row(&train.source, 0, &v);
  CHECK(c, v == 2 && !train.source.names.len);
  write_text("city\nRome\n");
  check_refused(c, open_city(&train.source), "but the training data has numbers");
  close_both(&train);
  write_text("city\n2\n3\n");
  check_refused(c, open_city(NULL), "line 3, column 'city': '3' is not one of category(3): 0 … 2");
  write_text("city\na\nb\nc\nd\n");
  check_refused(c, open_city(NULL), "line 5, column 'city': 'd' is one name more than category(3)");
  unlink(path);
  path = "test_data.tmp";
}

/* ---- safetensors ---- */

static void write_tensors(const char *header, const void *data, size_t n) {
  size_t m = strlen(header);
  FILE *f = fopen(path, "wb");
  for (int i = 0; i < 8; i++) fputc((int)(m >> 8 * i & 0xff), f);
  fputs(header, f);
  fwrite(data, 1, n, f);
  fclose(f);
}

static void test_safetensors(Checks *c) {
  static const float data[] = {1, 2, 3, 4, 5, 6};
  float row[2] = {0};
  write_tensors("{\"other\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                "\"reals\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[8,24]}}",
                data, sizeof data);
  Opened o = open_rows(&reals);
  if (CHECK(c, !o.status && o.source.rows == 2)) mp_source_row(&o.source, 1, row);
  CHECK(c, row[0] == 5 && row[1] == 6);
  CHECK(c, mp_file_has(&o.file, "other") && !mp_file_has(&o.file, "images"));
  close_both(&o);
  refused(c, &images, "has no tensor 'images'");
  write_tensors("{\"reals\":{\"dtype\":\"F64\",\"shape\":[3,1],\"data_offsets\":[0,24]}}", data,
                sizeof data);
  refused(c, &reals, "expected f32[rows, 2], found F64[3, 1]");
  write_tensors("{\"reals\":{\"dtype\":\"F32\",\"shape\":[9,2],\"data_offsets\":[0,72]}}", data,
                sizeof data);
  refused(c, &reals, "expected 72 bytes of data, found 24");
}

int main(void) {
  Checks c = {0};
  test_raw(&c);
  test_npy(&c);
  test_windows(&c);
  test_parts(&c);
  test_csv(&c);
  test_categories(&c);
  test_safetensors(&c);
  test_good(&c);
  test_reals(&c);
  test_fit(&c);
  test_broken(&c);
  test_absurd(&c);
  test_packed(&c);
  unlink(path);
  return checks_end(&c, "data");
}
