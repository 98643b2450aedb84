/* infer.c: one infer entry from the command line.
 *
 *   infer ENTRY --input image=x.npy --output y.npy      every row of the file, batch by batch
 *   infer ENTRY --text tokens='Once' --tokens 200       text, continued byte by byte
 *
 * An input is a file of any format, or a number where it is one.  For text the entry's ints are
 * bytes: the input is filled with the last of them, the entry's first result of ints is appended,
 * and so on, a draw further each time.  Text shorter than the input stands in front, and an input
 * `length` says how much of it is real; without one, line ends are put before the text.
 */
#include "runtime/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct Input {
  mp_file file;
  mp_source source;
  char *batch; /* as large as the input */
  bool given;
} Input;

typedef struct Infer {
  CliRun *run;
  const mp_entry_desc *entry;
  uint32_t index;
  Input *inputs;
  char **results; /* of each output, all its rows */
  int64_t rows;   /* of the files; 0: no input has rows */
  uint64_t draw;
} Infer;

static const CliArgs *args(const Infer *f) { return f->run->args; }

/* Does axis 0 count the rows of the batch?  Functions run with full batches, so their tensors need
 * no mark of it. */
static bool by_rows(const Infer *f, const mp_tensor *t) {
  return t->ndim && (!t->rows || (f->entry->batch && t->dims[0] == f->entry->batch));
}

static int64_t full_batch(const Infer *f) { return f->entry->batch ? f->entry->batch : 1; }

/* ---- inputs ---- */

static int find_entry(Infer *f) {
  const mp_desc *d = f->run->desc;
  char hint[96];
  const char *name = args(f)->entry;
  mp_near near = mp_near_to(name);
  for (uint32_t i = 0; i < d->n_entries; i++) {
    if (d->entries[i].kind != MP_INFER) continue;
    mp_near_try(&near, d->entries[i].name);
    f->entry = !strcmp(d->entries[i].name, name) ? &d->entries[f->index = i] : f->entry;
  }
  if (f->entry) return CLI_OK;
  return cli_error(args(f), CLI_USAGE, "%s has no infer function '%s'%s", d->name, name,
                   mp_near_text(&near, hint, sizeof hint));
}

static int find_input(const Infer *f, const char *flag, const char *name, uint32_t *out) {
  const mp_entry_desc *e = f->entry;
  char hint[96];
  mp_near near = mp_near_to(name);
  for (*out = 0; *out < e->n_inputs; ++*out) {
    mp_near_try(&near, e->inputs[*out].name);
    if (!strcmp(e->inputs[*out].name, name)) break;
  }
  if (*out == e->n_inputs)
    return cli_error(args(f), CLI_USAGE, "%s: %s has no input '%s'%s", flag, e->name, name,
                     mp_near_text(&near, hint, sizeof hint));
  if (f->inputs[*out].given)
    return cli_error(args(f), CLI_USAGE, "%s: '%s' is given twice", flag, name);
  f->inputs[*out].given = true;
  return CLI_OK;
}

static bool put_number(int32_t dtype, double v, int64_t whole, void *out) {
  float real = (float)v;
  int32_t i32 = (int32_t)whole;
  uint16_t u16 = (uint16_t)whole;
  uint8_t u8 = (uint8_t)whole;
  switch (dtype) {
  case MP_F32: memcpy(out, &real, sizeof real); return true;
  case MP_I64: memcpy(out, &whole, sizeof whole); return true;
  case MP_I32:
  case MP_U32: memcpy(out, &i32, sizeof i32); return true;
  case MP_U16: memcpy(out, &u16, sizeof u16); return true;
  case MP_U8:
  case MP_I1: memcpy(out, &u8, sizeof u8); return true;
  default: return false;
  }
}

static int read_number(const Infer *f, uint32_t i, const char *text) {
  const mp_tensor *t = &f->entry->inputs[i];
  char *end, *whole_end;
  double v = strtod(text, &end);
  errno = 0;
  long long whole = strtoll(text, &whole_end, 10);
  bool good = *text && !*end && (t->dtype == MP_F32 || (!*whole_end && !errno));
  if (good && put_number(t->dtype, v, whole, f->inputs[i].batch)) return CLI_OK;
  return cli_error(args(f), CLI_USAGE, "--input %s: '%s' is not a number of type %s", t->name, text,
                   mp_type_of(t->dtype)->name);
}

