/* test_runtime.c: tables, team, float mode, contexts, runs, state, shuffle: the runtime in memory.
 *
 * It runs on models whose entries are plain C (fake_model.h), so it needs no compiler, and can
 * bring about what compiled models do only by accident: a step that is not finite, an index out of
 * range, memory that runs out at the n-th allocation. */
#include "runtime/rt.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/check.h"
#include "tests/unit/fake_model.h"

/* ---- model.def covers the structures, calls.def the functions ---- */

/* The end of the last field, padded to the structure's alignment of 8, is its size: nothing is
 * missing at the end; fields in the middle are compared by the running offset. */
static uint64_t aligned(uint64_t at, uint64_t n) { return (at + n - 1) / n * n; }

static void test_tables(Checks *c) {
  uint64_t at = 0;
#define STRUCT(T) at = 0;
#define FIELD(T, f, size, align)                                                                   \
  at = aligned(at, align);                                                                         \
  CHECK(c, offsetof(T, f) == at && sizeof(((T *)0)->f) == (size));                                 \
  at += size;
#define END(T) CHECK(c, sizeof(T) == aligned(at, 8));
#define I32(T, f) FIELD(T, f, 4, 4)
#define U32(T, f) FIELD(T, f, 4, 4)
#define I64(T, f) FIELD(T, f, 8, 8)
#define U64(T, f) FIELD(T, f, 8, 8)
#define F64(T, f) FIELD(T, f, 8, 8)
#define STR(T, f) FIELD(T, f, sizeof(char *), sizeof(char *))
#define DIMS(T, f) FIELD(T, f, 8 * MP_MAX_RANK, 8)
#define SUB(T, f, U) FIELD(T, f, sizeof(U), 8)
#define PTR(T, f, U) STR(T, f)
#define TAB(T, f, U, n) STR(T, f)
#define LIST(T, f) STR(T, f)
#define FNS(T, f, n) STR(T, f)
#include "runtime/model.def"
  at = offsetof(mp_api, create);
#define API(field, symbol) FIELD(mp_api, field, sizeof(char *), sizeof(char *))
#include "runtime/calls.def"
  CHECK(c, at == sizeof(mp_api));
  at = 0;
#define FRAME(kind, field) FIELD(mp_frame, field, 8, 8)
#include "runtime/calls.def"
  CHECK(c, at == sizeof(mp_frame));
}

/* ---- team ---- */

enum { ROUNDS = 500 };

typedef struct Shared {
  mp_team *team;
  atomic_int counts[ROUNDS];
  int wrong[64]; /* by thread */
  float tiny;
  int not_flushed[64];
} Shared;

static void meet(void *user, int32_t tid, int32_t threads) {
  Shared *s = user;
  for (int i = 0; i < ROUNDS; i++) {
    atomic_fetch_add(&s->counts[i], 1);
    mp_barrier(s->team);
    if (atomic_load(&s->counts[i]) != threads) s->wrong[tid]++;
  }
  volatile float f = s->tiny;
  if (f * 0.5f != 0) s->not_flushed[tid]++;
}

static void test_team(Checks *c, int threads) {
  mp_memory m = mp_memory_of(&(mp_options){0});
  mp_error err;
  Shared s = {.team = mp_team_new(&m, threads, &err), .tiny = 1.5e-38f};
  volatile float tiny = 1.5e-38f;
  if (!CHECK(c, s.team != NULL)) return;
  CHECK(c, mp_team_size(s.team) == threads);
  for (int job = 0; job < 20; job++) {
    memset(s.counts, 0, sizeof s.counts);
    mp_team_run(s.team, meet, &s);
    CHECK(c, tiny * 0.5f != 0); /* the caller's float mode is back */
  }
  for (int t = 0; t < threads; t++) CHECK(c, s.wrong[t] == 0 && s.not_flushed[t] == 0);
  mp_team_free(&m, s.team);
}

/* ---- shuffle ---- */

