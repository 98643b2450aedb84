/* selftest.c: does this binary keep its promises on this machine?  Steps on random data of the
 * model's shapes:
 *
 *   the same bits on 1, 2 and 3 threads, and when it is done again
 *   the same bits after everything went through memory as a checkpoint
 */
#include "runtime/cli.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { STEPS = 3, SEED = 1 };

typedef struct Test {
  CliRun *run;
  uint32_t entry;
  uint8_t **inputs; /* of the entry, a full batch */
} Test;

static const mp_entry_desc *entry_of(const Test *t) { return &t->run->desc->entries[t->entry]; }

/* ---- data ---- */

/* Uniform in [0, 1) for floats; 0 or 1 for ints, which any class or token may be. */
static void fill(int32_t dtype, uint8_t *out, uint64_t bytes, uint64_t seed) {
  uint64_t size = mp_type_of(dtype)->size, n = bytes / size;
  mp_shuffle s = mp_shuffle_new((uint64_t)1 << 32, seed, 0);
  for (uint64_t i = 0; i < n; i++) {
    uint64_t word = mp_shuffle_at(&s, i & 0xffffffff);
    float real = (float)(word >> 8) * 0x1p-24f;
    uint32_t bits;
    memcpy(&bits, &real, sizeof bits);
    memset(out + i * size, 0, size);
    if (dtype == MP_F32) memcpy(out + i * size, &bits, sizeof bits);
    else if (dtype == MP_BF16)
      out[i * size] = (uint8_t)(bits >> 16), out[i * size + 1] = (uint8_t)(bits >> 24);
    else if (dtype >= MP_I64) out[i * size] = word & 1;
  }
}

static int make_inputs(Test *t) {
  const mp_entry_desc *e = entry_of(t);
  t->inputs = calloc(e->n_inputs + 1, sizeof *t->inputs);
  for (uint32_t i = 0; t->inputs && i < e->n_inputs; i++) {
    uint64_t bytes = mp_tensor_bytes(&e->inputs[i]);
    t->inputs[i] = malloc(bytes + 8);
    if (!t->inputs[i]) return cli_error(t->run->args, CLI_FAILED, "no memory");
    fill(e->inputs[i].dtype, t->inputs[i], bytes, i + 1);
  }
  return t->inputs ? CLI_OK : cli_error(t->run->args, CLI_FAILED, "no memory");
}

/* ---- runs ---- */

static int failed(const Test *t, mp_ctx *ctx) {
  return cli_error(t->run->args, CLI_FAILED, "selftest: %s", t->run->api->error(ctx));
}

static int set_numbers(const Test *t, mp_ctx *ctx, uint32_t state, const mp_tensor *s) {
  mp_tensor given = *s;
  mp_view view;
  if (mp_is_low(s->dtype)) given.dtype = MP_F32;
  uint64_t bytes = mp_tensor_bytes(&given);
  void *numbers = malloc(bytes + 8);
  if (!numbers) return cli_error(t->run->args, CLI_FAILED, "no memory");
  fill(given.dtype, numbers, bytes, state);
  mp_view_of(&view, &given, numbers);
  int status = t->run->api->set(ctx, s->name, &view) ? failed(t, ctx) : CLI_OK;
  free(numbers);
  return status;
}

/* Parameters that are to be loaded get numbers too. */
static int start(const Test *t, int threads, mp_ctx **out) {
  const CliRun *r = t->run;
  mp_options o = {.struct_size = sizeof o, .threads = threads, .cpu = r->args->cpu};
  mp_error err;
  if (r->api->create(&o, out, &err)) return cli_error(r->args, CLI_FAILED, "%s", err.text);
  if (r->api->init(*out, SEED)) return failed(t, *out);
  if (mp_find_hyper(*out, "steps") >= 0) r->api->hyper(*out, "steps", 2 * STEPS);
  for (uint32_t i = 0; i < r->desc->n_states; i++) {
    const mp_tensor *s = &r->desc->states[i].tensor;
    if (!(r->desc->states[i].flags & MP_STATE_MUST_LOAD)) continue;
    int status = set_numbers(t, *out, i, s);
    if (status) return status;
  }
  return CLI_OK;
}

