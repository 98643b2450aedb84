/* trial.h: programs that are made in order to be compared (trial.c). */
#ifndef TOOLS_TRIAL_H
#define TOOLS_TRIAL_H

#include "tools/tools.h"

#include <math.h>

typedef struct Trials {
  Arena *arena;
  const char *command; /* of mpcc: "compare" */
  const char *dir;     /* where everything lies; NULL: nothing was begun */
  Options o;
  VEC(const char *) args; /* of the programs */
} Trials;

typedef struct TrialStep {
  int64_t step;
  double loss; /* NaN: it was skipped */
} TrialStep;
typedef VEC(TrialStep) TrialSteps;

typedef struct TrialLog {
  TrialSteps steps;
  double eval; /* loss of the last evaluation; NaN: there was none */
} TrialLog;

/* argv: behind the command.  Not 0: an exit status; what is wrong was said.  0 and no `dir`: there
 * is nothing to run, what was asked is answered. */
int trials_begin(Trials *t, int argc, char **argv);
void trials_end(Trials *t);
/* An executable; name: of its folder in t->dir. */
int trial_compile(Trials *t, const Options *o, const char *name, const char **program);
/* Ours are the n words in front of the user's. */
int trial_run(Trials *t, const char *program, uint32_t n, const char *const *words);
bool trial_read_log(Trials *t, const char *log, TrialLog *out);
/* What a run came to: its last evaluation, else the mean over its last quarter.  NaN: most of that
 * was skipped. */
double trial_loss(const TrialLog *log);

#endif
