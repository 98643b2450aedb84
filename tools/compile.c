/* compile.c: one compilation.  The way of the data, as plain text: frontend, passes, plan, code,
 * link; every stage can be looked at with --emit.
 *
 * A stage that reported an error ends it with status 1.  Nothing is written before all of it is
 * known to be right, and then under a temporary name (output.c). */
#define _POSIX_C_SOURCE 200809L
#include "tools/demotions.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_PARTS = 4 }; /* objects of one output; each costs the start of another LLVM context */

typedef struct Session {
  Arena *arena;
  Strings strings;
  Diag diag;
  Options o;
  const char *text; /* of the model file */
  size_t size;
  OutputKind kind;
  const char *path; /* of the output */
  PrecisionReport precision;
} Session;

static const struct {
  const char *word, *suffix;
  OutputKind kind;
} kinds[] = {
    {"exe", "", OUT_EXE},         {"lib", ".so", OUT_SHARED}, {"archive", ".a", OUT_ARCHIVE},
    {"obj", ".o", OUT_OBJECT},    {"asm", ".s", OUT_ASM},     {"ll", ".ll", OUT_LL},
    {"header", ".h", OUT_HEADER}, {"dot", ".dot", OUT_DOT},   {"svg", ".svg", OUT_SVG},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static int fail(const char *what, const char *arg) {
  fprintf(stderr, "mpcc: %s%s%s\n", what, arg ? ": " : "", arg ? arg : "");
  return 2;
}

static const char *symbol_prefix(Arena *a, const char *name) {
  char *s = arena_text(a, name, strlen(name));
  for (char *c = s; *c; c++)
    if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
          (*c >= '0' && *c <= '9' && c != s)))
      *c = '_';
  return s;
}

/* --emit and the suffix of -o say what comes out and where it goes. */
static int choose_output(Session *s) {
  Options *o = &s->o;
  const char *base = program_name(s->arena, o->input),
             *dot = o->output ? strrchr(o->output, '.') : NULL;
  s->kind = OUT_EXE;
  if (o->emit) {
    s->kind = OUT_TEXT;
    for (int i = 0; i < KINDS; i++)
      if (!strcmp(o->emit, kinds[i].word)) s->kind = kinds[i].kind;
    if (s->kind == OUT_TEXT && strcmp(o->emit, "ast") && strcmp(o->emit, "graph") &&
        strcmp(o->emit, "plan") && !passes_know(o->emit))
      return fail(
          "--emit wants ast, graph, a pass, plan, dot, svg, header, ll, asm, obj, archive, lib "
          "or exe, not",
          o->emit);
  } else if (o->pass.stop_after) s->kind = OUT_TEXT;
  else {
    for (int i = 1; dot && i < KINDS; i++)
      if (!strcmp(dot, kinds[i].suffix)) s->kind = kinds[i].kind;
  }
  s->path = o->output ? o->output : "-";
  if (!o->output && s->kind != OUT_TEXT) {
    const char *suffix = "";
    for (int i = 0; i < KINDS; i++)
      if (kinds[i].kind == s->kind) suffix = kinds[i].suffix;
    s->path = arena_printf(s->arena, "%s%s", base, suffix);
  }
  if (!strcmp(s->path, o->input) && strcmp(s->path, "-"))
    return fail("the output would replace the model", s->path);
  return 0;
}

static int emit_text(Session *s, const Text *t) {
  return output_write(s->path, t->at, t->len) ? 0 : 1;
}

static int emit_graph(Session *s, const Graph *g) {
  Text t = {.arena = s->arena};
  graph_print(g, &t, (PrintOptions){.locs = s->o.locs});
  return emit_text(s, &t);
}

/* Kernels are compiled by as many threads as there are cores, where several objects may come out.
 */
static unsigned parts_of(OutputKind kind) {
  long cores = sysconf(_SC_NPROCESSORS_ONLN);
  if (kind != OUT_EXE && kind != OUT_SHARED) return 1;
  return cores < 1 ? 1 : cores > MOST_PARTS ? MOST_PARTS : (unsigned)cores;
}

