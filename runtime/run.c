/* run.c: one call of an entry: inputs in, the team runs it, outputs and faults out.
 *
 * Inputs are copied into the arena, where row i beyond the last real row repeats that row: padding
 * stays finite wherever the data is.  An input whose batch is not its first axis comes whole.
 * Outputs are copied out, because the next run, of this entry or another, reuses the arena.  Sums
 * and weights of metrics add up in double until a run begins a new total; runs that did not commit
 * add nothing.
 */
#include "runtime/rt.h"

#include <math.h>
#include <string.h>

typedef struct Call {
  mp_entry_fn *run;
  mp_frame frame;
} Call;

static void call_on_thread(void *user, int32_t tid, int32_t threads) {
  const Call *c = user;
  c->run(&c->frame, tid, threads);
}

/* ---- arguments ---- */

static double hyper_value(const mp_ctx *ctx, uint32_t i) {
  return isnan(ctx->hypers[i]) ? ctx->model->desc->hypers[i].value : ctx->hypers[i];
}

static void place_hypers(mp_ctx *ctx, const mp_entry_code *code) {
  const mp_desc *d = ctx->model->desc;
  for (uint32_t i = 0; i < d->n_hypers; i++) {
    if (code->hyper_at[i] == UINT64_MAX) continue;
    float value = (float)hyper_value(ctx, i);
    mp_flush_f32(&value, sizeof value);
    memcpy(ctx->arena + code->hyper_at[i], &value, sizeof value);
  }
}

static void place_seed(mp_ctx *ctx, const mp_entry_code *code) {
  uint32_t words[2] = {(uint32_t)ctx->seed, (uint32_t)(ctx->seed >> 32)};
  if (code->seed_at != UINT64_MAX) memcpy(ctx->arena + code->seed_at, words, sizeof words);
}

/* Of infer what the host says, of eval the number of the batch since a new total. */
static void place_draw(mp_ctx *ctx, uint32_t entry, const mp_run *run) {
  uint64_t at = ctx->model->code[entry].draw_at;
  bool infer = ctx->model->desc->entries[entry].kind == MP_INFER;
  uint32_t draw = (uint32_t)(infer ? run->draw : ctx->entries[entry].batches);
  if (at != UINT64_MAX) memcpy(ctx->arena + at, &draw, sizeof draw);
}

void mp_call_entry(mp_ctx *ctx, uint32_t entry, int64_t rows, mp_replay *replay) {
  const mp_entry_code *code = &ctx->model->code[entry];
  place_hypers(ctx, code);
  place_seed(ctx, code);
  Call call = {ctx->level->run[entry],
               {.state = ctx->state,
                .arena = ctx->arena,
                .scratch = ctx->scratch,
                .scratch_stride = ctx->scratch_stride,
                .rows = rows,
                .team = ctx->team,
                .replay = replay}};
  mp_forget_run(ctx);
  mp_team_run(ctx->team, call_on_thread, &call);
}

static void place_input(const mp_tensor *t, const void *data, char *at, int64_t rows) {
  uint64_t row = mp_row_bytes(t), bytes = mp_input_bytes(t, rows);
  memcpy(at, data, bytes);
  mp_clean_values(t->dtype, at, bytes);
  if (t->rows) return;
  char *last = at + row * (uint64_t)(rows - 1);
  for (int64_t i = rows; i < t->dims[0]; i++) memcpy(at + row * (uint64_t)i, last, row);
}

void mp_place_inputs(mp_ctx *ctx, uint32_t entry, uint32_t from, int64_t rows) {
  const mp_entry_desc *d = &ctx->model->desc->entries[entry];
  const uint64_t *at = ctx->model->code[entry].input_at;
  for (uint32_t i = 0; i < d->n_inputs; i++)
    place_input(&d->inputs[i], ctx->entries[from].inputs[i].data, ctx->arena + at[i], rows);
}

/* ---- checks ---- */

int mp_check_poison(mp_ctx *ctx) {
  const mp_output_desc *o = ctx->poison;
  if (!o) return MP_OK;
  const mp_site *first = ctx->poisoned;
  const char *state = first ? ctx->model->desc->states[first->state].tensor.name : NULL;
  return mp_fail(&ctx->error, MP_E_NONFINITE,
                 "%s: the update of '%s' became non-finite at step %lld%s%s%s%s%s; load a "
                 "checkpoint to go on",
                 o->where ? o->where : ctx->model->desc->name, o->tensor.name,
                 (long long)mp_steps_done(ctx), first ? ", first '" : "", first ? state : "",
                 first ? "' (" : "", first ? first->tensor.name : "", first ? ")" : "");
}

