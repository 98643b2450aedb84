/* train.c: a training loop of one's own around a compiled model, in C99.
 *
 *   mpcc ../mlp.mp -o mlp.a && mpcc ../mlp.mp -o mlp.h
 *   cc train.c mlp.a -lz -lm -pthread -o train
 *   ./train train-images-idx3-ubyte.gz train-labels-idx1-ubyte.gz t10k-images… t10k-labels… [N]
 *
 * Shows: binding inputs without a copy, a short last batch, totals over a data set, a learning rate
 * set by the host, the log callback, a caller's own allocator, a checkpoint, cancelling from a
 * signal.
 */
#include "mlp.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { PIXELS = 28 * 28 };

typedef struct Data {
  unsigned char *images, *labels;
  int64_t rows;
} Data;

/* ---- the host's side: data, memory, messages ------------------------------------------------- */

/* The elements of an IDX file of bytes, plain or .gz; NULL: it is none.  row: bytes of one row. */
static unsigned char *read_idx(const char *path, size_t row, int64_t *rows) {
  unsigned char head[16], *at = NULL;
  gzFile f = gzopen(path, "rb");
  unsigned axes = row > 1 ? 3 : 1, size = 4 + 4 * axes;
  if (!f) return NULL;
  if (gzread(f, head, size) == (int)size && head[2] == 8 && head[3] == axes) {
    *rows = (int64_t)head[4] << 24 | head[5] << 16 | head[6] << 8 | head[7];
    at = malloc((size_t)*rows * row + 1);
    if (at && gzread(f, at, (unsigned)((size_t)*rows * row)) != (int)((size_t)*rows * row)) {
      free(at);
      at = NULL;
    }
  }
  gzclose(f);
  return at;
}

static int read_data(Data *d, const char *images, const char *labels) {
  int64_t n = 0;
  d->images = read_idx(images, PIXELS, &d->rows);
  d->labels = read_idx(labels, 1, &n);
  if (d->images && d->labels && n == d->rows) return 0;
  fprintf(stderr, "%s and %s are not images and labels of one data set\n", images, labels);
  return -1;
}

typedef struct Host {
  size_t bytes; /* that the context holds */
} Host;

/* Aligned memory with its size in front, so that what is in use can be told. */
static void *host_alloc(void *user, size_t bytes, size_t align) {
  Host *h = user;
  size_t room = align < 64 ? 64 : align;
  char *block = malloc(bytes + 2 * room), *p;
  if (!block) return NULL;
  p = block + room + (room - (size_t)((uintptr_t)block % room)) % room;
  memcpy(p - sizeof block, &block, sizeof block);
  memcpy(p - sizeof block - sizeof bytes, &bytes, sizeof bytes);
  h->bytes += bytes;
  return p;
}

static void host_free(void *user, void *p) {
  Host *h = user;
  char *block;
  size_t bytes;
  if (!p) return;
  memcpy(&block, (char *)p - sizeof block, sizeof block);
  memcpy(&bytes, (char *)p - sizeof block - sizeof bytes, sizeof bytes);
  h->bytes -= bytes;
  free(block);
}

static void host_log(void *user, const char *line) {
  (void)user;
  printf("mlp: %s\n", line);
}

static mp_ctx *to_cancel; /* what a signal handler can reach */
static const mp_api *cancel_api;
static void on_interrupt(int number) {
  (void)number;
  cancel_api->cancel(to_cancel); /* the one call that may come from anywhere */
}

/* ---- training -------------------------------------------------------------------------------- */

static int train_epoch(const mp_api *api, mp_ctx *ctx, const Data *d) {
  mp_result r;
  memset(&r, 0, sizeof r);
  r.struct_size = sizeof r;
  for (int64_t at = 0; at < d->rows; at += mlp_TRAIN_STEP_BATCH) {
    int64_t n = d->rows - at < mlp_TRAIN_STEP_BATCH ? d->rows - at : mlp_TRAIN_STEP_BATCH;
    mp_run run = {.struct_size = sizeof run, .rows = n};
    int status = mlp_train_step_bind_images(api, ctx, d->images + at * PIXELS, n);
    if (!status) status = mlp_train_step_bind_labels(api, ctx, d->labels + at, n);
    if (!status) status = api->run(ctx, mlp_TRAIN_STEP, &run, &r);
    if (status) return status;
    if (!r.committed) printf("step at row %ld skipped: something was not finite\n", (long)at);
  }
  printf("loss of the last batch %.4f\n", r.loss);
  return MP_OK;
}

