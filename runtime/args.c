/* args.c: the command line of a training program, read by one table.
 *
 * A row says where its value goes, what kind it is and for which commands it makes sense; --help
 * prints the same rows.  A wrong flag ends with exit code 2 and the nearest known flag.
 */
#include "runtime/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef enum FlagKind { FLAG_COUNT, FLAG_TEXT, FLAG_SWITCH, FLAG_PAIR, FLAG_LIST } FlagKind;

typedef struct Flag {
  const char *name, *value;
  FlagKind kind;
  size_t at; /* in CliArgs */
  int commands;
  const char *help;
} Flag;

enum { CLI_ALL = CLI_TRAIN | CLI_EVAL | CLI_INFER };

#define AT(field) offsetof(CliArgs, field)

static const Flag flags[] = {
    {"--data", "[NAME=]FILE", FLAG_PAIR, AT(data), CLI_TRAIN | CLI_EVAL,
     "a source of the program, or every one that the file names"},
    {"--eval-data", "[NAME=]FILE", FLAG_PAIR, AT(eval_data), CLI_TRAIN | CLI_EVAL,
     "the same for eval; instead of the program's split"},
    {"--steps", "N", FLAG_COUNT, AT(steps), CLI_TRAIN, "length of the run in steps"},
    {"--epochs", "N", FLAG_COUNT, AT(epochs), CLI_TRAIN, "or in passes over the data"},
    {"--seed", "N", FLAG_COUNT, AT(seed), CLI_TRAIN, "of parameters, order and draws (default 0)"},
    {"--threads", "N", FLAG_COUNT, AT(threads), CLI_ALL, "default: all cores"},
    {"--cpu", "LEVEL", FLAG_TEXT, AT(cpu), CLI_ALL | CLI_SELFTEST,
     "of the code in here (see info), instead of the best for this CPU; the bits are the same"},
    {"--set", "NAME=VALUE", FLAG_PAIR, AT(set), CLI_TRAIN, "a hyperparameter, instead of its own"},
    {"--save", "DIR", FLAG_TEXT, AT(save), CLI_TRAIN, "save here at the end and on Ctrl-C"},
    {"--every", "N", FLAG_COUNT, AT(every), CLI_TRAIN, "and every N steps"},
    {"--keep", "K", FLAG_COUNT, AT(keep), CLI_TRAIN, "keep the last K checkpoints (default 3)"},
    {"--resume", "DIR", FLAG_TEXT, AT(resume), CLI_ALL,
     "go on from the newest checkpoint here, or from this one"},
    {"--resume-exact", NULL, FLAG_SWITCH, AT(resume_exact), CLI_ALL,
     "refuse to where the checkpoint was computed under another precision policy"},
    {"--load", "FILE", FLAG_TEXT, AT(load), CLI_ALL,
     "parameters from a safetensors file or a checkpoint"},
    {"--only", "GLOB", FLAG_TEXT, AT(only), CLI_ALL, "of --load: only these"},
    {"--map", "'FROM -> TO'", FLAG_LIST, AT(map), CLI_ALL,
     "of --load: the file's names; behind TO also: transpose"},
    {"--eval-every", "N", FLAG_COUNT, AT(eval_every), CLI_TRAIN,
     "evaluate every N steps, not only at the end"},
    {"--log", "FILE", FLAG_TEXT, AT(log), CLI_TRAIN, "one JSON object a step"},
    {"--plot", "FILE.svg", FLAG_TEXT, AT(plot), CLI_TRAIN, "a picture of the log"},
    {"--beside", "LOG", FLAG_TEXT, AT(beside), CLI_TRAIN,
     "of --plot: another run's log in it, too"},
    {"--watch", "GLOB", FLAG_TEXT, AT(watch), CLI_TRAIN,
     "of the values that the program was compiled to watch, only these"},
    {"--tensorboard", "DIR", FLAG_TEXT, AT(tensorboard), CLI_TRAIN, "event files for TensorBoard"},
    {"--values", "FILE.safetensors", FLAG_TEXT, AT(values), CLI_TRAIN,
     "what a step computed, in f32, unscaled; of a program built --with-values"},
    {"--values-step", "N", FLAG_COUNT, AT(values_step), CLI_TRAIN,
     "of step N, not of the first of the run"},
    {"--print-every", "N", FLAG_COUNT, AT(print_every), CLI_TRAIN,
     "a line every N steps (default: every 2 s)"},
    {"--input", "NAME=VALUE", FLAG_PAIR, AT(input), CLI_INFER,
     "a file, or a number where it is one"},
    {"--text", "NAME=TEXT", FLAG_PAIR, AT(text), CLI_INFER,
     "ints that are the bytes of TEXT, or of @FILE, continued by the result"},
    {"--tokens", "N", FLAG_COUNT, AT(tokens), CLI_INFER, "of --text: how many to write"},
    {"--draw", "N", FLAG_COUNT, AT(draw), CLI_INFER, "where random draws begin (default 0)"},
    {"--output", "[NAME=]FILE", FLAG_PAIR, AT(outputs), CLI_INFER,
     "results as FILE.npy or FILE.safetensors"},
    {"--quiet", NULL, FLAG_SWITCH, AT(quiet), CLI_ALL, "only results"},
    {"--help", NULL, FLAG_SWITCH, AT(help), CLI_ALL | CLI_INFO | CLI_SELFTEST, "this text"},
};

