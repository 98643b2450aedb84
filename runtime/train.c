/* train.c: the training run: batches in the epoch's order, saving, stopping.
 *
 * A run of N steps attempts N batches; a skipped step (something was not finite, or no row had
 * weight) counts, for it has used its batch.  Everything the order depends on (seed, epoch, row) is
 * in the context's cursor, which is moved before anything is saved, so a resumed run reads exactly
 * the rows that the uninterrupted one would have read.
 *
 * Signals are blocked and asked for between steps: no handler, no global flag.
 */
#define _POSIX_C_SOURCE 200809L
#include "runtime/cli.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

enum { MAX_SKIPPED = 20 };

typedef struct Loop {
  CliRun *run;
  mp_shuffle order; /* of the cursor's epoch */
  int64_t order_epoch;
  int64_t saved_step;  /* -1: none yet */
  int64_t values_step; /* whose values are written; -1: of none */
  int signal;          /* that ends the run; 0: none */
  CliStep last;
} Loop;

int64_t cli_steps_done(const CliRun *r) { return mp_steps_done(r->ctx); }

/* ---- signals ---- */

static sigset_t our_signals(void) {
  sigset_t s;
  sigemptyset(&s);
  sigaddset(&s, SIGINT);
  sigaddset(&s, SIGTERM);
  sigaddset(&s, SIGUSR1);
  return s;
}

/* The next one that has arrived; 0: none. */
static int take_signal(void) {
  sigset_t ours = our_signals(), pending;
  int number = 0;
  sigpending(&pending);
  if (sigismember(&pending, SIGINT) || sigismember(&pending, SIGTERM) ||
      sigismember(&pending, SIGUSR1))
    sigwait(&ours, &number);
  return number;
}

/* ---- saving ---- */

static int save(Loop *l) {
  CliRun *r = l->run;
  int64_t step = cli_steps_done(r);
  if (!r->args->save || l->saved_step == step) return CLI_OK;
  char *path = mp_checkpoint_path(r->args->save, step);
  int status = path ? r->api->save(r->ctx, path) : MP_E_MEMORY;
  free(path);
  if (status) return cli_ctx_error(r);
  l->saved_step = step;
  mp_checkpoint_prune(r->args->save, (int)r->args->keep);
  return CLI_OK;
}

/* Checkpoints of another run would be newer than ours, be resumed for ours and outlive them. */
static int open_save_dir(Loop *l) {
  CliRun *r = l->run;
  const char *dir = r->args->save;
  mp_error err;
  if (!dir) return CLI_OK;
  if (mp_make_dirs(dir, &err)) return cli_error(r->args, CLI_FAILED, "%s", err.text);
  mp_checkpoint_clean(dir);
  int64_t newest = mp_checkpoint_newest(dir), done = cli_steps_done(r);
  if (newest >= 0 && !r->args->resume)
    return cli_error(r->args, CLI_FAILED,
                     "'%s' holds a run saved at step %lld: --resume it, or save elsewhere", dir,
                     (long long)newest);
  if (newest > done)
    return cli_error(r->args, CLI_FAILED, "'%s' holds step %lld, later than %lld: save elsewhere",
                     dir, (long long)newest, (long long)done);
  l->saved_step = newest == done ? done : -1;
  return CLI_OK;
}

bool cli_interrupted(void) {
  sigset_t pending;
  sigpending(&pending);
  return sigismember(&pending, SIGINT) || sigismember(&pending, SIGTERM);
}

static int take_signals(Loop *l) {
  int status = CLI_OK;
  for (int s; !status && (s = take_signal());) {
    if (s != SIGUSR1) l->signal = s;
    if (s == SIGUSR1 && !l->run->args->save) cli_note(l->run->args, "SIGUSR1: no --save directory");
    else if (s == SIGUSR1) status = save(l);
  }
  return status;
}

/* ---- one step ---- */

static int64_t fill_batch(Loop *l) {
  CliRun *r = l->run;
  mp_cursor *c = &r->ctx->cursor;
  int64_t rows = r->train.rows - c->row, batch = r->train.entry->batch;
  if (rows > batch) rows = batch;
  if (l->order_epoch != c->epoch)
    l->order = mp_shuffle_new((uint64_t)r->train.rows, r->ctx->seed, (uint64_t)c->epoch);
  l->order_epoch = c->epoch;
  for (int64_t i = 0; i < rows; i++) {
    int64_t at = c->row + i; /* lanes are read as they run */
    if (!r->train.part.lanes) at = (int64_t)mp_shuffle_at(&l->order, (uint64_t)at);
    cli_feed_row(&r->train, at, i);
  }
  return rows;
}

