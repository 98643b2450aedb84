/* origin.c: where a step that did not commit was first not finite: op, source line, element.
 *
 * Nothing is recorded in an ordinary run.  A step that did not commit left all as it was but its
 * counters, the only states that a skipped step writes, and the same inputs and state give the same
 * bits; so it is run again from the counters that it had, with a look at each site as soon as it is
 * written: STEP.origin, where there is one, whose kernels are single ops, else the step itself.
 * That costs good steps the copy of a few counters and one untaken branch a kernel, and tells more
 * than flags could: which element, and of what it was computed.
 *
 * The cause is the site that was first in time among those that lead, through sites that are not
 * finite either, to one that the guard asks about.  What is infinite by design (a mask's -inf), or
 * is not finite where nothing comes of it (the branch that `where` does not take), is none.
 *
 * STEP.replay is the same step in f32: is it finite there, where the cause was?
 */
#include "runtime/rt.h"

#include <math.h>
#include <string.h>

struct mp_finding {
  uint32_t order; /* in which it was found; 0: not */
  bool reached;   /* the guard's no comes from it */
  double value;
  uint64_t at; /* element */
};

struct mp_replay {
  const mp_site *sites;
  uint64_t n;
  mp_finding *found;
  uint32_t seen;
  uint64_t what;      /* of the sites whose largest |x| is asked for; 0: of none */
  mp_finding largest; /* of those */
  const mp_site *largest_of;
};

/* ---- one tensor ---- */

typedef struct Format { /* of a float type's bits */
  uint32_t exponent, fraction, sign;
  bool finite_tops; /* only all ones are not finite: NaN */
  double largest;
} Format;

static const Format format[] = {
    [MP_F32] = {0x7f800000, 0x007fffff, 0x80000000, false, 0x1.fffffep127},
    [MP_BF16] = {0x7f80, 0x007f, 0x8000, false, 0x1.fep127},
    [MP_F16] = {0x7c00, 0x03ff, 0x8000, false, 65504},
    [MP_F8E4M3FN] = {0x78, 0x07, 0x80, true, 448},
    [MP_F8E5M2] = {0x7c, 0x03, 0x80, false, 57344},
    [MP_F8E8M0] = {0xff, 0, 0, true, 0x1p127},
};

static uint32_t bits_at(const void *data, uint64_t i, uint8_t size) {
  uint32_t bits = 0;
  if (size == 4) memcpy(&bits, (const char *)data + 4 * i, 4);
  else if (size == 2) bits = ((const uint16_t *)data)[i];
  else bits = ((const uint8_t *)data)[i];
  return bits;
}

static bool is_finite(const Format *f, uint32_t bits) {
  uint32_t tops = f->finite_tops ? f->exponent | f->fraction : f->exponent;
  return (bits & tops) != tops;
}

static double value_of(const Format *f, uint32_t bits) {
  if (f->finite_tops || bits & f->fraction) return NAN;
  return bits & f->sign ? -INFINITY : INFINITY;
}

static bool is_lawful(uint32_t flags, double value) {
  return isinf(value) && flags & (value > 0 ? MP_SITE_INF : MP_SITE_NEGATIVE_INF);
}

static bool look(const mp_site *site, const void *data, mp_finding *out) {
  const mp_type *type = mp_type_of(site->tensor.dtype);
  const Format *f = &format[site->tensor.dtype];
  uint64_t n = mp_tensor_bytes(&site->tensor) / type->size;
  for (uint64_t i = 0; i < n; i++) {
    uint32_t bits = bits_at(data, i, type->size);
    if (is_finite(f, bits)) continue;
    out->value = value_of(f, bits);
    out->at = i;
    if (!is_lawful(site->flags, out->value)) return true;
  }
  return false;
}

/* The user's own casts may have stored it in another type, too. */
static void measure(mp_replay *r, const mp_site *site, const float *data) {
  uint64_t n = mp_tensor_bytes(&site->tensor) / sizeof *data;
  for (uint64_t i = 0; site->tensor.dtype == MP_F32 && i < n; i++) {
    if (r->largest_of && !(fabsf(data[i]) > fabs(r->largest.value))) continue;
    r->largest = (mp_finding){.value = data[i], .at = i};
    r->largest_of = site;
  }
}