static const struct {
  const char *name;
  CliCommand command;
} commands[] = {{"train", CLI_TRAIN},
                {"eval", CLI_EVAL},
                {"infer", CLI_INFER},
                {"info", CLI_INFO},
                {"selftest", CLI_SELFTEST}};

static void complain(const CliArgs *a, const char *kind, const char *fmt, va_list args) {
  fprintf(stderr, "%s: %s: ", a->program, kind);
  vfprintf(stderr, fmt, args);
  fputc('\n', stderr);
}

int cli_error(const CliArgs *a, int status, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  complain(a, "error", fmt, args);
  va_end(args);
  return status;
}

void cli_note(const CliArgs *a, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  complain(a, "note", fmt, args);
  va_end(args);
}

void cli_print_flags(FILE *out, int wanted) {
  for (size_t i = 0; i < MP_LEN(flags); i++) {
    char left[40];
    snprintf(left, sizeof left, "%s %s", flags[i].name, flags[i].value ? flags[i].value : "");
    if (flags[i].commands & wanted) fprintf(out, "  %-26s %s\n", left, flags[i].help);
  }
}

/* ---- values ---- */

static int read_count(const CliArgs *a, const Flag *f, const char *text, int64_t *out) {
  char *end;
  errno = 0;
  long long n = strtoll(text, &end, 10);
  bool digits = *text >= '0' && *text <= '9' && !*end && !errno;
  bool zero_means = f->at == AT(seed) || f->at == AT(threads) || f->at == AT(draw);
  if (!digits || (n == 0 && !zero_means))
    return cli_error(a, CLI_USAGE, "%s needs a whole number%s, found '%s'", f->name,
                     zero_means ? "" : " of at least 1", text);
  *out = n;
  return CLI_OK;
}

static size_t name_length(const char *text) {
  return strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:");
}

/* A path may hold '=' too: only what looks like a name before it is one. */
static int read_pair(const CliArgs *a, const Flag *f, const char *text, CliPairs *out) {
  size_t n = name_length(text);
  bool named = n && text[n] == '=' && n < sizeof out->at->name;
  if (!named && f->value[0] == 'N')
    return cli_error(a, CLI_USAGE, "%s needs %s, found '%s'", f->name, f->value, text);
  out->at[out->len].name[0] = 0;
  if (named) snprintf(out->at[out->len].name, sizeof out->at->name, "%.*s", (int)n, text);
  out->at[out->len++].value = named ? text + n + 1 : text;
  return CLI_OK;
}

static int read_value(CliArgs *a, const Flag *f, const char *text) {
  void *at = (char *)a + f->at;
  switch (f->kind) {
  case FLAG_COUNT: return read_count(a, f, text, at);
  case FLAG_PAIR: return read_pair(a, f, text, at);
  case FLAG_LIST: ((CliPairs *)at)->at[((CliPairs *)at)->len++].value = text; return CLI_OK;
  case FLAG_TEXT: *(const char **)at = text; return CLI_OK;
  case FLAG_SWITCH: *(int *)at = 1; return CLI_OK;
  }
  return CLI_USAGE;
}

/* ---- flags ---- */

static int unknown_flag(const CliArgs *a, const char *name) {
  char hint[96];
  mp_near near = mp_near_to(name);
  for (size_t i = 0; i < MP_LEN(flags); i++) mp_near_try(&near, flags[i].name);
  return cli_error(a, CLI_USAGE, "unknown flag '%s'%s (--help lists them)", name,
                   mp_near_text(&near, hint, sizeof hint));
}