/* An input without rows is one file whole. */
static int read_file(Infer *f, uint32_t i, const char *path) {
  const mp_tensor *t = &f->entry->inputs[i];
  Input *in = &f->inputs[i];
  mp_source_desc d = {t->name, MP_ROWS, t->dtype, 0, 0};
  mp_error err;
  if (mp_file_open(&in->file, path, &err) ||
      mp_source_open(&in->source, &in->file, &d, t, NULL, &err))
    return cli_error(args(f), CLI_FAILED, "%s", err.text);
  int64_t rows = in->source.rows, want = by_rows(f, t) ? f->rows : t->dims[0];
  if (want && rows != want)
    return cli_error(args(f), CLI_FAILED, "'%s' has %lld rows, expected %lld", path,
                     (long long)rows, (long long)want);
  if (by_rows(f, t)) f->rows = rows;
  return CLI_OK;
}

static int read_inputs(Infer *f) {
  const CliPairs *given = &args(f)->input;
  int status = CLI_OK;
  for (uint32_t k = 0; k < given->len && !status; k++) {
    uint32_t i;
    status = find_input(f, "--input", given->at[k].name, &i);
    if (!status)
      status = f->entry->inputs[i].ndim ? read_file(f, i, given->at[k].value)
                                        : read_number(f, i, given->at[k].value);
  }
  return status;
}

static int check_given(const Infer *f) {
  for (uint32_t i = 0; i < f->entry->n_inputs; i++)
    if (!f->inputs[i].given)
      return cli_error(args(f), CLI_USAGE, "no value for '%s': --input %s=%s",
                       f->entry->inputs[i].name, f->entry->inputs[i].name,
                       f->entry->inputs[i].ndim ? "FILE" : "NUMBER");
  return CLI_OK;
}

/* ---- running ---- */

/* Behind the last row of the files that row stands again. */
static void fill_inputs(const Infer *f, int64_t first) {
  for (uint32_t i = 0; i < f->entry->n_inputs; i++) {
    const mp_tensor *t = &f->entry->inputs[i];
    const Input *in = &f->inputs[i];
    if (!in->source.at) continue;
    int64_t from = by_rows(f, t) ? first : 0;
    for (int64_t r = 0; r < t->dims[0]; r++) {
      int64_t row = from + r < in->source.rows ? from + r : in->source.rows - 1;
      mp_source_row(&in->source, row, in->batch + (uint64_t)r * in->source.row_bytes);
    }
  }
}

static int run_batch(Infer *f) {
  CliRun *r = f->run;
  mp_run run = {.struct_size = sizeof run, .rows = full_batch(f), .draw = f->draw++};
  int status = MP_OK;
  for (uint32_t i = 0; i < f->entry->n_inputs && !status; i++)
    status = r->api->bind(r->ctx, f->index, i, f->inputs[i].batch,
                          mp_tensor_bytes(&f->entry->inputs[i]));
  if (!status) status = r->api->run(r->ctx, f->index, &run, NULL);
  return status ? cli_ctx_error(r) : CLI_OK;
}

static bool is_value(const Infer *f, uint32_t i) {
  return f->entry->outputs[i].role == MP_OUT_VALUE;
}

/* The result as it is over all rows. */
static mp_tensor whole(const Infer *f, uint32_t i) {
  mp_tensor t = f->entry->outputs[i].tensor;
  if (by_rows(f, &t)) t.dims[0] = f->rows;
  return t;
}

static int keep_results(Infer *f, int64_t first, int64_t rows) {
  for (uint32_t i = 0; i < f->entry->n_outputs; i++) {
    const mp_tensor *t = &f->entry->outputs[i].tensor;
    mp_view v;
    if (!is_value(f, i)) continue;
    if (!by_rows(f, t) && f->rows > full_batch(f))
      return cli_error(args(f), CLI_FAILED, "'%s' cannot be joined over %lld rows: at most %lld",
                       t->name, (long long)f->rows, (long long)full_batch(f));
    if (f->run->api->output(f->run->ctx, f->index, i, &v)) return cli_ctx_error(f->run);
    uint64_t row = mp_row_bytes(t);
    if (!by_rows(f, t)) memcpy(f->results[i], v.data, mp_tensor_bytes(t));
    else memcpy(f->results[i] + row * (uint64_t)first, v.data, row * (uint64_t)rows);
  }
  return CLI_OK;
}

