/* trial.c: a model compiled in one way or another and run on the user's data, for who compares the
 * runs: compare.c, bisect.c.
 *
 *     mpcc WORD [flags] model.mp -- ARGUMENTS OF THE PROGRAM
 *
 * All files lie in a folder of their own under $TMPDIR, which goes with the end.  A program gets
 * the user's arguments behind ours; what it would print of its progress goes nowhere. */
#define _XOPEN_SOURCE 700
#include "tools/trial.h"

#include <errno.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail(const Trials *t, const char *what, const char *arg) {
  fprintf(stderr, "mpcc %s: %s%s%s\n", t->command, what, arg ? ": " : "", arg ? arg : "");
  return 2;
}

/* What of the program's flags is ours to give. */
static int check_arguments(const Trials *t) {
  static const char *const ours[] = {"--log",    "--save",        "--resume",
                                     "--values", "--values-step", "--plot",
                                     "--beside", "--tensorboard", "--quiet"};
  for (uint32_t i = 0; i < t->args.len; i++)
    for (size_t k = 0; k < sizeof ours / sizeof *ours; k++)
      if (!strncmp(t->args.at[i], ours[k], strlen(ours[k])) &&
          strchr("=", t->args.at[i][strlen(ours[k])]))
        return fail(t, "each run begins anew and is logged by itself, so this has no place",
                    t->args.at[i]);
  return 0;
}

int trials_begin(Trials *t, int argc, char **argv) {
  int ours = 0;
  while (ours < argc && strcmp(argv[ours], "--")) ours++;
  if (!options_parse(&t->o, t->command, ours, argv, t->arena)) return 2;
  if (options_answer(&t->o)) return 0;
  for (int i = ours + 1; i < argc; i++) vec_push(t->arena, &t->args, argv[i]);
  if (!program_options(&t->o, t->command)) return 2;
  int bad = check_arguments(t);
  if (bad) return bad;
  const char *tmp = getenv("TMPDIR");
  char *dir = arena_printf(t->arena, "%s/mpcc-%s.XXXXXX", tmp && *tmp ? tmp : "/tmp", t->command);
  if (!mkdtemp(dir)) return fail(t, "cannot make a folder", strerror(errno));
  t->dir = dir;
  return 0;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at) {
  (void)st, (void)kind, (void)at;
  return remove(path);
}

void trials_end(Trials *t) {
  if (t->dir) nftw(t->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Of its own folder, so that the program has the model's name. */
int trial_compile(Trials *t, const Options *o, const char *name, const char **program) {
  Options exe = *o;
  const char *dir = arena_printf(t->arena, "%s/%s", t->dir, name);
  mkdir(dir, 0700);
  *program = arena_printf(t->arena, "%s/%s", dir, program_name(t->arena, o->input));
  exe.output = *program;
  exe.emit = "exe";
  return compile_model(&exe, t->arena);
}

int trial_run(Trials *t, const char *program, uint32_t n, const char *const *words) {
  VEC(char *) argv = {0};
  vec_push(t->arena, &argv, (char *)program);
  for (uint32_t i = 0; i < n; i++) vec_push(t->arena, &argv, (char *)words[i]);
  vec_push(t->arena, &argv, (char *)"--quiet");
  for (uint32_t i = 0; i < t->args.len; i++) vec_push(t->arena, &argv, (char *)t->args.at[i]);
  vec_push(t->arena, &argv, NULL);
  return program_run(program, argv.at, true);
}

/* ---- the log of a run ---- */

/* The loss stands under its name, or is whatever comes first behind `behind`. */
static double loss_of(const char *line, const char *behind) {
  const char *at = strstr(line, "\"loss\":");
  char *end;
  if (!at) {
    at = strstr(line, behind);
    at = at ? strchr(at, ',') : NULL;
    at = at ? strchr(at, ':') : NULL;
  } else at += 6;
  double loss = at ? strtod(at + 1, &end) : NAN;
  return at && end != at + 1 ? loss : NAN; /* null: nothing was finite */
}

static void read_line(Trials *t, const char *line, TrialLog *out) {
  if (!strncmp(line, "{\"eval\":true", 12)) out->eval = loss_of(line, "\"step\":");
  if (strncmp(line, "{\"step\":", 8)) return;
  TrialStep s = {strtoll(line + 8, NULL, 10), loss_of(line, "\"epoch\":")};
  vec_push(t->arena, &out->steps, s);
}

bool trial_read_log(Trials *t, const char *log, TrialLog *out) {
  const char *why = NULL;
  size_t size;
  char *text = read_file(t->arena, log, &size, &why), *next;
  *out = (TrialLog){.eval = NAN};
  if (!text) return fail(t, "cannot read the log of a run", why), false;
  for (char *line = text; *line; line = next) {
    char *end = strchr(line, '\n');
    next = end ? end + 1 : line + strlen(line);
    if (end) *end = 0;
    read_line(t, line, out);
  }
  return out->steps.len || (fail(t, "a run took no step", NULL), false);
}

double trial_loss(const TrialLog *log) {
  double sum = 0;
  uint32_t n = log->steps.len, quarter = n < 4 ? n : n / 4, counted = 0;
  if (!isnan(log->eval)) return log->eval;
  for (uint32_t i = n - quarter; i < n; i++)
    if (!isnan(log->steps.at[i].loss)) sum += log->steps.at[i].loss, counted++;
  return 2 * counted > quarter ? sum / counted : NAN;
}
