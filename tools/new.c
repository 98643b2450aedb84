/* new.c: `mpcc new DIR`: a folder with a first model, which trains as it is.  The files are those
 * of tools/new/ and examples/mlp.mp.  An existing folder is left alone unless it is empty; what
 * cannot be finished is removed again. */
#define _POSIX_C_SOURCE 200809L
#include "tools/tools.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

extern const EmbeddedFile new_files[]; /* made by the build */

static const char *const names[][2] = {/* embedded as, written as */
                                       {"examples/mlp.mp", "model.mp"},
                                       {"tools/new/README.md", "README.md"},
                                       {"tools/new/CMakeLists.txt", "CMakeLists.txt"},
                                       {"tools/new/gitignore", ".gitignore"}};
enum { NAMES = sizeof names / sizeof *names };

static int fail(const char *what, const char *arg, const char *why) {
  fprintf(stderr, "mpcc new: %s %s%s%s\n", what, arg, why ? ": " : "", why ? why : "");
  return 1;
}

static const EmbeddedFile *find_file(const char *name) {
  for (const EmbeddedFile *f = new_files; f->name; f++)
    if (!strcmp(f->name, name)) return f;
  return NULL;
}

/* How many of the files were written. */
static int write_files(Arena *arena, const char *dir) {
  for (int i = 0; i < NAMES; i++) {
    const EmbeddedFile *f = find_file(names[i][0]);
    if (!f) ice(NULL, NO_ID, "new: %s is not embedded", names[i][0]);
    if (!output_write(arena_printf(arena, "%s/%s", dir, names[i][1]), f->text, f->size)) return i;
  }
  return NAMES;
}

int command_new(int argc, char **argv, Arena *arena) {
  if (argc != 1 || argv[0][0] == '-') {
    bool help = argc == 1 && !strcmp(argv[0], "--help");
    fputs("usage: mpcc new DIR\n\nMakes DIR with a first model, its README and CMakeLists.txt.\n",
          help ? stdout : stderr);
    return help ? 0 : 2;
  }
  const char *dir = argv[0];
  bool fresh = !mkdir(dir, 0777);
  if (!fresh && errno != EEXIST) return fail("cannot make", dir, strerror(errno));
  if (!fresh && rmdir(dir))
    return fail("there is something in", dir, "give a new or an empty folder");
  if (!fresh && mkdir(dir, 0777)) return fail("cannot make", dir, strerror(errno));
  int written = write_files(arena, dir);
  if (written == NAMES) {
    printf("%s/model.mp trains an image classifier; %s/README.md says how\n", dir, dir);
    return 0;
  }
  while (written-- > 0) unlink(arena_printf(arena, "%s/%s", dir, names[written][1]));
  rmdir(dir);
  return 1;
}