static int steps(const Test *t, mp_ctx *ctx, int n) {
  const mp_api *api = t->run->api;
  for (uint32_t i = 0; i < entry_of(t)->n_inputs; i++)
    if (api->bind(ctx, t->entry, i, t->inputs[i], mp_tensor_bytes(&entry_of(t)->inputs[i])))
      return failed(t, ctx);
  for (int i = 0; i < n; i++)
    if (api->run(ctx, t->entry, NULL, NULL)) return failed(t, ctx);
  return CLI_OK;
}

static uint64_t digest(const mp_ctx *ctx) {
  uLong crc = crc32_z(0, NULL, 0), adler = adler32_z(0, NULL, 0);
  for (uint32_t i = 0; i < ctx->model->desc->n_states; i++) {
    if (mp_is_split(ctx->model, i)) continue; /* its parts follow */
    const void *at = mp_state_data(ctx, i);
    uint64_t bytes = mp_tensor_bytes(&ctx->model->desc->states[i].tensor);
    crc = crc32_z(crc, at, bytes);
    adler = adler32_z(adler, at, bytes);
  }
  return (uint64_t)crc << 32 | adler;
}

static int run_on(const Test *t, int threads, uint64_t *out) {
  mp_ctx *ctx = NULL;
  int status = start(t, threads, &ctx);
  if (!status) status = steps(t, ctx, STEPS);
  if (!status) *out = digest(ctx);
  t->run->api->destroy(ctx);
  return status;
}

static int test_threads(const Test *t) {
  uint64_t first = 0, found = 0;
  int status = run_on(t, 1, &first);
  for (int threads = 1; threads <= 3 && !status; threads++) {
    status = run_on(t, threads, &found);
    if (!status && found != first)
      status = cli_error(t->run->args, CLI_FAILED, "selftest: %d threads give other bits than 1",
                         threads);
  }
  if (!status)
    printf("%d steps on 1, 2, 3 threads: same bits (%016llx)\n", STEPS, (unsigned long long)first);
  return status;
}

/* ---- saving ---- */

typedef struct Stream {
  mp_text text;
  size_t at;
} Stream;

static int write_stream(void *user, const void *bytes, size_t n) {
  Stream *s = user;
  mp_text_bytes(&s->text, bytes, n);
  return s->text.failed;
}

static int read_stream(void *user, void *bytes, size_t n) {
  Stream *s = user;
  if (n > s->text.len - s->at) return -1;
  memcpy(bytes, s->text.at + s->at, n);
  s->at += n;
  return 0;
}

/* The other one is given what is not in a checkpoint by start. */
static int test_saving(const Test *t) {
  const mp_api *api = t->run->api;
  mp_ctx *a = NULL, *b = NULL;
  Stream stream = {.at = 0};
  int status = start(t, 2, &a);
  if (!status) status = start(t, 1, &b);
  if (!status) status = steps(t, a, 1);
  if (!status && api->save_to(a, write_stream, &stream)) status = failed(t, a);
  if (!status && api->load_from(b, read_stream, &stream)) status = failed(t, b);
  if (!status) status = steps(t, a, STEPS);
  if (!status) status = steps(t, b, STEPS);
  if (!status && digest(a) != digest(b))
    status = cli_error(t->run->args, CLI_FAILED, "selftest: other bits after saving and loading");
  if (!status) printf("saved and loaded: same bits\n");
  api->destroy(a);
  api->destroy(b);
  mp_text_free(&stream.text);
  return status;
}

int cli_selftest(CliRun *r) {
  Test t = {.run = r};
  int entry = mp_find_entry(r->desc, MP_STEP);
  if (entry < 0) return cli_error(r->args, CLI_FAILED, "%s has no training step", r->desc->name);
  t.entry = (uint32_t)entry;
  int status = make_inputs(&t);
  if (!status) status = test_threads(&t);
  if (!status) status = test_saving(&t);
  if (!status) printf("passed\n");
  for (uint32_t i = 0; t.inputs && i < entry_of(&t)->n_inputs; i++) free(t.inputs[i]);
  free(t.inputs);
  return status;
}
