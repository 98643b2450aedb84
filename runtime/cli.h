/* cli.h: the program around a model: what the files of libmpcc_cli.a share.
 *
 * Only this library prints.  It drives the model through its mp_api like any host would; from rt.h
 * it takes data sets, shuffling, paths, and the context's cursor (the loader's place, saved with
 * the state).
 */
#ifndef RUNTIME_CLI_H
#define RUNTIME_CLI_H

#include <stdio.h>

#include "runtime/data.h"

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_SIGNAL = 128 /* + its number */ };

typedef struct CliRun CliRun;

/* ---- args.c: the command line -------------------------------------------------------------- */

typedef enum CliCommand {
  CLI_TRAIN = 1,
  CLI_EVAL = 2,
  CLI_INFO = 4,
  CLI_INFER = 8,
  CLI_SELFTEST = 16
} CliCommand;

typedef struct CliPairs { /* NAME=VALUE, …; the name is empty where none was given */
  struct {
    char name[64];
    const char *value;
  } * at;
  uint32_t len;
} CliPairs;

typedef struct CliArgs {
  const char *program;
  CliCommand command;
  CliPairs data, eval_data, set, map;                    /* those of map have no names */
  CliPairs input, text, outputs;                         /* of infer */
  int64_t steps, epochs, every, eval_every, print_every; /* 0: not given */
  int64_t keep, threads, seed;                           /* seed -1: not given */
  int64_t tokens, draw;                                  /* of infer */
  int64_t values_step;
  const char *save, *resume, *load, *only, *watch, *log, *plot, *beside, *tensorboard, *values;
  const char *cpu;
  const char *entry; /* of infer; of info the checkpoint */
  int quiet, resume_exact, help;
} CliArgs;

int cli_parse(CliArgs *a, int argc, char **argv); /* says itself what is wrong */
void cli_free_args(CliArgs *a);
void cli_print_flags(FILE *out, int commands);