/* With tail(drop) the rows behind the last full batch of an epoch are left out: others each time.
 */
static void move_cursor(const CliFeed *f, mp_cursor *c, int64_t rows) {
  c->row += rows;
  if (c->row < cli_feed_batches(f) * f->entry->batch && c->row < c->data_rows) return;
  c->row = 0;
  c->epoch++;
}

static int run_batch(Loop *l, int64_t rows, mp_result *result) {
  CliRun *r = l->run;
  mp_run run = {.struct_size = sizeof run, .rows = rows, .flags = MP_RUN_NEW_TOTAL};
  int status = cli_bind_feed(&r->train, r->api, r->ctx, rows);
  if (!status) status = r->api->run(r->ctx, r->train.index, &run, result);
  return status ? cli_ctx_error(r) : CLI_OK;
}

/* The first thing that the last step found not finite, by name; NULL: it does not say. */
static const mp_output_desc *first_not_finite(const CliRun *r) {
  const mp_entry_desc *e = r->train.entry;
  for (uint32_t i = 0; i < e->n_outputs; i++) {
    mp_view v;
    if (e->outputs[i].role != MP_OUT_FINITE || r->api->output(r->ctx, r->train.index, i, &v))
      continue;
    if (!*(const uint8_t *)v.data) return &e->outputs[i];
  }
  return NULL;
}

/* In f32, where the program has that. */
static int replay_skip(Loop *l) {
  const CliRun *r = l->run;
  l->last.replayed = l->last.origin.where && mp_find_entry(r->desc, MP_REPLAY) >= 0;
  l->last.replay.struct_size = sizeof l->last.replay;
  if (!l->last.replayed) return MP_OK;
  return r->api->replay(r->ctx, r->train.index, &l->last.replay);
}

/* What went wrong in the last step, which was skipped. */
static void describe_skip(const Loop *l, mp_text *t) {
  const mp_output_desc *o = first_not_finite(l->run);
  if (l->last.origin.where) mp_origin_text(&l->last.origin, t);
  else
    mp_text_add(t, "%s is not finite",
                !o         ? "loss or gradient"
                : o->where ? o->where
                           : o->tensor.name);
  if (l->last.replayed) mp_text_add(t, "; ");
  if (l->last.replayed) mp_replay_text(&l->last.origin, &l->last.replay, t);
}

static int64_t skipped_so_far(const CliRun *r) {
  return cli_steps_done(r) - mp_counter(r->ctx, "step");
}

/* How many there were in a row the state knows, over stops and resumes: a batch without weight,
 * which is nobody's fault, neither adds to them nor ends them. */
static int count_skips(Loop *l, bool committed) {
  const CliRun *r = l->run;
  l->last.skipped = skipped_so_far(r);
  if (committed) return CLI_OK;
  l->last.origin.struct_size = sizeof l->last.origin;
  if (r->api->origin(r->ctx, r->train.index, &l->last.origin)) return cli_ctx_error(r);
  if (mp_counter(r->ctx, "skipped") < MAX_SKIPPED) return CLI_OK;
  if (replay_skip(l)) return cli_ctx_error(r);
  mp_text t = {0};
  describe_skip(l, &t);
  int status = cli_error(r->args, CLI_FAILED,
                         "%d steps in a row were skipped, the last at step %lld: %s; try a lower "
                         "learning rate, or look at the data",
                         MAX_SKIPPED, (long long)l->last.step, t.failed ? "" : t.at);
  mp_text_free(&t);
  return status;
}

static void report(Loop *l) {
  CliRun *r = l->run;
  cli_clear_meter(&r->of_step);
  cli_add_to_meter(&r->of_step, r->api, r->ctx);
  cli_add_to_meter(&r->window, r->api, r->ctx);
  cli_log_step(&r->progress, &l->last, &r->of_step);
  cli_show_step(&r->progress, &l->last, &r->window);
}

static int one_step(Loop *l) {
  CliRun *r = l->run;
  mp_result result = {.struct_size = sizeof result};
  int64_t rows = fill_batch(l), epoch = r->ctx->cursor.epoch;
  int status = run_batch(l, rows, &result);
  if (status) return status;
  move_cursor(&r->train, &r->ctx->cursor, rows);
  l->last = (CliStep){
      .step = cli_steps_done(r), .epoch = epoch, .rows = rows, .committed = result.committed};
  if (l->last.step == l->values_step) status = cli_write_values(r, l->last.step);
  if (!status) status = count_skips(l, result.committed);
  report(l);
  return status;
}