static const mp_entry_desc *find_entry(mp_ctx *ctx, uint32_t entry) {
  const mp_desc *d = ctx->model->desc;
  if (entry < d->n_entries) return &d->entries[entry];
  mp_fail(&ctx->error, MP_E_ARG, "%s has no entry %u, only %u", d->name, entry, d->n_entries);
  return NULL;
}

static int check_input(mp_ctx *ctx, const mp_entry_desc *d, const mp_tensor *t, mp_binding b,
                       int64_t rows) {
  uint64_t need = mp_input_bytes(t, rows);
  if (!b.data && need)
    return mp_fail(&ctx->error, MP_E_ARG, "%s: input '%s' is not bound", d->name, t->name);
  if (b.bytes < need)
    return mp_fail(&ctx->error, MP_E_ARG,
                   "%s: input '%s': %lld rows need %llu bytes, %llu are bound", d->name, t->name,
                   (long long)rows, (unsigned long long)need, (unsigned long long)b.bytes);
  return MP_OK;
}

static int check_state(mp_ctx *ctx, const mp_entry_desc *d) {
  if (d->kind == MP_INIT || d->kind == MP_DERIVE)
    return mp_fail(&ctx->error, MP_E_ARG, "%s is not run by itself: call init", d->name);
  if (d->kind == MP_REPLAY || d->kind == MP_ORIGIN)
    return mp_fail(&ctx->error, MP_E_ARG, "%s is not run by itself: call %s", d->name,
                   d->kind == MP_REPLAY ? "replay" : "origin");
  if (!ctx->ready)
    return mp_fail(&ctx->error, MP_E_ARG, "%s: no state yet: call init or load first", d->name);
  for (uint32_t i = 0; i < ctx->model->desc->n_states; i++)
    if (ctx->missing[i])
      return mp_fail(&ctx->error, MP_E_ARG, "%s: '%s' has no initializer: load or set it first",
                     d->name, ctx->model->desc->states[i].tensor.name);
  bool steps = d->kind == MP_STEP || d->kind == MP_GRADS || d->kind == MP_APPLY;
  return steps ? mp_check_poison(ctx) : MP_OK;
}

/* Schedules divide by the run's length: with none, every step would be skipped. */
static int check_length(mp_ctx *ctx, uint32_t entry) {
  int steps = mp_find_hyper(ctx, "steps");
  if (steps < 0 || ctx->model->code[entry].hyper_at[steps] == UINT64_MAX) return MP_OK;
  if (hyper_value(ctx, (uint32_t)steps) >= 1) return MP_OK;
  return mp_fail(&ctx->error, MP_E_ARG,
                 "%s: its schedules need the length of the run: hyper(ctx, \"steps\", n)",
                 ctx->model->desc->entries[entry].name);
}

static int check_run(mp_ctx *ctx, uint32_t entry, const mp_run *run) {
  const mp_entry_desc *d = &ctx->model->desc->entries[entry];
  int status = check_state(ctx, d);
  if (!status) status = check_length(ctx, entry);
  if (!status && d->batch && (run->rows < 1 || run->rows > d->batch))
    status = mp_fail(&ctx->error, MP_E_ARG, "%s: rows %lld not in 1 … %lld", d->name,
                     (long long)run->rows, (long long)d->batch);
  if (!status && d->flags & MP_ENTRY_FULL && run->rows != d->batch)
    status = mp_fail(&ctx->error, MP_E_ARG, "%s: rows %lld: only full batches of %lld, tail(drop)",
                     d->name, (long long)run->rows, (long long)d->batch);
  if (!status) status = mp_check_weights(ctx, d, run);
  for (uint32_t i = 0; i < d->n_inputs && !status; i++)
    status = check_input(ctx, d, &d->inputs[i], ctx->entries[entry].inputs[i], run->rows);
  if (!status && atomic_exchange(&ctx->cancelled, false))
    status = mp_fail(&ctx->error, MP_E_CANCELLED, "%s: cancelled before it began", d->name);
  return status;
}

/* ---- results ---- */

static const char *raw_output(const mp_ctx *ctx, uint32_t entry, uint32_t i) {
  return ctx->arena + ctx->model->code[entry].output_at[i];
}