void mp_probe(mp_replay *r, int32_t tid, int32_t site, const void *at) {
  const mp_site *s = &r->sites[site];
  if (tid) return;
  if (r->what && s->what == r->what) measure(r, s, at);
  if (!r->found[site].order && look(s, at, &r->found[site])) r->found[site].order = ++r->seen;
}

/* ---- the cause ---- */

/* Is it not finite, and new? */
static bool reach(mp_replay *r, uint64_t site) {
  bool is_new = r->found[site].order && !r->found[site].reached;
  r->found[site].reached = r->found[site].order;
  return is_new;
}

/* Until nothing more is reached: a site's sources mostly come before it, so few rounds will do. */
static void spread(mp_replay *r) {
  for (bool more = true; more;) {
    more = false;
    for (uint64_t i = r->n; i-- > 0;) {
      const mp_site *s = &r->sites[i];
      for (uint64_t k = 0; r->found[i].reached && k < s->n_from; k++)
        more = reach(r, s->from[k]) || more;
    }
  }
}

static const mp_finding *first_of(mp_replay *r) {
  const mp_finding *first = NULL;
  for (uint64_t i = 0; i < r->n; i++)
    if (r->sites[i].flags & MP_SITE_GUARDED) reach(r, i);
  spread(r);
  for (uint64_t i = 0; i < r->n; i++)
    if (r->found[i].reached && (!first || r->found[i].order < first->order)) first = &r->found[i];
  return first;
}

/* As the last step found it. */
static float scale_before(const void *user, const char *name) {
  const mp_ctx *ctx = user;
  const mp_desc *d = ctx->model->desc;
  const char *at = ctx->counters;
  float scale = 1;
  for (uint32_t i = 0; i < d->n_states; i++) {
    if (d->states[i].kind != MP_COUNTER) continue;
    if (!strcmp(d->states[i].tensor.name, name)) memcpy(&scale, at, sizeof scale);
    at += mp_tensor_bytes(&d->states[i].tensor);
  }
  return scale;
}

static void describe(const mp_ctx *ctx, uint32_t entry, const mp_site *site, const mp_finding *f,
                     mp_origin *out) {
  const mp_desc *d = ctx->model->desc;
  int step = mp_find_of_step(d, entry, MP_STEP);
  uint64_t at = f->at;
  out->where = site->tensor.name;
  out->value = f->value;
  out->dtype = site->tensor.dtype;
  out->scale = step < 0 ? 1 : mp_unit_scale(&d->entries[step], site->unit, scale_before, ctx);
  out->ndim = site->tensor.ndim;
  for (int32_t i = out->ndim; i-- > 0; at /= (uint64_t)site->tensor.dims[i])
    out->at[i] = (int64_t)(at % (uint64_t)site->tensor.dims[i]);
}

void mp_origin_text(const mp_origin *o, mp_text *t) {
  char at[128];
  mp_text_add(t, "%s is %s", o->where, isnan(o->value) ? "NaN" : o->value > 0 ? "inf" : "-inf");
  if (o->ndim) mp_text_add(t, " at %s", mp_dims_text(o->at, o->ndim, at, sizeof at));
}

void mp_replay_text(const mp_origin *o, const mp_origin *in_f32, mp_text *t) {
  if (!isfinite(in_f32->value)) {
    mp_text_add(t, "real: not finite in f32 either, first ");
    mp_origin_text(in_f32, t);
    return;
  }
  double value = fabs(in_f32->value), times = value * o->scale / format[o->dtype].largest;
  mp_text_add(t, "range: finite in f32");
  if (in_f32->where) mp_text_add(t, ", where the largest |x| is %.3g", value);
  if (in_f32->where && o->scale != 1) mp_text_add(t, ", times the loss scale %g", o->scale);
  if (times > 1)
    mp_text_add(t, ", 2^%.1f times the largest %s", log2(times), mp_type_of(o->dtype)->name);
}