static void test_bijection(Checks *c, uint64_t n, uint64_t seed, uint64_t epoch) {
  mp_shuffle s = mp_shuffle_new(n, seed, epoch);
  uint8_t *seen = calloc(n, 1);
  uint64_t twice = 0;
  for (uint64_t p = 0; p < n; p++) {
    uint64_t row = mp_shuffle_at(&s, p);
    twice += row >= n || seen[row]++;
  }
  CHECK(c, twice == 0);
  free(seen);
}

static uint64_t same_places(uint64_t n, mp_shuffle a, mp_shuffle b) {
  uint64_t same = 0;
  for (uint64_t p = 0; p < n; p++) same += mp_shuffle_at(&a, p) == mp_shuffle_at(&b, p);
  return same;
}

/* Where row 0 lands over many epochs: every place about equally often (chi-square, 9 degrees). */
static double unevenness(uint64_t n, int epochs) {
  double count[10] = {0}, chi = 0, mean = epochs / (double)n;
  for (int e = 0; e < epochs; e++) {
    mp_shuffle s = mp_shuffle_new(n, 42, (uint64_t)e);
    for (uint64_t p = 0; p < n; p++)
      if (mp_shuffle_at(&s, p) == 0) count[p]++;
  }
  for (uint64_t p = 0; p < n; p++) chi += (count[p] - mean) * (count[p] - mean) / mean;
  return chi;
}

static void test_shuffle(Checks *c) {
  for (uint64_t n = 1; n <= 70; n++) test_bijection(c, n, 3, n);
  test_bijection(c, 60000, 1, 0);
  test_bijection(c, 65536, 1, 1);
  test_bijection(c, 65537, UINT64_MAX, UINT64_MAX);
  mp_shuffle a = mp_shuffle_new(60000, 1, 0);
  CHECK(c, same_places(60000, a, mp_shuffle_new(60000, 1, 1)) < 20); /* expected: 1 */
  CHECK(c, same_places(60000, a, mp_shuffle_new(60000, 2, 0)) < 20);
  CHECK(c, same_places(60000, a, mp_shuffle_new(60000, 1, 0)) == 60000);
  CHECK(c, unevenness(10, 5000) < 33); /* p = 1e-4 */
  a = mp_shuffle_new((uint64_t)1 << 62, 1, 0);
  CHECK(c, mp_shuffle_at(&a, 5) < (uint64_t)1 << 62);
  /* The order is a promise: a change here changes everybody's runs. */
  a = mp_shuffle_new(60000, 1, 0);
  CHECK(c, mp_shuffle_at(&a, 0) == 19271 && mp_shuffle_at(&a, 1) == 33163);
}

/* ---- contexts ---- */

typedef struct Batch {
  float x[FAKE_BATCH][FAKE_X], y[FAKE_BATCH];
} Batch;

static Batch make_batch(void) {
  Batch b;
  for (int r = 0; r < FAKE_BATCH; r++) {
    for (int i = 0; i < FAKE_X; i++) b.x[r][i] = (float)((r * 5 + i * 3) % 7) / 7;
    b.y[r] = 1 + 2 * b.x[r][0] - b.x[r][1] + 0.5f * b.x[r][2];
  }
  return b;
}

static mp_ctx *new_ctx(Checks *c, int threads) {
  mp_options o = {.struct_size = sizeof o, .threads = threads};
  mp_ctx *ctx = NULL;
  mp_error err = {""};
  int status = fake_get_api(MP_ABI)->create(&o, &ctx, &err);
  if (status) fprintf(stderr, "%s\n", err.text);
  CHECK(c, status == MP_OK);
  return ctx;
}

static void bind_batch(mp_ctx *ctx, const Batch *b, uint32_t entry) {
  const mp_api *api = fake_get_api(MP_ABI);
  api->bind(ctx, entry, 0, b->x, sizeof b->x);
  if (api->desc->entries[entry].n_inputs > 1) api->bind(ctx, entry, 1, b->y, sizeof b->y);
}

static int step_once(mp_ctx *ctx, const Batch *b, mp_result *r) {
  bind_batch(ctx, b, FAKE_STEP);
  r->struct_size = sizeof *r;
  return fake_get_api(MP_ABI)->run(ctx, FAKE_STEP, NULL, r);
}

