/* op.c: the columns of ops.def and attrs.def that everybody reads, as tables by op.
 *
 * A column that one room alone reads is expanded there (SHAPE in shape.c, VJP in passes/vjp.c,
 * EVAL in ref/eval.c, …).  No table is written by hand, so none can be out of step with another. */
#include "ir/ir.h"
#include "ir/scalar.h"

#include <math.h>
#include <string.h>

const char *const op_name[OP_COUNT] = {
#define OP(name, doc) [OP_##name] = #name,
#include "ir/ops.def"
};

const char *const op_doc[OP_COUNT] = {
#define OP(name, doc) [OP_##name] = doc,
#include "ir/ops.def"
};

const OpArg *const op_args[OP_COUNT] = {
#define IN(n) {ARG_IN, #n, 0},
#define OPT(n) {ARG_OPT, #n, 0},
#define REST(n) {ARG_REST, #n, 0},
#define OUT(n) {ARG_OUT, #n, 0},
#define RESTOUT(n) {ARG_RESTOUT, #n, 0},
#define A(n) {ARG_ATTR, #n, AT_##n},
#define OP(name, doc) [OP_##name] =
#define ARGS(...) (const OpArg[]){__VA_ARGS__{ARG_END, NULL, 0}},
#include "ir/ops.def"
#undef IN
#undef OPT
#undef REST
#undef OUT
#undef RESTOUT
#undef A
};

const uint8_t op_flags[OP_COUNT] = {
#define OP(name, doc) [OP_##name] =
#define FLAGS(f) f,
#include "ir/ops.def"
};

const uint8_t op_form[OP_COUNT] = {
#define OP(name, doc) [OP_##name] =
#define FORM(form) FORM_##form,
#include "ir/ops.def"
};

const char *const form_name[FORM_COUNT] = {"none", "map", "reduce", "gemm", "scatter"};

const char *const attr_name[AT_COUNT] = {
#define ATTR(name, kind, doc) #name,
#include "ir/attrs.def"
#undef ATTR
};

const uint8_t attr_kind[AT_COUNT] = {
#define ATTR(name, kind, doc) ATTR_##kind,
#include "ir/attrs.def"
#undef ATTR
};

bool attr_is_common(AttrKey key) { return key == AT_prec || key == AT_wide || key == AT_recompute; }

const char *const state_store_name[STATE_STORES] = {"", "sr", "split"};
const char *const state_kind_name[STATE_KINDS] = {"param",   "state",  "moment", "counter",
                                                  "derived", "shadow", "part"};
const char *const arg_role_name[ARG_ROLES] = {"input", "state", "hyper", "seed", "grad", "draw"};
const char *const res_role_name[RES_ROLES] = {"state",  "loss",  "metric",    "weight", "grad",
                                              "ok",     "fault", "nonfinite", "value",  "hyper",
                                              "finite", "gauge", "watch",     "amax",   "count"};
const char *const entry_kind_name[ENTRY_KINDS] = {"init",      "step",   "eval",   "infer",
                                                  "fit",       "derive", "grads",  "apply",
                                                  "calibrate", "replay", "origin", "update"};
const char *const read_kind_name[READ_KINDS] = {"rows", "windows", "lanes"};
const char *const split_kind_name[SPLIT_KINDS] = {"none", "last", "random"};
const char *const scale_kind_name[SCALE_KINDS] = {"none", "static", "dynamic"};

const char *const fp8_recipe_name[FP8_RECIPES] = {
#define RECIPE(name, written, meaning) #name,
#include "ir/fp8.def"
};
const char *const fp8_recipe_written[FP8_RECIPES] = {
#define RECIPE(name, written, meaning) written,
#include "ir/fp8.def"
};

const char *precision_word(const char *text) {
  static const char *const words[][2] = {
      {"f32", "f32"}, {"fp32", "f32"}, {"bf16", "bf16"}, {"f16", "f16"}, {"fp16", "f16"}};
  for (size_t i = 0; i < sizeof words / sizeof *words; i++)
    if (!strcmp(text, words[i][0])) return words[i][1];
  return NULL;
}

