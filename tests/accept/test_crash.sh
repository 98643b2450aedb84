#!/bin/sh
# An error of mpcc's own leaves the sources and the command line: a fatal signal while the linker runs,
# when the model has been read.
# usage: test_crash.sh BIN MODEL
set -eu
bin=$1 model=$2
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
cd "$out"

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

cat >linker <<'END'
#!/bin/sh
kill -SEGV $PPID
END
chmod +x linker
status=0
"$bin/mpcc" -O0 "$model" -o train --linker=./linker 2>text || status=$?
[ $status = 70 ] || fail "exit status $status: $(cat text)"
grep -q "internal error" text || fail "it says: $(cat text)"
[ ! -e train ] || fail "an output was left"
set -- mpcc-crash.*
[ -d "$1" ] || fail "no folder: $(ls)"
grep -q "$1" text || fail "the folder is not named: $(cat text)"
cmp "$model" "$1/$(basename "$model")" || fail "the model is not in the folder"
grep -q "'--linker=./linker'" "$1/command" || fail "command: $(cat "$1/command")"

# What it left can be run again.
rm -rf again && mkdir again && cp "$1"/* again
(cd again && "$bin/mpcc" -fsyntax-only "$(basename "$model")") || fail "the copy does not compile"
echo "reproducer written"
