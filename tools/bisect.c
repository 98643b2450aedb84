/* bisect.c: `mpcc --bisect-precision --budget=B model.mp -- ARGUMENTS`: which demotions cost the
 * loss, and the cheapest assignment found that keeps it.
 *
 * The reference is the same run in f32: same data, same order, same seed.  An assignment is a set
 * of sites (demotions.h) kept in f32; it holds if the run's loss is at most B above the reference.
 * From all sites in f32, groups of them are given back to low precision, those that cost most
 * bytes first; a group that cannot go back as a whole is halved (Zeller & Hildebrandt 2002).  What
 * is left is minimal: no single site of it can go back.  Every trial is a training run of its own;
 * programs that are the same bytes are run once.  Nothing depends on time or chance, so the same
 * command gives the same answer; --trials=FILE keeps the losses, and a run that was stopped goes on
 * there. */
#include "tools/bisect.h"

#include <stdlib.h>
#include <string.h>

static int fail(const char *what, const char *arg) {
  fprintf(stderr, "mpcc --bisect-precision: %s%s%s\n", what, arg ? ": " : "", arg ? arg : "");
  return 2;
}

/* ---- one trial ---- */

static uint32_t count(const Bisect *b, const bool *kept) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < b->d.sites.len; i++) n += kept[i];
  return n;
}

const char *bisect_flag(Arena *a, const Site *s) {
  return arena_printf(a, "%s@%s:%u", s->module, s->file, (unsigned)s->line);
}

/* The options of the user's and a flag a site. */
static Options options_of(const Bisect *b, const bool *kept) {
  Options o = b->t.o;
  o.keeps.at = NULL;
  o.keeps.len = o.keeps.cap = 0;
  for (uint32_t i = 0; i < b->t.o.keeps.len; i++)
    vec_push(b->t.arena, &o.keeps, b->t.o.keeps.at[i]);
  for (uint32_t i = 0; kept && i < b->d.sites.len; i++)
    if (kept[i])
      vec_push(b->t.arena, &o.keeps,
               ((KeepOption){bisect_flag(b->t.arena, &b->d.sites.at[i]), "f32"}));
  return o;
}

/* Runs the program, or knows what it would give.  A run that ends with an error, as one does that
 * skips step after step, has an infinite loss. */
static int run_once(Bisect *b, const char *program, double *loss, bool *known) {
  uint64_t key = memory_key(b, program);
  *known = memory_find(b, key, loss);
  if (*known) return 0;
  const char *log = arena_printf(b->t.arena, "%s/log.jsonl", b->t.dir);
  remove(log);
  const char *words[] = {"--log", log};
  int status = trial_run(&b->t, program, 2, words);
  if (status > 128) return status; /* a signal: the user has enough */
  if (status == 2) return 1;       /* wrong arguments, which it has said */
  TrialLog found;
  *loss = INFINITY;
  if (!status && !trial_read_log(&b->t, log, &found)) return 1;
  if (!status) *loss = trial_loss(&found);
  if (!isfinite(*loss)) *loss = INFINITY;
  return memory_add(b, key, *loss);
}

/* kept NULL: the reference. */
static int measure(Bisect *b, const bool *kept, Trial *out) {
  Options o = options_of(b, kept);
  const char *program;
  Demotions d = {.arena = b->t.arena};
  *out = (Trial){0};
  o.demotions = &d;
  if (!kept) o.precision = "f32";
  int status = trial_compile(&b->t, &o, "trial", &program);
  if (!status) status = run_once(b, program, &out->loss, &out->known);
  out->bytes = d.bytes;
  if (!b->d.sites.len && kept) b->d.sites.at = d.sites.at, b->d.sites.len = d.sites.len;
  return status;
}

static double above(const Bisect *b, double loss) {
  return 100 * (loss - b->reference.loss) / fabs(b->reference.loss);
}

bool bisect_holds(const Bisect *b, double loss) {
  return loss <= b->reference.loss + b->budget * fabs(b->reference.loss);
}

static void print_trial(const Bisect *b, const char *what, const Trial *t) {
  printf("%-30s loss %-10.6g %+9.3f %%  %9.2f MB a step  %s%s\n", what, t->loss, above(b, t->loss),
         (double)t->bytes / 1e6, bisect_holds(b, t->loss) ? "holds" : "too high",
         t->known ? ", known" : "");
  fflush(stdout);
}

/* Sets of sites that were tried; each is compiled once. */
static int try_sites(Bisect *b, const bool *kept, Trial *out) {
  size_t n = b->d.sites.len * sizeof *kept;
  for (uint32_t i = 0; i < b->tried.len; i++)
    if (!memcmp(b->tried.at[i].kept, kept, n)) return *out = b->tried.at[i].trial, 0;
  int status = measure(b, kept, out);
  if (status) return status;
  Tried t = {arena_copy(b->t.arena, kept, n), *out};
  vec_push(b->t.arena, &b->tried, t);
  const char *what = arena_printf(b->t.arena, "%3u: %u of %u sites in f32", b->tried.len,
                                  (unsigned)count(b, kept), (unsigned)b->d.sites.len);
  print_trial(b, what, out);
  return 0;
}

/* ---- the search ---- */