static float state_f32(mp_ctx *ctx, const char *name, int i) {
  mp_view v;
  fake_get_api(MP_ABI)->get(ctx, name, &v);
  return ((const float *)v.data)[i];
}

static bool says(mp_ctx *ctx, const char *part) {
  const char *text = fake_get_api(MP_ABI)->error(ctx);
  if (strstr(text, part)) return true;
  fprintf(stderr, "error is: %s\n", text);
  return false;
}

static void test_create(Checks *c) {
  const mp_api *api = fake_get_api(MP_ABI);
  mp_ctx *ctx = (mp_ctx *)&c;
  mp_error err = {""};
  CHECK(c, fake_get_api(0) == NULL);
  CHECK(c, api->abi == MP_ABI && api->size == sizeof(mp_api) && !strcmp(api->desc->name, "Fake"));
  CHECK(c, api->create(&(mp_options){0}, &ctx, &err) == MP_E_ARG && !ctx);
  mp_options o = {.struct_size = sizeof o, .threads = -2};
  CHECK(c, api->create(&o, &ctx, &err) == MP_E_ARG && strstr(err.text, "threads"));
  CHECK(c, api->create(NULL, &ctx, NULL) == MP_OK);
  api->destroy(ctx);
  api->destroy(NULL);
#ifdef __x86_64__
  CHECK(c, mp_create(&fake_model_for_other_cpu, NULL, &ctx, &err) == MP_E_CPU && !ctx);
  CHECK(c, strstr(err.text, "x86-64-v8") && strstr(err.text, "avx4095"));
  CHECK(c, strstr(err.text, "-mcpu=x86-64-v3") != NULL);
#endif
}

/* ---- levels ---- */

static const mp_level *level_asked(const char *cpu, mp_error *err) {
  const mp_level *l = NULL;
  err->text[0] = 0;
  mp_choose_level(&fake_model, cpu, &l, err);
  return l;
}

static void test_levels(Checks *c) {
  mp_error err;
  const mp_level *best = level_asked(NULL, &err);
  CHECK(c,
        best && best < &fake_model.levels[2]); /* the best that is there, but none of the future */
  CHECK(c, level_asked("x86-64", &err) == fake_model.levels && !err.text[0]);
  CHECK(c, !level_asked("x86-64-v9", &err) && strstr(err.text, "lacks avx4096"));
  CHECK(c, !level_asked("z80", &err) && strstr(err.text, "no code for 'z80'"));
  mp_ctx *ctx = NULL;
  mp_options o = {.struct_size = sizeof o, .threads = 1, .cpu = "x86-64"};
  CHECK(c, mp_create(&fake_model, &o, &ctx, &err) == MP_OK && ctx->level == fake_model.levels);
  mp_destroy(ctx);
  o.cpu = "x86-64-v9";
  CHECK(c, mp_create(&fake_model, &o, &ctx, &err) == MP_E_CPU && !ctx);
}

/* Ways in which an instruction may round: which half first, one rounding for both, subnormal
 * numbers kept, products rounded before they are added. */
static float half(uint32_t bits) {
  float f;
  bits <<= 16;
  memcpy(&f, &bits, sizeof f);
  return f;
}

static void dot_right(const uint32_t *x, const uint32_t *y, const float *acc, float *out) {
  for (int i = 0; i < MP_DOT_LANES; i++) {
    float high = fmaf(half(x[i] >> 16), half(y[i] >> 16), acc[i]);
    out[i] = fmaf(half(x[i] & 0xffff), half(y[i] & 0xffff), high);
  }
}

static void dot_other_order(const uint32_t *x, const uint32_t *y, const float *acc, float *out) {
  for (int i = 0; i < MP_DOT_LANES; i++) {
    float low = fmaf(half(x[i] & 0xffff), half(y[i] & 0xffff), acc[i]);
    out[i] = fmaf(half(x[i] >> 16), half(y[i] >> 16), low);
  }
}

static void dot_one_rounding(const uint32_t *x, const uint32_t *y, const float *acc, float *out) {
  for (int i = 0; i < MP_DOT_LANES; i++)
    out[i] = (float)((double)half(x[i] >> 16) * half(y[i] >> 16) +
                     (double)half(x[i] & 0xffff) * half(y[i] & 0xffff) + acc[i]);
}

