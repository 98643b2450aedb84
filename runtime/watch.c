/* watch.c: the values that a program was compiled to --watch, as text, JSON and events.
 *
 * A step gives five numbers of each (MP_OUT_WATCH); shown are the largest |x|, the root of the mean
 * square, and which shares were flushed to zero or saturated when stored.  They are those of the
 * last step, also where it was skipped: then they may say why.
 */
#include "runtime/cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBERS = 5 };

/* "net.0.matmul:8" of "net.0.matmul:8 max" */
static size_t name_length(const mp_output_desc *o) { return strcspn(o->tensor.name, " "); }

static void name_of(const mp_output_desc *o, char *out, size_t size) {
  snprintf(out, size, "%.*s", (int)name_length(o), o->tensor.name);
}

static int nothing_met(const CliArgs *a, const mp_entry_desc *e, bool any) {
  char name[256], best[256] = "", hint[300];
  mp_near near = mp_near_to(a->watch);
  for (uint32_t i = 0; i < e->n_outputs; i++) {
    size_t distance = near.distance;
    if (e->outputs[i].role != MP_OUT_WATCH) continue;
    name_of(&e->outputs[i], name, sizeof name);
    mp_near_try(&near, name);
    if (near.distance == distance) continue;
    memcpy(best, name, sizeof best);
    near.best = best;
  }
  if (!any)
    return cli_error(a, CLI_USAGE,
                     "--watch: this program watches nothing: compile it with mpcc --watch=GLOB");
  return cli_error(a, CLI_USAGE, "--watch: nothing that is watched matches '%s'%s", a->watch,
                   mp_near_text(&near, hint, sizeof hint));
}

int cli_open_watch(CliWatch *w, const CliArgs *a, const mp_desc *d, int entry) {
  bool any = false;
  *w = (CliWatch){.entry = &d->entries[entry], .index = (uint32_t)entry};
  w->first = calloc(w->entry->n_outputs + 1, sizeof *w->first);
  if (!w->first) return cli_error(a, CLI_FAILED, "no memory");
  for (uint32_t i = 0; i + NUMBERS <= w->entry->n_outputs; i++) {
    char name[256];
    mp_glob_parts parts;
    if (w->entry->outputs[i].role != MP_OUT_WATCH) continue;
    name_of(&w->entry->outputs[i], name, sizeof name);
    if (!a->watch || mp_glob_match(a->watch, name, &parts)) w->first[w->n++] = i;
    any = true;
    i += NUMBERS - 1;
  }
  return a->watch && !w->n ? nothing_met(a, w->entry, any) : CLI_OK;
}

void cli_read_watch(const CliWatch *w, const CliRun *r, uint32_t i, CliWatched *out) {
  double v[NUMBERS];
  for (uint32_t k = 0; k < NUMBERS; k++) {
    mp_view view;
    float number = NAN;
    if (!r->api->output(r->ctx, w->index, w->first[i] + k, &view))
      memcpy(&number, view.data, sizeof number);
    v[k] = (double)number;
  }
  name_of(&w->entry->outputs[w->first[i]], out->name, sizeof out->name);
  out->value[0] = v[0];
  out->value[1] = sqrt(v[1] / v[4]);
  out->value[2] = v[2] / v[4];
  out->value[3] = v[3] / v[4];
}

const char *const cli_watched[CLI_WATCHED] = {"max", "rms", "flushed", "saturated"};

void cli_watch_json(const CliWatch *w, const CliRun *r, mp_text *t) {
  if (w->n) mp_text_add(t, ",\"watch\":{");
  for (uint32_t i = 0; i < w->n; i++) {
    CliWatched seen;
    cli_read_watch(w, r, i, &seen);
    mp_text_add(t, i ? "," : "");
    mp_json_quote(t, seen.name);
    for (int k = 0; k < CLI_WATCHED; k++) {
      mp_text_add(t, "%s\"%s\":", k ? "," : ":{", cli_watched[k]);
      mp_text_add(t, isfinite(seen.value[k]) ? "%.9g" : "null", seen.value[k]);
    }
    mp_text_add(t, "}");
  }
  if (w->n) mp_text_add(t, "}");
}

void cli_watch_text(const CliWatch *w, const CliRun *r, mp_text *t) {
  for (uint32_t i = 0; i < w->n; i++) {
    CliWatched seen;
    cli_read_watch(w, r, i, &seen);
    mp_text_add(t, "    %-32s max %-9.3g rms %-9.3g flushed %-7.2g saturated %.2g\n", seen.name,
                seen.value[0], seen.value[1], seen.value[2], seen.value[3]);
  }
}

void cli_close_watch(CliWatch *w) {
  free(w->first);
  *w = (CliWatch){0};
}
