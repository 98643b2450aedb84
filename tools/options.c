/* options.c: the command line, as a table.
 *
 * Spelling follows clang and mlir-opt: -x VALUE, -xVALUE, --name=VALUE, --name VALUE.  A flag is a
 * row with its help, its kind and its place in Options; --help is printed from the rows, and a
 * word that is none is answered with the nearest one that is. */
#include "tools/tools.h"

#include <stdlib.h>
#include <string.h>

typedef enum FlagKind {
  FLAG_BOOL,
  FLAG_TEXT,
  FLAG_OPTIONAL, /* --name alone means --name=text */
  FLAG_COUNT,
  FLAG_BYTES,
  FLAG_KEEP,
  FLAG_WATCH,
  FLAG_LEVEL,
  FLAG_DEFINE,
  FLAG_FOLDER,
  FLAG_WARNING
} FlagKind;

typedef struct Flag {
  const char *name, *value, *help;
  FlagKind kind;
  size_t field; /* offset in Options */
} Flag;

#define AT(f) offsetof(Options, f)

static const Flag flags[] = {
    {"-o", "FILE",
     "output; its suffix picks the kind: none = executable, .so .a .o .h .s .ll .dot .svg; - is "
     "stdout",
     FLAG_TEXT, AT(output)},
    {"--emit", "KIND",
     "ast, graph, a pass (below: the graph behind it), plan, dot, svg, header, ll, asm, obj, "
     "archive, "
     "lib, exe",
     FLAG_TEXT, AT(emit)},
    {"-fsyntax-only", NULL, "check the model and stop", FLAG_BOOL, AT(syntax_only)},
    {"-O", "N", "0 to 3; results do not depend on it", FLAG_LEVEL, AT(opt)},
    {"--target", "TARGET",
     "cpu (this machine's, the default), cuda, or a triple: aarch64-linux-gnu", FLAG_TEXT,
     AT(target)},
    {"--gpu-arch", "ARCH,…", "with --target=cuda: sm_70, sm_80, … (default: sm_80)", FLAG_TEXT,
     AT(gpu_arch)},
    {"--multiversion", "LEVEL,…",
     "code for these instruction sets in one output, the lowest first; the best that the CPU has "
     "is "
     "used (default: all: x86-64-v3,v4,v4+avx512bf16, or armv8-a)",
     FLAG_TEXT, AT(multiversion)},
    {"-mcpu", "CPU", "for one: a level of those, native, or a name LLVM knows", FLAG_TEXT,
     AT(mcpu)},
    {"--precision", "WORD",
     "f32, bf16, f16, fp8, fp8(delayed), fp8(current), fp8(block), mx8 or auto, in place of the "
     "program's own",
     FLAG_TEXT, AT(precision)},
    {"--precision-greedy", NULL, "place casts by a greedy rule instead of the minimum cut",
     FLAG_BOOL, AT(pass.greedy_precision)},
    {"--keep", "WHAT:W",
     "modules and parameters of the paths GLOB, a line FILE:LINE, or one in modules GLOB@FILE:LINE "
     "work in f32, bf16 or f16",
     FLAG_KEEP, 0},
    {"--bisect-precision", NULL,
     "find what has to stay in f32 by training: mpcc --bisect-precision model.mp -- ARGUMENTS",
     FLAG_BOOL, AT(bisect)},
    {"--budget", "SHARE",
     "of --bisect-precision: how far the loss may lie above that of f32 (default 0.5%)", FLAG_TEXT,
     AT(budget)},
    {"--trials", "FILE",
     "of --bisect-precision: keep the losses of runs here, and those there are not run again",
     FLAG_TEXT, AT(trials)},
    {"-D", "NAME=VALUE", "set a config of the model file", FLAG_DEFINE, 0},
    {"-I", "FOLDER", "look for imports here, too", FLAG_FOLDER, 0},
    {"--train", "MODEL", "whose train block is built, where the file has several", FLAG_TEXT,
     AT(train)},
    {"--name", "PREFIX", "of the exported symbol PREFIX_get_api (default: the file's name)",
     FLAG_TEXT, AT(name)},
    {"--print-ir-after", "PASS,…", "print the graph behind these passes", FLAG_TEXT,
     AT(pass.print_after)},
    {"--print-ir-before", "PASS,…", "print the graph in front of these passes", FLAG_TEXT,
     AT(pass.print_before)},
    {"--print-ir-after-all", NULL, "print the graph behind every pass", FLAG_BOOL,
     AT(pass.print_after_all)},
    {"--stop-after", "PASS", "stop behind a pass and print the graph", FLAG_TEXT,
     AT(pass.stop_after)},
    {"--disable", "PASS,…", "leave optional passes out", FLAG_TEXT, AT(pass.disable)},
    {"--passes", "PASS,…", "run these instead of the default list", FLAG_TEXT, AT(passes)},
    {"--locs", NULL, "print source places in graphs", FLAG_BOOL, AT(locs)},
    {"--roundtrip-each", NULL, "print and parse the graph behind every pass", FLAG_BOOL,
     AT(pass.roundtrip)},
    {"--time-passes", NULL, "print how long each pass took", FLAG_BOOL, AT(pass.time)},
    {"-MD", NULL, "write the files that the output depends on beside it, as a rule of make",
     FLAG_BOOL, AT(depfile)},
    {"-MF", "FILE", "where -MD writes (default: the output's name with .d)", FLAG_TEXT,
     AT(depfile_path)},
    {"-MT", "TARGET", "what the rule of -MD makes (default: the output)", FLAG_TEXT,
     AT(depfile_target)},
    {"--no-halves", NULL, "of a library: leave out STEP.grads and STEP.apply, each step in halves",
     FLAG_BOOL, AT(no_halves)},
    {"--with-values", NULL,
     "of an executable: keep what a step computes until it is over; --values of the program writes "
     "it",
     FLAG_BOOL, AT(pass.keep_values)},
    {"--with-replay", NULL,
     "a skipped step can be run again in f32 (is it range, or real?), and op by op for its first "
     "value that is not finite",
     FLAG_BOOL, AT(pass.replay)},
    {"--check-grad", NULL, "try the program's own gradients, a line each: g(2 dy) = 2 g(dy)",
     FLAG_BOOL, AT(check_grad)},
    {"--watch", "GLOB",
     "the program logs largest, rms, flushed and saturated of these values and gradients",
     FLAG_WATCH, 0},
    {"--no-origin", NULL, "leave out what names the first value of a step that is not finite",
     FLAG_BOOL, AT(no_origin)},
    {"-fnumerics", "MODE",
     "strict (default): the bits that docs/ir.md defines, on any CPU and any number of threads",
     FLAG_TEXT, AT(numerics)},
    {"--check-nan", NULL,
     "for debugging: every run ends at the first result of a kernel that is not finite, and says "
     "which: op, line, element, step",
     FLAG_BOOL, AT(check_nan)},
    {"--linker", "COMMAND",
     "links executables and .so (default: $CC, else cc, or TRIPLE-gcc for another machine)",
     FLAG_TEXT, AT(linker)},
    {"--sysroot", "FOLDER", "where the linker finds libraries, and mpcc another machine's runtime",
     FLAG_TEXT, AT(sysroot)},
    {"--memory-report", "json", "print what a context will hold instead of compiling",
     FLAG_OPTIONAL, AT(memory_report)},
    {"--memory-limit", "BYTES",
     "what a context may hold, as in 4G: values are computed again rather than kept until it fits",
     FLAG_BYTES, AT(pass.memory_limit)},
    {"--explain-precision", "json", "print what is stored how, and why, instead of compiling",
     FLAG_OPTIONAL, AT(explain_precision)},
    {"--precision-manifest", "FILE", "write the same without bytes and places, to be compared",
     FLAG_TEXT, AT(manifest)},
    {"--plot", "FILE.svg", "of mpcc compare: both loss curves in one picture", FLAG_TEXT, AT(plot)},
    {"--values-step", "N", "of mpcc compare: values of step N, not of the first", FLAG_TEXT,
     AT(values_step)},
    {"--json", NULL, "of mpcc compare: JSON instead of a table", FLAG_BOOL, AT(json)},
    {"-W", "WORD",
     "all, NAME or no-NAME of a warning below; error: they are errors; error=NAME: that one is",
     FLAG_WARNING, 0},
    {"-Rpass", "REGEX", "say where the passes whose names match, listed below, did their work",
     FLAG_TEXT, AT(remarks[0])},
    {"-Rpass-missed", "REGEX", "say where they could not, and why", FLAG_TEXT, AT(remarks[1])},
    {"-ferror-limit", "N", "stop showing errors after N (default 20; 0: never)", FLAG_COUNT,
     AT(error_limit)},
    {"-fdiagnostics-format", "FORMAT", "text, or json: an object a line", FLAG_TEXT,
     AT(diagnostics_format)},
    {"-fdiagnostics-color", "WHEN", "auto (default), always or never", FLAG_TEXT,
     AT(diagnostics_color)},
    {"--print-ops", NULL, "print the table of operations as Markdown", FLAG_BOOL, AT(print_ops)},
    {"--version", NULL, "print the version", FLAG_BOOL, AT(version)},
    {"--help", NULL, "print this", FLAG_BOOL, AT(help)},
};
enum { FLAGS = sizeof flags / sizeof *flags };