/* Of the model and all that it imports. */
static const char *source_hash(Session *s) {
  uint64_t hash = 0;
  for (uint32_t i = 0; i < s->diag.sources.len; i++)
    hash = hash_bytes(s->diag.sources.at[i].text, s->diag.sources.at[i].size, hash);
  return arena_printf(s->arena, "%016llx", (unsigned long long)hash);
}

/* What pass `precision` is asked for beside its work; 0: nothing is wrong. */
static int write_manifest(Session *s) {
  if (!s->o.manifest) return 0;
  Text t = {.arena = s->arena};
  precision_manifest(&s->precision, &t);
  return output_write(s->o.manifest, t.at, t.len) ? 0 : 1;
}

static int explain_precision(Session *s) {
  Text t = {.arena = s->arena};
  precision_explain(&s->precision, &s->diag, !strcmp(s->o.explain_precision, "json"), &t);
  return output_write("-", t.at, t.len) ? 0 : 1;
}

static int emit_code(Session *s, const Program *p, const CpuTarget *cpu) {
  const char *why = NULL;
  CpuCode code[CPU_MOST_PARTS];
  CpuOptions o = {.opt = s->o.opt,
                  .with_main = s->kind == OUT_EXE,
                  .compiler = "mpcc " MPCC_VERSION,
                  .sources = &s->diag,
                  .parts = parts_of(s->kind),
                  .check_nan = s->o.check_nan,
                  .no_origin = s->o.no_origin};
  const char *name = s->o.name ? s->o.name : program_name(s->arena, s->o.input);
  o.name = symbol_prefix(s->arena, name);
  o.source_hash = source_hash(s);
  Text manifest = {.arena = s->arena};
  text_add(&manifest, "");
  precision_manifest(&s->precision, &manifest);
  o.manifest = manifest.at;
  o.policy = precision_policy(s->arena, &manifest);
  o.output = s->kind == OUT_ASM ? CPU_ASM : s->kind == OUT_LL ? CPU_LL : CPU_OBJECT;
  if (s->kind == OUT_HEADER) {
    Text t = {.arena = s->arena};
    header_print(s->arena, cpu_describe(p, cpu, &o, s->arena), &t);
    return emit_text(s, &t);
  }
  if (!cpu_compile(p, cpu, &o, s->arena, code, &why)) ice(NULL, NO_ID, "code generation: %s", why);
  LinkFor link = {s->o.linker, cpu_target_foreign(cpu) ? s->o.target : NULL, s->o.sysroot};
  if (s->kind == OUT_ARCHIVE)
    return !output_archive(s->arena, code, arena_printf(s->arena, "%s_get_api", o.name), s->path,
                           &link);
  bool linked = s->kind == OUT_EXE || s->kind == OUT_SHARED;
  bool ok = linked ? output_link(s->arena, s->kind, o.parts, code, s->path, &link)
                   : output_write(s->path, code->at, code->size);
  return ok ? 0 : 1;
}

/* What a plan is asked for. */
static int emit_program(Session *s, const Program *p, const CpuTarget *cpu) {
  Text t = {.arena = s->arena};
  if (s->o.memory_report) {
    bool json = !strcmp(s->o.memory_report, "json");
    if (!json && strcmp(s->o.memory_report, "text"))
      return fail("--memory-report is text or json, not", s->o.memory_report);
    memory_report(p, &s->diag, json, &t);
    return output_write("-", t.at, t.len) ? 0 : 1;
  }
  if (s->kind == OUT_DOT) dot_print(p->g, &s->diag, &t);
  else if (s->kind == OUT_SVG) svg_print(p->g, &s->diag, &t);
  else if (s->o.emit && !strcmp(s->o.emit, "plan")) plan_print(p, &t);
  else return emit_code(s, p, cpu);
  return emit_text(s, &t);
}

/* `auto` becomes a word of the target's before any pass runs.  A program's own f16 says how losses
 * are scaled; where the command line or the target chooses f16, it is dynamic. */
