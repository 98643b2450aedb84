/* meter.c: metrics of an entry, summed over runs, as text and as JSON.
 *
 * A metric is two outputs of one name, sum and weight; its value is the quotient of the totals, so
 * a short last batch counts exactly by its rows.
 */
#include "runtime/cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool cli_open_meter(CliMeter *m, const mp_desc *d, int entry) {
  *m = (CliMeter){&d->entries[entry], (uint32_t)entry, NULL};
  m->sums = calloc(m->entry->n_outputs + 1, sizeof *m->sums);
  return m->sums != NULL;
}

void cli_clear_meter(CliMeter *m) { memset(m->sums, 0, m->entry->n_outputs * sizeof *m->sums); }

void cli_add_to_meter(CliMeter *m, const mp_api *api, mp_ctx *ctx) {
  for (uint32_t i = 0; i < m->entry->n_outputs; i++) {
    int32_t role = m->entry->outputs[i].role;
    mp_view v;
    double total;
    if (role != MP_OUT_SUM && role != MP_OUT_WEIGHT) continue;
    if (api->output(ctx, m->index, i, &v)) continue;
    memcpy(&total, v.data, sizeof total);
    m->sums[i] += total;
  }
}

static bool is_metric(const CliMeter *m, uint32_t i) {
  return m->entry->outputs[i].role == MP_OUT_SUM && i + 1 < m->entry->n_outputs;
}

static const char *number_format(double v) {
  double a = fabs(v);
  return a == 0 || (a >= 0.001 && a < 100000) ? "%.4f" : "%.3e";
}

void cli_meter_text(const CliMeter *m, mp_text *t) {
  for (uint32_t i = 0; i < m->entry->n_outputs; i++) {
    if (!is_metric(m, i)) continue;
    char number[40];
    double value = m->sums[i] / m->sums[i + 1];
    snprintf(number, sizeof number, number_format(value), value);
    mp_text_add(t, "  %s %s", m->entry->outputs[i].tensor.name, m->sums[i + 1] ? number : "-");
  }
}

void cli_meter_json(const CliMeter *m, mp_text *t) {
  for (uint32_t i = 0; i < m->entry->n_outputs; i++) {
    if (!is_metric(m, i)) continue;
    double value = m->sums[i] / m->sums[i + 1];
    mp_text_add(t, ",");
    mp_json_quote(t, m->entry->outputs[i].tensor.name);
    if (isfinite(value)) mp_text_add(t, ":%.9g", value);
    else mp_text_add(t, ":null"); /* JSON has no NaN; also a skipped step, which has no weight */
  }
}

void cli_close_meter(CliMeter *m) {
  free(m->sums);
  *m = (CliMeter){0};
}
