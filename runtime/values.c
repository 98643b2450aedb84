/* values.c: --values FILE: what a step computed on its way, of a program built --with-values.
 *
 * Tensors of the file are in the order they were computed; all are f32, widened exactly, and
 * without the loss scale.  Notes: `reads`, a line a tensor, which others went into it, by position;
 * `precision` and `step`. */
#include "runtime/cli.h"

#include <stdlib.h>
#include <string.h>

typedef struct Values {
  mp_tensor *tensors;
  mp_st_item *items;
  uint32_t n;
  mp_text reads, step;
  const char *precision;
} Values;

int cli_check_values(const CliRun *r) {
  const CliArgs *a = r->args;
  if (!a->values || r->ctx->model->n_values) return CLI_OK;
  return cli_error(a, CLI_USAGE, "--values: build the program with mpcc --with-values");
}

/* Scales of this step are outputs. */
static float scale_of(const void *user, const char *name) {
  const CliRun *r = user;
  const mp_entry_desc *e = r->train.entry;
  mp_view v;
  float scale = 1;
  for (uint32_t i = 0; i < e->n_outputs; i++)
    if (e->outputs[i].role == MP_OUT_GAUGE && !strcmp(e->outputs[i].tensor.name, name) &&
        !r->api->output(r->ctx, r->train.index, i, &v))
      memcpy(&scale, v.data, sizeof scale);
  return scale;
}

/* false: no memory */
static bool add_value(Values *s, const CliRun *r, const mp_value *v) {
  const char *from = r->ctx->arena + v->at;
  uint64_t n = mp_tensor_bytes(&v->tensor) / mp_type_of(v->tensor.dtype)->size;
  float once = 1 / mp_unit_scale(r->train.entry, v->unit, scale_of, r);
  float *to = malloc(n * sizeof *to + 1);
  if (!to) return false;
  for (uint64_t i = 0; i < n; i++) to[i] = mp_float_at(v->tensor.dtype, from, i) * once;
  s->tensors[s->n] = v->tensor;
  s->tensors[s->n].dtype = MP_F32;
  s->items[s->n] = (mp_st_item){.tensor = &s->tensors[s->n], .data = to};
  mp_text_add(&s->reads, "%s\n", v->reads);
  s->n++;
  return true;
}

static int fill(void *user, mp_write_fn write, void *sink, mp_error *err) {
  const Values *s = user;
  const mp_st_note notes[] = {{(char *)"precision", (char *)s->precision},
                              {(char *)"step", s->step.at},
                              {(char *)"reads", s->reads.at}};
  return mp_st_write(s->items, s->n, notes, MP_LEN(notes), write, sink, err);
}

int cli_write_values(const CliRun *r, int64_t step) {
  const mp_model *m = r->ctx->model;
  Values s = {.precision = r->desc->precision};
  s.tensors = calloc(m->n_values, sizeof *s.tensors);
  s.items = calloc(m->n_values, sizeof *s.items);
  bool ok = s.tensors && s.items;
  mp_text_add(&s.step, "%lld", (long long)step);
  for (uint64_t i = 0; ok && i < m->n_values; i++)
    if (m->values[i].entry == r->train.index) ok = add_value(&s, r, &m->values[i]);
  ok = ok && !s.reads.failed && !s.step.failed;
  int status = ok ? cli_write_file(r->args, r->args->values, fill, &s)
                  : cli_error(r->args, CLI_FAILED, "no memory");
  for (uint32_t i = 0; i < s.n; i++) free((void *)s.items[i].data);
  mp_text_free(&s.reads);
  mp_text_free(&s.step);
  free(s.tensors);
  free(s.items);
  return status;
}
