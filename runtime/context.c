/* context.c: what one training run owns, made and destroyed.
 *
 * A context is one team, one block of state, one arena (shared by all entries, one after the other)
 * and one scratch area a thread.  Everything is allocated here, once; run allocates nothing.  State
 * and arena end with 4096 spare bytes, so that a kernel's last vector may reach past a tensor.
 */
#include "runtime/rt.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { SLACK = 4096, SCRATCH_ALIGN = 4096, MAX_THREADS = 1024 };

const mp_api *mp_get_api(const mp_model *model, uint32_t max_abi) {
  return max_abi >= MP_ABI ? model->api : NULL;
}

void mp_note(const mp_ctx *ctx, const char *fmt, ...) {
  if (!ctx->log) return;
  char line[512];
  va_list args;
  va_start(args, fmt);
  vsnprintf(line, sizeof line, fmt, args);
  va_end(args);
  for (char *c = line; *c; c++)
    if ((unsigned char)*c < ' ') *c = '?'; /* a file's own words may be anything */
  ctx->log(ctx->memory.user, line);
}

int mp_find_entry(const mp_desc *d, mp_entry_kind kind) {
  for (uint32_t i = 0; i < d->n_entries; i++)
    if (d->entries[i].kind == (int32_t)kind) return (int)i;
  return -1;
}

/* NAME of NAME, NAME.grads, NAME.apply … */
static size_t step_name(const mp_entry_desc *e) {
  const char *dot = e->kind == MP_STEP ? NULL : strrchr(e->name, '.');
  return dot ? (size_t)(dot - e->name) : strlen(e->name);
}

int mp_find_of_step(const mp_desc *d, uint32_t entry, mp_entry_kind kind) {
  const mp_entry_desc *of = &d->entries[entry];
  size_t n = step_name(of);
  for (uint32_t i = 0; i < d->n_entries; i++) {
    const mp_entry_desc *e = &d->entries[i];
    if (e->kind == (int32_t)kind && step_name(e) == n && !strncmp(e->name, of->name, n))
      return (int)i;
  }
  return -1;
}

void mp_forget_run(mp_ctx *ctx) { ctx->skipped_rows = ctx->half_rows = 0; }

/* ---- create ---- */

static bool read_options(mp_options *o, const mp_options *given) {
  *o = (mp_options){.struct_size = sizeof *o};
  if (!given) return true;
  if (given->struct_size < offsetof(mp_options, log)) return false;
  memcpy(o, given, given->struct_size < sizeof *o ? given->struct_size : sizeof *o);
  return o->threads >= 0 && o->threads <= MAX_THREADS;
}

static bool alloc_entry(mp_ctx *ctx, mp_entry_memory *e, const mp_entry_desc *d) {
  const mp_memory *m = &ctx->memory;
  e->inputs = mp_alloc(m, d->n_inputs * sizeof *e->inputs);
  e->outputs = mp_alloc(m, d->n_outputs * sizeof *e->outputs);
  e->totals = mp_alloc(m, d->n_outputs * sizeof *e->totals);
  if (!e->inputs || !e->outputs || !e->totals) return false;
  for (uint32_t i = 0; i < d->n_outputs; i++) {
    e->outputs[i] = mp_alloc(m, mp_tensor_bytes(&d->outputs[i].tensor));
    if (!e->outputs[i]) return false;
  }
  return true;
}

static void mark_missing(mp_ctx *ctx) {
  const mp_desc *d = ctx->model->desc;
  for (uint32_t i = 0; i < d->n_states; i++)
    ctx->missing[i] = (d->states[i].flags & MP_STATE_MUST_LOAD) != 0;
}

static bool alloc_all(mp_ctx *ctx, int threads) {
  const mp_desc *d = ctx->model->desc;
  uint64_t stride = ctx->level->scratch_bytes;
  stride = (stride + SCRATCH_ALIGN - 1) / SCRATCH_ALIGN * SCRATCH_ALIGN;
  ctx->scratch_stride = stride;
  ctx->state = mp_alloc(&ctx->memory, d->state_bytes + SLACK);
  ctx->arena = mp_alloc(&ctx->memory, d->arena_bytes + SLACK);
  ctx->scratch = mp_alloc(&ctx->memory, stride * (uint64_t)threads);
  ctx->hypers = mp_alloc(&ctx->memory, d->n_hypers * sizeof *ctx->hypers);
  ctx->entries = mp_alloc(&ctx->memory, d->n_entries * sizeof *ctx->entries);
  ctx->missing = mp_alloc(&ctx->memory, d->n_states);
  ctx->counters = mp_alloc(&ctx->memory, 2 * mp_kind_bytes(d, MP_COUNTER));
  ctx->findings = mp_alloc(&ctx->memory, mp_finding_bytes(ctx->model));
  ctx->joined = mp_alloc(&ctx->memory, d->n_states * sizeof *ctx->joined);
  if (!ctx->counters || !ctx->findings || !ctx->joined) return false;
  if (!ctx->state || !ctx->arena || !ctx->scratch || !ctx->hypers || !ctx->entries || !ctx->missing)
    return false;
  mark_missing(ctx);
  for (uint32_t i = 0; i < d->n_hypers; i++) ctx->hypers[i] = NAN;
  for (uint32_t i = 0; i < d->n_entries; i++)
    if (!alloc_entry(ctx, &ctx->entries[i], &d->entries[i])) return false;
  return true;
}