static double total(const mp_api *api, mp_ctx *ctx, uint32_t output) {
  mp_view v;
  if (api->output(ctx, mlp_EVAL, output, &v)) return 0;
  return *(double *)((char *)v.data + v.byte_offset);
}

/* Exact over the data set: sums and weights add up in the context. */
static int evaluate(const mp_api *api, mp_ctx *ctx, const Data *d) {
  for (int64_t at = 0; at < d->rows; at += mlp_EVAL_BATCH) {
    int64_t n = d->rows - at < mlp_EVAL_BATCH ? d->rows - at : mlp_EVAL_BATCH;
    mp_run run = {.struct_size = sizeof run, .rows = n, .flags = at == 0 ? MP_RUN_NEW_TOTAL : 0};
    int status = mlp_eval_bind_images(api, ctx, d->images + at * PIXELS, n);
    if (!status) status = mlp_eval_bind_labels(api, ctx, d->labels + at, n);
    if (!status) status = api->run(ctx, mlp_EVAL, &run, NULL);
    if (status) return status;
  }
  printf("accuracy %.4f on %.0f images\n",
         total(api, ctx, mlp_EVAL_OUT_accuracy) / total(api, ctx, mlp_EVAL_OUT_accuracy_weight),
         total(api, ctx, mlp_EVAL_OUT_accuracy_weight));
  return MP_OK;
}

static int train(const mp_api *api, mp_ctx *ctx, const Data *data, const Data *test, int epochs) {
  int64_t steps = epochs * ((data->rows + mlp_TRAIN_STEP_BATCH - 1) / mlp_TRAIN_STEP_BATCH);
  int status = api->init(ctx, 1);
  if (!status) status = api->hyper(ctx, "steps", (double)steps); /* what the schedule spans */
  for (int i = 0; i < epochs && !status; i++) {
    if (i == epochs - 1 && epochs > 1)
      status = api->hyper(ctx, "lr", 1e-4); /* by hand at the end */
    if (!status) status = train_epoch(api, ctx, data);
    if (!status) status = evaluate(api, ctx, test);
  }
  if (!status) status = api->save(ctx, "checkpoint");
  return status;
}

int main(int argc, char **argv) {
  Data data, test;
  Host host = {0};
  mp_error error;
  mp_options options = {.struct_size = sizeof options,
                        .log = host_log,
                        .alloc = host_alloc,
                        .free = host_free,
                        .user = &host};
  const mp_api *api = mlp_get_api(MP_ABI);
  mp_ctx *ctx = NULL;
  if (argc < 5) return fprintf(stderr, "usage: train IMAGES LABELS IMAGES LABELS [EPOCHS]\n"), 2;
  if (!api) return fprintf(stderr, "this model is newer than this program\n"), 1;
  if (read_data(&data, argv[1], argv[2]) || read_data(&test, argv[3], argv[4])) return 1;
  if (api->create(&options, &ctx, &error)) return fprintf(stderr, "%s\n", error.text), 1;
  printf("%s holds %.1f MB\n", api->desc->name, (double)host.bytes / 1e6);
  cancel_api = api;
  to_cancel = ctx;
  signal(SIGINT, on_interrupt);
  int status = train(api, ctx, &data, &test, argc > 5 ? atoi(argv[5]) : 1);
  if (status == MP_E_CANCELLED) printf("interrupted: %s\n", api->error(ctx));
  else if (status) fprintf(stderr, "%s\n", api->error(ctx));
  api->destroy(ctx);
  printf("%lu bytes left\n", (unsigned long)host.bytes);
  free(data.images), free(data.labels), free(test.images), free(test.labels);
  return status && status != MP_E_CANCELLED;
}
