/* policy.c: the precision policy of a checkpoint beside the program's own.
 *
 * State that fits is state, whatever types it was computed in; the run goes on, but the bits will
 * be others.  So the difference is said, line by line, off the two manifests, which hold
 *
 *     master sr                                          settings of the whole
 *     slot PATH: e4m3, scale in …                        what fp8 scales, and how
 *     ENTRY PATH OP#N: load …, math …, store …: why      an op
 *
 * What stands in front of the first ": " names it, what comes up to the next is compared: an op with
 * another reason only is not worth a line. */
#include "runtime/rt.h"

#include <string.h>

enum { SHOWN = 12 };

typedef struct Line {
  const char *at;
  size_t key, triple, end; /* lengths: up to the name's end, the triple's, the line's */
} Line;

/* Length of the text up to the first ": " from `from` on, at most n. */
static size_t up_to_colon(const char *at, size_t from, size_t n) {
  for (size_t i = from; i + 1 < n; i++)
    if (at[i] == ':' && at[i + 1] == ' ') return i;
  return n;
}

/* The line at *text, which moves behind it; false: there is none. */
static bool next_line(const char **text, Line *out) {
  const char *at = *text;
  if (!*at) return false;
  size_t n = strcspn(at, "\n"), key = up_to_colon(at, 0, n);
  *out = (Line){at, key, up_to_colon(at, key + 2 < n ? key + 2 : n, n), n};
  *text = at + n + (at[n] == '\n');
  return true;
}

static bool find_line(const char *text, const Line *of, Line *out) {
  while (next_line(&text, out))
    if (out->key == of->key && !memcmp(out->at, of->at, of->key)) return true;
  return false;
}

static bool same_triple(const Line *x, const Line *y) {
  return x->triple == y->triple && !memcmp(x->at, y->at, x->triple);
}

static int triple_length(const Line *l) {
  return l->triple > l->key + 2 ? (int)(l->triple - l->key - 2) : 0;
}

typedef enum LineKind { LINE_SETTING, LINE_SLOT, LINE_OP, LINE_KINDS } LineKind;

static LineKind kind_of(const Line *l) {
  if (!triple_length(l)) return LINE_SETTING;
  return l->triple < l->end ? LINE_OP : LINE_SLOT; /* a slot has no reason */
}

/* Lines of `from` that `in` has otherwise, or, of those the other way round, not at all; differing:
 * how many of each kind there are. */
static void note_lines(const mp_ctx *ctx, const char *from, const char *in, bool ours,
                       int *differing) {
  Line l, other;
  while (next_line(&from, &l)) {
    bool found = find_line(in, &l, &other);
    if (found && (ours || same_triple(&l, &other))) continue;
    if (differing[kind_of(&l)]++ >= SHOWN) continue;
    int n = triple_length(&l), name = (int)l.key + (n ? 2 + n : 0); /* "NAME: TRIPLE" or "NAME" */
    if (found)
      mp_note(ctx, "note:   %.*s; here %.*s", name, l.at, triple_length(&other),
              other.at + other.key + 2);
    else mp_note(ctx, "note:   %.*s; %s", name, l.at, ours ? "here alone" : "not here");
  }
}

void mp_note_policy(mp_ctx *ctx, const mp_st *st, const char *where) {
  const char *policy = mp_st_note_of(st, "policy"), *word = mp_st_note_of(st, "precision");
  const char *manifest = mp_st_note_of(st, "manifest");
  const mp_desc *own = ctx->model->desc;
  if (!policy || !own->policy || !strcmp(policy, own->policy)) return;
  ctx->other_policy = true;
  mp_note(ctx, "note: %s was computed under another precision policy: %s %s, here %s %s", where,
          word ? word : "", policy, own->precision, own->policy);
  if (!manifest || !own->manifest) return;
  static const char *const kind_name[LINE_KINDS] = {"settings", "slots", "ops"};
  int differing[LINE_KINDS] = {0}, all = 0;
  note_lines(ctx, manifest, own->manifest, false, differing);
  note_lines(ctx, own->manifest, manifest, true, differing);
  for (int i = 0; i < LINE_KINDS; all += differing[i++])
    if (differing[i] > SHOWN)
      mp_note(ctx, "note:   and %d %s more: mpcc --precision-manifest writes all",
              differing[i] - SHOWN, kind_name[i]);
  if (!all) mp_note(ctx, "note:   no op computes in other types, only for other reasons");
}
