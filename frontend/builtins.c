/* builtins.c: the functions of the language that are not written in it: one table of tables, each
 * in the file of its kind (builtin_math.c, builtin_shape.c, …).
 *
 * Arguments are counted and named ones known before a row's function is called, so that all
 * builtins say the same of the same mistake.  Names that are in no table but belong to the language
 * (types, `training`, initializers where no initializer is wanted) are bound here too, so that a
 * message can say what they are. */
#include "frontend/builtin.h"

#include <math.h>
#include <string.h>

/* ---- arguments ------------------------------------------------------------------------------- */

uint32_t call_positional(const Call *c) {
  uint32_t n = 0;
  while (n < c->n && !c->arg[n].name) n++;
  return n;
}

static bool has_word(const char *words, const char *word) {
  size_t n = strlen(word);
  for (const char *at = words; (at = strstr(at, word)); at += n)
    if ((at == words || at[-1] == ' ') && (!at[n] || at[n] == ' ')) return true;
  return false;
}

static size_t split_words(Sema *s, const char *words, const char **names) {
  size_t n = 0;
  while (words && *words && n < MAX_NAMED) {
    size_t len = strcspn(words, " ");
    names[n++] = arena_text(s->arena, words, len);
    words += len + (words[len] == ' ');
  }
  return n;
}

static bool check_named(Sema *s, const Builtin *b, const Call *c, const Arg *a) {
  const char *names[MAX_NAMED];
  size_t n = split_words(s, b->named, names);
  if (!b->names_own && (!b->named || !has_word(b->named, a->name)))
    diag_error(s->diag, a->loc, "%s has no argument `%s`%s", b->name, a->name,
               sema_near(s, a->name, names, n));
  else if (call_named(c, a->name) != a)
    diag_error(s->diag, a->loc, "%s: `%s` is given twice", b->name, a->name);
  else return true;
  return false;
}

static bool check_args(Sema *s, const Builtin *b, const Call *c) {
  uint32_t n = call_positional(c);
  if (n < b->least || n > b->most) {
    Text takes = {.arena = s->arena};
    if (b->least < b->most) text_printf(&takes, "%u to ", (unsigned)b->least);
    text_printf(&takes, "%u argument%s", (unsigned)b->most, b->most == 1 ? "" : "s");
    diag_error(s->diag, c->whole, "%s takes %s, not %u", b->name, takes.at, (unsigned)n);
    return false;
  }
  if (c->dims && !b->takes_dims) {
    diag_error(s->diag, c->dims->loc, "%s takes no dims", b->name);
    return false;
  }
  for (uint32_t i = n; i < c->n; i++)
    if (!check_named(s, b, c, &c->arg[i])) return false;
  return true;
}

ValueId float_arg(Sema *s, const Builtin *b, const Arg *a) {
  ValueId v = tensor_of(s, a->val, a->loc);
  if (v == NO_ID || value_is_float(s->g, v)) return v;
  diag_error(s->diag, a->loc, "%s of %s: floats are wanted, write f32(x)", b->name,
             val_describe(s, a->val));
  return NO_ID;
}

bool floats_unify(Sema *s, const Builtin *b, const Call *c, uint32_t n, ValueId *v) {
  Val of[MAX_NAMED];
  for (uint32_t i = 0; i < n; i++) of[i] = c->arg[i].val;
  if (!tensor_unify(s, n, of, v, c->loc, b->name)) return false;
  if (value_is_float(s->g, v[0])) return true;
  diag_error(s->diag, c->loc, "%s of %s: floats are wanted, write f32(x)", b->name,
             val_describe(s, val_tensor(v[0])));
  return false;
}

/* ---- the tables ------------------------------------------------------------------------------ */

static const BuiltinTable *const tables[] = {
    &builtin_math, &builtin_shape,  &builtin_fill,    &builtin_reduce,    &builtin_prefix,
    &builtin_loss, &builtin_random, &builtin_augment, &builtin_attention, &builtin_list,
    &builtin_loop, &builtin_train,  &builtin_write,   &builtin_data};

Val builtin_call(Sema *s, const Builtin *b, const Call *c) {
  if (!check_args(s, b, c)) return val_bad();
  s->b.loc = c->loc;
  return b->call(s, b, c);
}

/* Names of the language that a later version gives a meaning. */
static const char *const later[] = {"avg_pool", "copy", "gradient", "upsample"};

/* Names that mean something only where they are asked for by name. */
static const struct {
  const char *name, *where;
} elsewhere[] = {
    {"category", "an element type"},      {"hyper", "a kind of parameter"},
    {"normal", "an initializer"},         {"uniform", "an initializer"},
    {"he_normal", "an initializer"},      {"he_uniform", "an initializer"},
    {"xavier_uniform", "an initializer"}, {"orthogonal", "an initializer"},
};

static const char *name_of(Sema *s, const char *text) {
  return intern(s->strings, text, strlen(text));
}

static void bind_later(Sema *s, Scope *sc, const char *name, const char *what) {
  scope_set(s, sc, name_of(s, name), (Val){.kind = VAL_LATER, .s = what}, (Loc){0});
}

static void bind_builtin(Sema *s, Scope *sc, const Builtin *b) {
  scope_set(s, sc, name_of(s, b->name), (Val){.kind = VAL_BUILTIN, .builtin = b}, (Loc){0});
}

void builtins_bind(Sema *s, Scope *sc) {
  for (int i = 0; i < DT_COUNT; i++) {
    Val v = {.kind = VAL_DTYPE, .dtype = (DType)i};
    scope_set(s, sc, name_of(s, dtype_name[i]), v, (Loc){0});
  }
  for (size_t i = 0; i < sizeof later / sizeof *later; i++)
    bind_later(s, sc, later[i], arena_printf(s->arena, "`%s`", later[i]));
  for (size_t i = 0; i < sizeof elsewhere / sizeof *elsewhere; i++)
    bind_later(
        s, sc, elsewhere[i].name,
        arena_printf(s->arena, "%s as a value, `%s`", elsewhere[i].where, elsewhere[i].name));
  static const char *const phases[] = {[PHASE_training] = "training", [PHASE_fitting] = "fitting"};
  for (int i = 0; i < 2; i++)
    scope_set(s, sc, name_of(s, phases[i]), (Val){.kind = VAL_PHASE, .i = i}, (Loc){0});
  scope_set(s, sc, name_of(s, "inf"), val_float(INFINITY), (Loc){0});
  scope_set(s, sc, name_of(s, "core"), (Val){.kind = VAL_FILE, .scope = sc}, (Loc){0});
  for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
    for (uint32_t k = 0; k < tables[i]->n; k++) bind_builtin(s, sc, &tables[i]->at[k]);
}