static int after_step(Loop *l) {
  const CliArgs *a = l->run->args;
  int64_t step = l->last.step;
  int status = CLI_OK;
  if (a->eval_every && step % a->eval_every == 0 && step < l->run->progress.total)
    status = cli_run_eval(l->run);
  if (!status && a->every && step % a->every == 0) status = save(l);
  return status ? status : take_signals(l);
}

/* ---- the run ---- */

static int decide_length(CliRun *r) {
  const CliArgs *a = r->args;
  const mp_desc *d = r->desc;
  mp_cursor *c = &r->ctx->cursor;
  uint64_t batches = (uint64_t)cli_feed_batches(&r->train), total;
  int64_t asked = a->steps, epochs = a->epochs, saved = c->total_steps;
  if (!asked && !epochs && !saved) asked = d->default_steps, epochs = d->default_epochs;
  if (!mp_mul((uint64_t)epochs, batches, &total) || total > INT64_MAX)
    return cli_error(a, CLI_USAGE, "--epochs %lld is too many", (long long)epochs);
  c->total_steps = asked ? asked : epochs ? (int64_t)total : saved;
  if (!c->total_steps) return cli_error(a, CLI_USAGE, "how long? give --steps or --epochs");
  if (saved && saved != c->total_steps)
    cli_note(a, "the run was of %lld steps and is now of %lld; schedules follow the new length",
             (long long)saved, (long long)c->total_steps);
  if (mp_find_hyper(r->ctx, "steps") < 0) return CLI_OK;
  return r->api->hyper(r->ctx, "steps", (double)c->total_steps) ? cli_ctx_error(r) : CLI_OK;
}

/* A place in one data set means nothing in another: there a new epoch begins. */
static void enter_data(CliRun *r) {
  mp_cursor *c = &r->ctx->cursor;
  if (c->data_rows && c->data_rows != r->train.rows) {
    cli_note(r->args, "the data has %lld rows, the saved run's had %lld: a new epoch begins",
             (long long)r->train.rows, (long long)c->data_rows);
    if (c->row) c->epoch++;
    c->row = 0;
  }
  c->data_rows = r->train.rows;
}

static int finish(Loop *l) {
  CliRun *r = l->run;
  int status = save(l);
  if (!status) status = cli_draw(r);
  if (!status && l->signal) return CLI_SIGNAL + l->signal;
  if (!status) cli_print_done(&r->progress, &l->last);
  if (!status) status = cli_run_eval(r);
  if (!status) status = take_signals(l);
  return !status && l->signal ? CLI_SIGNAL + l->signal : status;
}

static int loop(Loop *l) {
  CliRun *r = l->run;
  int64_t done = cli_steps_done(r), asked = r->args->values_step;
  l->values_step = !r->args->values ? -1 : asked ? asked : done + 1;
  l->last = (CliStep){.step = done, .skipped = skipped_so_far(r)};
  if (asked && (asked <= done || asked > r->ctx->cursor.total_steps))
    return cli_error(
        r->args, CLI_USAGE,
        "--values-step %lld is none of this run: %lld steps are done, it ends with %lld",
        (long long)asked, (long long)done, (long long)r->ctx->cursor.total_steps);
  int status = cli_open_progress(&r->progress, r->args, done, r->ctx->cursor.total_steps);
  r->progress.run = r->progress.events.run = r;
  if (status) return status;
  if (done >= r->progress.total)
    cli_note(r->args, "the run is complete (%lld steps): --steps N makes it longer",
             (long long)done);
  while (!status && !l->signal && cli_steps_done(r) < r->progress.total) {
    status = one_step(l);
    if (!status) status = after_step(l);
  }
  return status ? status : finish(l);
}

int cli_train(CliRun *r) {
  Loop l = {.run = r, .order_epoch = -1, .saved_step = -1};
  sigset_t ours = our_signals(), old;
  enter_data(r);
  int status = cli_check_values(r);
  if (!status) status = decide_length(r);
  if (!status) status = open_save_dir(&l);
  if (status) return status;
  pthread_sigmask(SIG_BLOCK, &ours, &old);
  status = loop(&l);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  return status;
}
