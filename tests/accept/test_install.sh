#!/bin/sh
# `cmake --install`, and a project of somebody else's that finds the package: a training program and a C
# program linked with a model, built anew when the model changes.  The manual page names every flag.
# usage: test_install.sh CMAKE BUILD SOURCE
set -eu
export LC_ALL=C
cmake=$1 build=$2 source=$3
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

"$cmake" --install "$build" --prefix "$out/usr" >"$out/log" 2>&1 || fail "$(cat "$out/log")"
PATH="$out/usr/bin:$PATH"
man=$out/usr/share/man/man1/mpcc.1
[ -f "$man" ] || fail "no manual page"
for flag in $(mpcc --help | sed -n -E 's,^  (--?[a-z][-A-Za-z]*|-[A-Z]).*,\1,p'); do
  sed 's/\\-/-/g' "$man" | grep -q -e "$flag" || fail "the manual page does not name $flag"
done

mkdir "$out/user"
cp "$source/examples/mlp.mp" "$out/user/model.mp"
cat >"$out/user/main.c" <<'END'
#include "mpcc_rt.h"
#include <stdio.h>
const mp_api *model_get_api(uint32_t max_abi);
int main(void) {
  const mp_api *api = model_get_api(MP_ABI);
  mp_ctx *ctx = NULL;
  if (!api || api->create(NULL, &ctx, NULL) || api->init(ctx, 1)) return 1;
  printf("%s of %s: %u states\n", api->desc->name, api->desc->compiler, api->desc->n_states);
  api->destroy(ctx);
  return 0;
}
END
cat >"$out/user/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.20)
project(user LANGUAGES C)
find_package(mpcc REQUIRED)
mpcc_add_model(train model.mp EXECUTABLE FLAGS -O0)
mpcc_add_model(model model.mp FLAGS -O0)
mpcc_add_model(shared model.mp SHARED NAME model FLAGS -O0)
add_executable(static_user main.c)
target_link_libraries(static_user PRIVATE model)
add_executable(shared_user main.c)
target_link_libraries(shared_user PRIVATE shared)
END
configure() {
  "$cmake" -S "$out/user" -B "$out/user/build" -DCMAKE_PREFIX_PATH="$out/usr" "$@" >"$out/log" 2>&1 ||
    fail "$(cat "$out/log")"
}
build_user() {
  "$cmake" --build "$out/user/build" >"$out/log" 2>&1 || fail "$(cat "$out/log")"
}
generator="Unix Makefiles"
command -v ninja >/dev/null && generator=Ninja
configure -G "$generator"
build_user
for program in static_user shared_user; do
  "$out/user/build/$program" | grep -q "^model of mpcc .*states$" || fail "$program"
done
"$out/user/build/bin/train" --help | grep -q -- "--data images=FILE" || fail "train --help"

# The model is compiled anew exactly when it changes.
build_user
grep -q "Compiling model" "$out/log" && fail "compiled again without a change"
sleep 1
echo "// changed" >>"$out/user/model.mp"
build_user
grep -q "Compiling model train" "$out/log" || fail "not compiled again after a change"
echo "installed, found, linked, rebuilt"
