/* test_load.c: loading in part: patterns, renames, transposing, narrow types; parameters that must
 * be loaded, and those that checkpoints do not hold. */
#include "runtime/rt.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/check.h"
#include "tests/unit/fake_model.h"

static const char file[] = "test_load.tmp.safetensors", dir[] = "test_load.tmp";

/* ---- patterns ---- */

/* `to` filled by what `glob` matched; NULL: no match; "!": not as many wildcards. */
static bool renames(const char *glob, const char *path, const char *to, const char *want) {
  mp_glob_parts parts;
  mp_text out = {0};
  if (!mp_glob_match(glob, path, &parts)) return !want;
  bool filled = mp_glob_fill(to, &parts, &out);
  bool same = want && (filled ? !strcmp(out.at ? out.at : "", want) : !strcmp(want, "!"));
  if (!same) fprintf(stderr, "  %s on %s: %s\n", glob, path, out.at ? out.at : "");
  mp_text_free(&out);
  return same;
}

static void test_globs(Checks *c) {
  CHECK(c, renames("net.0.w", "net.0.w", "x", "x"));
  CHECK(c, renames("net", "net.0.w", "x", "x.0.w"));
  CHECK(c, renames("net.0", "net.01.w", "x", NULL));
  CHECK(c, renames("ne", "net.0", "x", NULL));
  CHECK(c, renames("b.*.w", "b.12.w", "h.*.weight", "h.12.weight"));
  CHECK(c, renames("b.*.w", "b.1.2.w", "h.*.weight", NULL));
  CHECK(c, renames("b.*.q.*", "b.3.q.bias", "*/*", "3/bias"));
  CHECK(c, renames("b.?", "b.3", "h?", "h3"));
  CHECK(c, renames("b.?", "b.33", "h?", NULL));
  CHECK(c, renames("**.w", "w", "x.**.w", "x.w"));
  CHECK(c, renames("**.w", "a.b.w", "x.**.w", "x.a.b.w"));
  CHECK(c, renames("**.w", "a.bw", "x.**.w", NULL));
  CHECK(c, renames("a.**", "a.b.c", "**", "b.c"));
  CHECK(c, renames("**.ln*", "h.0.ln1.weight", "**.norm*", "h.0.norm1.weight"));
  CHECK(c, renames("a.{b,cd}.w", "a.cd.w", "x", "x"));
  CHECK(c, renames("a.{b,cd}.w", "a.c.w", "x", NULL));
  CHECK(c, renames("{a,b*}.w", "bcd.w", "*", "cd"));
  CHECK(c, renames("{a,b", "a", "x", NULL));
  CHECK(c, renames("*.w", "a.w", "x.w", "!"));
  CHECK(c, renames("a.w", "a.w", "*.w", "!"));
  CHECK(c, renames("*", "", "*", NULL));
  CHECK(c, renames("*?*?*?*?*.b", "aaaaaaaaaaaaaaaaaaaa.c", "x", NULL));
}

/* ---- files ---- */

static void write_file(const char *header, const void *data, size_t n) {
  size_t m = strlen(header);
  FILE *f = fopen(file, "wb");
  for (int i = 0; i < 8; i++) fputc((int)(m >> 8 * i & 0xff), f);
  fputs(header, f);
  fwrite(data, 1, n, f);
  fclose(f);
}

#define TENSOR(name, type, shape, from, to)                                                        \
  "\"" name "\":{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":[" #from "," #to "]}"

static mp_ctx *fresh(Checks *c, const mp_model *m) {
  mp_ctx *ctx = NULL;
  mp_options o = {.struct_size = sizeof o, .threads = 1};
  CHECK(c, m->api->create(&o, &ctx, NULL) == MP_OK);
  CHECK(c, m->api->init(ctx, 3) == MP_OK);
  return ctx;
}

static const float *values(mp_ctx *ctx, const char *path) {
  return mp_state_data(ctx, (uint32_t)mp_find_state(ctx, path));
}

static int load(mp_ctx *ctx, const char *glob, const char *const *map) {
  mp_load how = {.struct_size = sizeof how, .glob = glob, .map = map};
  return mp_load_path(ctx, file, &how);
}

static void refused(Checks *c, mp_ctx *ctx, int status, const char *words) {
  if (!CHECK(c, status < 0 && strstr(mp_error_text(ctx), words)))
    fprintf(stderr, "  %d: %s\n  expected: %s\n", status, mp_error_text(ctx), words);
}

