/* origin.c: where a step that did not commit was first not finite: op, source line, element.
 *
 * Nothing is recorded in an ordinary run.  A step that did not commit left all as it was but its
 * counters, the only states that a skipped step writes, and the same inputs and state give the same
 * bits; so it is run again from the counters that it had, with a look at each site as soon as it is
 * written.  That costs good steps the copy of a few counters and one untaken branch a kernel, and
 * tells more than flags could: which element, and of what it was computed.
 *
 * The cause is the site that was first in time among those that lead, through sites that are not
 * finite either, to one that the guard asks about.  What is infinite by design (a mask's -inf), or
 * is not finite where nothing comes of it (the branch that `where` does not take), is none.
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
  mp_finding *found;
  uint32_t seen;
};

/* ---- one tensor ---- */

typedef struct Format { /* of a float type's bits */
  uint32_t exponent, fraction, sign;
  bool finite_tops; /* only all ones are not finite: NaN */
} Format;

static const Format format[] = {
    [MP_F32] = {0x7f800000, 0x007fffff, 0x80000000, false},
    [MP_BF16] = {0x7f80, 0x007f, 0x8000, false},
    [MP_F16] = {0x7c00, 0x03ff, 0x8000, false},
    [MP_F8E4M3FN] = {0x78, 0x07, 0x80, true},
    [MP_F8E5M2] = {0x7c, 0x03, 0x80, false},
    [MP_F8E8M0] = {0xff, 0, 0, true},
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

void mp_probe(mp_replay *r, int32_t tid, int32_t site, const void *at) {
  if (tid || r->found[site].order) return;
  if (look(&r->sites[site], at, &r->found[site])) r->found[site].order = ++r->seen;
}

/* ---- the cause ---- */

/* Is it not finite, and new? */
static bool reach(mp_replay *r, uint64_t site) {
  bool is_new = r->found[site].order && !r->found[site].reached;
  r->found[site].reached = r->found[site].order;
  return is_new;
}

/* Until nothing more is reached: a site's sources mostly come before it, so few rounds will do. */
static void spread(mp_replay *r, uint64_t n) {
  for (bool more = true; more;) {
    more = false;
    for (uint64_t i = n; i-- > 0;) {
      const mp_site *s = &r->sites[i];
      for (uint64_t k = 0; r->found[i].reached && k < s->n_from; k++)
        more = reach(r, s->from[k]) || more;
    }
  }
}

static const mp_finding *first_of(mp_replay *r, uint64_t n) {
  const mp_finding *first = NULL;
  for (uint64_t i = 0; i < n; i++)
    if (r->sites[i].flags & MP_SITE_GUARDED) reach(r, i);
  spread(r, n);
  for (uint64_t i = 0; i < n; i++)
    if (r->found[i].reached && (!first || r->found[i].order < first->order)) first = &r->found[i];
  return first;
}

static void describe(const mp_site *site, const mp_finding *f, mp_origin *out) {
  uint64_t at = f->at;
  out->where = site->tensor.name;
  out->value = f->value;
  out->ndim = site->tensor.ndim;
  for (int32_t i = out->ndim; i-- > 0; at /= (uint64_t)site->tensor.dims[i])
    out->at[i] = (int64_t)(at % (uint64_t)site->tensor.dims[i]);
}

void mp_origin_text(const mp_origin *o, mp_text *t) {
  char at[128];
  mp_text_add(t, "%s is %s", o->where, isnan(o->value) ? "NaN" : o->value > 0 ? "inf" : "-inf");
  if (o->ndim) mp_text_add(t, " at %s", mp_dims_text(o->at, o->ndim, at, sizeof at));
}

/* ---- counters: what a skipped step writes ---- */

uint64_t mp_counter_bytes(const mp_desc *d) {
  uint64_t n = 0;
  for (uint32_t i = 0; i < d->n_states; i++)
    if (d->states[i].kind == MP_COUNTER) n += mp_tensor_bytes(&d->states[i].tensor);
  return n;
}

void mp_copy_counters(const mp_ctx *ctx, char *copy, bool back) {
  const mp_desc *d = ctx->model->desc;
  for (uint32_t i = 0; i < d->n_states; i++) {
    if (d->states[i].kind != MP_COUNTER) continue;
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

static const mp_finding *first_found(const mp_replay *r, uint64_t n) {
  const mp_finding *first = NULL;
  for (uint64_t i = 0; i < n; i++)
    if (r->found[i].order == 1) first = &r->found[i];
  return first;
}

int mp_call_checked(mp_ctx *ctx, uint32_t entry, int64_t rows) {
  const mp_entry_code *code = &ctx->model->code[entry];
  mp_replay r = {.sites = code->sites, .found = ctx->findings};
  mp_origin o = {0};
  mp_text text = {0};
  memset(r.found, 0, code->n_sites * sizeof *r.found);
  mp_call_entry(ctx, entry, rows, &r);
  const mp_finding *first = first_found(&r, code->n_sites);
  if (!first) return MP_OK;
  describe(&r.sites[first - r.found], first, &o);
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

static void replay(mp_ctx *ctx, uint32_t entry, mp_replay *r) {
  const mp_entry_code *code = &ctx->model->code[entry];
  char *now = ctx->counters + mp_counter_bytes(ctx->model->desc);
  int64_t rows = ctx->skipped_rows;
  memset(r->found, 0, code->n_sites * sizeof *r->found);
  mp_copy_counters(ctx, now, false);
  mp_copy_counters(ctx, ctx->counters, true);
  mp_call_entry(ctx, entry, rows, r);
  mp_copy_counters(ctx, now, true);
  ctx->skipped_rows = rows; /* all is as it was: it may be asked again */
}

int mp_find_origin(mp_ctx *ctx, uint32_t entry, mp_origin *origin) {
  const mp_desc *d = ctx->model->desc;
  mp_origin found = {.struct_size = origin->struct_size};
  if (entry >= d->n_entries || !ctx->skipped_rows || ctx->skipped != entry)
    return mp_fail(&ctx->error, MP_E_ARG, "origin: the last call was no step that was skipped");
  mp_replay r = {.sites = ctx->model->code[entry].sites, .found = ctx->findings};
  replay(ctx, entry, &r);
  const mp_finding *first = first_of(&r, ctx->model->code[entry].n_sites);
  if (first) describe(&r.sites[first - r.found], first, &found);
  memcpy(origin, &found, found.struct_size < sizeof found ? found.struct_size : sizeof found);
  return MP_OK;
}
