/* cli.c: `main` of a training program: opens data and model, restores or starts, runs a command.
 *
 * Data is opened before the context: a file that does not fit is refused before memory is spent.
 */
#include "runtime/cli.h"

#include <stdlib.h>
#include <string.h>

int cli_ctx_error(const CliRun *r) {
  return cli_error(r->args, CLI_FAILED, "%s", r->api->error(r->ctx));
}

static void print_note(void *user, const char *line) {
  fprintf(stderr, "%s: %s\n", ((const CliArgs *)user)->program, line);
}

/* ---- opening ---- */

int cli_open_ctx(CliRun *r) {
  mp_error err;
  mp_options o = {.struct_size = sizeof o,
                  .threads = r->args->threads > 1024 ? -1 : (int)r->args->threads,
                  .log = print_note,
                  .user = (void *)r->args,
                  .cpu = r->args->cpu};
  return r->api->create(&o, &r->ctx, &err) ? cli_error(r->args, CLI_FAILED, "%s", err.text)
                                           : CLI_OK;
}

static int cli_open_train(CliRun *r) {
  const CliArgs *a = r->args;
  CliData data = {.flag = "--data", .files = &a->data, .split = !a->eval_data.len};
  int entry = -1;
  for (uint32_t i = 0; i < r->desc->n_entries; i++) {
    if (r->desc->entries[i].kind != MP_STEP) continue;
    if (entry >= 0)
      return cli_error(r->args, CLI_FAILED, "%s has several steps: drive them from C",
                       r->desc->name);
    entry = (int)i;
  }
  if (entry < 0) return cli_error(r->args, CLI_FAILED, "%s has no training step", r->desc->name);
  if (!cli_open_meter(&r->of_step, r->desc, entry) || !cli_open_meter(&r->window, r->desc, entry))
    return cli_error(r->args, CLI_FAILED, "no memory");
  int status = cli_open_watch(&r->watch, a, r->desc, entry);
  return status ? status : cli_open_feed(&r->train, a, &data, r->desc, entry);
}

static void close_run(CliRun *r) {
  cli_close_feed(&r->train);
  cli_close_feed(&r->eval);
  cli_close_meter(&r->of_step);
  cli_close_meter(&r->window);
  cli_close_meter(&r->of_eval);
  cli_close_watch(&r->watch);
  if (r->ctx) r->api->destroy(r->ctx);
}

/* ---- commands ---- */

static int command_train(CliRun *r) {
  int status = cli_open_train(r);
  if (!status) status = cli_open_eval(r);
  if (!status && r->args->eval_every && !r->eval.rows)
    status = cli_error(r->args, CLI_USAGE, "--eval-every needs --eval-data: %s has no split",
                       r->desc->name);
  if (!status) status = cli_open_ctx(r);
  if (!status) status = cli_restore(r);
  if (!status) status = cli_set_hypers(r);
  return status ? status : cli_train(r);
}

/* With --data the names of categories are those of the training data. */
static int command_eval(CliRun *r) {
  int status = r->args->data.len ? cli_open_train(r) : CLI_OK;
  if (!status) status = cli_open_eval(r);
  if (!status && !r->eval.rows)
    status =
        cli_error(r->args, CLI_USAGE, "eval needs --eval-data: %s has no split", r->desc->name);
  if (!status) status = cli_open_ctx(r);
  if (!status) status = cli_restore(r);
  if (!status) status = cli_open_progress(&r->progress, r->args, 0, 0);
  return status ? status : cli_run_eval(r);
}

static int (*command_of(CliCommand c))(CliRun *) {
  return c == CLI_TRAIN   ? command_train
         : c == CLI_EVAL  ? command_eval
         : c == CLI_INFER ? cli_infer
                          : cli_selftest;
}

static int run_command(const CliArgs *a, const mp_model *model) {
  CliRun r = {.args = a, .desc = model->desc, .api = mp_get_api(model, MP_ABI)};
  int status = command_of(a->command)(&r);
  int closed = cli_close_progress(&r.progress);
  close_run(&r);
  return status ? status : closed;
}

int mp_cli(const mp_model *model, int argc, char **argv) {
  CliArgs a;
  int status = cli_parse(&a, argc, argv);
  if (!status && a.help) cli_print_help(&a, model->desc);
  else if (!status && a.command == CLI_INFO) {
    cli_print_info(model);
    if (a.entry) status = cli_inspect(&a);
  } else if (!status) status = run_command(&a, model);
  cli_free_args(&a);
  bool lost = fflush(stdout) || ferror(stdout); /* a full disk behind our output */
  return lost && !status ? CLI_FAILED : status;
}