static void dot_rounds_products(const uint32_t *x, const uint32_t *y, const float *acc,
                                float *out) {
  for (int i = 0; i < MP_DOT_LANES; i++) {
    float high = half(x[i] >> 16) * half(y[i] >> 16);
    float low = half(x[i] & 0xffff) * half(y[i] & 0xffff);
    out[i] = acc[i] + high + low;
  }
}

static void dot_keeps_subnormals(const uint32_t *x, const uint32_t *y, const float *acc,
                                 float *out) {
  uint64_t flushing = mp_float_enter();
  mp_float_leave(0x1f80);
  dot_right(x, y, acc, out);
  mp_float_leave(flushing);
}

static void test_witnesses(Checks *c) {
  CHECK(c, mp_dot_agrees(dot_right));
  CHECK(c, !mp_dot_agrees(dot_other_order));
  CHECK(c, !mp_dot_agrees(dot_one_rounding));
  CHECK(c, !mp_dot_agrees(dot_rounds_products));
#ifdef __x86_64__
  CHECK(c, !mp_dot_agrees(dot_keeps_subnormals));
  if (mp_cpu_lacks((const char *const[]){"avx512f", "avx512bf16", NULL}))
    printf("left out: vdpbf16ps against the witnesses (this CPU lacks AVX512-BF16)\n");
  else CHECK(c, mp_dot_agrees(mp_cpu_dot));
#else
  (void)dot_keeps_subnormals;
#endif
}

/* The n-th allocation fails, for every n: a clean error, and nothing leaks. */
typedef struct Failing {
  int left, live;
} Failing;

static void *failing_alloc(void *user, size_t bytes, size_t align) {
  Failing *f = user;
  if (f->left-- <= 0) return NULL;
  f->live++;
  return aligned_alloc(align, bytes);
}

static void failing_free(void *user, void *p) {
  ((Failing *)user)->live--;
  free(p);
}

static void test_alloc(Checks *c) {
  const mp_api *api = fake_get_api(MP_ABI);
  for (int n = 0, status = MP_E_MEMORY; status; n++) {
    Failing f = {n, 0};
    mp_options o = {.struct_size = sizeof o,
                    .threads = 2,
                    .alloc = failing_alloc,
                    .free = failing_free,
                    .user = &f};
    mp_ctx *ctx = NULL;
    mp_error err;
    status = api->create(&o, &ctx, &err);
    CHECK(c, status == (ctx ? MP_OK : MP_E_MEMORY) && n < 100);
    api->destroy(ctx);
    if (!CHECK(c, f.live == 0) || n >= 100) return;
  }
}

static void test_run_errors(Checks *c) {
  const mp_api *api = fake_get_api(MP_ABI);
  mp_ctx *ctx = new_ctx(c, 1);
  Batch b = make_batch();
  mp_view v;
  CHECK(c, api->run(ctx, FAKE_STEP, NULL, NULL) == MP_E_ARG && says(ctx, "call init"));
  api->init(ctx, 1);
  CHECK(c, api->run(ctx, 99, NULL, NULL) == MP_E_ARG && says(ctx, "no entry 99"));
  CHECK(c, api->run(ctx, FAKE_INIT, NULL, NULL) == MP_E_ARG);
  CHECK(c, api->run(ctx, FAKE_STEP, NULL, NULL) == MP_E_ARG && says(ctx, "'x' is not bound"));
  CHECK(c, api->output(ctx, FAKE_STEP, 0, &v) == MP_E_ARG && says(ctx, "has not run"));
  bind_batch(ctx, &b, FAKE_STEP);
  api->bind(ctx, FAKE_STEP, 1, b.y, sizeof b.y - 1);
  CHECK(c, api->run(ctx, FAKE_STEP, NULL, NULL) == MP_E_ARG && says(ctx, "need 32 bytes, 31"));
  mp_run run = {.struct_size = sizeof run, .rows = 0};
  CHECK(c, api->run(ctx, FAKE_STEP, &run, NULL) == MP_E_ARG && says(ctx, "not in 1 … 8"));
  run.rows = 9;
  CHECK(c, api->run(ctx, FAKE_STEP, &run, NULL) == MP_E_ARG);
  run.rows = 7; /* for seven rows, 31 bytes are enough */
  CHECK(c, api->run(ctx, FAKE_STEP, &run, NULL) == MP_OK);
  CHECK(c, api->bind(ctx, FAKE_STEP, 2, b.y, 4) == MP_E_ARG);
  CHECK(c, api->output(ctx, FAKE_STEP, 10, &v) == MP_E_ARG);
  CHECK(c, api->hyper(ctx, "lrr", 1) == MP_E_ARG && says(ctx, "did you mean 'lr'"));
  CHECK(c, api->get(ctx, "W", &v) == MP_E_ARG && says(ctx, "did you mean 'w'"));
  api->destroy(ctx);
}

