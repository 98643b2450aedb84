/* fake_model.c: linear regression with momentum, written as codegen would have written it, in
 * plain C.
 *
 * The tables are those of runtime/model.h, filled by hand; state and arena are a structure each,
 * so that offsets are offsetof.  What is special about the model stands in fake_model.h. */
#include "tests/unit/fake_model.h"

#include <math.h>
#include <string.h>

/* ---- memory: one structure each, so that offsets are offsetof ---- */

typedef struct State {
  _Alignas(64) float w[FAKE_X];
  _Alignas(64) float b;
  _Alignas(64) float w_m[FAKE_X];
  _Alignas(64) float b_m;
  _Alignas(64) int64_t attempt;
  _Alignas(64) int32_t step, skipped;
  _Alignas(64) uint16_t w_low[FAKE_X];
  _Alignas(64) float proj[2][FAKE_X];
} State;

typedef struct Arena {
  _Alignas(64) float x[FAKE_BATCH][FAKE_X];
  _Alignas(64) float y[FAKE_BATCH];
  float lr, steps;
  uint32_t seed[2];
  float error[FAKE_BATCH]; /* of each row, written by whichever thread owns it */
  float pred[FAKE_BATCH];
  float loss, weight, mae;
  float rate, norm;
  uint8_t ok, bad_index, bad_update, finite;
  _Alignas(64) uint8_t tokens[FAKE_BATCH][FAKE_TOKENS];
  int32_t length, draw, next[FAKE_BATCH];
} Arena;

static State *state_of(const mp_frame *f) { return (State *)(void *)f->state; }
static Arena *arena_of(const mp_frame *f) { return (Arena *)(void *)f->arena; }

/* ---- entries ---- */

static void run_init(const mp_frame *f, int32_t tid, int32_t threads) {
  (void)threads;
  State *s = state_of(f);
  const uint32_t *seed = arena_of(f)->seed;
  if (tid) return;
  for (int i = 0; i < FAKE_X; i++)
    s->w[i] = 0.01f * (float)((seed[0] * 7 + seed[1] + 3u * (unsigned)i) % 11);
}