static int give_results(const Infer *f) {
  const char *path = NULL, *only = "";
  mp_tensor *t = calloc(f->entry->n_outputs + 1, sizeof *t);
  mp_st_item *items = calloc(f->entry->n_outputs + 1, sizeof *items);
  uint32_t n = 0;
  int status = t && items ? CLI_OK : cli_error(args(f), CLI_FAILED, "no memory");
  if (args(f)->outputs.len) {
    only = args(f)->outputs.at[0].name;
    path = args(f)->outputs.at[0].value;
  }
  for (uint32_t i = 0; i < f->entry->n_outputs && !status; i++) {
    if (!is_value(f, i) || (*only && strcmp(only, f->entry->outputs[i].tensor.name))) continue;
    t[n] = whole(f, i);
    items[n] = (mp_st_item){.tensor = &t[n], .data = f->results[i]};
    n++;
  }
  if (!status && !n)
    status = cli_error(args(f), CLI_USAGE, "%s has no result '%s'", f->entry->name, only);
  if (!status && path) status = cli_write_tensors(args(f), path, items, n);
  for (uint32_t i = 0; i < n && !status && !path; i++)
    cli_print_tensor(items[i].tensor, items[i].data);
  free(items);
  free(t);
  return status;
}

static int infer_rows(Infer *f) {
  int64_t batch = full_batch(f);
  if (!f->rows) f->rows = batch;
  for (uint32_t i = 0; i < f->entry->n_outputs; i++) {
    mp_tensor t = whole(f, i);
    f->results[i] = malloc(mp_tensor_bytes(&t) + 1);
    if (!f->results[i]) return cli_error(args(f), CLI_FAILED, "no memory for '%s'", t.name);
  }
  for (int64_t first = 0; first < f->rows; first += batch) {
    int64_t rows = f->rows - first < batch ? f->rows - first : batch;
    fill_inputs(f, first);
    int status = run_batch(f);
    if (!status) status = keep_results(f, first, rows);
    if (status) return status;
  }
  return give_results(f);
}

/* ---- text ---- */

static bool is_int(int32_t dtype) { return dtype >= MP_I64 && dtype <= MP_U8; }

static void put_text(const Infer *f, uint32_t input, const mp_text *text, int length_input) {
  const mp_tensor *t = &f->entry->inputs[input];
  size_t size = mp_type_of(t->dtype)->size, n = (size_t)(mp_row_bytes(t) / size);
  size_t have = text->len < n ? text->len : n, before = length_input >= 0 ? 0 : n - have;
  for (size_t i = 0; i < n; i++) {
    bool real = i >= before && i < before + have;
    unsigned char c = real ? (unsigned char)text->at[text->len - have + i - before] : 0;
    if (i < before) c = '\n';
    put_number(t->dtype, 0, c, f->inputs[input].batch + i * size);
  }
  if (length_input >= 0)
    put_number(f->entry->inputs[length_input].dtype, (double)have, (int64_t)have,
               f->inputs[length_input].batch);
}

/* The first result that is ints, and how many a row. */
static int find_tokens(const Infer *f, uint32_t *out, uint64_t *n) {
  for (*out = 0; *out < f->entry->n_outputs; ++*out) {
    const mp_tensor *t = &f->entry->outputs[*out].tensor;
    if (!is_value(f, *out) || !is_int(t->dtype)) continue;
    *n = (by_rows(f, t) ? mp_row_bytes(t) : mp_tensor_bytes(t)) / mp_type_of(t->dtype)->size;
    return CLI_OK;
  }
  return cli_error(args(f), CLI_USAGE, "--text: %s gives no ints", f->entry->name);
}

static int append_tokens(const Infer *f, uint32_t output, uint64_t n, mp_text *text) {
  mp_view v;
  if (f->run->api->output(f->run->ctx, f->index, output, &v)) return cli_ctx_error(f->run);
  for (uint64_t i = 0; i < n; i++) {
    int64_t token = cli_int_at(f->entry->outputs[output].tensor.dtype, v.data, i);
    if (token < 0 || token > 255)
      return cli_error(args(f), CLI_FAILED, "--text: token %lld is not a byte", (long long)token);
    char byte = (char)token; /* may be 0: not by mp_text_add */
    mp_text_bytes(text, &byte, 1);
    putchar(byte);
  }
  fflush(stdout);
  return text->failed ? cli_error(args(f), CLI_FAILED, "no memory") : CLI_OK;
}