/* Training learns, and its bits do not depend on the number of threads. */
static float train(Checks *c, int threads, float w[FAKE_X]) {
  mp_ctx *ctx = new_ctx(c, threads);
  Batch b = make_batch();
  mp_result r = {0};
  fake_get_api(MP_ABI)->init(ctx, 5);
  for (int i = 0; i < 99; i++) CHECK(c, step_once(ctx, &b, &r) == MP_OK && r.committed == 1);
  for (int i = 0; i < FAKE_X; i++) w[i] = state_f32(ctx, "w", i);
  CHECK(c, mp_counter(ctx, "attempt") == 99 && mp_counter(ctx, "step") == 99);
  CHECK(c, r.weight == FAKE_BATCH);
  fake_get_api(MP_ABI)->destroy(ctx);
  return (float)r.loss;
}

static void test_training(Checks *c) {
  float w1[FAKE_X], wn[FAKE_X];
  float loss = train(c, 1, w1);
  CHECK(c, loss < 0.05f);
  for (int threads = 2; threads <= 4; threads++) {
    CHECK(c, train(c, threads, wn) == loss);
    CHECK(c, !memcmp(w1, wn, sizeof w1));
  }
}

static double total(mp_ctx *ctx, uint32_t output) {
  mp_view v;
  fake_get_api(MP_ABI)->output(ctx, FAKE_EVAL, output, &v);
  return v.dtype.bits == 64 && v.ndim == 0 ? *(const double *)v.data : NAN;
}

/* Rows beyond the real ones repeat the last; the caller's buffer need not hold them. */
static void test_rows(Checks *c) {
  const mp_api *api = fake_get_api(MP_ABI);
  mp_ctx *ctx = new_ctx(c, 2);
  Batch b = make_batch();
  api->init(ctx, 1);
  float *x = malloc(3 * sizeof b.x[0]); /* exact: the sanitizer sees a row read too much */
  memcpy(x, b.x, 3 * sizeof b.x[0]);
  mp_run run = {.struct_size = sizeof run, .rows = 3};
  mp_view v;
  api->bind(ctx, FAKE_INFER, 0, x, 3 * sizeof b.x[0]);
  CHECK(c, api->run(ctx, FAKE_INFER, &run, NULL) == MP_OK);
  CHECK(c, api->output(ctx, FAKE_INFER, 0, &v) == MP_OK && v.ndim == 1 && v.shape[0] == 8);
  const float *pred = v.data;
  CHECK(c, pred[7] == pred[2] && pred[3] == pred[2] && pred[2] != pred[1]);
  free(x);

  /* Totals over 8 + 3 rows; the output above survives other entries' runs. */
  float kept = pred[0];
  bind_batch(ctx, &b, FAKE_EVAL);
  mp_result r8 = {.struct_size = sizeof r8}, r3 = r8;
  run = (mp_run){.struct_size = sizeof run, .rows = 8, .flags = MP_RUN_NEW_TOTAL};
  CHECK(c, api->run(ctx, FAKE_EVAL, &run, &r8) == MP_OK);
  run.rows = 3, run.flags = 0;
  CHECK(c, api->run(ctx, FAKE_EVAL, &run, &r3) == MP_OK);
  CHECK(c, total(ctx, FAKE_LOSS_WEIGHT) == 11);
  CHECK(c, fabs(total(ctx, FAKE_LOSS) - (r8.loss * 8 + r3.loss * 3)) < 1e-5);
  run.flags = MP_RUN_NEW_TOTAL;
  api->run(ctx, FAKE_EVAL, &run, NULL);
  CHECK(c, total(ctx, FAKE_LOSS_WEIGHT) == 3 && pred[0] == kept);
  api->destroy(ctx);
}