static int choose_precision(Session *s, Graph *g, const Target *target) {
  const char *word = s->o.precision ? s->o.precision : g->train.precision;
  g->train.automatic = word && !strcmp(word, "auto");
  if (g->train.automatic) word = target->auto_precision;
  if (word && !strcmp(word, "fp8")) word = fp8_recipe_name[0];
  for (int i = 0; word && i < FP8_RECIPES; i++)
    if (!strcmp(word, fp8_recipe_written[i])) word = fp8_recipe_name[i];
  if (word && strcmp(word, "f32") && strcmp(word, "bf16") && strcmp(word, "f16") &&
      fp8_recipe(word) == FP8_RECIPES)
    return fail(
        "--precision wants f32, bf16, f16, fp8, fp8(delayed), fp8(current), fp8(block), mx8 "
        "or auto (scale and master stand in the program), not",
        word);
  g->train.precision = word ? word : "f32";
  bool delayed = fp8_recipe(g->train.precision) == RECIPE_fp8_delayed;
  if (!delayed) g->train.delayed = (Fp8Delayed){0};
  else if (g->train.delayed.history == 0) g->train.delayed = fp8_delayed_default;
  if (!strcmp(g->train.precision, "f32"))
    g->train.master = NULL; /* the control has no low weight */
  if (!strcmp(g->train.precision, "f16") && g->train.master && !strcmp(g->train.master, "split"))
    return fail("--precision=f16 under master(split)", "f16 is no part of an f32 master");
  if (!strcmp(g->train.precision, "f16") && !g->train.scale.kind) g->train.scale = scale_default;
  return 0;
}

static bool watches(void *user, uint32_t i, const char *name) {
  const char ***globs = user;
  return frontend_glob_covers(globs[i], name);
}

/* false: a pattern is none, which has been said. */
static bool choose_watches(Session *s) {
  Options *o = &s->o;
  const char ***globs = NEW_ARRAY(s->arena, const char **, o->watches.len);
  for (uint32_t i = 0; i < o->watches.len; i++)
    if (!(globs[i] = frontend_glob(s->arena, &s->diag, o->watches.at[i]))) return false;
  o->pass.watches = o->watches.at;
  o->pass.nwatches = o->watches.len;
  o->pass.watch = watches;
  o->pass.watch_user = globs;
  return true;
}

/* cpu: NULL where the target has no code generator. */
static int compile(Session *s, const Target *target, const CpuTarget *cpu) {
  Options *o = &s->o;
  uint32_t source = diag_source(&s->diag, o->input, s->text, s->size);
  Ast *ast = frontend_parse(s->arena, &s->strings, &s->diag, source);
  if (!ast) return 1;
  if (o->emit && !strcmp(o->emit, "ast")) {
    Text t = {.arena = s->arena};
    ast_print(&t, ast);
    return emit_text(s, &t);
  }
  FrontendOptions fo = {.defines = o->defines.at,
                        .ndefines = o->defines.len,
                        .folders = o->folders.at,
                        .nfolders = o->folders.len,
                        .keeps = o->keeps.at,
                        .nkeeps = o->keeps.len,
                        .train = o->train,
                        .name = program_name(s->arena, o->input),
                        .source = o->input};
  Graph *g = frontend_compile(s->arena, &s->strings, &s->diag, ast, &fo);
  if (!g || s->diag.errors) return 1;
  if (o->demotions) demotions_sites(o->demotions, g, &s->diag);
  int bad = choose_precision(s, g, target);
  Text tried = {.arena = s->arena};
  if (!bad && o->check_grad && !check_grad(g, &s->diag, &tried)) bad = 1;
  if (!bad && tried.len && !output_write("-", tried.at, tried.len)) bad = 1;
  if (bad || o->syntax_only) return bad;
  if (o->emit && !strcmp(o->emit, "graph")) return emit_graph(s, g);

  if (!choose_watches(s)) return 1;
  bool library = s->kind == OUT_SHARED || s->kind == OUT_ARCHIVE || s->kind == OUT_HEADER;
  o->pass.halves = library && !o->no_halves;
  Arena scratch = {0};
  s->precision.arena = s->arena;
  o->pass.precision = &s->precision;
  bool count_only = o->demotions && o->demotions->count_only;
  if (o->explain_precision || count_only) o->pass.stop_after = "precision";
  PassCtx c = {.arena = &scratch, .diag = &s->diag, .target = target, .options = &o->pass};
  if (o->emit && passes_know(o->emit)) o->pass.stop_after = o->emit;
  bool ok = passes_run(&g, o->passes ? o->passes : passes_default, &c);
  precision_remarks(&s->precision, &s->diag);
  int status = ok ? write_manifest(s) : 1;
  if (ok && o->demotions) demotions_measure(o->demotions, g, &s->precision, &s->diag);
  if (!status && o->explain_precision) status = explain_precision(s);
  else if (!status && !count_only && o->pass.stop_after) status = emit_graph(s, g);
  else if (!status && !count_only) {
    const Program *p = plan_make(g, &c);
    status = memory_fits(p, o->pass.memory_limit, &s->diag) ? emit_program(s, p, cpu) : 1;
  }
  arena_free(&scratch);
  return status;
}