/* Flags that are another way to say one of the table. */
static const char *const spelled[][2] = {
    {"-c", "--emit=obj"}, {"-S", "--emit=asm"}, {"-h", "--help"}, {"--output", "-o"}};

static void print_help(FILE *out) {
  fputs("usage: mpcc [flags] model.mp          compile a model into a training program or library\n"
        "       mpcc run [flags] model.mp -- ARGUMENTS     compile it and run the program\n"
        "       mpcc compare [flags] --precision=A,B model.mp -- ARGUMENTS     where two "
        "precisions part\n"
        "       mpcc --bisect-precision [flags] model.mp -- ARGUMENTS     what has to stay in f32\n"
        "       mpcc fmt [--check] FILE.mp …   lay sources out in the standard way\n"
        "       mpcc new DIR                   a folder with a first model\n\n"
        "model.mp may be - (standard input); @FILE stands for the words in FILE.\n\n",
        out);
  for (int i = 0; i < FLAGS; i++) {
    const char *join = !flags[i].value                               ? ""
                       : flags[i].name[1] == '-' || flags[i].name[2] ? "="
                                                                     : " ";
    if (flags[i].kind >= FLAG_LEVEL) join = "";
    bool optional = flags[i].kind == FLAG_OPTIONAL;
    int n = fprintf(out, "  %s%s%s%s%s", flags[i].name, optional ? "[" : "", join,
                    flags[i].value ? flags[i].value : "", optional ? "]" : "");
    fprintf(out, "%*s%s\n", n < 28 ? 28 - n : 1, "", flags[i].help);
  }
  fputs("\npasses:\n", out);
  Arena a = {0};
  Text t = {.arena = &a};
  passes_describe(&t);
  text_add(&t, "\nremarks:\n");
  remarks_describe(&t);
  text_add(&t, "\nwarnings:\n");
  warnings_describe(&t);
  fputs(t.at, out);
  arena_free(&a);
  fputs(
      "\nexit status: 0 ok, 1 an error in the model, 2 a wrong command line, 70 an error of mpcc's"
      " own\n",
      out);
}

