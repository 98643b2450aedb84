#!/bin/sh
# Installs what is missing of the Debian packages named by its arguments; root or sudo is needed only
# when something is.  Used by the other scripts:
#   install.sh build     what building and running need
#   install.sh examples  the data set of examples/
#   install.sh test      what the tests compare with
#   install.sh fuzz      libFuzzer and the sanitizers for clang
# Several groups may be named.
set -eu

usage() {
  echo "usage: install.sh [build] [examples] [test] [fuzz]   (Debian packages, by group)" >&2
  exit 2
}
[ $# -gt 0 ] || usage
for group in "$@"; do
  case $group in build | examples | test | fuzz) ;; *) usage ;; esac
done

build="gcc libc6-dev cmake ninja-build llvm-19-dev flex bison zlib1g-dev"
examples="dataset-fashion-mnist bible-kjv bible-kjv-text"
fuzz="clang libclang-rt-14-dev"
test="llvm-19-tools g++ python3 python3-torch python3-numpy python3-venv clang binutils file"

missing=""
for group in "$@"; do
  eval "packages=\$$group"
  for p in $packages; do
    case "$(dpkg-query -W -f='${Status}' "$p" 2>/dev/null || true)" in
    *" installed") ;;
    *) missing="$missing $p" ;;
    esac
  done
done
[ -z "$missing" ] && exit 0

if ! command -v apt-get >/dev/null; then
  echo "install.sh: not a Debian system; please install the equivalents of:$missing" >&2
  exit 1
fi
as_root=""
if [ "$(id -u)" != 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "install.sh: root or sudo is needed once, for: apt-get install$missing" >&2
    exit 1
  fi
  as_root="sudo"
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq
# shellcheck disable=SC2086
$as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
