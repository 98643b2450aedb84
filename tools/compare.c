/* compare.c: `mpcc compare --precision=A,B model.mp -- ARGUMENTS`: the model in two precisions on
 * the same data in the same order from the same seed, and where the two part.
 *
 * Both programs are the ones that would be trained, built --with-values: each value of a step keeps
 * a place of its own, nothing else is changed.  One run of each gives the values of its first step
 * (or of --values-step), the loss of every step and the weights at the end. */
#include "tools/compare.h"

#include <stdlib.h>
#include <string.h>

typedef struct Side { /* one of the two programs and the files of its run */
  const char *word, *program, *log, *values, *save;
} Side;

static int fail(const char *what, const char *arg) {
  fprintf(stderr, "mpcc compare: %s%s%s\n", what, arg ? ": " : "", arg ? arg : "");
  return 2;
}

/* "bf16,f32", at the comma that stands in no brackets. */
static bool split_words(Arena *a, const char *text, Side *side) {
  int depth = 0;
  const char *comma = NULL;
  for (const char *at = text; *at; at++) {
    depth += (*at == '(') - (*at == ')');
    if (*at != ',' || depth) continue;
    if (comma) return false;
    comma = at;
  }
  if (!comma || comma == text || !comma[1]) return false;
  side[0].word = arena_text(a, text, (size_t)(comma - text));
  side[1].word = comma + 1;
  return true;
}

/* Names of files are the words, for the picture's legend; equal ones are told apart. */
static void name_files(Trials *t, Side *side, const char *name) {
  const char *dir = arena_printf(t->arena, "%s/%s", t->dir, name);
  side->log = arena_printf(t->arena, "%s/%s.jsonl", dir, side->word);
  side->values = arena_printf(t->arena, "%s/values.safetensors", dir);
  side->save = arena_printf(t->arena, "%s/saved", dir);
}

static int make_side(Trials *t, Side *side, const char *name) {
  Options o = t->o;
  o.precision = side->word;
  o.pass.keep_values = true;
  name_files(t, side, name);
  return trial_compile(t, &o, name, &side->program);
}

static int run_side(Trials *t, const Side *side, const Side *other) {
  const char *words[16];
  uint32_t n = 0;
  words[n++] = "--log", words[n++] = side->log;
  words[n++] = "--values", words[n++] = side->values;
  words[n++] = "--save", words[n++] = side->save;
  if (t->o.values_step) words[n++] = "--values-step", words[n++] = t->o.values_step;
  if (other && t->o.plot) {
    words[n++] = "--plot", words[n++] = t->o.plot;
    words[n++] = "--beside", words[n++] = other->log;
  }
  return trial_run(t, side->program, n, words);
}

/* The weights at the end; a run's newest checkpoint. */
static bool open_weights(Arena *a, const Side *side, mp_file *out) {
  char *path = mp_checkpoint_path(side->save, mp_checkpoint_newest(side->save));
  bool ok = path && tensors_open(out, arena_printf(a, "%s/%s", path, mp_part_files[MP_PART_MODEL]));
  free(path);
  return ok;
}

static bool open_all(Comparison *c, Trials *t, const Side *side, mp_file *values,
                     mp_file *weights) {
  bool ok = true;
  for (int i = 0; ok && i < SIDES; i++)
    ok = trial_read_log(t, side[i].log, &c->log[i]) && tensors_open(&values[i], side[i].values) &&
         open_weights(t->arena, &side[i], &weights[i]);
  return ok;
}

static bool all_same(const Comparison *c) {
  bool same = !c->alone[0] && !c->alone[1];
  for (uint32_t i = 0; i < c->pairs.len; i++)
    same = same && c->pairs.at[i].d.finite && c->pairs.at[i].d.most == 0;
  return same;
}

static int report(Trials *t, const Side *side) {
  Comparison c = {.arena = t->arena,
                  .model = program_name(t->arena, t->o.input),
                  .words = {side[0].word, side[1].word}};
  mp_file values[SIDES] = {0}, weights[SIDES] = {0};
  Text out = {.arena = t->arena};
  bool ok = open_all(&c, t, side, values, weights);
  if (ok) {
    compare_values(&c, &values[0], &values[1]);
    compare_weights(&c, &weights[0], &weights[1]);
    c.same = all_same(&c);
    if (t->o.json) compare_json(&c, &out);
    else compare_text(&c, &out);
    ok = output_write("-", out.at, out.len);
  }
  for (int i = 0; i < SIDES; i++) {
    mp_file_close(&values[i]);
    mp_file_close(&weights[i]);
  }
  return !ok;
}

static int compare(Trials *t) {
  static const char *const names[SIDES] = {"a", "b"};
  Side side[SIDES] = {0};
  int status = 0;
  if (!t->o.precision || !split_words(t->arena, t->o.precision, side))
    return fail("two precisions are wanted: --precision=bf16,f32", NULL);
  for (int i = 0; !status && i < SIDES; i++) status = make_side(t, &side[i], names[i]);
  for (int i = SIDES; !status && i-- > 0;) /* the first is drawn, beside the second */
    status = run_side(t, &side[i], i ? NULL : &side[1]);
  return status ? status : report(t, side);
}

int command_compare(int argc, char **argv, Arena *arena) {
  Trials t = {.arena = arena, .command = "compare"};
  int status = trials_begin(&t, argc, argv);
  if (t.dir) status = compare(&t);
  trials_end(&t);
  return status;
}