bool options_answer(const Options *o) {
  if (o->help) print_help(stdout);
  else if (o->version) printf("mpcc %s\n", MPCC_VERSION);
  return o->help || o->version;
}

static bool wrong(const char *what, const char *arg) {
  fprintf(stderr, "mpcc: %s: %s\n", what, arg);
  return false;
}

static bool unknown(const char *arg) {
  const char *names[FLAGS];
  for (int i = 0; i < FLAGS; i++) names[i] = flags[i].name;
  size_t n = strcspn(arg, "=");
  Arena a = {0};
  const char *near = nearest_name(arena_text(&a, arg, n), names, FLAGS);
  fprintf(stderr, "mpcc: unknown flag %s%s%s%s\n", arg, near ? "; did you mean " : " (see --help)",
          near ? near : "", near ? "?" : "");
  arena_free(&a);
  return false;
}

static bool take_define(Options *o, Arena *arena, const char *text) {
  const char *eq = strchr(text, '=');
  if (!eq || eq == text) return wrong("-D wants NAME=VALUE", text);
  Define d = {.name = arena_text(arena, text, (size_t)(eq - text)), .value = eq + 1};
  vec_push(arena, &o->defines, d);
  return true;
}

static bool take_keep(Options *o, Arena *arena, const char *text) {
  const char *colon = strrchr(text, ':');
  const char *word = colon && colon > text ? precision_word(colon + 1) : NULL;
  if (!word) return wrong("--keep wants WHAT:f32, WHAT:bf16 or WHAT:f16", text);
  KeepOption k = {arena_text(arena, text, (size_t)(colon - text)), word};
  vec_push(arena, &o->keeps, k);
  return true;
}

static bool take_count(const char *flag, const char *value, int *n) {
  char *end;
  long v = strtol(value, &end, 10);
  if (end == value || *end || v < 0 || v > INT32_MAX) {
    fprintf(stderr, "mpcc: %s wants a number of 0 or more, not %s\n", flag, value);
    return false;
  }
  *n = (int)v;
  return true;
}

