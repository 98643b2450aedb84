/* help.c: --help and info, generated from the model's tables, so they cannot go stale.
 *
 * What is shown of an input is what a file for it must hold: element type, dims with `rows` for
 * the batch, the length of windows, the number of categories. */
#include "runtime/cli.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const entry_kinds[] = {
    [MP_INIT] = "init",     [MP_STEP] = "step",    [MP_EVAL] = "eval",
    [MP_INFER] = "infer",   [MP_FIT] = "fit",      [MP_DERIVE] = "derive",
    [MP_GRADS] = "grads",   [MP_APPLY] = "apply",  [MP_CALIBRATE] = "calibrate",
    [MP_REPLAY] = "replay", [MP_ORIGIN] = "origin"};

static bool runs_by_itself(const mp_entry_desc *e) {
  return e->kind != MP_INIT && e->kind != MP_DERIVE && e->kind != MP_REPLAY && e->kind != MP_ORIGIN;
}

/* "u8[rows, 28, 28]" */
static void input_text(const mp_tensor *t, char *out, size_t size) {
  char rest[128];
  if (t->rows || !t->ndim) {
    mp_tensor_text(t, out, size);
    return;
  }
  mp_dims_text(t->dims + 1, t->ndim > 0 ? t->ndim - 1 : 0, rest, sizeof rest);
  snprintf(out, size, "%s[rows%s%s", mp_type_of(t->dtype)->name, t->ndim > 1 ? ", " : "", rest + 1);
}

/* What a file of the source has that an example does not show. */
static void print_source(const mp_desc *d, const char *name) {
  for (uint32_t i = 0; i < d->n_sources; i++) {
    const mp_source_desc *s = &d->sources[i];
    if (strcmp(s->name, name)) continue;
    if (s->kind != MP_ROWS)
      printf("  (%s of %lld from a file of %s)", s->kind == MP_LANES ? "lanes" : "windows",
             (long long)s->length, mp_type_of(s->dtype)->name);
    if (s->categories) printf("  (category(%lld))", (long long)s->categories);
  }
}

static void print_inputs(const mp_desc *d, const mp_entry_desc *e) {
  for (uint32_t i = 0; i < e->n_inputs; i++) {
    char text[160];
    input_text(&e->inputs[i], text, sizeof text);
    printf("    %-22s %s", e->inputs[i].name, text);
    if (e->kind != MP_INFER) print_source(d, e->inputs[i].name);
    printf("\n");
  }
}

static void print_outputs(const mp_entry_desc *e) {
  for (uint32_t i = 0; i < e->n_outputs; i++) {
    const mp_output_desc *o = &e->outputs[i];
    char text[160];
    if (o->role == MP_OUT_SUM) printf("    -> %s\n", o->tensor.name);
    if (o->role == MP_OUT_VALUE)
      printf("    -> %-19s %s\n", o->tensor.name, mp_tensor_text(&o->tensor, text, sizeof text));
  }
}

static void print_entries(const mp_desc *d, bool all) {
  for (uint32_t i = 0; i < d->n_entries; i++) {
    const mp_entry_desc *e = &d->entries[i];
    if (!all && !runs_by_itself(e)) continue;
    printf("  %s (%s", e->name, entry_kinds[e->kind]);
    if (e->batch) printf(", batch %lld", (long long)e->batch);
    printf(")\n");
    print_inputs(d, e);
    print_outputs(e);
  }
}

static void print_hypers(const mp_desc *d) {
  for (uint32_t i = 0; i < d->n_hypers; i++) {
    const mp_hyper_desc *h = &d->hypers[i];
    if (!strcmp(h->name, "steps")) continue; /* the run's length: --steps */
    printf("  %-24s ", h->name);
    if (h->shown && *h->shown) printf("%s\n", h->shown);
    else if (isnan(h->value)) printf("by its schedule\n");
    else printf("%g\n", h->value);
  }
}