static int fill(mp_ctx *ctx, int threads, mp_error *err) {
  const mp_desc *d = ctx->model->desc;
  if (!alloc_all(ctx, threads))
    return mp_fail(err, MP_E_MEMORY, "no memory: %s needs %llu bytes of state and %llu of arena",
                   d->name, (unsigned long long)d->state_bytes, (unsigned long long)d->arena_bytes);
  ctx->team = mp_team_new(&ctx->memory, threads, err);
  return ctx->team ? MP_OK : MP_E_MEMORY;
}

static int check_model(const mp_model *m, mp_error *err) {
  const mp_desc *d = m->desc;
  if (d->abi != MP_ABI || d->size != sizeof(mp_desc))
    return mp_fail(err, MP_E_ARG, "the model's tables have ABI %u, this runtime has %u", d->abi,
                   MP_ABI);
  return MP_OK;
}

int mp_create(const mp_model *model, const mp_options *options, mp_ctx **out, mp_error *err) {
  mp_options o;
  if (!out) return mp_fail(err, MP_E_ARG, "create: no place for the context");
  *out = NULL;
  if (!read_options(&o, options))
    return mp_fail(err, MP_E_ARG,
                   "create: bad options: struct_size unset, or threads not in 0 … %d", MAX_THREADS);
  const mp_level *level = NULL;
  int status = check_model(model, err);
  if (!status) status = mp_choose_level(model, o.cpu, &level, err);
  if (status) return status;
  mp_memory memory = mp_memory_of(&o);
  mp_ctx *ctx = mp_alloc(&memory, sizeof *ctx);
  if (!ctx) return mp_fail(err, MP_E_MEMORY, "no memory for a context");
  ctx->model = model;
  ctx->level = level;
  ctx->memory = memory;
  ctx->memory.user = o.user;
  ctx->log = o.log;
  status = fill(ctx, o.threads ? o.threads : mp_cpu_count(), err);
  if (status) mp_destroy(ctx);
  else *out = ctx;
  return status;
}

static void free_entry(mp_ctx *ctx, mp_entry_memory *e, const mp_entry_desc *d) {
  for (uint32_t i = 0; e->outputs && i < d->n_outputs; i++) mp_free(&ctx->memory, e->outputs[i]);
  mp_free(&ctx->memory, e->inputs);
  mp_free(&ctx->memory, e->outputs);
  mp_free(&ctx->memory, e->totals);
}

void mp_destroy(mp_ctx *ctx) {
  if (!ctx) return;
  const mp_desc *d = ctx->model->desc;
  mp_memory memory = ctx->memory;
  mp_team_free(&memory, ctx->team);
  for (uint32_t i = 0; ctx->entries && i < d->n_entries; i++)
    free_entry(ctx, &ctx->entries[i], &d->entries[i]);
  for (uint32_t i = 0; ctx->joined && i < d->n_states; i++) mp_free(&memory, ctx->joined[i]);
  void *blocks[] = {ctx->counters, ctx->findings, ctx->joined, ctx->missing, ctx->entries,
                    ctx->hypers,   ctx->scratch,  ctx->arena,  ctx->state,   ctx};
  for (size_t i = 0; i < MP_LEN(blocks); i++) mp_free(&memory, blocks[i]);
}

/* ---- the small ones ---- */

static void call_kind(mp_ctx *ctx, mp_entry_kind kind) {
  int entry = mp_find_entry(ctx->model->desc, kind);
  if (entry >= 0) mp_call_entry(ctx, (uint32_t)entry, 1, NULL);
}

void mp_derive(mp_ctx *ctx) { call_kind(ctx, MP_DERIVE); }

int mp_init(mp_ctx *ctx, uint64_t seed) {
  memset(ctx->state, 0, ctx->model->desc->state_bytes);
  ctx->seed = seed;
  ctx->cursor = (mp_cursor){0};
  mark_missing(ctx);
  call_kind(ctx, MP_INIT);
  mp_derive(ctx);
  ctx->poison = NULL;
  ctx->ready = true;
  return MP_OK;
}

int mp_hyper(mp_ctx *ctx, const char *name, double value) {
  const mp_desc *d = ctx->model->desc;
  int i = mp_find_hyper(ctx, name);
  if (i >= 0) {
    ctx->hypers[i] = value;
    mp_forget_run(ctx);
    return MP_OK;
  }
  char hint[96];
  mp_near near = mp_near_to(name);
  for (uint32_t k = 0; k < d->n_hypers; k++) mp_near_try(&near, d->hypers[k].name);
  return mp_fail(&ctx->error, MP_E_ARG, "%s has no hyperparameter '%s'%s", d->name, name,
                 mp_near_text(&near, hint, sizeof hint));
}

void mp_cancel(mp_ctx *ctx) { atomic_store(&ctx->cancelled, true); }
const char *mp_error_text(const mp_ctx *ctx) { return ctx->error.text; }