/* Gives back what can be of the n sites from `from` on; *gave: something was. */
static int give_back(Bisect *b, uint32_t from, uint32_t n, bool *gave) {
  bool *kept = arena_copy(b->t.arena, b->kept, b->d.sites.len * sizeof *kept);
  uint32_t held = 0;
  for (uint32_t i = from; i < from + n; i++) held += kept[i], kept[i] = false;
  if (!held) return 0;
  Trial t;
  int status = try_sites(b, kept, &t);
  if (status) return status;
  if (bisect_holds(b, t.loss)) {
    b->kept = kept;
    b->best = t;
    *gave = true;
    return 0;
  }
  if (n == 1) return 0;
  status = give_back(b, from, n / 2, gave);
  return status ? status : give_back(b, from + n / 2, n - n / 2, gave);
}

/* Sites one by one, until none can go: what goes may allow what did not before. */
static int give_back_singles(Bisect *b) {
  int status = 0;
  for (bool gave = true; gave && !status;) {
    gave = false;
    for (uint32_t i = 0; !status && i < b->d.sites.len; i++) status = give_back(b, i, 1, &gave);
  }
  return status;
}

static int by_cost(const void *x, const void *y) {
  const Site *a = x, *b = y;
  if (a->bytes != b->bytes) return a->bytes > b->bytes ? -1 : 1;
  if (a->line != b->line) return a->line < b->line ? -1 : 1;
  int order = strcmp(a->file, b->file);
  return order ? order : strcmp(a->module, b->module);
}

/* Of every site what it costs to keep it alone; those that are not low are left out. */
static int find_costs(Bisect *b, int64_t low_bytes) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < b->d.sites.len; i++)
    if (b->d.sites.at[i].low) b->d.sites.at[n++] = b->d.sites.at[i];
  b->d.sites.len = n;
  bool *kept = NEW_ARRAY(b->t.arena, bool, n + 1);
  for (uint32_t i = 0; i < n; i++) {
    Demotions d = {.arena = b->t.arena, .count_only = true};
    kept[i] = true;
    Options o = options_of(b, kept);
    kept[i] = false;
    o.demotions = &d;
    int status = compile_model(&o, b->t.arena);
    if (status) return status;
    b->d.sites.at[i].bytes = d.bytes - low_bytes;
  }
  qsort(b->d.sites.at, n, sizeof *b->d.sites.at, by_cost);
  return 0;
}

static int search(Bisect *b) {
  uint32_t n = b->d.sites.len;
  bool gave;
  b->kept = NEW_ARRAY(b->t.arena, bool, n + 1);
  for (uint32_t i = 0; i < n; i++) b->kept[i] = true;
  int status = try_sites(b, b->kept, &b->best);
  if (status) return status;
  if (!bisect_holds(b, b->best.loss)) {
    printf("with every site in f32 the loss is still too high: what is left is the difference of "
           "two runs; try more steps or a larger --budget\n");
    return 1;
  }
  status = give_back(b, 0, n / 2, &gave); /* all at once is the program as it is */
  if (!status) status = give_back(b, n / 2, n - n / 2, &gave);
  return status ? status : give_back_singles(b);
}

/* Of each site that is kept, what its demotion alone does. */
static int find_harm(Bisect *b) {
  for (uint32_t i = 0; i < b->d.sites.len; i++) {
    if (!b->kept[i]) continue;
    bool *kept = arena_copy(b->t.arena, b->kept, b->d.sites.len * sizeof *kept);
    Trial t;
    kept[i] = false;
    int status = try_sites(b, kept, &t);
    if (status) return status;
    b->harm[i] = above(b, t.loss);
  }
  return 0;
}

static int bisect(Bisect *b) {
  Trial low;
  bool none = false;
  int status = measure(b, NULL, &b->reference);
  if (status) return status;
  if (!isfinite(b->reference.loss))
    return fail("the run in f32, the reference, ended without a finite loss", NULL), 1;
  print_trial(b, "f32", &b->reference);
  status = measure(b, &none, &low);
  if (status) return status;
  print_trial(b, b->t.o.precision ? b->t.o.precision : "as the program says", &low);
  if (bisect_holds(b, low.loss)) {
    printf("the budget of %g %% holds as it is: nothing is to be kept in f32\n", 100 * b->budget);
    return 0;
  }
  status = find_costs(b, low.bytes);
  if (status) return status;
  if (!b->d.sites.len)
    return fail("nothing of the program is low, so nothing can be kept", NULL), 1;
  b->harm = NEW_ARRAY(b->t.arena, double, b->d.sites.len);
  status = search(b);
  if (!status) status = find_harm(b);
  if (!status) bisect_print(b, &low);
  return status;
}

/* "0.5%", "0.005" */
static bool read_budget(const char *text, double *out) {
  char *end;
  *out = strtod(text, &end);
  bool percent = *end == '%';
  if (percent) *out /= 100;
  return end != text && !end[percent] && *out >= 0 && isfinite(*out);
}

static int begin(Bisect *b) {
  const char *budget = b->t.o.budget;
  if (budget && !read_budget(budget, &b->budget))
    return fail("--budget is a share of the loss, as 0.5% or 0.005, not", budget);
  return memory_open(b) ? bisect(b) : 1;
}

int command_bisect(int argc, char **argv, Arena *arena) {
  Bisect b = {.t = {.arena = arena, .command = "--bisect-precision"}, .budget = 0.005};
  int status = trials_begin(&b.t, argc, argv);
  if (b.t.dir) status = begin(&b);
  if (status > 128 && b.t.o.trials)
    fprintf(stderr, "stopped; the same command goes on from %s\n", b.t.o.trials);
  trials_end(&b.t);
  return status;
}