static int read_text(const Infer *f, const char *value, mp_text *text) {
  mp_file file;
  mp_error err;
  if (*value != '@') mp_text_bytes(text, value, strlen(value));
  else if (mp_file_open(&file, value + 1, &err))
    return cli_error(args(f), CLI_FAILED, "%s", err.text);
  else mp_text_bytes(text, (const char *)file.at, (size_t)file.size), mp_file_close(&file);
  return text->failed ? cli_error(args(f), CLI_FAILED, "no memory") : CLI_OK;
}

static int infer_text(Infer *f, uint32_t input, mp_text *text) {
  uint32_t output = 0;
  uint64_t n = 0;
  int length = -1;
  for (uint32_t i = 0; i < f->entry->n_inputs; i++)
    if (!strcmp(f->entry->inputs[i].name, "length") && !f->entry->inputs[i].ndim) length = (int)i;
  if (length >= 0) f->inputs[length].given = true;
  int status = find_tokens(f, &output, &n);
  if (!status) status = check_given(f);
  if (!status && !args(f)->quiet) fwrite(text->at, 1, text->len, stdout);
  int64_t times = args(f)->tokens ? (args(f)->tokens + (int64_t)n - 1) / (int64_t)n : 1;
  for (int64_t k = 0; k < times && !status; k++) {
    put_text(f, input, text, length);
    status = run_batch(f);
    if (!status) status = append_tokens(f, output, n, text);
  }
  if (!status) putchar('\n');
  return status;
}

static int start_text(Infer *f) {
  const CliPairs *given = &args(f)->text;
  mp_text text = {0};
  uint32_t input;
  if (given->len != 1 || f->rows)
    return cli_error(args(f), CLI_USAGE, "--text: one input is text, and no other has rows");
  int status = find_input(f, "--text", given->at[0].name, &input);
  if (status) return status;
  const mp_tensor *t = &f->entry->inputs[input];
  if (!is_int(t->dtype) || !by_rows(f, t) || t->ndim < 2)
    return cli_error(args(f), CLI_USAGE, "--text: '%s' is not rows of ints", t->name);
  status = read_text(f, given->at[0].value, &text);
  if (!status) status = infer_text(f, input, &text);
  mp_text_free(&text);
  return status;
}

/* ---- the command ---- */

static int open_infer(Infer *f) {
  int status = find_entry(f);
  if (status) return status;
  f->inputs = calloc(f->entry->n_inputs + 1, sizeof *f->inputs);
  f->results = calloc(f->entry->n_outputs + 1, sizeof *f->results);
  if (!f->inputs || !f->results) return cli_error(args(f), CLI_FAILED, "no memory");
  for (uint32_t i = 0; i < f->entry->n_inputs; i++) {
    f->inputs[i].batch = calloc(1, mp_tensor_bytes(&f->entry->inputs[i]) + 8);
    if (!f->inputs[i].batch) return cli_error(args(f), CLI_FAILED, "no memory");
  }
  return read_inputs(f);
}

static void close_infer(Infer *f) {
  for (uint32_t i = 0; f->inputs && i < f->entry->n_inputs; i++) {
    mp_source_close(&f->inputs[i].source);
    mp_file_close(&f->inputs[i].file);
    free(f->inputs[i].batch);
  }
  for (uint32_t i = 0; f->results && i < f->entry->n_outputs; i++) free(f->results[i]);
  free(f->inputs);
  free(f->results);
}

int cli_infer(CliRun *r) {
  Infer f = {.run = r, .draw = (uint64_t)r->args->draw};
  int status = open_infer(&f);
  bool text = r->args->text.len > 0;
  if (!status && !text) status = check_given(&f);
  if (!status) status = cli_open_ctx(r);
  if (!status) status = cli_restore(r);
  if (!status) status = text ? start_text(&f) : infer_rows(&f);
  close_infer(&f);
  return status;
}
