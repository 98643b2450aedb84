/* eval.c: one pass of the eval entry over --eval-data, in the order of the file.
 *
 * The context adds sums and weights up, so the result is exact for the whole set, the short last
 * batch included.
 */
#include "runtime/cli.h"

int cli_open_eval(CliRun *r) {
  if (!r->args->eval_data.len) return CLI_OK;
  int entry = mp_find_entry(r->desc, MP_EVAL);
  if (entry < 0) return cli_error(r->args, CLI_FAILED, "%s has no eval entry", r->desc->name);
  if (!cli_open_meter(&r->of_eval, r->desc, entry))
    return cli_error(r->args, CLI_FAILED, "no memory");
  return cli_open_feed(&r->eval, r->args, "--eval-data", &r->args->eval_data, r->desc, entry);
}

static int eval_batch(CliRun *r, int64_t first, int64_t rows) {
  for (int64_t i = 0; i < rows; i++) cli_feed_row(&r->eval, first + i, i);
  mp_run run = {.struct_size = sizeof run, .rows = rows, .flags = first ? 0 : MP_RUN_NEW_TOTAL};
  int status = cli_bind_feed(&r->eval, r->api, r->ctx, rows);
  if (!status) status = r->api->run(r->ctx, r->eval.index, &run, NULL);
  return status ? cli_ctx_error(r) : CLI_OK;
}

int cli_run_eval(CliRun *r) {
  int64_t all = r->eval.rows, batch = all ? r->eval.entry->batch : 0;
  for (int64_t first = 0; first < all; first += batch) {
    int status = eval_batch(r, first, all - first < batch ? all - first : batch);
    if (status) return status;
  }
  if (!all) return CLI_OK;
  cli_clear_meter(&r->of_eval);
  cli_add_to_meter(&r->of_eval, r->api, r->ctx);
  cli_log_eval(&r->progress, cli_steps_done(r), all, &r->of_eval);
  cli_print_eval(&r->progress, all, &r->of_eval);
  return CLI_OK;
}