/* To stderr, "train: error: …"; returns status. */
int cli_error(const CliArgs *a, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void cli_note(const CliArgs *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- help.c: the model's own tables as text ------------------------------------------------ */

void cli_print_help(const CliArgs *a, const mp_desc *d);
void cli_print_info(const mp_model *m);

/* ---- feed.c: data files as batches of an entry --------------------------------------------- */

typedef enum CliInputKind { CLI_SOURCE, CLI_FRESH } CliInputKind;

typedef struct CliInput {
  CliInputKind kind; /* FRESH: NAME.fresh of lanes, which the feed itself knows */
  mp_source_desc desc;
  mp_source source;
  uint8_t *batch; /* of `batch` rows */
} CliInput;

typedef struct CliFeed {
  const mp_entry_desc *entry;
  uint32_t index;             /* of the entry */
  const struct CliFeed *like; /* of the training data; NULL: this is it */
  CliInput *inputs;           /* of the entry */
  uint32_t n;
  mp_file *files;
  uint32_t n_files;
  mp_part part;
  int64_t rows; /* of the part */
} CliFeed;

typedef struct CliData { /* where a feed comes from */
  const char *flag;
  const CliPairs *files;
  const CliFeed *like;
  bool split, held_out; /* only a part of it, and which */
} CliData;

int cli_open_feed(CliFeed *f, const CliArgs *a, const CliData *data, const mp_desc *d, int entry);
int64_t cli_feed_batches(const CliFeed *f);                          /* of one pass */
void cli_feed_row(const CliFeed *f, int64_t position, int64_t slot); /* of the part */
int cli_bind_feed(const CliFeed *f, const mp_api *api, mp_ctx *ctx, int64_t rows);
void cli_close_feed(CliFeed *f);

/* ---- meter.c: sums of metrics, lines about them -------------------------------------------- */

typedef struct CliMeter { /* sum and weight of each output of an entry; of the others the last */
  const mp_desc *desc;
  const mp_entry_desc *entry;
  uint32_t index;
  double *sums;
} CliMeter;

/* One of what is measured: losses and metrics, then formulas, then hyperparameters and gauges. */
typedef struct CliReading {
  const char *name;
  double value; /* NaN where nothing was counted */
  bool last;    /* of the last step, not a mean */
} CliReading;

bool cli_meter_read(const CliMeter *m, uint32_t i, CliReading *out); /* the i-th; false: no more */

bool cli_open_meter(CliMeter *m, const mp_desc *d, int entry);
void cli_clear_meter(CliMeter *m);
void cli_add_to_meter(CliMeter *m, const mp_api *api, mp_ctx *ctx); /* the totals of the context */
void cli_meter_text(const CliMeter *m, mp_text *t);                 /* "  loss 0.4  accuracy 0.9" */
void cli_meter_json(const CliMeter *m, mp_text *t);                 /* ",\"loss\":0.4,…" */
void cli_close_meter(CliMeter *m);

/* ---- watch.c: what a program was compiled to --watch --------------------------------------- */

typedef struct CliWatch {
  const mp_entry_desc *entry;
  uint32_t index;  /* of the entry */
  uint32_t *first; /* of each value, the first of its outputs */
  uint32_t n;
} CliWatch;

enum { CLI_WATCHED = 4 };
extern const char *const cli_watched[CLI_WATCHED]; /* max, rms, flushed, saturated */
typedef struct CliWatched {
  char name[256];
  double value[CLI_WATCHED];
} CliWatched;

int cli_open_watch(CliWatch *w, const CliArgs *a, const mp_desc *d, int entry);
void cli_read_watch(const CliWatch *w, const CliRun *r, uint32_t i, CliWatched *out);
void cli_watch_json(const CliWatch *w, const CliRun *r, mp_text *t); /* ",\"watch\":{…}" */
void cli_watch_text(const CliWatch *w, const CliRun *r, mp_text *t); /* a line each */
void cli_close_watch(CliWatch *w);

/* ---- events.c, plot.c ---------------------------------------------------------------------- */

typedef struct CliEvents {
  const CliArgs *args;
  const CliRun *run; /* whose watched values go in, too; NULL: none */
  FILE *file;        /* NULL: none are written */
  double flushed;
} CliEvents;

uint32_t cli_crc32c(const void *bytes, size_t n);
int cli_open_events(CliEvents *e, const CliArgs *a);
void cli_write_events(CliEvents *e, const char *group, int64_t step, const CliMeter *m);
int cli_close_events(CliEvents *e);
int cli_plot(const CliArgs *a, const char *model, const char *name); /* of the log */

/* ---- progress.c: where the run stands ------------------------------------------------------ */

typedef struct CliProgress {
  const CliArgs *args;
  const CliRun *run; /* whose watched values are shown; NULL: none */
  FILE *log;
  CliEvents events;
  bool terminal;
  double start, shown; /* seconds */
  int64_t total, first_step, rows, shown_rows;
} CliProgress;

typedef struct CliStep {
  int64_t step, epoch, rows, skipped; /* skipped: so far */
  bool committed;
  mp_origin origin; /* of one that did not commit: what was first not finite */
  mp_origin replay; /* of the last before the run gives up: in f32, if the program has that */
  bool replayed;
} CliStep;

double cli_seconds(void);
int cli_open_progress(CliProgress *p, const CliArgs *a, int64_t first_step, int64_t total);
void cli_log_step(CliProgress *p, const CliStep *s, const CliMeter *of_step);
void cli_show_step(CliProgress *p, const CliStep *s,
                   CliMeter *window); /* empties it if it prints */
void cli_log_eval(CliProgress *p, int64_t step, int64_t rows, const CliMeter *m);
void cli_print_eval(const CliProgress *p, int64_t rows, const CliMeter *m);
void cli_print_done(const CliProgress *p, const CliStep *last);
int cli_close_progress(CliProgress *p);

/* ---- output.c, infer.c --------------------------------------------------------------------- */

int cli_write_file(const CliArgs *a, const char *path, mp_fill_fn *fill, void *user); /* or not */
int cli_write_tensors(const CliArgs *a, const char *path, const mp_st_item *items, uint32_t n);
void cli_print_tensor(const mp_tensor *t, const void *data);
int64_t cli_int_at(int32_t dtype, const void *data, uint64_t i); /* of ints */
int cli_infer(CliRun *r);

/* ---- values.c: --values -------------------------------------------------------------------- */

int cli_check_values(const CliRun *r);               /* the program can say them */
int cli_write_values(const CliRun *r, int64_t step); /* of the step that has just run */

/* ---- inspect.c, selftest.c ----------------------------------------------------------------- */

int cli_inspect(const CliArgs *a);
int cli_selftest(CliRun *r);

/* ---- train.c, eval.c, restore.c, cli.c
 * ---------------------------------------------------------------- */

struct CliRun {
  const CliArgs *args;
  const mp_desc *desc;
  const mp_api *api;
  mp_ctx *ctx;
  CliFeed train, eval;
  CliMeter of_step, window, of_eval;
  CliWatch watch;
  CliProgress progress;
};

int cli_ctx_error(const CliRun *r);      /* says what the context says; returns CLI_FAILED */
int64_t cli_steps_done(const CliRun *r); /* attempted, skipped ones too */
int cli_open_ctx(CliRun *r);
int cli_restore(CliRun *r);    /* the state that the run starts from */
int cli_set_hypers(CliRun *r); /* --set */
int cli_open_eval(CliRun *r);  /* nothing to do without --eval-data or a split */
int cli_run_eval(CliRun *r);   /* the same; prints and logs the means */
bool cli_interrupted(void);    /* a blocked signal that ends the run has come */
int cli_draw(CliRun *r);       /* --plot, from the log so far */
int cli_train(CliRun *r);

#endif
