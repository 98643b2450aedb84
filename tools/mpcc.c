/* mpcc.c: the compiler's command line: which command, and what is to be printed instead.
 *
 *     mpcc [flags] model.mp      compile (compile.c)
 *     mpcc run, compare, new, fmt    commands of their own, in files of these names
 *
 * Exit status: 0 done, 1 the program is wrong, 2 the command line is, 70 mpcc is (crash.c). */
#include "tools/tools.h"

#include <string.h>

static const struct {
  const char *word;
  int (*run)(int argc, char **argv, Arena *arena);
} commands[] = {{"run", command_run},
              {"compare", command_compare},
              {"new", command_new},
              {"fmt", command_fmt}};

static int show_ops(Arena *arena) {
  Text t = {.arena = arena};
  print_ops(&t);
  return output_write("-", t.at, t.len) ? 0 : 1;
}

static int command_compile(int argc, char **argv, Arena *arena) {
  Options o;
  if (!options_parse(&o, "", argc, argv, arena)) return 2;
  if (options_answer(&o)) return 0;
  return o.print_ops ? show_ops(arena) : compile_model(&o, arena);
}

int main(int argc, char **argv) {
  Arena arena = {0};
  int status = 2;
  crash_watch(argc, argv);
  if (response_expand(&arena, &argc, &argv)) {
    int (*run)(int, char **, Arena *) = command_compile;
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
      if (argc > 1 && !strcmp(argv[1], commands[i].word)) run = commands[i].run;
    for (int i = 1; i < argc && strcmp(argv[i], "--"); i++)
      if (run == command_compile && !strcmp(argv[i], "--bisect-precision")) run = command_bisect;
    int words = run == command_compile || run == command_bisect ? 1 : 2;
    status = run(argc - words, argv + words, &arena);
  }
  arena_free(&arena);
  return status;
}
