/* tools.h: the parts of the driver: one compilation, the files it writes, commands around it.
 *
 * Each file is one concern behind one function; what they share is Options.  Only the driver knows
 * all rooms: it hands the target to the passes and the Program to the code. */
#ifndef TOOLS_TOOLS_H
#define TOOLS_TOOLS_H

#include "codegen/cpu/cpu.h"
#include "frontend/frontend.h"
#include "passes/pass.h"

/* ---- options.c ------------------------------------------------------------------------------- */

typedef struct Demotions Demotions;

typedef struct Options {
  const char *input, *output, *emit, *target, *gpu_arch, *multiversion, *mcpu, *name, *train,
      *precision, *passes;
  const char *depfile_path, *depfile_target, *memory_report, *explain_precision, *manifest, *linker,
      *sysroot;
  const char *diagnostics_format, *diagnostics_color;
  const char *plot, *values_step, *budget, *trials;
  const char *numerics;
  const char *remarks[2]; /* patterns of -Rpass, -Rpass-missed */
  int opt, error_limit;
  bool bisect, json, syntax_only, help, version, locs, print_ops, depfile, no_halves, no_origin,
      check_nan, check_grad;
  VEC(Define) defines;
  VEC(const char *) folders; /* of imports */
  VEC(KeepOption) keeps;
  VEC(const char *) watches;  /* patterns of --watch */
  VEC(const char *) warnings; /* the words behind -W, in order */
  Demotions *demotions;       /* filled in, if not NULL */
  PassOptions pass;
} Options;

/* From the first word behind the command ("": none).  false: the command line is wrong, which has
 * been said; exit 2. */
bool options_parse(Options *o, const char *command, int argc, char **argv, Arena *arena);
/* --help, --version; true: one of them it was, and is answered. */
bool options_answer(const Options *o);

/* ---- response.c: @FILE on the command line; false: it cannot be read, which has been said ---- */

bool response_expand(Arena *arena, int *argc, char ***argv);

/* ---- check_grad.c: false: a rule is not linear, which has been said -------------------------- */

bool check_grad(const Graph *g, Diag *diag, Text *out);

/* ---- print_ops.c ----------------------------------------------------------------------------- */

void print_ops(Text *out);

/* ---- output.c: files that appear whole or not at all ----------------------------------------- */

typedef enum OutputKind {
  OUT_EXE,
  OUT_SHARED,
  OUT_ARCHIVE,
  OUT_OBJECT,
  OUT_ASM,
  OUT_LL,
  OUT_HEADER,
  OUT_DOT,
  OUT_SVG,
  OUT_TEXT
} OutputKind;

/* Bytes to a file (by a temporary beside it and rename) or, for "-", to stdout. */
bool output_write(const char *path, const char *bytes, size_t n);
/* What the runtime and the linker are looked for by. */
typedef struct LinkFor {
  const char *linker;  /* a command; NULL: $CC, else cc, or TRIPLE-gcc for another machine */
  const char *triple;  /* of another machine, as the user calls it; NULL: this one */
  const char *sysroot; /* NULL: the linker's own */
} LinkFor;

/* Links objects with the runtime into an executable or a shared library. */
bool output_link(Arena *arena, OutputKind kind, unsigned n, const CpuCode *object, const char *path,
                 const LinkFor *link);
/* The object and the runtime as a static library. */
bool output_archive(Arena *arena, const CpuCode *object, const char *symbol, const char *path,
                    const LinkFor *link);

/* ---- archive.c: false: `runtime` is no archive with a symbol table ---- */

bool archive_make(Arena *arena, const char *runtime, size_t runtime_size, const CpuCode *object,
                  const char *symbol, Text *out);

/* ---- header.c -------------------------------------------------------------------------------- */

void header_print(Arena *arena, const struct mp_desc *d, Text *out);

/* ---- dot.c, svg.c, memory_report.c ---- */

void dot_print(const Graph *g, const Diag *sources, Text *out);
/* memory_limit.c: false: it does not, which has been said.  limit 0: everything fits. */
bool memory_fits(const Program *p, uint64_t limit, Diag *diag);
const char *human_bytes(char *out, size_t size, uint64_t bytes); /* "12.3 MB" */
const char *dot_color(Type t);                         /* of an edge */
const char *dot_fill(const Graph *g, const Node *k);   /* of a kernel */
void dot_ops(Text *out, const Graph *g, BlockId body); /* "matmul add gelu": what it is there for */
typedef struct DotColor { /* what the legend says of a colour; NULL: the end */
  const char *color, *meaning;
} DotColor;
extern const DotColor dot_fills[], dot_colors[]; /* of kernels, of edges */
/* svg.c: the same, laid out. */
void svg_print(const Graph *g, const Diag *sources, Text *out);
/* explain.c: "mlp.mp:8", without folders; "-": nowhere known. */
void place_text(const Diag *sources, Loc loc, char *out, size_t size);
void memory_report(const Program *p, const Diag *sources, bool json, Text *out);

/* ---- explain.c ------------------------------------------------------------------------------- */

void precision_explain(const PrecisionReport *r, const Diag *sources, bool json, Text *out);
void precision_remarks(const PrecisionReport *r, Diag *diag);
void precision_manifest(const PrecisionReport *r, Text *out);
const char *precision_policy(Arena *a, const Text *manifest); /* its hash, 16 hex digits */

/* ---- depfile.c ------------------------------------------------------------------------------- */

bool depfile_write(Arena *arena, const char *path, const char *target, const Diag *diag);

/* ---- compile.c: one compilation, from options to output ---- */

int compile_model(Options *o, Arena *arena); /* the exit status */

/* ---- the commands: `mpcc WORD …`; argv begins behind the word ---- */

int command_run(int argc, char **argv, Arena *arena);
int command_compare(int argc, char **argv, Arena *arena);
int command_bisect(int argc, char **argv, Arena *arena);
int command_new(int argc, char **argv, Arena *arena);
int command_fmt(int argc, char **argv, Arena *arena);

/* ---- run.c: the program's exit status, or 128 and its signal; signals are handed on to it;
 * silent: its results go nowhere, its errors do ---- */

/* What `run` and trials have in common: a model, no output of its own, this machine, whose own code
 * it gets where no other is asked for.  false: it is not so, which has been said. */
bool program_options(Options *o, const char *command);
int program_run(const char *path, char **argv, bool silent);
const char *program_name(Arena *a, const char *input); /* "mlp" of examples/mlp.mp */

/* ---- crash.c: an error of mpcc's own leaves what is needed to see it again ---- */

void crash_watch(int argc, char **argv);
void crash_sources(const Diag *diag); /* what is being compiled; NULL: nothing */

#endif