static int check_faults(mp_ctx *ctx, uint32_t entry) {
  const mp_entry_desc *d = &ctx->model->desc->entries[entry];
  for (uint32_t i = 0; i < d->n_outputs; i++) {
    const mp_output_desc *o = &d->outputs[i];
    const char *where = o->where ? o->where : d->name;
    if (o->role == MP_OUT_FAULT_INDEX && *raw_output(ctx, entry, i))
      return mp_fail(&ctx->error, MP_E_INDEX,
                     "%s: a run-time index is out of range; nothing changed", where);
    if (o->role == MP_OUT_FAULT_NONFINITE && *raw_output(ctx, entry, i)) {
      ctx->poison = o;
      ctx->poisoned = mp_first_bad_state(ctx, entry);
      return mp_check_poison(ctx);
    }
  }
  return MP_OK;
}

static bool has_committed(const mp_ctx *ctx, uint32_t entry) {
  const mp_entry_desc *d = &ctx->model->desc->entries[entry];
  for (uint32_t i = 0; i < d->n_outputs; i++)
    if (d->outputs[i].role == MP_OUT_OK && !*raw_output(ctx, entry, i)) return false;
  return true;
}

static bool is_total(int32_t role) { return role == MP_OUT_SUM || role == MP_OUT_WEIGHT; }

static double raw_total(const mp_ctx *ctx, uint32_t entry, uint32_t i) {
  float v;
  memcpy(&v, raw_output(ctx, entry, i), sizeof v);
  return (double)v;
}

static void take_outputs(mp_ctx *ctx, uint32_t entry, bool add) {
  const mp_entry_desc *d = &ctx->model->desc->entries[entry];
  mp_entry_memory *e = &ctx->entries[entry];
  for (uint32_t i = 0; i < d->n_outputs; i++)
    if (is_total(d->outputs[i].role)) e->totals[i] += add ? raw_total(ctx, entry, i) : 0;
    else memcpy(e->outputs[i], raw_output(ctx, entry, i), mp_tensor_bytes(&d->outputs[i].tensor));
}

typedef struct Run {
  const mp_ctx *ctx;
  uint32_t entry;
} Run;

/* Of this run alone; also of the loss that several losses add up to. */
static bool mean_of_run(void *user, const char *name, double *out) {
  const Run *r = user;
  const mp_entry_desc *d = &r->ctx->model->desc->entries[r->entry];
  for (uint32_t i = 0; i + 1 < d->n_outputs; i++) {
    if (d->outputs[i].role != MP_OUT_SUM || strcmp(d->outputs[i].tensor.name, name)) continue;
    *out = raw_total(r->ctx, r->entry, i) / raw_total(r->ctx, r->entry, i + 1);
    return true;
  }
  return false;
}

/* The loss is the formula of that name, or the first sum; the weight is the first sum's. */
static void take_loss(const mp_ctx *ctx, uint32_t entry, mp_result *r) {
  const mp_entry_desc *d = &ctx->model->desc->entries[entry];
  const char *formula = mp_formula_of(ctx->model->desc, "loss");
  Run run = {ctx, entry};
  for (uint32_t i = 0; i + 1 < d->n_outputs; i++) {
    if (d->outputs[i].role != MP_OUT_SUM) continue;
    r->weight = raw_total(ctx, entry, i + 1);
    r->loss = raw_total(ctx, entry, i) / r->weight;
    break;
  }
  if (formula) mp_formula(formula, mean_of_run, &run, &r->loss);
}

static void give_result(mp_result *out, mp_result r) {
  if (!out) return;
  size_t size = out->struct_size;
  r.struct_size = size;
  memcpy(out, &r, size < sizeof r ? size : sizeof r);
}

/* What of this run can be run again; half_rows: of the call before. */
static void remember_run(mp_ctx *ctx, uint32_t entry, bool committed, int64_t rows,
                         int64_t half_rows) {
  const mp_desc *d = ctx->model->desc;
  if (!committed) ctx->skipped = entry, ctx->skipped_rows = rows;
  if (d->entries[entry].kind == MP_GRADS) ctx->half = entry, ctx->half_rows = rows;
  if (d->entries[entry].kind == MP_APPLY && !committed &&
      mp_find_of_step(d, entry, MP_GRADS) == (int)ctx->half)
    ctx->half_rows = half_rows;
}