Fp8Recipe fp8_recipe(const char *precision) {
  Fp8Recipe r = 0;
  while (r < FP8_RECIPES && !(precision && !strcmp(precision, fp8_recipe_name[r]))) r++;
  return r;
}

const Fp8Delayed fp8_delayed_default = {.history = 1024, .margin = 0};
const Fp8Field fp8_field[FP8_FIELDS] = {
    {"history", offsetof(Fp8Delayed, history), 1, 65536},
    {"margin", offsetof(Fp8Delayed, margin), 0, 16},
};

const Scale scale_default = {.kind = SCALE_dynamic,
                             .init = 32768,
                             .growth = 2,
                             .backoff = 0.5,
                             .interval = 2000,
                             .hysteresis = 1,
                             .floor = 1,
                             .cap = 16777216};
const ScaleField scale_field[SCALE_FIELDS] = {
    {"init", offsetof(Scale, init), true},
    {"growth", offsetof(Scale, growth), true},
    {"backoff", offsetof(Scale, backoff), true},
    {"interval", offsetof(Scale, interval), false},
    {"hysteresis", offsetof(Scale, hysteresis), false},
    {"floor", offsetof(Scale, floor), true},
    {"cap", offsetof(Scale, cap), true},
};

bool scale_power(double x) {
  int exponent;
  return x >= SCALE_LEAST && x <= SCALE_MOST && frexp(x, &exponent) == 0.5;
}

bool scale_moves(const Scale *s) {
  return s->growth > 1 && s->backoff < 1 && s->floor <= s->init && s->init <= s->cap;
}

static const uint16_t program_f32[OP_COUNT] = {
#define OP(name, doc) [OP_##name] =
#define SCALAR(f32, i32, f64) SC_##f32,
#include "ir/ops.def"
};

static const uint16_t program_i32[OP_COUNT] = {
#define OP(name, doc) [OP_##name] =
#define SCALAR(f32, i32, f64) SC_##i32,
#include "ir/ops.def"
};

unsigned op_program(Op op, DType d) {
  return dtype_kind[d] == 'f' ? program_f32[op] : program_i32[op];
}

static const struct Conversion {
  DType type;
  ScalarId widen, narrow;
} conversions[] = {
    {DT_bf16, SC_bf16_to_f32, SC_f32_to_bf16},     {DT_f16, SC_f16_to_f32, SC_f32_to_f16},
    {DT_f8e4m3fn, SC_e4m3_to_f32, SC_f32_to_e4m3}, {DT_f8e5m2, SC_e5m2_to_f32, SC_f32_to_e5m2},
    {DT_f8e8m0, SC_e8m0_to_f32, SC_f32_to_e8m0},   {DT_COUNT, SC_none, SC_none}};

static const struct Conversion *conversion_of(DType d) {
  const struct Conversion *c = conversions;
  while (c->type != d && c->type != DT_COUNT) c++;
  return c;
}

unsigned dtype_widen(DType d) { return conversion_of(d)->widen; }
unsigned dtype_narrow(DType d) { return conversion_of(d)->narrow; }

int op_results(Op op) {
  int n = 0;
  for (const OpArg *a = op_args[op]; a->kind != ARG_END; a++) {
    if (a->kind == ARG_RESTOUT) return -1;
    n += a->kind == ARG_OUT;
  }
  return n;
}

bool op_arity_ok(Op op, uint32_t operands) {
  uint32_t least = 0, most = 0;
  for (const OpArg *a = op_args[op]; a->kind != ARG_END; a++) {
    if (a->kind == ARG_REST) return operands >= least;
    least += a->kind == ARG_IN;
    most += a->kind == ARG_IN || a->kind == ARG_OPT;
  }
  return operands >= least && operands <= most;
}
