#!/bin/sh
# --emit=header compiles as C99 and as C++; -o model.a is all that linking a model takes: no compiler's
# ar or ranlib had a hand in it.
# usage: test_header.sh BIN SOURCE
set -eu
bin=$1 source=$2
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
cd "$out"
strict="-Wall -Wextra -Wpedantic -Werror -I$source/runtime -I."

"$bin/mpcc" -O0 "$source/examples/mlp.mp" -o mlp.h
"$bin/mpcc" -O0 "$source/examples/mlp.mp" -o mlp.a
cat >main.c <<'END'
#include "mlp.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(void) {
  const mp_api *api = mlp_get_api(MP_ABI);
  mp_ctx *ctx = NULL;
  mp_view w;
  mp_result r;
  mp_run run;
  uint8_t *images = (uint8_t *)calloc(3, 28 * 28), labels[3] = {1, 2, 3};
  r.struct_size = sizeof r;
  memset(&run, 0, sizeof run);
  run.struct_size = sizeof run;
  run.rows = 3;
  if (!api || !images || api->create(NULL, &ctx, NULL) || api->init(ctx, 1)) return 1;
  if (mlp_train_step_bind_images(api, ctx, images, 3)) return 2;
  if (mlp_train_step_bind_labels(api, ctx, labels, 3)) return 3;
  if (api->hyper(ctx, "steps", 10) || api->run(ctx, mlp_TRAIN_STEP, &run, &r)) return 4;
  if (api->get(ctx, mlp_PATH_net_0_weight, &w) || w.ndim != 2) return 5;
  if (mlp_TRAIN_STEP_BATCH != api->desc->entries[mlp_TRAIN_STEP].batch) return 6;
  printf("committed %d, weight %g\n", r.committed, r.weight);
  api->destroy(ctx);
  free(images);
  return 0;
}
END
cc=${CC:-cc}
$cc -std=c99 $strict -c main.c -o c.o
$cc -std=c99 -o c c.o mlp.a -lz -lm -pthread
./c | grep -q "^committed 1, weight 3$" || { echo "FAILED: C: $(./c)"; exit 1; }
for cxx in c++ clang++; do
  command -v $cxx >/dev/null || continue
  $cxx -std=c++11 $strict -Wno-deprecated -x c++ -fsyntax-only main.c
  echo "C++ by $cxx"
done
if nm --print-armap mlp.a 2>/dev/null | grep -q "mlp_get_api in model.o"; then echo "symbol table"; fi
echo "header and archive"