/* How the user is told what is wrong. */
static int choose_diagnostics(Session *s) {
  const Options *o = &s->o;
  const char *format = o->diagnostics_format ? o->diagnostics_format : "text";
  const char *color = o->diagnostics_color ? o->diagnostics_color : "auto";
  const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");
  bool terminal = isatty(STDERR_FILENO) && term && strcmp(term, "dumb") && !(no_color && *no_color);
  s->diag.json = !strcmp(format, "json");
  if (!s->diag.json && strcmp(format, "text"))
    return fail("-fdiagnostics-format wants text or json, not", format);
  s->diag.color = !strcmp(color, "always") || (terminal && !strcmp(color, "auto"));
  if (!s->diag.color && strcmp(color, "auto") && strcmp(color, "never"))
    return fail("-fdiagnostics-color wants auto, always or never, not", color);
  s->diag.limit = (uint32_t)o->error_limit;
  for (uint32_t i = 0; i < o->warnings.len; i++) {
    const char *word = o->warnings.at[i], *near = NULL;
    if (warnings_set(&s->diag, word, &near)) continue;
    return fail(near ? arena_printf(s->arena, "no warning `-W%s`; `%s`?", word, near)
                     : arena_printf(s->arena, "no warning `-W%s`: see --help", word),
                NULL);
  }
  return 0;
}

static int choose_remarks(Session *s) {
  for (int missed = 0; missed < 2; missed++) {
    const char *pattern = s->o.remarks[missed];
    if (!pattern || remarks_set(&s->diag, pattern, missed)) continue;
    Text names = {.arena = s->arena};
    for (int i = 0; i < REMARKS; i++)
      text_printf(&names, "%s%s", i ? ", " : "", remark_name((Remark)i));
    return fail(arena_printf(s->arena, "%s=%s matches none of", missed ? "-Rpass-missed" : "-Rpass",
                             pattern),
                names.at);
  }
  return 0;
}

/* A word that changes bits for no gain would be a trap: `fast` waits for a kernel that gains. */
static int choose_numerics(const Options *o) {
  if (!o->numerics || !strcmp(o->numerics, "strict")) return 0;
  if (!strcmp(o->numerics, "fast"))
    return fail("-fnumerics=fast: no kernel is faster by other numerics yet; leave it out", NULL);
  return fail("-fnumerics is strict or fast, not", o->numerics);
}

static int choose_report(const Options *o) {
  if (o->check_nan && o->no_origin)
    return fail("--check-nan finds values by what --no-origin leaves out", NULL);
  if (o->pass.replay && o->no_origin)
    return fail("--with-replay finds values by what --no-origin leaves out", NULL);
  const char *word = o->explain_precision;
  if (!word || !strcmp(word, "json") || !strcmp(word, "text")) return 0;
  return fail("--explain-precision is text or json, not", word);
}