static void run_derive(const mp_frame *f, int32_t tid, int32_t threads) {
  State *s = state_of(f);
  for (int i = tid; i < FAKE_X; i += threads) {
    uint32_t bits;
    memcpy(&bits, &s->w[i], sizeof bits);
    s->w_low[i] = (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
  }
}

static void predict(const mp_frame *f, int32_t tid, int32_t threads) {
  const State *s = state_of(f);
  Arena *a = arena_of(f);
  for (int r = tid; r < FAKE_BATCH; r += threads) {
    float p = s->b;
    for (int i = 0; i < FAKE_X; i++) p += s->w[i] * a->x[r][i];
    a->pred[r] = p;
    a->error[r] = p - a->y[r];
  }
  mp_barrier(f->team);
}

static void measure(const mp_frame *f) {
  Arena *a = arena_of(f);
  a->loss = a->mae = 0;
  for (int r = 0; r < f->rows; r++) {
    a->loss += a->error[r] * a->error[r];
    a->mae += fabsf(a->error[r]);
  }
  a->weight = (float)f->rows;
  if (a->y[0] == FAKE_IDLE) a->loss = a->mae = a->weight = 0;
}

static float rate(const Arena *a, const State *s) {
  return isnan(a->lr) ? 0.1f * (1 - (float)s->step / a->steps) : a->lr; /* linear(0.1, to: 0) */
}

static void update(const mp_frame *f) {
  State *s = state_of(f);
  Arena *a = arena_of(f);
  float lr = rate(a, s), db = 0, dw[FAKE_X] = {0};
  for (int r = 0; r < f->rows; r++) {
    db += 2 * a->error[r] / a->weight;
    for (int i = 0; i < FAKE_X; i++) dw[i] += 2 * a->error[r] * a->x[r][i] / a->weight;
  }
  for (int i = 0; i < FAKE_X; i++) s->w[i] -= lr * (s->w_m[i] = 0.5f * s->w_m[i] + dw[i]);
  s->b -= lr * (s->b_m = 0.5f * s->b_m + db);
  a->norm = sqrtf(db * db + dw[0] * dw[0] + dw[1] * dw[1] + dw[2] * dw[2]);
  s->step++;
}

static void run_step(const mp_frame *f, int32_t tid, int32_t threads) {
  Arena *a = arena_of(f);
  State *s = state_of(f);
  predict(f, tid, threads);
  if (!tid) {
    measure(f);
    a->ok = (isfinite(a->loss) && a->weight > 0) || a->y[0] == FAKE_BAD_UPDATE;
    a->bad_index = a->y[0] == FAKE_BAD_INDEX;
    a->finite = isfinite(a->loss);
    a->rate = rate(a, s);
    a->bad_update = a->y[0] == FAKE_BAD_UPDATE;
    if (a->ok && !a->bad_index) update(f);
    s->attempt++;
    s->skipped = a->ok ? 0 : s->skipped + (a->weight > 0);
  }
  mp_barrier(f->team);
  run_derive(f, tid, threads);
}

static void run_eval(const mp_frame *f, int32_t tid, int32_t threads) {
  predict(f, tid, threads);
  if (!tid) measure(f);
}

/* The successor of the last of `length` tokens, draw more. */
static void run_next(const mp_frame *f, int32_t tid, int32_t threads) {
  Arena *a = arena_of(f);
  for (int r = tid; r < FAKE_BATCH; r += threads)
    a->next[r] = a->tokens[r][a->length - 1] + 1 + a->draw;
}

/* ---- tables ---- */

#define X_TENSOR                                                                                   \
  { "x", MP_F32, 2, {FAKE_BATCH, FAKE_X}, 0, 0 }
#define Y_TENSOR                                                                                   \
  { "y", MP_F32, 1, {FAKE_BATCH}, 0, 0 }
#define SCALAR(name, dtype)                                                                        \
  { name, dtype, 0, {0}, -1, 0 }
#define VECTOR(name, dtype)                                                                        \
  { name, dtype, 1, {FAKE_X}, -1, 0 }

static const mp_tensor inputs[] = {X_TENSOR, Y_TENSOR};

static const mp_output_desc step_outputs[] = {
    {SCALAR("loss", MP_F32), MP_OUT_SUM, NULL},
    {SCALAR("loss", MP_F32), MP_OUT_WEIGHT, NULL},
    {SCALAR("mae", MP_F32), MP_OUT_SUM, NULL},
    {SCALAR("mae", MP_F32), MP_OUT_WEIGHT, NULL},
    {SCALAR("ok", MP_I1), MP_OUT_OK, NULL},
    {SCALAR("gather", MP_I1), MP_OUT_FAULT_INDEX, "fake.mp:7:3: gather"},
    {SCALAR("w", MP_I1), MP_OUT_FAULT_NONFINITE, "fake.mp:9:1: sgd"},
    {SCALAR("loss:mse", MP_I1), MP_OUT_FINITE, "fake.mp:8:1: loss:mse"},
    {SCALAR("lr", MP_F32), MP_OUT_HYPER, NULL},
    {SCALAR("grad_norm", MP_F32), MP_OUT_GAUGE, NULL},
};

static const mp_output_desc infer_outputs[] = {
    {{"pred", MP_F32, 1, {FAKE_BATCH}, 0, 0}, MP_OUT_VALUE, NULL},
};

static const mp_tensor next_inputs[] = {
    {"tokens", MP_U8, 2, {FAKE_BATCH, FAKE_TOKENS}, 0, 0},
    SCALAR("length", MP_I32),
};

static const mp_output_desc next_outputs[] = {
    {{"next", MP_I32, 1, {FAKE_BATCH}, 0, 0}, MP_OUT_VALUE, NULL},
};

static const mp_entry_desc entries[] = {
    {"init", MP_INIT, 0, 0, 0, 0, NULL, NULL},
    {"derive", MP_DERIVE, 0, 0, 0, 0, NULL, NULL},
    {"train_step", MP_STEP, 0, FAKE_BATCH, 2, 10, inputs, step_outputs},
    {"eval", MP_EVAL, 0, FAKE_BATCH, 2, 4, inputs, step_outputs},
    {"predict", MP_INFER, 0, FAKE_BATCH, 1, 1, inputs, infer_outputs},
    {"next", MP_INFER, 0, FAKE_BATCH, 2, 1, next_inputs, next_outputs},
};

static const mp_state_desc states[] = {
    {VECTOR("w", MP_F32), MP_PARAM, -1, 0, 0},
    {SCALAR("b", MP_F32), MP_PARAM, -1, 0, 0},
    {VECTOR("w:m", MP_F32), MP_MOMENT, -1, 0, 0},
    {SCALAR("b:m", MP_F32), MP_MOMENT, -1, 0, 0},
    {SCALAR("attempt", MP_I64), MP_COUNTER, -1, 0, 0},
    {SCALAR("step", MP_I32), MP_COUNTER, -1, 0, 0},
    {SCALAR("skipped", MP_I32), MP_COUNTER, -1, 0, 0},
    {VECTOR("w:low", MP_BF16), MP_DERIVED, 0, 0, 0},
    {{"proj.w", MP_F32, 2, {2, FAKE_X}, -1, 0},
     MP_PARAM,
     -1,
     MP_STATE_MUST_LOAD | MP_STATE_FROZEN | MP_STATE_UNSAVED,
     0},
};

static const uint64_t state_at[] = {
    offsetof(State, w),       offsetof(State, b),       offsetof(State, w_m),
    offsetof(State, b_m),     offsetof(State, attempt), offsetof(State, step),
    offsetof(State, skipped), offsetof(State, w_low),   offsetof(State, proj),
};

static const mp_hyper_desc hypers[] = {
    {"lr", NAN, "linear(0.1, to: 0)"},
    {"steps", 100, ""},
};

static const mp_formula_desc formulas[] = {
    {"rmse", "$loss sqrt"}, {"other", "$nothing 2 mul"}, {"twice", "$rmse 2 mul"}};

#define COMMON                                                                                     \
  .abi = MP_ABI, .size = sizeof(mp_desc), .name = "Fake", .source = "fake.mp",                     \
  .source_hash = "0123456789abcdef", .compiler = "none", .target = "cpu", .precision = "f32",      \
  .policy = "fedcba9876543210", .manifest = "step w add#0: load f32: user", .n_entries = 6, .n_hypers = 2, .entries = entries,                 \
  .states = states, .hypers = hypers, .arena_bytes = sizeof(Arena), .state_bytes = sizeof(State),  \
  .default_epochs = 2, .n_formulas = 3, .formulas = formulas

static const mp_desc desc = {COMMON, .n_states = 8};

/* A fifth of the data is held out for eval. */
static const mp_source_desc sources[] = {{"x", MP_ROWS, MP_F32, 0, 0},
                                         {"y", MP_ROWS, MP_F32, 0, 0}};
static const mp_desc split_desc = {COMMON,
                                   .n_states = 8,
                                   .n_sources = 2,
                                   .sources = sources,
                                   .split = MP_SPLIT_LAST,
                                   .split_fraction = 0.2};

/* proj.w comes from a file and is not saved. */
static const char *const proj_map[] = {"*.w", "layer.*.weight transpose", NULL};
static const mp_load_desc loads[] = {{"proj.safetensors", "proj", proj_map}};
static const mp_desc loads_desc = {COMMON, .n_states = 9, .n_loads = 1, .loads = loads};

static const uint64_t input_at[] = {offsetof(Arena, x), offsetof(Arena, y)};
static const uint64_t hyper_at[] = {offsetof(Arena, lr), offsetof(Arena, steps)};
static const uint64_t output_at[] = {offsetof(Arena, loss),       offsetof(Arena, weight),
                                     offsetof(Arena, mae),        offsetof(Arena, weight),
                                     offsetof(Arena, ok),         offsetof(Arena, bad_index),
                                     offsetof(Arena, bad_update), offsetof(Arena, finite),
                                     offsetof(Arena, rate),       offsetof(Arena, norm)};
static const uint64_t pred_at[] = {offsetof(Arena, pred)};

static const uint64_t next_input_at[] = {offsetof(Arena, tokens), offsetof(Arena, length)};
static const uint64_t next_at[] = {offsetof(Arena, next)};

static const mp_entry_code code[] = {
    {NULL, hyper_at, NULL, offsetof(Arena, seed), UINT64_MAX, NULL, 0},
    {NULL, hyper_at, NULL, UINT64_MAX, UINT64_MAX, NULL, 0},
    {input_at, hyper_at, output_at, UINT64_MAX, UINT64_MAX, NULL, 0},
    {input_at, hyper_at, output_at, UINT64_MAX, UINT64_MAX, NULL, 0},
    {input_at, hyper_at, pred_at, UINT64_MAX, UINT64_MAX, NULL, 0},
    {next_input_at, hyper_at, next_at, UINT64_MAX, offsetof(Arena, draw), NULL, 0},
};

static mp_entry_fn *const run[] = {run_init, run_derive, run_step, run_eval, run_eval, run_next};

static int create(const mp_options *o, mp_ctx **ctx, mp_error *error) {
  return mp_create(&fake_model, o, ctx, error);
}

static int create_split(const mp_options *o, mp_ctx **ctx, mp_error *error) {
  return mp_create(&fake_model_split, o, ctx, error);
}

static int create_loads(const mp_options *o, mp_ctx **ctx, mp_error *error) {
  return mp_create(&fake_model_loads, o, ctx, error);
}

#define API(d, create)                                                                             \
  {                                                                                                \
    MP_ABI, sizeof(mp_api), d, create, mp_init, mp_bind, mp_run_entry, mp_get, mp_set, mp_output,  \
        mp_hyper, mp_save, mp_load_path, mp_save_to, mp_load_from, mp_cancel, mp_error_text,       \
        mp_destroy, mp_find_origin, mp_run_replay                                                  \
  }

static const mp_api api = API(&desc, create), split_api = API(&split_desc, create_split),
                    loads_api = API(&loads_desc, create_loads);

static const char *const no_features[] = {NULL};
static const char *const bf16_features[] = {"sse2", "avx512bf16", NULL};
static const char *const future_features[] = {"sse2", "avx4096", NULL};
static const char *const other_features[] = {"avx4095", NULL};

static const mp_level levels[] = {{"x86-64", no_features, run, 64},
                                  {"x86-64-v4+avx512bf16", bf16_features, run, 64},
                                  {"x86-64-v9", future_features, run, 64}};
static const mp_level other_levels[] = {{"x86-64-v8", other_features, run, 64},
                                        {"x86-64-v9", future_features, run, 64}};

const mp_model fake_model = {&desc, &api, code, state_at, levels, 3, "", NULL, 0, 0};
const mp_model fake_model_split = {&split_desc, &split_api, code, state_at, levels, 1, "", NULL, 0, 0};
const mp_model fake_model_loads = {&loads_desc, &loads_api, code, state_at, levels, 1, "", NULL, 0, 0};
const mp_model fake_model_for_other_cpu = {
    &desc, &api, code, state_at, other_levels, 2, "-mcpu=x86-64-v3", NULL, 0, 0};

const mp_api *fake_get_api(uint32_t max_abi) { return mp_get_api(&fake_model, max_abi); }
