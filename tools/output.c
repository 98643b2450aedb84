/* output.c: files that appear whole or not at all: everything is made under a temporary name beside
 * its place and renamed.  Linking goes through $CC, or cc; for another machine through a compiler
 * that makes code for it, with a runtime built for it (MPCC_RUNTIME_ONLY of our CMakeLists). */
#define _POSIX_C_SOURCE 200809L
#include "tools/tools.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static bool failed(const char *what, const char *path) {
  fprintf(stderr, "mpcc: cannot %s %s: %s\n", what, path, strerror(errno));
  return false;
}

static bool write_all(const char *path, const char *bytes, size_t n) {
  FILE *f = fopen(path, "wb");
  if (!f) return false;
  bool ok = fwrite(bytes, 1, n, f) == n;
  return !fclose(f) && ok;
}

bool output_write(const char *path, const char *bytes, size_t n) {
  if (!strcmp(path, "-")) {
    bool ok = fwrite(bytes, 1, n, stdout) == n && !fflush(stdout);
    return ok || failed("write", "standard output");
  }
  Arena a = {0};
  const char *temp = arena_printf(&a, "%s.%ld.tmp", path, (long)getpid());
  bool ok = write_all(temp, bytes, n) || failed("write", path);
  ok = ok && (!rename(temp, path) || failed("write", path));
  if (!ok) unlink(temp);
  arena_free(&a);
  return ok;
}

typedef VEC(const char *) Words;

/* The folders where libmpcc_rt.a may be: beside the compiler's own, in a build tree or an
 * installation; of another machine's in its sysroot, too. */
static void library_folders(Arena *a, const LinkFor *l, Words *folders) {
  static const char *const beside[] = {"../lib", "../lib/mpcc"}, *const in[] = {"", "/local"};
  char self[4096];
  ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
  self[n > 0 ? n : 0] = 0;
  char *slash = strrchr(self, '/');
  if (slash) *slash = 0;
  for (size_t i = 0; slash && !l->triple && i < 2; i++)
    vec_push(a, folders, arena_printf(a, "%s/%s", self, beside[i]));
  if (slash && l->triple)
    vec_push(a, folders, arena_printf(a, "%s/../lib/mpcc/%s", self, l->triple));
  for (size_t i = 0; l->sysroot && l->triple && i < 2; i++)
    vec_push(a, folders, arena_printf(a, "%s/usr%s/lib/mpcc", l->sysroot, in[i]));
}

static const char *runtime_folder(Arena *a, const LinkFor *l) { /* NULL: said where it is not */
  Words folders = {0};
  library_folders(a, l, &folders);
  for (uint32_t i = 0; i < folders.len; i++)
    if (!access(arena_printf(a, "%s/libmpcc_rt.a", folders.at[i]), R_OK)) return folders.at[i];
  fprintf(stderr, "mpcc: libmpcc_rt.a%s%s is not in", l->triple ? " for " : "",
          l->triple ? l->triple : "");
  for (uint32_t i = 0; i < folders.len; i++)
    fprintf(stderr, "%s %s", i ? " or" : "", folders.at[i]);
  fprintf(stderr, "%s\n",
          l->triple ? ": build it with MPCC_RUNTIME_ONLY (mpcc(1)), or use -o FILE.o" : "");
  return NULL;
}

/* $CC may hold a command with arguments. */
static void add_words(Arena *a, Words *w, const char *text) {
  while (*text) {
    size_t n = strcspn(text, " ");
    if (n) vec_push(a, w, arena_text(a, text, n));
    text += n + (text[n] == ' ');
  }
}

static bool run_command(Arena *a, Words *w) {
  vec_push(a, w, NULL);
  pid_t child = fork();
  if (child == 0) {
    execvp(w->at[0], (char **)w->at);
    _exit(127);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) < 0) return failed("run", w->at[0]);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return true;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
    fprintf(stderr,
            "mpcc: cannot run %s, which links the output: install a C compiler, set CC, or"
            " use -o FILE.o\n",
            w->at[0]);
  else fprintf(stderr, "mpcc: %s could not link the output\n", w->at[0]);
  return false;
}

static void link_command(Arena *a, Words *w, OutputKind kind, const char *lib, const Words *objects,
                         const char *to, const LinkFor *l) {
  const char *cc = getenv("CC"), *other = l->triple ? arena_printf(a, "%s-gcc", l->triple) : "cc";
  add_words(a, w, l->linker && *l->linker ? l->linker : cc && *cc ? cc : other);
  if (l->sysroot) vec_push(a, w, arena_printf(a, "--sysroot=%s", l->sysroot));
  const char *shared[] = {"-shared", "-Wl,-Bsymbolic", "-Wl,--exclude-libs,ALL"};
  for (int i = 0; kind == OUT_SHARED && i < 3; i++) vec_push(a, w, shared[i]);
  vec_push(a, w, "-o");
  vec_push(a, w, to);
  for (uint32_t i = 0; i < objects->len; i++) vec_push(a, w, objects->at[i]);
  if (kind == OUT_EXE) vec_push(a, w, arena_printf(a, "%s/libmpcc_cli.a", lib));
  vec_push(a, w, arena_printf(a, "%s/libmpcc_rt.a", lib));
  const char *rest[] = {"-Wl,--gc-sections", "-Wl,-z,noexecstack", "-Wl,--as-needed", "-lm", "-lz",
                        "-pthread"};
  for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) vec_push(a, w, rest[i]);
}

/* The objects under temporary names; false: said why. */
static bool write_objects(Arena *a, const char *temp, unsigned n, const CpuCode *object,
                          Words *names) {
  for (unsigned i = 0; i < n; i++) {
    const char *name = arena_printf(a, "%s.%u.o", temp, i);
    vec_push(a, names, name);
    if (!write_all(name, object[i].at, object[i].size)) return failed("write", name);
  }
  return true;
}

bool output_archive(Arena *a, const CpuCode *object, const char *symbol, const char *path,
                    const LinkFor *link) {
  const char *lib = runtime_folder(a, link), *why = NULL;
  if (!lib) return false;
  const char *name = arena_printf(a, "%s/libmpcc_rt.a", lib);
  size_t size;
  const char *runtime = read_file(a, name, &size, &why);
  Text out = {.arena = a};
  if (!runtime || !archive_make(a, runtime, size, object, symbol, &out)) {
    fprintf(stderr, "mpcc: cannot read %s: %s\n", name, why ? why : "it has no table of symbols");
    return false;
  }
  return output_write(path, out.at, out.len);
}

bool output_link(Arena *a, OutputKind kind, unsigned n, const CpuCode *object, const char *path,
                 const LinkFor *link) {
  const char *lib = runtime_folder(a, link);
  if (!lib) return false;
  const char *temp = arena_printf(a, "%s.%ld.tmp", path, (long)getpid());
  Words w = {0}, objects = {0};
  bool ok = write_objects(a, temp, n, object, &objects);
  link_command(a, &w, kind, lib, &objects, temp, link);
  ok = ok && run_command(a, &w);
  ok = ok && (!rename(temp, path) || failed("write", path));
  for (uint32_t i = 0; i < objects.len; i++) unlink(objects.at[i]);
  if (!ok) unlink(temp);
  return ok;
}