/* ---- states of a kind: counters, which a skipped step writes; shadows, which a half does ---- */

uint64_t mp_kind_bytes(const mp_desc *d, mp_state_kind kind) {
  uint64_t n = 0;
  for (uint32_t i = 0; i < d->n_states; i++)
    if (d->states[i].kind == (int32_t)kind) n += mp_tensor_bytes(&d->states[i].tensor);
  return n;
}

void mp_copy_kind(const mp_ctx *ctx, mp_state_kind kind, char *copy, bool back) {
  const mp_desc *d = ctx->model->desc;
  for (uint32_t i = 0; i < d->n_states; i++) {
    if (d->states[i].kind != (int32_t)kind) continue;
    uint64_t n = mp_tensor_bytes(&d->states[i].tensor);
    char *at = mp_state_data(ctx, i);
    memcpy(back ? at : copy, back ? copy : at, n);
    copy += n;
  }
}

/* ---- an update that overflowed: old values are gone, new ones are there ---- */

const mp_site *mp_first_bad_state(const mp_ctx *ctx, uint32_t entry) {
  const mp_entry_code *code = &ctx->model->code[entry];
  for (uint64_t i = 0; i < code->n_sites; i++) {
    const mp_site *s = &code->sites[i];
    mp_finding found;
    if (s->flags & MP_SITE_WRITTEN && look(s, mp_state_data(ctx, (uint32_t)s->state), &found))
      return s;
  }
  return NULL;
}

/* ---- --check-nan: each run, whatever the guard thinks of it ---- */

static const mp_finding *first_found(const mp_replay *r) {
  const mp_finding *first = NULL;
  for (uint64_t i = 0; i < r->n; i++)
    if (r->found[i].order == 1) first = &r->found[i];
  return first;
}

static mp_replay begin(const mp_ctx *ctx, uint32_t entry, uint64_t what) {
  const mp_entry_code *code = &ctx->model->code[entry];
  memset(ctx->findings, 0, code->n_sites * sizeof *ctx->findings);
  return (mp_replay){
      .sites = code->sites, .n = code->n_sites, .found = ctx->findings, .what = what};
}

int mp_call_checked(mp_ctx *ctx, uint32_t entry, int64_t rows) {
  mp_replay r = begin(ctx, entry, 0);
  mp_origin o = {0};
  mp_text text = {0};
  mp_call_entry(ctx, entry, rows, &r);
  const mp_finding *first = first_found(&r);
  if (!first) return MP_OK;
  describe(ctx, entry, &r.sites[first - r.found], first, &o);
  mp_origin_text(&o, &text);
  mp_fail(&ctx->error, MP_E_NONFINITE, "%s, in %s, step %lld (--check-nan)",
          text.failed ? o.where : text.at, ctx->model->desc->entries[entry].name,
          (long long)mp_counter(ctx, "attempt"));
  mp_text_free(&text);
  return MP_E_NONFINITE;
}

/* ---- a step again ---- */

uint64_t mp_finding_bytes(const mp_model *m) {
  uint64_t most = 0;
  for (uint32_t i = 0; i < m->desc->n_entries; i++)
    if (m->code[i].n_sites > most) most = m->code[i].n_sites;
  return most * sizeof(mp_finding);
}

/* Entry `as` on what `entry` ran on; then all is as it was, and may be asked again. */
static int call_again(mp_ctx *ctx, uint32_t entry, uint32_t as, int64_t rows, mp_replay *r) {
  const mp_desc *d = ctx->model->desc;
  char *now = ctx->counters + mp_kind_bytes(d, MP_COUNTER), *handed = NULL;
  int64_t skipped_rows = ctx->skipped_rows, half_rows = ctx->half_rows;
  bool half = d->entries[as].kind == MP_GRADS;
  if (half && !(handed = mp_alloc(&ctx->memory, mp_kind_bytes(d, MP_SHADOW))))
    return mp_fail(&ctx->error, MP_E_MEMORY, "origin: no memory to keep the gradients in");
  if (half) mp_copy_kind(ctx, MP_SHADOW, handed, false);
  mp_copy_kind(ctx, MP_COUNTER, now, false);
  mp_copy_kind(ctx, MP_COUNTER, ctx->counters, true);
  mp_place_inputs(ctx, as, entry, rows);
  mp_call_entry(ctx, as, rows, r);
  mp_copy_kind(ctx, MP_COUNTER, now, true);
  if (half) mp_copy_kind(ctx, MP_SHADOW, handed, true);
  mp_free(&ctx->memory, handed);
  ctx->skipped_rows = skipped_rows;
  ctx->half_rows = half_rows;
  return MP_OK;
}

