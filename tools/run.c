/* run.c: `mpcc run [flags] model.mp -- ARGUMENTS`: the model becomes an executable in a folder of
 * its own under $TMPDIR, which is run and then removed.  Signals of the terminal go to the program,
 * which saves and ends; its exit status is ours. */
#define _POSIX_C_SOURCE 200809L
#include "tools/tools.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int fail(const char *what, const char *arg) {
  fprintf(stderr, "mpcc run: %s%s%s\n", what, arg ? ": " : "", arg ? arg : "");
  return 2;
}

static volatile sig_atomic_t running; /* the child; signals are handed on to it */

static void hand_on(int signal_number) {
  if (running > 0) kill((pid_t)running, signal_number);
}

/* SIGINT and SIGQUIT of a terminal reach the child by themselves. */
static void set_signals(void) {
  struct sigaction on = {.sa_handler = hand_on, .sa_flags = SA_RESTART},
                   off = {.sa_handler = SIG_IGN};
  sigemptyset(&on.sa_mask);
  sigemptyset(&off.sa_mask);
  sigaction(SIGTERM, &on, NULL);
  sigaction(SIGHUP, &on, NULL);
  sigaction(SIGUSR1, &on, NULL);
  sigaction(SIGINT, &off, NULL);
  sigaction(SIGQUIT, &off, NULL);
}

int program_run(const char *path, char **argv, bool silent) {
  pid_t child = fork();
  if (child == 0) {
    if (silent && !freopen("/dev/null", "w", stdout)) _exit(127);
    execv(path, argv);
    _exit(127);
  }
  if (child < 0) return fail("cannot start the program", strerror(errno));
  running = (sig_atomic_t)child;
  set_signals();
  int status = 0;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return fail("cannot wait for the program", strerror(errno));
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  return 128 + (WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

bool program_options(Options *o, const char *command) {
  const char *wrong = NULL;
  if (!o->input) wrong = "a model file is wanted, and behind -- what the program gets: --data …";
  else if (o->output || o->emit)
    wrong = "the program is run, so -o, --emit, -c and -S have no place";
  else if (o->target && strcmp(o->target, "cpu"))
    wrong = "the program is run here, so --target has no place";
  if (wrong) return fprintf(stderr, "mpcc %s: %s\n", command, wrong), false;
  if (!o->mcpu && !o->multiversion) o->mcpu = "native"; /* no other machine will see it */
  return true;
}

/* The model's own name, so that the program's help and messages show it. */
const char *program_name(Arena *a, const char *input) {
  const char *name = path_base(input);
  size_t n = strlen(name);
  if (n > 3 && !strcmp(name + n - 3, ".mp")) n -= 3;
  return n && strcmp(input, "-") ? arena_text(a, name, n) : "model";
}

int command_run(int argc, char **argv, Arena *arena) {
  int ours = 0;
  Options o;
  while (ours < argc && strcmp(argv[ours], "--")) ours++;
  if (!options_parse(&o, "run", ours, argv, arena)) return 2;
  if (options_answer(&o)) return 0;
  if (!program_options(&o, "run")) return 2;
  const char *tmp = getenv("TMPDIR");
  char *dir = arena_printf(arena, "%s/mpcc-run.XXXXXX", tmp && *tmp ? tmp : "/tmp");
  if (!mkdtemp(dir)) return fail("cannot make a folder", strerror(errno));
  const char *path = arena_printf(arena, "%s/%s", dir, program_name(arena, o.input));
  o.output = path;
  o.emit = "exe"; /* whatever the name looks like */
  int status = compile_model(&o, arena);
  if (!status) {
    char **args = argv + (ours < argc ? ours : argc - 1); /* `--` makes room for the name */
    char *none[] = {(char *)path, NULL};
    if (ours < argc) args[0] = (char *)path;
    status = program_run(path, ours < argc ? args : none, false);
  }
  unlink(path);
  rmdir(dir);
  return status;
}
