/* steps.c: N training steps of a compiled library and nothing else, on inputs of zeros and one
 * thread: for what counts instructions.
 *
 * usage: steps LIBRARY.so SYMBOL_get_api N */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/mpcc_rt.h"

static int fail(const char *what) {
  fprintf(stderr, "steps: %s\n", what);
  return 1;
}

static int bind_zeros(const mp_api *api, mp_ctx *ctx, uint32_t entry) {
  const mp_entry_desc *e = &api->desc->entries[entry];
  for (uint32_t i = 0; i < e->n_inputs; i++) {
    size_t bytes = 8; /* at most, an element */
    for (int32_t k = 0; k < e->inputs[i].ndim; k++) bytes *= (size_t)e->inputs[i].dims[k];
    if (api->bind(ctx, entry, i, calloc(bytes, 1), bytes)) return fail(api->error(ctx));
  }
  return 0;
}

int main(int argc, char **argv) {
  mp_options options = {.struct_size = sizeof options, .threads = 1};
  mp_ctx *ctx = NULL;
  mp_error error;
  uint32_t step = 0;
  if (argc != 4) return fail("usage: steps LIBRARY.so SYMBOL_get_api N");
  void *library = dlopen(argv[1], RTLD_NOW);
  void *symbol = library ? dlsym(library, argv[2]) : NULL;
  const mp_api *(*get)(uint32_t);
  if (!symbol) return fail(dlerror());
  memcpy(&get, &symbol, sizeof get);
  const mp_api *api = get(MP_ABI);
  if (api->create(&options, &ctx, &error)) return fail(error.text);
  while (api->desc->entries[step].kind != MP_STEP) step++;
  if (api->init(ctx, 1) || bind_zeros(api, ctx, step)) return fail(api->error(ctx));
  for (uint32_t i = 0; i < api->desc->n_hypers; i++)
    if (!strcmp(api->desc->hypers[i].name, "steps")) api->hyper(ctx, "steps", 1e6);
  for (int n = atoi(argv[3]); n > 0; n--)
    if (api->run(ctx, step, NULL, NULL)) return fail(api->error(ctx));
  api->destroy(ctx);
  return 0;
}