static void test_faults(Checks *c) {
  const mp_api *api = fake_get_api(MP_ABI);
  mp_ctx *ctx = new_ctx(c, 2);
  Batch good = make_batch(), bad = good;
  mp_result r = {0};
  api->init(ctx, 1);
  CHECK(c, step_once(ctx, &good, &r) == MP_OK);
  float w = state_f32(ctx, "w", 0);

  bad.y[0] = NAN; /* skipped: no error, nothing committed */
  CHECK(c, step_once(ctx, &bad, &r) == MP_OK && r.committed == 0 && isnan(r.loss));
  CHECK(c, state_f32(ctx, "w", 0) == w && mp_counter(ctx, "skipped") == 1);
  mp_view v;
  CHECK(c, api->output(ctx, FAKE_STEP, FAKE_LOSS, &v) == MP_OK && isfinite(*(double *)v.data));

  bad.y[0] = FAKE_BAD_INDEX;
  CHECK(c, step_once(ctx, &bad, &r) == MP_E_INDEX && says(ctx, "fake.mp:7:3: gather"));
  CHECK(c, r.committed == 0 && step_once(ctx, &good, &r) == MP_OK);

  bad.y[0] = FAKE_BAD_UPDATE; /* sticky */
  CHECK(c, step_once(ctx, &bad, &r) == MP_E_NONFINITE && says(ctx, "'w'"));
  CHECK(c, step_once(ctx, &good, &r) == MP_E_NONFINITE);
  CHECK(c, api->get(ctx, "other", &v) == MP_E_ARG); /* another error between */
  CHECK(c, api->save(ctx, "never-written") == MP_E_NONFINITE && says(ctx, "'w'"));
  CHECK(c, api->save(ctx, "never-written") == MP_E_NONFINITE && !mp_is_dir("never-written"));
  CHECK(c, api->init(ctx, 1) == MP_OK && step_once(ctx, &good, &r) == MP_OK);
  api->destroy(ctx);
}

static void test_set(Checks *c) {
  const mp_api *api = fake_get_api(MP_ABI);
  mp_ctx *ctx = new_ctx(c, 1);
  api->init(ctx, 1);
  float w[FAKE_X] = {1.00390625f + 1e-4f, -1e-40f, 3};
  int64_t shape[] = {FAKE_X}, strides[] = {2};
  mp_view v = {.data = w, .device = {1, 0}, .ndim = 1, .dtype = {2, 32, 1}, .shape = shape};
  CHECK(c, api->set(ctx, "w", &v) == MP_OK);
  CHECK(c, state_f32(ctx, "w", 1) == 0 && signbit(state_f32(ctx, "w", 1))); /* -subnormal is -0 */
  mp_view low;
  CHECK(c, api->get(ctx, "w:low", &low) == MP_OK && low.dtype.code == 4);
  CHECK(c, ((const uint16_t *)low.data)[0] == 0x3f81); /* derived again: rounded to nearest */
  CHECK(c, api->set(ctx, "w:low", &v) == MP_E_ARG && says(ctx, "follows its parameter"));
  v.strides = strides;
  CHECK(c, api->set(ctx, "w", &v) == MP_E_ARG && says(ctx, "compact"));
  v.strides = NULL, shape[0] = 4;
  CHECK(c, api->set(ctx, "w", &v) == MP_E_ARG && says(ctx, "expected [3], found [4]"));
  shape[0] = 3, v.dtype.bits = 64;
  CHECK(c, api->set(ctx, "w", &v) == MP_E_ARG && says(ctx, "expected f32"));
  v.dtype.bits = 32, v.device.device_type = 2;
  CHECK(c, api->set(ctx, "w", &v) == MP_E_ARG);
  api->destroy(ctx);
}