/* f16: 1, 2, -0.5, 2^-24 (subnormal), inf, 65504. */
static void test_narrow(Checks *c) {
  static const uint16_t halves[] = {0x3c00, 0x4000, 0xb800, 0x0001, 0x7c00, 0x7bff};
  static const uint16_t brains[] = {0x3f80, 0xc000, 0x7f80};
  mp_ctx *ctx = fresh(c, &fake_model_loads);
  write_file("{" TENSOR("proj.w", "F16", "[2,3]", 0, 12) "}", halves, sizeof halves);
  CHECK(c, load(ctx, "proj.w", NULL) == MP_OK);
  const float *p = values(ctx, "proj.w");
  CHECK(c, p[0] == 1 && p[1] == 2 && p[2] == -0.5f && p[3] == 0x1p-24f && p[5] == 65504);
  CHECK(c, p[4] > 1e38f && p[4] == p[4] * 2);
  write_file("{" TENSOR("w", "BF16", "[3]", 0, 6) "}", brains, sizeof brains);
  CHECK(c, load(ctx, "w", NULL) == MP_OK);
  const float *w = values(ctx, "w");
  CHECK(c, w[0] == 1 && w[1] == -2 && w[2] > 1e38f);
  const uint16_t *low = mp_state_data(ctx, (uint32_t)mp_find_state(ctx, "w:low"));
  CHECK(c, low[0] == 0x3f80 && low[1] == 0xc000); /* derived copies follow */
  mp_destroy(ctx);
}

static void test_rename(Checks *c) {
  static const float data[] = {0, 1, 2, 3, 4, 5, 7};
  static const char *const map[] = {"*.w", "h.*.weight transpose", "b", "h.bias", NULL};
  static const char *const plain[] = {"*.w", "h.*.weight", NULL};
  static const char *const wild[] = {"proj.w", "h.*.weight", NULL};
  mp_ctx *ctx = fresh(c, &fake_model_loads);
  float w0 = values(ctx, "w")[1];
  write_file("{" TENSOR("h.proj.weight", "F32", "[3,2]", 0, 24) "," TENSOR("h.bias", "F32", "[]",
                                                                           24, 28) "}",
             data, sizeof data);
  CHECK(c, load(ctx, "{proj,b}", map) == MP_OK);
  const float *p = values(ctx, "proj.w");
  CHECK(c, p[0] == 0 && p[1] == 2 && p[2] == 4 && p[3] == 1 && p[4] == 3 && p[5] == 5);
  CHECK(c, *values(ctx, "b") == 7 && values(ctx, "w")[1] == w0);
  refused(c, ctx, load(ctx, "proj", plain),
          "'proj.w' from 'h.proj.weight': expected F32[2, 3], found F32[3, 2]");
  refused(c, ctx, load(ctx, NULL, map), "'w' is missing");
  refused(c, ctx, load(ctx, "proj", NULL), "'proj.w' is missing");
  refused(c, ctx, load(ctx, "prok", NULL), "no parameter of Fake matches 'prok'");
  refused(c, ctx, load(ctx, "proj", wild), "has not as many wildcards as its pattern");
  write_file(
      "{" TENSOR("h.prob.weight", "F32", "[3,2]", 0, 24) "," TENSOR("b", "I32", "[]", 24, 28) "}",
      data, sizeof data);
  refused(
      c, ctx, load(ctx, "proj", map),
      "'h.proj.weight', which is to become 'proj.w', is missing, did you mean 'h.prob.weight'?");
  refused(c, ctx, load(ctx, "b", NULL), "'b': expected F32[], found I32[]");
  mp_destroy(ctx);
}

/* ---- what must be loaded, what is not saved ---- */

static int step(mp_ctx *ctx) {
  static const float x[FAKE_BATCH][FAKE_X], y[FAKE_BATCH];
  mp_bind(ctx, FAKE_STEP, 0, x, sizeof x);
  mp_bind(ctx, FAKE_STEP, 1, y, sizeof y);
  return mp_run_entry(ctx, FAKE_STEP, NULL, NULL);
}

static void set_proj(Checks *c, mp_ctx *ctx, float value) {
  float data[2][FAKE_X] = {{value}};
  int64_t shape[] = {2, FAKE_X};
  mp_view v = {.data = data, .device = {1, 0}, .ndim = 2, .dtype = {2, 32, 1}, .shape = shape};
  CHECK(c, mp_set(ctx, "proj.w", &v) == MP_OK);
}

static void test_must_load(Checks *c) {
  mp_ctx *ctx = fresh(c, &fake_model_loads);
  refused(c, ctx, step(ctx), "train_step: 'proj.w' has no initializer: load or set it first");
  set_proj(c, ctx, 5);
  CHECK(c, step(ctx) == MP_OK);
  CHECK(c, mp_save(ctx, dir) == MP_OK);
  mp_init(ctx, 4);
  refused(c, ctx, step(ctx), "'proj.w' has no initializer");
  refused(c, ctx, mp_load_path(ctx, dir, NULL),
          "'proj.w' is not what it was when this was saved: load the same file first");
  set_proj(c, ctx, 6);
  refused(c, ctx, mp_load_path(ctx, dir, NULL), "is not what it was");
  CHECK(c, mp_counter(ctx, "step") == 0);
  set_proj(c, ctx, 5);
  CHECK(c, mp_load_path(ctx, dir, NULL) == MP_OK && mp_counter(ctx, "step") == 1);
  CHECK(c, step(ctx) == MP_OK);
  mp_destroy(ctx);
  mp_checkpoint_remove(dir);
}

int main(void) {
  Checks c = {0};
  test_globs(&c);
  test_narrow(&c);
  test_rename(&c);
  test_must_load(&c);
  unlink(file);
  return checks_end(&c, "load");
}