/* 1500, 64k, 1.5M, 4G: powers of 1000, as reports have them. */
static bool take_bytes(const char *flag, const char *value, uint64_t *n) {
  static const char units[] = "kMGT";
  char *end;
  double v = strtod(value, &end);
  const char *unit = *end ? strchr(units, *end == 'K' ? 'k' : *end) : NULL;
  for (const char *u = units; unit && u <= unit; u++) v *= 1000;
  end += unit != NULL;
  end += *end == 'B';
  if (end != value && !*end && v >= 1 && v < 1e18) {
    *n = (uint64_t)v;
    return true;
  }
  fprintf(stderr, "mpcc: %s wants a number of bytes, as in 512M or 4G, not %s\n", flag, value);
  return false;
}

static bool set_flag(Options *o, const Flag *f, const char *value, Arena *arena) {
  char *field = (char *)o + f->field;
  switch (f->kind) {
  case FLAG_BOOL: *(bool *)(void *)field = true; return true;
  case FLAG_OPTIONAL: *(const char **)(void *)field = value ? value : "text"; return true;
  case FLAG_TEXT: *(const char **)(void *)field = value; return true;
  case FLAG_DEFINE: return take_define(o, arena, value);
  case FLAG_COUNT: return take_count(f->name, value, (int *)(void *)field);
  case FLAG_BYTES: return take_bytes(f->name, value, (uint64_t *)(void *)field);
  case FLAG_FOLDER: vec_push(arena, &o->folders, value); return true;
  case FLAG_WATCH: vec_push(arena, &o->watches, value); return true;
  case FLAG_KEEP: return take_keep(o, arena, value);
  case FLAG_WARNING: vec_push(arena, &o->warnings, value); return true;
  case FLAG_LEVEL:
    if (value[0] < '0' || value[0] > '3' || value[1]) return wrong("-O wants 0, 1, 2 or 3", value);
    *(int *)(void *)field = value[0] - '0';
    return true;
  }
  return false;
}

/* The flag that arg begins with; *value: what is glued to it, or NULL. */
static const Flag *find_flag(const char *arg, const char **value) {
  for (int i = 0; i < FLAGS; i++) {
    size_t n = strlen(flags[i].name);
    if (strncmp(arg, flags[i].name, n)) continue;
    *value = arg[n] == '=' ? arg + n + 1 : arg[n] ? arg + n : NULL;
    if (!arg[n] || (arg[n] == '=' && flags[i].value)) return &flags[i];
    if (n == 2 && flags[i].value) return &flags[i]; /* -O2, -Da=1, -oF */
  }
  return NULL;
}

/* Flags that mean something to one command alone. */
static bool check_places(const Options *o, const char *command) {
  const struct {
    bool given;
    const char *flag, *command;
  } only[] = {{o->bisect, "--bisect-precision", "--bisect-precision"},
              {o->budget, "--budget", "--bisect-precision"},
              {o->trials, "--trials", "--bisect-precision"},
              {o->plot, "--plot", "compare"},
              {o->values_step, "--values-step", "compare"},
              {o->json, "--json", "compare"}};
  for (size_t i = 0; i < sizeof only / sizeof *only; i++)
    if (only[i].given && strcmp(only[i].command, command))
      return wrong("a flag of another command", only[i].flag);
  return true;
}

static bool take_input(Options *o, const char *arg) {
  if (o->input) return wrong("one model file at a time; this is a second", arg);
  o->input = arg;
  return true;
}

bool options_parse(Options *o, const char *command, int argc, char **argv, Arena *arena) {
  *o = (Options){.opt = 2, .error_limit = 20};
  for (int i = 0; i < argc; i++) {
    const char *arg = argv[i], *value = NULL;
    for (size_t k = 0; k < sizeof spelled / sizeof *spelled; k++)
      if (!strcmp(arg, spelled[k][0])) arg = spelled[k][1];
    if (arg[0] != '-' || !arg[1]) {
      if (!take_input(o, arg)) return false;
      continue;
    }
    const Flag *f = find_flag(arg, &value);
    if (!f) return unknown(arg);
    bool next = f->value && !value && f->kind != FLAG_OPTIONAL; /* the value is a word of its own */
    if (next && ++i == argc) return wrong("a value is wanted behind", arg);
    if (!set_flag(o, f, next ? argv[i] : value, arena)) return false;
  }
  return check_places(o, command);
}