/* Subnormal inputs are zeros, whatever the caller's float mode. */
static void test_input_flush(Checks *c) {
  const mp_api *api = fake_get_api(MP_ABI);
  mp_ctx *ctx = new_ctx(c, 1);
  Batch b = {0};
  mp_result r = {0};
  api->init(ctx, 1);
  for (int i = 0; i < FAKE_BATCH; i++) b.y[i] = 1e-39f;
  api->hyper(ctx, "lr", 1);
  CHECK(c, step_once(ctx, &b, &r) == MP_OK && r.loss == 0 && state_f32(ctx, "b", 0) == 0);
  api->destroy(ctx);
}

static void test_hyper(Checks *c) {
  const mp_api *api = fake_get_api(MP_ABI);
  mp_ctx *ctx = new_ctx(c, 1);
  Batch b = make_batch();
  mp_result r = {0};
  api->init(ctx, 1);
  float w = state_f32(ctx, "w", 0);
  CHECK(c, api->hyper(ctx, "lr", 0) == MP_OK && step_once(ctx, &b, &r) == MP_OK);
  CHECK(c, state_f32(ctx, "w", 0) == w);
  CHECK(c, api->hyper(ctx, "lr", NAN) == MP_OK && step_once(ctx, &b, &r) == MP_OK);
  CHECK(c, state_f32(ctx, "w", 0) != w);
  api->destroy(ctx);
}

static void *cancel_it(void *ctx) {
  fake_get_api(MP_ABI)->cancel(ctx);
  return NULL;
}

static void test_cancel(Checks *c) {
  mp_ctx *ctx = new_ctx(c, 2);
  Batch b = make_batch();
  mp_result r = {0};
  pthread_t thread;
  fake_get_api(MP_ABI)->init(ctx, 1);
  pthread_create(&thread, NULL, cancel_it, ctx);
  pthread_join(thread, NULL);
  CHECK(c, step_once(ctx, &b, &r) == MP_E_CANCELLED && mp_counter(ctx, "attempt") == 0);
  CHECK(c, step_once(ctx, &b, &r) == MP_OK); /* once */
  fake_get_api(MP_ABI)->destroy(ctx);
}

/* ---- formulas ---- */

static bool two_means(void *user, const char *name, double *out) {
  (void)user;
  *out = *name == 'a' ? 3 : -0.5;
  return !strcmp(name, "a") || !strcmp(name, "b.c");
}

static void test_formulas(Checks *c) {
  static const struct {
    const char *rpn;
    double value;
  } good[] = {{"$a", 3},
              {"$a exp log", 3},
              {"1 $a $b.c $b.c mul sub div", 1 / (3 - 0.25)},
              {"$a neg 2 pow sqrt", 3},
              {"$a $b.c min 1e1 max", 10},
              {"  -0.5   $b.c sub ", 0}};
  static const char *const bad[] = {"", "$c", "$a add", "$a $a", "$a sin", "2x", "$a 2 3 add"};
  double v = 0;
  for (size_t i = 0; i < MP_LEN(good); i++)
    CHECK(c, mp_formula(good[i].rpn, two_means, NULL, &v) && fabs(v - good[i].value) <= 1e-15);
  for (size_t i = 0; i < MP_LEN(bad); i++) CHECK(c, !mp_formula(bad[i], two_means, NULL, &v));
  CHECK(c, mp_formula("$b.c log $a min", two_means, NULL, &v) && isnan(v));
  CHECK(c, mp_formula("$a $b.c log max", two_means, NULL, &v) && isnan(v));
}

int main(void) {
  Checks c = {0};
  test_tables(&c);
  test_formulas(&c);
  for (int threads = 1; threads <= 4; threads++) test_team(&c, threads);
  test_shuffle(&c);
  test_create(&c);
  test_levels(&c);
  test_witnesses(&c);
  test_alloc(&c);
  test_run_errors(&c);
  test_training(&c);
  test_rows(&c);
  test_faults(&c);
  test_set(&c);
  test_input_flush(&c);
  test_hyper(&c);
  test_cancel(&c);
  return checks_end(&c, "runtime");
}