static int run_checked(mp_ctx *ctx, uint32_t entry, const mp_run *run, mp_result *r) {
  const mp_entry_desc *d = &ctx->model->desc->entries[entry];
  mp_entry_memory *e = &ctx->entries[entry];
  int64_t half_rows = ctx->half_rows;
  mp_place_inputs(ctx, entry, entry, run->rows);
  if (run->flags & MP_RUN_NEW_TOTAL) {
    memset(e->totals, 0, d->n_outputs * sizeof *e->totals);
    e->batches = 0;
  }
  place_draw(ctx, entry, run);
  mp_place_weights(ctx, d, run);
  e->batches++;
  if (ctx->model->code[entry].n_sites) mp_copy_kind(ctx, MP_COUNTER, ctx->counters, false);
  int status = MP_OK;
  if (ctx->model->check_nan) status = mp_call_checked(ctx, entry, run->rows);
  else mp_call_entry(ctx, entry, run->rows, NULL);
  if (!status) status = check_faults(ctx, entry);
  r->committed = !status && has_committed(ctx, entry);
  if (!status) remember_run(ctx, entry, r->committed, run->rows, half_rows);
  take_outputs(ctx, entry, r->committed);
  take_loss(ctx, entry, r);
  e->ran = true;
  return status;
}

/* ---- calibration ---- */

/* Its inputs are the step's.  Whatever it finds wrong with the batch the step finds, too. */
static void calibrate(mp_ctx *ctx, uint32_t step, const mp_run *run) {
  const mp_desc *d = ctx->model->desc;
  int32_t kind = d->entries[step].kind;
  bool begins = kind == MP_STEP || kind == MP_GRADS;
  int entry = begins ? mp_find_of_step(d, step, MP_CALIBRATE) : -1;
  if (entry < 0 || mp_counter(ctx, "calibrated")) return;
  mp_binding *inputs = ctx->entries[entry].inputs;
  size_t bytes = ctx->model->desc->entries[step].n_inputs * sizeof *inputs;
  mp_result found;
  memcpy(inputs, ctx->entries[step].inputs, bytes);
  (void)run_checked(ctx, (uint32_t)entry, run, &found);
  memset(inputs, 0, bytes);
}

int mp_run_entry(mp_ctx *ctx, uint32_t entry, const mp_run *run, mp_result *result) {
  const mp_entry_desc *d = find_entry(ctx, entry);
  if (!d) return MP_E_ARG;
  mp_run r = {.struct_size = sizeof r, .rows = d->batch ? d->batch : 1};
  if (run) memcpy(&r, run, run->struct_size < sizeof r ? run->struct_size : sizeof r);
  mp_result found = {.loss = NAN};
  int status = check_run(ctx, entry, &r);
  if (!status) calibrate(ctx, entry, &r);
  if (!status) status = run_checked(ctx, entry, &r, &found);
  give_result(result, found);
  return status;
}

int mp_bind(mp_ctx *ctx, uint32_t entry, uint32_t input, const void *data, size_t bytes) {
  const mp_entry_desc *d = find_entry(ctx, entry);
  if (!d) return MP_E_ARG;
  if (input >= d->n_inputs)
    return mp_fail(&ctx->error, MP_E_ARG, "%s has no input %u, only %u", d->name, input,
                   d->n_inputs);
  ctx->entries[entry].inputs[input] = (mp_binding){data, bytes};
  if (entry == ctx->skipped) ctx->skipped_rows = 0;
  if (entry == ctx->half) ctx->half_rows = 0;
  return MP_OK;
}

int mp_output(mp_ctx *ctx, uint32_t entry, uint32_t output, mp_view *view) {
  const mp_entry_desc *d = find_entry(ctx, entry);
  if (!d) return MP_E_ARG;
  if (output >= d->n_outputs)
    return mp_fail(&ctx->error, MP_E_ARG, "%s has no output %u, only %u", d->name, output,
                   d->n_outputs);
  mp_entry_memory *e = &ctx->entries[entry];
  if (!e->ran) return mp_fail(&ctx->error, MP_E_ARG, "%s has not run yet", d->name);
  const mp_output_desc *o = &d->outputs[output];
  mp_view_of(view, &o->tensor, is_total(o->role) ? (void *)&e->totals[output] : e->outputs[output]);
  if (is_total(o->role)) view->dtype.bits = 64;
  return MP_OK;
}
