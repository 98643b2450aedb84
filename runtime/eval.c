/* eval.c: one pass of the eval entry over --eval-data, or over what split holds out, in the order
 * of the file.
 *
 * The context adds sums and weights up, so the result is exact for the whole set, the short last
 * batch included.
 */
#include "runtime/cli.h"

int cli_open_eval(CliRun *r) {
  const CliArgs *a = r->args;
  bool given = a->eval_data.len > 0;
  CliData data = {.flag = given ? "--eval-data" : "--data",
                  .files = given ? &a->eval_data : &a->data,
                  .like = r->train.n ? &r->train : NULL,
                  .split = !given,
                  .held_out = !given};
  if (!given && r->desc->split == MP_SPLIT_NONE) return CLI_OK;
  int entry = mp_find_entry(r->desc, MP_EVAL);
  if (entry < 0) return cli_error(a, CLI_FAILED, "%s has no eval entry", r->desc->name);
  if (!cli_open_meter(&r->of_eval, r->desc, entry)) return cli_error(a, CLI_FAILED, "no memory");
  return cli_open_feed(&r->eval, a, &data, r->desc, entry);
}

static int eval_batch(CliRun *r, int64_t first, int64_t rows) {
  for (int64_t i = 0; i < rows; i++) cli_feed_row(&r->eval, first + i, i);
  mp_run run = {.struct_size = sizeof run, .rows = rows, .flags = first ? 0 : MP_RUN_NEW_TOTAL};
  int status = cli_bind_feed(&r->eval, r->api, r->ctx, rows);
  if (!status) status = r->api->run(r->ctx, r->eval.index, &run, NULL);
  return status ? cli_ctx_error(r) : CLI_OK;
}

int cli_run_eval(CliRun *r) {
  if (!r->eval.rows) return CLI_OK;
  int64_t batch = r->eval.entry->batch, all = cli_feed_batches(&r->eval) * batch;
  if (all > r->eval.rows) all = r->eval.rows;
  for (int64_t first = 0; first < all; first += batch) {
    if (cli_interrupted()) return CLI_OK; /* half a set says nothing */
    int status = eval_batch(r, first, all - first < batch ? all - first : batch);
    if (status) return status;
  }
  cli_clear_meter(&r->of_eval);
  cli_add_to_meter(&r->of_eval, r->api, r->ctx);
  cli_log_eval(&r->progress, cli_steps_done(r), all, &r->of_eval);
  cli_print_eval(&r->progress, all, &r->of_eval);
  return cli_draw(r);
}

/* Whatever stands first: the loss. */
int cli_draw(CliRun *r) {
  CliReading first;
  const char *name = mp_formula_of(r->desc, "loss") ? "loss" : NULL;
  if (!r->args->plot) return CLI_OK;
  if (!name && cli_meter_read(&r->of_step, 0, &first)) name = first.name;
  return name ? cli_plot(r->args, r->desc->name, name) : CLI_OK;
}