/* Of several GPUs the oldest decides; what needs no code can be asked of them already. */
static int choose_gpu(Session *s, const Target **target) {
  const Options *o = &s->o;
  const char *list = o->gpu_arch ? o->gpu_arch : "sm_80";
  bool report = o->explain_precision || o->syntax_only || (o->emit && passes_know(o->emit));
  if (!report && !(o->emit && !strcmp(o->emit, "graph")))
    return fail("--target=cuda: mpcc has no code generator for CUDA yet; --explain-precision, "
                "--emit=graph and --emit=PASS work",
                NULL);
  while (*list) {
    size_t n = strcspn(list, ",");
    const char *name = arena_text(s->arena, list, n);
    const Target *t = gpu_target(name);
    if (!t) return fail("--gpu-arch wants names such as sm_70, sm_80 or sm_90, not", name);
    if (!*target || gpu_is_older(t, *target)) *target = t;
    list += n + (list[n] == ',');
  }
  return *target ? 0 : fail("--gpu-arch is empty", NULL);
}

/* --target, and either -mcpu, which is one level, or --multiversion. */
static int choose_target(Session *s, const Target **target, const CpuTarget **cpu) {
  const Options *o = &s->o;
  const char *triple = o->target && strcmp(o->target, "cpu") ? o->target : NULL, *why = NULL;
  bool cuda = triple && !strcmp(triple, "cuda");
  if (o->gpu_arch && !cuda) return fail("--gpu-arch goes with --target=cuda", NULL);
  if (cuda) return choose_gpu(s, target);
  if (o->mcpu && o->multiversion)
    return fail("-mcpu= is one level, --multiversion= several: give one of the two", NULL);
  if (o->mcpu && strchr(o->mcpu, ','))
    return fail("-mcpu= is one level; several: --multiversion", o->mcpu);
  *cpu = cpu_target(s->arena, triple, o->mcpu ? o->mcpu : o->multiversion, &why);
  const char *flag = o->mcpu ? "-mcpu" : o->multiversion ? "--multiversion" : "--target";
  if (!*cpu) return fail(flag, why);
  *target = cpu_target_info(*cpu);
  return 0;
}

static const char *depfile_path(const Session *s) {
  if (s->o.depfile_path) return s->o.depfile_path;
  const char *dot = strrchr(s->path, '.'), *slash = strrchr(s->path, '/');
  size_t n = dot && (!slash || dot > slash) ? (size_t)(dot - s->path) : strlen(s->path);
  return arena_printf(s->arena, "%.*s.d", (int)n, s->path);
}

static int session(Session *s) {
  const char *why = NULL;
  if (!s->o.input) return fail("a model file is wanted (see --help)", NULL);
  int bad = choose_diagnostics(s);
  if (!bad) bad = choose_output(s);
  if (!bad) bad = choose_report(&s->o);
  if (!bad) bad = choose_remarks(s);
  if (!bad) bad = choose_numerics(&s->o);
  if (bad) return bad;
  const Target *target = NULL;
  const CpuTarget *cpu = NULL;
  bad = choose_target(s, &target, &cpu);
  if (bad) return bad;
  s->text = read_file(s->arena, s->o.input, &s->size, &why);
  if (!s->text) {
    fprintf(stderr, "mpcc: cannot read %s: %s\n", s->o.input, why);
    return 1;
  }
  int status = compile(s, target, cpu);
  if (status || !s->o.depfile) return status;
  const char *made = s->o.depfile_target ? s->o.depfile_target : s->path;
  return !depfile_write(s->arena, depfile_path(s), made, &s->diag);
}

int compile_model(Options *o, Arena *arena) {
  Session s = {.arena = arena, .strings = {.arena = arena}, .o = *o};
  diag_init(&s.diag, arena, stderr);
  crash_sources(&s.diag);
  int status = session(&s);
  crash_sources(NULL);
  return status;
}
