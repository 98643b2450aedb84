/* fuzz_checkpoint.c: any bytes as a checkpoint of the model that tests/unit/fake_model.c writes out
 * by hand: loading refuses with a message and changes nothing, or what was loaded can be saved and
 * loaded again. */
#include "runtime/rt.h"
#include "tests/unit/fake_model.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct Bytes {
  const uint8_t *at;
  size_t left;
} Bytes;

static int take(void *user, void *bytes, size_t n) {
  Bytes *b = user;
  if (n > b->left) return -1;
  memcpy(bytes, b->at, n);
  b->at += n;
  b->left -= n;
  return 0;
}

typedef struct Kept {
  uint8_t *at;
  size_t n;
} Kept;

static int keep(void *user, const void *bytes, size_t n) {
  Kept *k = user;
  uint8_t *at = realloc(k->at, k->n + n + 1);
  if (!at) return -1;
  memcpy(at + k->n, bytes, n);
  k->at = at;
  k->n += n;
  return 0;
}

static void check(int ok) {
  if (!ok) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const mp_api *api = fake_get_api(MP_ABI);
  mp_options o = {.struct_size = sizeof o, .threads = 1};
  mp_ctx *ctx = NULL;
  Kept before = {0}, after = {0};
  Bytes in = {data, size};
  check(api->create(&o, &ctx, NULL) == MP_OK && api->init(ctx, 7) == MP_OK);
  check(api->save_to(ctx, keep, &before) == MP_OK);
  int status = api->load_from(ctx, take, &in);
  check(api->save_to(ctx, keep, &after) == MP_OK);
  if (status) {
    check(*api->error(ctx) != 0);
    check(before.n == after.n && !memcmp(before.at, after.at, before.n));
  } else {
    Bytes again = {after.at, after.n};
    check(api->load_from(ctx, take, &again) == MP_OK);
  }
  free(before.at);
  free(after.at);
  api->destroy(ctx);
  return 0;
}
