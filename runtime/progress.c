/* progress.c: where the run stands: one line that changes on a terminal, plain lines elsewhere, and
 * one JSON object a step in the log.
 *
 * Metrics shown are means over the steps since the last line, not of one noisy batch.
 */
#define _DEFAULT_SOURCE
#include "runtime/cli.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

double cli_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double peak_megabytes(void) {
  struct rusage u;
  if (getrusage(RUSAGE_SELF, &u)) return 0;
#ifdef __APPLE__
  return (double)u.ru_maxrss / 1e6;
#else
  return (double)u.ru_maxrss * 1024 / 1e6;
#endif
}

int cli_open_progress(CliProgress *p, const CliArgs *a, int64_t first_step, int64_t total) {
  *p = (CliProgress){.args = a, .total = total, .first_step = first_step};
  p->terminal = isatty(STDOUT_FILENO);
  p->start = p->shown = cli_seconds();
  int status = cli_open_events(&p->events, a);
  if (status || !a->log) return status;
  p->log = fopen(a->log, a->resume ? "a" : "w");
  if (!p->log) return cli_error(a, CLI_FAILED, "cannot write '%s': %s", a->log, strerror(errno));
  setvbuf(p->log, NULL, _IOLBF, 1 << 16); /* whole lines, also after kill -9 */
  return CLI_OK;
}

/* ---- the log ---- */

static void write_line(FILE *f, mp_text *t) {
  if (!t->failed) fprintf(f, "%s\n", t->at);
  mp_text_free(t);
}

static void origin_json(const CliStep *s, mp_text *t) {
  mp_text origin = {0}, replay = {0};
  mp_origin_text(&s->origin, &origin);
  if (s->replayed) mp_replay_text(&s->origin, &s->replay, &replay);
  mp_text_add(t, ",\"nonfinite\":");
  mp_json_quote(t, origin.failed ? "" : origin.at);
  if (s->replayed) mp_text_add(t, ",\"replay\":");
  if (s->replayed) mp_json_quote(t, replay.failed ? "" : replay.at);
  mp_text_free(&origin);
  mp_text_free(&replay);
}

void cli_log_step(CliProgress *p, const CliStep *s, const CliMeter *of_step) {
  cli_write_events(&p->events, "train", s->step, of_step);
  if (!p->log) return;
  mp_text t = {0};
  mp_text_add(&t, "{\"step\":%lld,\"epoch\":%lld", (long long)s->step, (long long)s->epoch);
  cli_meter_json(of_step, &t);
  if (p->run) cli_watch_json(&p->run->watch, p->run, &t);
  if (s->origin.where) origin_json(s, &t);
  mp_text_add(&t, ",\"skipped\":%s,\"seconds\":%.6f}", s->committed ? "false" : "true",
              cli_seconds() - p->start);
  write_line(p->log, &t);
}

void cli_log_eval(CliProgress *p, int64_t step, int64_t rows, const CliMeter *m) {
  cli_write_events(&p->events, "eval", step, m);
  if (!p->log) return;
  mp_text t = {0};
  mp_text_add(&t, "{\"eval\":true,\"step\":%lld", (long long)step);
  cli_meter_json(m, &t);
  mp_text_add(&t, ",\"rows\":%lld,\"seconds\":%.6f}", (long long)rows, cli_seconds() - p->start);
  write_line(p->log, &t);
}

/* ---- lines ---- */

static bool is_due(const CliProgress *p, const CliStep *s, double now) {
  if (p->args->quiet) return false;
  if (s->step == p->total) return true;
  if (p->terminal) return now - p->shown >= 0.1;
  if (p->args->print_every) return s->step % p->args->print_every == 0;
  return now - p->shown >= 2;
}

/* The time left by the mean speed of this process. */
static void add_eta(const CliProgress *p, int64_t step, double now, mp_text *t) {
  int64_t done = step - p->first_step;
  double left = done ? (now - p->start) / (double)done * (double)(p->total - step) : 0;
  int64_t s = (int64_t)(left + 0.5);
  if (s >= 3600)
    mp_text_add(t, "  ETA %lld:%02d:%02d", (long long)(s / 3600), (int)(s / 60 % 60),
                (int)(s % 60));
  else mp_text_add(t, "  ETA %d:%02d", (int)(s / 60), (int)(s % 60));
}

static void add_line(const CliProgress *p, const CliStep *s, const CliMeter *window, double now,
                     mp_text *t) {
  double seconds = now - p->shown;
  mp_text_add(t, "step %lld/%lld", (long long)s->step, (long long)p->total);
  cli_meter_text(window, t);
  if (seconds > 0) mp_text_add(t, "  %.0f rows/s", (double)(p->rows - p->shown_rows) / seconds);
  add_eta(p, s->step, now, t);
  if (s->skipped) mp_text_add(t, "  skipped %lld", (long long)s->skipped);
  mp_text_add(t, "  %.0f MB", peak_megabytes());
}

/* On a terminal only at the end: they would push the line away. */
static void print_watched(const CliProgress *p) {
  mp_text t = {0};
  if (p->run) cli_watch_text(&p->run->watch, p->run, &t);
  if (t.len && !t.failed) fputs(t.at, stdout);
  mp_text_free(&t);
}

void cli_show_step(CliProgress *p, const CliStep *s, CliMeter *window) {
  double now = cli_seconds();
  p->rows += s->rows;
  if (!is_due(p, s, now)) return;
  mp_text t = {0};
  add_line(p, s, window, now, &t);
  if (!t.failed && p->terminal) printf("\r%s\033[K%s", t.at, s->step == p->total ? "\n" : "");
  else if (!t.failed) printf("%s\n", t.at);
  if (!p->terminal || s->step == p->total) print_watched(p);
  fflush(stdout);
  mp_text_free(&t);
  cli_clear_meter(window);
  p->shown = now;
  p->shown_rows = p->rows;
}

void cli_print_eval(const CliProgress *p, int64_t rows, const CliMeter *m) {
  mp_text t = {0};
  cli_meter_text(m, &t);
  if (!t.failed)
    printf("%seval%s  (%lld rows)\n", p->terminal ? "\r\033[K" : "", t.at ? t.at : "",
           (long long)rows);
  fflush(stdout);
  mp_text_free(&t);
}

void cli_print_done(const CliProgress *p, const CliStep *last) {
  double seconds = cli_seconds() - p->start;
  if (p->args->quiet) return;
  printf("%sdone  %lld steps  %.1f s  %.0f rows/s", p->terminal ? "\r\033[K" : "",
         (long long)(last->step - p->first_step), seconds,
         seconds > 0 ? (double)p->rows / seconds : 0);
  if (last->skipped) printf("  skipped %lld", (long long)last->skipped);
  printf("  %.0f MB\n", peak_megabytes());
  fflush(stdout);
}

int cli_close_progress(CliProgress *p) {
  int status = cli_close_events(&p->events);
  if (!p->log) return status;
  bool failed = ferror(p->log) != 0;
  if (fclose(p->log) || failed)
    return cli_error(p->args, CLI_FAILED, "the log '%s' is not complete", p->args->log);
  p->log = NULL;
  return status;
}
