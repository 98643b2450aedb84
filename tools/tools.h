/* tools.h: the parts of the driver. */
#ifndef TOOLS_TOOLS_H
#define TOOLS_TOOLS_H

#include "codegen/cpu/cpu.h"
#include "frontend/frontend.h"
#include "passes/pass.h"

/* ---- options.c ------------------------------------------------------------------------------- */

typedef struct Options {
  const char *input, *output, *emit, *mcpu, *name, *precision, *passes;
  int opt;
  bool syntax_only, help, version, locs, print_ops;
  VEC(Define) defines;
  PassOptions pass;
} Options;

/* false: the command line is wrong, which has been said; exit 2. */
bool options_parse(Options *o, int argc, char **argv, Arena *arena);
void options_help(FILE *out);

/* ---- print_ops.c ----------------------------------------------------------------------------- */

void print_ops(Text *out);

/* ---- output.c: files that appear whole or not at all ----------------------------------------- */

typedef enum OutputKind { OUT_EXE, OUT_SHARED, OUT_OBJECT, OUT_ASM, OUT_LL, OUT_TEXT } OutputKind;

/* Bytes to a file (by a temporary beside it and rename) or, for "-", to stdout. */
bool output_write(const char *path, const char *bytes, size_t n);
/* Links objects with the runtime into an executable or a shared library. */
bool output_link(Arena *arena, OutputKind kind, unsigned n, const CpuCode *object,
                 const char *path);

#endif