static const Flag *find_flag(const char *name) {
  for (size_t i = 0; i < MP_LEN(flags); i++)
    if (!strcmp(flags[i].name, name)) return &flags[i];
  return NULL;
}

/* One flag at argv[*i]; its value is behind '=' or the next argument. */
static int read_flag(CliArgs *a, int argc, char **argv, int *i) {
  char name[64];
  const char *arg = argv[*i], *value = strchr(arg, '=');
  snprintf(name, sizeof name, "%.*s", (int)(value ? value - arg : 63), arg);
  const Flag *f = find_flag(name);
  if (!f) return unknown_flag(a, name);
  if (!(f->commands & (int)a->command) && !a->help)
    return cli_error(a, CLI_USAGE, "%s does not go with this command", name);
  if (f->kind == FLAG_SWITCH)
    return value ? cli_error(a, CLI_USAGE, "%s takes no value", name) : read_value(a, f, NULL);
  if (!value && *i + 1 == argc) return cli_error(a, CLI_USAGE, "%s needs %s", name, f->value);
  return read_value(a, f, value ? value + 1 : argv[++*i]);
}

static int read_command(CliArgs *a, const char *name) {
  char hint[96];
  mp_near near = mp_near_to(name);
  for (size_t i = 0; i < MP_LEN(commands); i++) {
    mp_near_try(&near, commands[i].name);
    if (strcmp(commands[i].name, name)) continue;
    a->command = commands[i].command;
    return CLI_OK;
  }
  return cli_error(a, CLI_USAGE, "unknown command '%s'%s", name,
                   mp_near_text(&near, hint, sizeof hint));
}

static int check_together(const CliArgs *a) {
  if (a->steps && a->epochs) return cli_error(a, CLI_USAGE, "--steps or --epochs, not both");
  if (a->beside && !a->plot) return cli_error(a, CLI_USAGE, "--beside is of --plot FILE.svg");
  if (a->plot && !a->log) return cli_error(a, CLI_USAGE, "--plot draws the log: give --log FILE");
  if (a->values_step && !a->values)
    return cli_error(a, CLI_USAGE, "--values-step needs --values FILE.safetensors");
  if (a->every && !a->save) return cli_error(a, CLI_USAGE, "--every needs --save DIR");
  if ((a->only || a->map.len) && !a->load)
    return cli_error(a, CLI_USAGE, "--only and --map go with --load FILE");
  if (a->command == CLI_INFER && !a->entry)
    return cli_error(a, CLI_USAGE, "infer needs the name of a function (--help lists them)");
  if ((a->command == CLI_EVAL || a->command == CLI_INFER) && !a->resume && !a->load)
    return cli_error(a, CLI_USAGE, "%s needs --resume DIR or --load FILE",
                     a->command == CLI_EVAL ? "eval" : "infer");
  return CLI_OK;
}

#define LISTS(a)                                                                                   \
  { &(a)->data, &(a)->eval_data, &(a)->set, &(a)->map, &(a)->input, &(a)->text, &(a)->outputs }

static int alloc_pairs(CliArgs *a, int argc) {
  CliPairs *lists[] = LISTS(a);
  for (size_t i = 0; i < MP_LEN(lists); i++) {
    lists[i]->at = calloc((size_t)argc + 1, sizeof *lists[i]->at);
    if (!lists[i]->at) return cli_error(a, CLI_FAILED, "no memory");
  }
  return CLI_OK;
}

int cli_parse(CliArgs *a, int argc, char **argv) {
  *a = (CliArgs){.command = CLI_TRAIN, .keep = 3, .seed = -1};
  a->program = argc > 0 ? mp_path_base(argv[0]) : "train";
  int status = alloc_pairs(a, argc), i = 1;
  if (!status && i < argc && argv[i][0] != '-') status = read_command(a, argv[i++]);
  if (!status && a->command & (CLI_INFER | CLI_INFO) && i < argc && argv[i][0] != '-')
    a->entry = argv[i++];
  for (int k = i; k < argc; k++) a->help |= !strcmp(argv[k], "--help") || !strcmp(argv[k], "-h");
  if (a->help) return status;
  for (; i < argc && !status; i++)
    if (argv[i][0] == '-') status = read_flag(a, argc, argv, &i);
    else status = cli_error(a, CLI_USAGE, "unexpected '%s': data is given as --data FILE", argv[i]);
  return status ? status : check_together(a);
}

void cli_free_args(CliArgs *a) {
  CliPairs *lists[] = LISTS(a);
  for (size_t i = 0; i < MP_LEN(lists); i++) free(lists[i]->at);
}
