/* crash.c: an error of mpcc's own (an ice, which ends with exit 70, or a fatal signal) leaves a
 * folder mpcc-crash.PID with the sources and the command line, so that it can be seen again.
 *
 * The handler runs in a broken process: it calls only what POSIX calls async-signal-safe and reads
 * what was there before.  Reproducing is the user's choice to share: the folder holds their model.
 */
#define _XOPEN_SOURCE 700
#include "tools/tools.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct {
  int argc;
  char **argv;
  const Diag *diag;
  char folder[64];
} watched; /* what a handler can reach; one a process, as signals are */

static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};

static void put(int fd, const char *s, size_t n) {
  while (n) {
    ssize_t w = write(fd, s, n);
    if (w <= 0) return;
    s += w;
    n -= (size_t)w;
  }
}

static void put_text(int fd, const char *s) { put(fd, s, strlen(s)); }

static int open_in(const char *name) {
  char path[256];
  size_t n = strlen(watched.folder), m = strlen(name);
  if (n + m + 2 > sizeof path) return -1;
  memcpy(path, watched.folder, n);
  path[n] = '/';
  memcpy(path + n + 1, name, m + 1);
  return open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
}

static void write_sources(void) {
  for (uint32_t i = 0; watched.diag && i < watched.diag->sources.len; i++) {
    const Source *s = &watched.diag->sources.at[i];
    const char *name = strcmp(s->name, "-") ? path_base(s->name) : "stdin.mp";
    int fd = s->built_in ? -1 : open_in(name);
    if (fd < 0) continue;
    put(fd, s->text, s->size);
    close(fd);
  }
}

static void write_command(void) {
  int fd = open_in("command");
  if (fd < 0) return;
  put_text(fd, "# mpcc " MPCC_VERSION "\n");
  for (int i = 0; i < watched.argc; i++) {
    put_text(fd, i ? " '" : "'");
    put_text(fd, watched.argv[i]);
    put_text(fd, "'");
  }
  put_text(fd, "\n");
  close(fd);
}

static void leave_reproducer(void) {
  if (mkdir(watched.folder, 0755)) return;
  write_sources();
  write_command();
  put_text(STDERR_FILENO, "mpcc: the model and the command line are in ");
  put_text(STDERR_FILENO, watched.folder);
  put_text(STDERR_FILENO, "; please report this error with them, if you may\n");
}

static void on_signal(int number) {
  put_text(STDERR_FILENO, "mpcc: internal error: a fatal signal\n");
  leave_reproducer();
  (void)number;
  _exit(70);
}

/* 'mpcc-crash.' and the process id, written before anything is broken. */
static void name_folder(void) {
  snprintf(watched.folder, sizeof watched.folder, "mpcc-crash.%ld", (long)getpid());
}

void crash_watch(int argc, char **argv) {
  static char stack[1 << 16]; /* the ordinary one may be what ran out */
  stack_t own = {.ss_sp = stack, .ss_size = sizeof stack};
  struct sigaction act = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND | SA_ONSTACK};
  sigemptyset(&act.sa_mask);
  watched.argc = argc;
  watched.argv = argv;
  name_folder();
  ice_hook = leave_reproducer;
  sigaltstack(&own, NULL);
  for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++) sigaction(fatal[i], &act, NULL);
}

void crash_sources(const Diag *diag) { watched.diag = diag; }