/* Metrics of totals, and what eval sees without --eval-data. */
static void print_data(const mp_desc *d) {
  for (uint32_t i = 0; i < d->n_formulas; i++)
    printf("%s %s", i ? "," : "  metrics of totals:", d->formulas[i].name);
  if (d->n_formulas) printf("\n");
  if (d->split)
    printf("  eval without --eval-data: %s %g of the rows\n",
           d->split == MP_SPLIT_LAST ? "the last" : "random", d->split_fraction);
}

static void print_length(const mp_desc *d) {
  if (d->default_steps) printf("  %lld steps\n", (long long)d->default_steps);
  else if (d->default_epochs) printf("  %lld epochs\n", (long long)d->default_epochs);
  else printf("  none: give --steps or --epochs\n");
}

static void print_examples(const CliArgs *a, const mp_desc *d) {
  printf("usage: %s [train]", a->program);
  for (uint32_t i = 0; i < d->n_entries; i++)
    for (uint32_t k = 0; d->entries[i].kind == MP_STEP && k < d->entries[i].n_inputs; k++)
      printf(" --data %s=FILE", d->entries[i].inputs[k].name);
  printf(" [flags]\n       %s eval --resume DIR --eval-data [NAME=]FILE … [flags]\n", a->program);
  for (uint32_t i = 0; i < d->n_entries; i++)
    if (d->entries[i].kind == MP_INFER)
      printf("       %s infer %s --resume DIR --input NAME=VALUE … [flags]\n", a->program,
             d->entries[i].name);
  printf("       %s info [CHECKPOINT]\n       %s selftest\n", a->program, a->program);
}

void cli_print_help(const CliArgs *a, const mp_desc *d) {
  print_examples(a, d);
  printf(
      "\nTrains %s (%s, %s).  Data files: IDX (also .gz), NPY, CSV, safetensors, raw.\n\nflags\n",
      d->name, d->source, d->precision);
  cli_print_flags(stdout, a->command == CLI_TRAIN ? CLI_TRAIN | CLI_EVAL : (int)a->command);
  printf("\nentries\n");
  print_entries(d, false);
  print_data(d);
  if (d->n_hypers) printf("\nhyperparameters (--set NAME=VALUE)\n");
  print_hypers(d);
  printf("\nlength without --steps or --epochs\n");
  print_length(d);
}

static const char *const state_kinds[] = {
    [MP_PARAM] = "param",     [MP_STATE] = "state",     [MP_MOMENT] = "moment",
    [MP_COUNTER] = "counter", [MP_DERIVED] = "derived", [MP_SHADOW] = "shadow",
    [MP_PART] = "part"};

static void print_states(const mp_desc *d) {
  uint64_t weights = 0;
  for (uint32_t i = 0; i < d->n_states; i++) {
    const mp_state_desc *s = &d->states[i];
    char text[160];
    printf("  %-8s %-36s %s\n", state_kinds[s->kind], s->tensor.name,
           mp_tensor_text(&s->tensor, text, sizeof text));
    if (s->kind == MP_PARAM)
      weights += mp_tensor_bytes(&s->tensor) / mp_type_of(s->tensor.dtype)->size;
  }
  printf("  %llu weights\n", (unsigned long long)weights);
}

void cli_print_info(const mp_model *m) {
  const mp_desc *d = m->desc;
  const mp_level *level = NULL;
  mp_choose_level(m, NULL, &level, NULL);
  printf("%s\n  source     %s (%s)\n  compiler   %s\n  target     %s%s%s\n  precision  %s\n",
         d->name, d->source, d->source_hash, d->compiler, d->target, level ? "; here " : "",
         level ? level->cpu : "", d->precision);
  printf("  memory     %llu bytes of state, %llu of arena, %llu a thread\n",
         (unsigned long long)d->state_bytes, (unsigned long long)d->arena_bytes,
         (unsigned long long)(level ? level : m->levels)->scratch_bytes);
  printf("\nentries\n");
  print_entries(d, true);
  print_data(d);
  printf("\nhyperparameters\n");
  print_hypers(d);
  printf("\nstate\n");
  print_states(d);
}