/* Rows of the entry's run, if that can be asked; 0: it cannot. */
static int64_t rows_to_ask(const mp_ctx *ctx, uint32_t entry) {
  if (entry == ctx->skipped && ctx->skipped_rows) return ctx->skipped_rows;
  return entry == ctx->half ? ctx->half_rows : 0;
}

static int check_asked(mp_ctx *ctx, uint32_t entry, const char *what) {
  if (entry < ctx->model->desc->n_entries && rows_to_ask(ctx, entry)) return MP_OK;
  return mp_fail(&ctx->error, MP_E_ARG, "%s: the last call was no step that was skipped", what);
}

/* The first site that is not finite and reaches the guard; *f NULL: there is none. */
static int find_first(mp_ctx *ctx, uint32_t entry, mp_replay *r, const mp_finding **f) {
  const mp_desc *d = ctx->model->desc;
  int by_op = d->entries[entry].kind == MP_STEP ? mp_find_of_step(d, entry, MP_ORIGIN) : -1;
  uint32_t as = by_op < 0 ? entry : (uint32_t)by_op;
  *r = begin(ctx, as, 0);
  int status = call_again(ctx, entry, as, rows_to_ask(ctx, entry), r);
  *f = status ? NULL : first_of(r);
  return status;
}

static void give(mp_origin *out, mp_origin found) {
  found.struct_size = out->struct_size;
  memcpy(out, &found, found.struct_size < sizeof found ? found.struct_size : sizeof found);
}

int mp_find_origin(mp_ctx *ctx, uint32_t entry, mp_origin *origin) {
  mp_origin found = {0};
  mp_replay r;
  const mp_finding *first;
  int status = check_asked(ctx, entry, "origin");
  if (!status) status = find_first(ctx, entry, &r, &first);
  if (status) return status;
  if (first) describe(ctx, entry, &r.sites[first - r.found], first, &found);
  give(origin, found);
  return MP_OK;
}

/* ---- in f32 ---- */

static int check_replay(mp_ctx *ctx, uint32_t entry) {
  const mp_desc *d = ctx->model->desc;
  int status = check_asked(ctx, entry, "replay");
  if (!status && d->entries[entry].kind == MP_APPLY)
    return mp_fail(&ctx->error, MP_E_ARG, "replay: %s has no batch: ask the first half",
                   d->entries[entry].name);
  if (!status && mp_find_of_step(d, entry, MP_REPLAY) < 0)
    return mp_fail(&ctx->error, MP_E_ARG,
                   "replay: nothing to run: %s was built without --with-replay, or is f32 as it is",
                   d->name);
  return status;
}

int mp_run_replay(mp_ctx *ctx, uint32_t entry, mp_origin *found) {
  mp_origin out = {0};
  mp_replay r;
  const mp_finding *first;
  int status = check_replay(ctx, entry);
  if (!status) status = find_first(ctx, entry, &r, &first);
  if (status) return status;
  uint32_t as = (uint32_t)mp_find_of_step(ctx->model->desc, entry, MP_REPLAY);
  r = begin(ctx, as, first ? r.sites[first - r.found].what : 0);
  status = call_again(ctx, entry, as, rows_to_ask(ctx, entry), &r);
  if (status) return status;
  first = first_of(&r);
  if (first) describe(ctx, entry, &r.sites[first - r.found], first, &out);
  else if (r.largest_of) describe(ctx, entry, r.largest_of, &r.largest, &out);
  give(found, out);
  return MP_OK;
}
