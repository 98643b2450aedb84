/* meter.c: metrics of an entry, summed over runs, as text and as JSON.
 *
 * A metric is two outputs of one name, sum and weight; its value is the quotient of the totals, so
 * a short last batch counts exactly by its rows.  Formulas are computed from those.  Outputs that
 * are numbers of one step (hyperparameters, gauges) are shown as the last step had them.
 */
#include "runtime/cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool cli_open_meter(CliMeter *m, const mp_desc *d, int entry) {
  *m = (CliMeter){d, &d->entries[entry], (uint32_t)entry, NULL};
  m->sums = calloc(m->entry->n_outputs + 1, sizeof *m->sums);
  return m->sums != NULL;
}

void cli_clear_meter(CliMeter *m) { memset(m->sums, 0, m->entry->n_outputs * sizeof *m->sums); }

/* Hyperparameters and gauges are not summed. */
static bool is_last(int32_t role) { return role == MP_OUT_HYPER || role == MP_OUT_GAUGE; }

static void add_output(CliMeter *m, uint32_t i, const mp_view *v) {
  double total;
  float now;
  if (is_last(m->entry->outputs[i].role)) {
    memcpy(&now, v->data, sizeof now);
    m->sums[i] = (double)now;
  } else {
    memcpy(&total, v->data, sizeof total);
    m->sums[i] += total;
  }
}

void cli_add_to_meter(CliMeter *m, const mp_api *api, mp_ctx *ctx) {
  for (uint32_t i = 0; i < m->entry->n_outputs; i++) {
    int32_t role = m->entry->outputs[i].role;
    mp_view v;
    if (role != MP_OUT_SUM && role != MP_OUT_WEIGHT && !is_last(role)) continue;
    if (!api->output(ctx, m->index, i, &v)) add_output(m, i, &v);
  }
}

/* ---- readings ---- */

enum { MAX_DEPTH = 16 }; /* of formulas that name formulas */

typedef struct Lookup {
  const CliMeter *m;
  int depth;
} Lookup;

static bool is_metric(const CliMeter *m, uint32_t i) {
  return m->entry->outputs[i].role == MP_OUT_SUM && i + 1 < m->entry->n_outputs;
}

static bool mean_of(void *user, const char *name, double *out) {
  const Lookup *l = user;
  const CliMeter *m = l->m;
  for (uint32_t i = 0; i < m->entry->n_outputs; i++) {
    if (!is_metric(m, i) || strcmp(m->entry->outputs[i].tensor.name, name)) continue;
    *out = m->sums[i] / m->sums[i + 1];
    return true;
  }
  Lookup deeper = {m, l->depth + 1};
  const char *formula = mp_formula_of(m->desc, name);
  return formula && l->depth < MAX_DEPTH && mp_formula(formula, mean_of, &deeper, out);
}

static bool read_output(const CliMeter *m, uint32_t k, bool last, CliReading *out) {
  const mp_output_desc *o = &m->entry->outputs[k];
  if (last ? !is_last(o->role) : !is_metric(m, k)) return false;
  *out = (CliReading){o->tensor.name, last ? m->sums[k] : m->sums[k] / m->sums[k + 1], last};
  return true;
}

static bool read_formula(const CliMeter *m, uint32_t k, CliReading *out) {
  Lookup l = {m, 0};
  *out = (CliReading){m->desc->formulas[k].name, NAN, false};
  return mp_formula(m->desc->formulas[k].rpn, mean_of, &l, &out->value);
}

bool cli_meter_read(const CliMeter *m, uint32_t i, CliReading *out) {
  for (uint32_t k = 0; k < m->entry->n_outputs; k++)
    if (read_output(m, k, false, out) && !i--) return true;
  for (uint32_t k = 0; k < m->desc->n_formulas; k++)
    if (read_formula(m, k, out) && !i--) return true;
  for (uint32_t k = 0; k < m->entry->n_outputs; k++)
    if (read_output(m, k, true, out) && !i--) return true;
  return false;
}

/* ---- as text ---- */

static const char *number_format(double v, bool last) {
  double a = fabs(v);
  if (last) return "%.3g";
  return a == 0 || (a >= 0.001 && a < 100000) ? "%.4f" : "%.3e";
}

void cli_meter_text(const CliMeter *m, mp_text *t) {
  CliReading r;
  for (uint32_t i = 0; cli_meter_read(m, i, &r); i++) {
    char number[40];
    snprintf(number, sizeof number, number_format(r.value, r.last), r.value);
    mp_text_add(t, "  %s %s", r.name, isnan(r.value) ? "-" : number);
  }
}

void cli_meter_json(const CliMeter *m, mp_text *t) {
  CliReading r;
  for (uint32_t i = 0; cli_meter_read(m, i, &r); i++) {
    mp_text_add(t, ",");
    mp_json_quote(t, r.name);
    if (isfinite(r.value)) mp_text_add(t, ":%.9g", r.value);
    else mp_text_add(t, ":null"); /* JSON has no NaN; also a skipped step, which has no weight */
  }
}

void cli_close_meter(CliMeter *m) {
  free(m->sums);
  *m = (CliMeter){0};
}
