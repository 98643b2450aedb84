/* restore.c: the state that a run starts from.
 *
 * Fresh parameters from the seed, then what the program's own `load` names, then --load; or, with
 * --resume, a checkpoint whole.  What checkpoints do not hold (`save(false)`) is loaded first then
 * too, and must have the checksum that was saved.
 */
#include "runtime/cli.h"

#include <stdlib.h>
#include <string.h>

/* ---- --map 'FROM -> TO transpose' ---- */

static char *trim(char *text) {
  size_t n = strlen(text);
  while (n && text[n - 1] == ' ') text[--n] = 0;
  return text + strspn(text, " ");
}

/* Cuts " transpose" off. */
static bool take_transpose(char *to) {
  char *word = strrchr(to, ' ');
  if (!word || strcmp(word, " transpose")) return false;
  *word = 0;
  return true;
}

/* mp_load's pair, "to" and "from"; `copy` is malloc'ed and holds both. */
static int read_map(const CliArgs *a, const char *text, const char **pair, char **copy) {
  size_t room = strlen(text) + sizeof " transpose";
  const char *arrow = strstr(text, "->");
  char *halves = *copy = calloc(2, room);
  if (!halves) return cli_error(a, CLI_FAILED, "no memory");
  if (!arrow) return cli_error(a, CLI_USAGE, "--map needs 'FROM -> TO', found '%s'", text);
  char *from = trim(memcpy(halves, text, (size_t)(arrow - text)));
  char *to = trim(strcpy(halves + room, arrow + 2));
  bool transpose = take_transpose(to);
  pair[0] = to = trim(to);
  pair[1] = from;
  if (!*to || !*from || strchr(to, ' ') || strchr(from, ' '))
    return cli_error(a, CLI_USAGE, "--map needs 'FROM -> TO' or 'FROM -> TO transpose', found '%s'",
                     text);
  if (transpose) strcat(from, " transpose");
  return CLI_OK;
}

static int load_asked(CliRun *r) {
  const CliArgs *a = r->args;
  uint32_t n = a->map.len;
  const char **map = calloc(2 * (size_t)n + 1, sizeof *map);
  char **copies = calloc((size_t)n + 1, sizeof *copies);
  int status = map && copies ? CLI_OK : cli_error(a, CLI_FAILED, "no memory");
  for (uint32_t i = 0; i < n && !status; i++)
    status = read_map(a, a->map.at[i].value, map + (size_t)2 * i, &copies[i]);
  mp_load how = {.struct_size = sizeof how, .glob = a->only, .map = n ? map : NULL};
  if (!how.glob && !how.map) how.glob = "**";
  if (!status && r->api->load(r->ctx, a->load, &how)) status = cli_ctx_error(r);
  for (uint32_t i = 0; copies && i < n; i++) free(copies[i]);
  free(copies);
  free(map);
  return status;
}

/* ---- the program's own ---- */

static int load_of_program(CliRun *r) {
  for (uint32_t i = 0; i < r->desc->n_loads; i++) {
    const mp_load_desc *l = &r->desc->loads[i];
    mp_load how = {.struct_size = sizeof how, .glob = l->glob, .map = l->map};
    if (r->api->load(r->ctx, l->from, &how)) return cli_ctx_error(r);
  }
  return CLI_OK;
}

static bool has_unsaved(const mp_desc *d) {
  bool unsaved = false;
  for (uint32_t i = 0; i < d->n_states; i++) unsaved |= d->states[i].flags & MP_STATE_UNSAVED;
  return unsaved;
}

static int resume(CliRun *r) {
  const CliArgs *a = r->args;
  if (r->api->load(r->ctx, a->resume, NULL)) return cli_ctx_error(r);
  if (a->resume_exact && r->ctx->other_policy)
    return cli_error(a, CLI_FAILED, "--resume-exact: %s was computed under another precision policy",
                     a->resume);
  if (a->seed >= 0 && (uint64_t)a->seed != r->ctx->seed)
    cli_note(a, "--seed %lld does nothing: the run goes on with its own, %llu", (long long)a->seed,
             (unsigned long long)r->ctx->seed);
  return CLI_OK;
}

int cli_restore(CliRun *r) {
  const CliArgs *a = r->args;
  bool fresh = !a->resume || has_unsaved(r->desc);
  int status = CLI_OK;
  if (fresh && r->api->init(r->ctx, a->seed < 0 ? 0 : (uint64_t)a->seed)) status = cli_ctx_error(r);
  if (!status && fresh) status = load_of_program(r);
  if (!status && a->load) status = load_asked(r);
  return status || !a->resume ? status : resume(r);
}

/* ---- hyperparameters ---- */

static int set_hyper(CliRun *r, const char *name, const char *text) {
  char *end;
  double value = strtod(text, &end);
  if (!strcmp(name, "steps"))
    return cli_error(r->args, CLI_USAGE, "--set steps: the run's length is --steps N");
  if (!*text || *end)
    return cli_error(r->args, CLI_USAGE, "--set %s: '%s' is not a number", name, text);
  return r->api->hyper(r->ctx, name, value)
             ? cli_error(r->args, CLI_USAGE, "%s", r->api->error(r->ctx))
             : CLI_OK;
}

int cli_set_hypers(CliRun *r) {
  const CliPairs *set = &r->args->set;
  int status = CLI_OK;
  for (uint32_t i = 0; i < set->len && !status; i++)
    status = set_hyper(r, set->at[i].name, set->at[i].value);
  return status;
}
