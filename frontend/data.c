/* data.c: what examples are: `data { images: u8[B, 28, 28]; x = f32(images) / 255 } split(last,
 * 0.1)`, read by the loader, or `input { … }`, fed by the host.
 *
 * A `name: type` is an input of train_step and of eval; the rest of the block is computed.  A
 * source as long as its file (`text: u8[_]`) is read through windows(text, T) or lanes(text, T)
 * alone, which make the input: T + 1 elements an example.
 */
#include "frontend/builtin.h"

#include <string.h>

/* ---- sources --------------------------------------------------------------------------------- */

static bool is_underscore(const Ast *a) { return a->kind == AST_NAME && !strcmp(a->name, "_"); }

static void wrong_source(Sema *s, const Ast *type) {
  diag_error(s->diag, ast_start(type),
             "a source is `name: u8[%s, …]`, its first axis the batch, or `name: u8[_]`",
             s->batch_name ? s->batch_name : "B");
}

/* The head of a source's type: an element type, or category(n). */
static bool source_head(Sema *s, Scope *sc, const Ast *head, DType *d, int64_t *category) {
  static const DType read[] = {DT_f32, DT_i32, DT_u32, DT_u16, DT_u8, DT_i1};
  const Ast *callee = head->kind == AST_CALL ? head->kid[CALL_CALLEE] : NULL;
  *category = 0;
  if (callee && callee->kind == AST_NAME && !strcmp(callee->name, "category")) {
    const Ast *args = head->kid[CALL_ARGS];
    *d = DT_i32;
    if (args->len == 1 && args->kid[0]->kind != AST_ARG)
      return eval_int(s, sc, args->kid[0], "the number of categories", category) &&
             (*category > 0 ||
              (diag_error(s->diag, ast_start(args->kid[0]), "a category has one value at least"),
               false));
    diag_error(s->diag, head->loc, "category(n) takes the number of categories");
    return false;
  }
  Val v = eval_expr(s, sc, head, false);
  if (v.kind == VAL_BAD) return false;
  if (v.kind != VAL_DTYPE) return wrong_source(s, head), false;
  *d = v.dtype;
  for (size_t i = 0; i < sizeof read / sizeof *read; i++)
    if (read[i] == *d) return true;
  diag_error(s->diag, ast_start(head), "a source of %s: f32, i32, u32, u16, u8 and i1 are read",
             dtype_name[*d]);
  return false;
}

/* Said once for all entries. */
static const DataSource *add_source(Sema *s, DataSource d) {
  for (uint32_t i = 0; i < s->g->sources.len; i++)
    if (s->g->sources.at[i].name == d.name) return &s->g->sources.at[i];
  vec_push(s->arena, &s->g->sources, d);
  return &s->g->sources.at[s->g->sources.len - 1];
}

static Val add_input(Sema *s, const char *name, Type t, Loc loc) {
  if (!s->full) t.rows = 0;
  return val_tensor(graph_add_entry_arg(s->g, s->entry, ARG_input, name, t, loc));
}

static Val source_value(Sema *s, Scope *sc, const Ast *key, const Ast *type, bool from_file) {
  const Ast *dims = type->kind == AST_INDEX ? type->kid[INDEX_AT] : NULL;
  const Ast *first = dims && dims->len ? dims->kid[0] : NULL;
  bool unknown = !s->batch_name && s->incomplete; /* `train` has no batch, which was said */
  DataSource d = {.name = key->name, .loc = key->loc};
  DType dtype;
  Type t;
  if (!source_head(s, sc, dims ? type->kid[INDEX_OF] : type, &dtype, &d.category) || unknown)
    return val_bad();
  if (first && is_underscore(first) && dims->len == 1 && from_file && !d.category) {
    DataSource *stream = NEW(s->arena, DataSource);
    *stream = d;
    stream->type = type_scalar(dtype);
    return (Val){.kind = VAL_STREAM, .stream = stream};
  }
  if (!first || first->kind != AST_NAME || first->name != s->batch_name)
    return wrong_source(s, type), val_bad();
  if (!shape_eval(s, sc, dims, dtype, &t)) return val_bad();
  d.type = type_make(dtype, t.rank - 1, t.dim + 1);
  if (from_file) add_source(s, d);
  Val v = add_input(s, key->name, t, key->loc);
  dims_declare(s, v.tensor, dims);
  return v;
}

static void source(Sema *s, Scope *sc, const Ast *field, bool from_file) {
  const Ast *key = field->kid[FIELD_KEY];
  modifiers_apply(s, sc, field->kid[FIELD_MODS], (ModifierRules){NULL, 0}, NULL);
  if (key->kind != AST_NAME) {
    diag_error(s->diag, key->loc, "a source's name is a word, not a string");
    return;
  }
  scope_bind(s, sc, key->name, source_value(s, sc, key, field->kid[FIELD_TYPE], from_file),
             key->loc);
}

/* ---- readers of one long row ----------------------------------------------------------------- */

/* Each example is T + 1 elements of the file. */
static ValueId read_stream(Sema *s, const Builtin *b, const Call *c, ReadKind kind) {
  const Val *of = &c->arg[0].val;
  int64_t length = c->arg[1].val.i;
  if (of->kind != VAL_STREAM || c->arg[1].val.kind != VAL_INT || length < 1) {
    diag_error(s->diag, c->whole,
               "%s(text, T) wants a source `text: u8[_]` and an int of at least 1", b->name);
    return NO_ID;
  }
  if (graph_entry_arg(s->g, s->entry, ARG_input, of->stream->name) != NO_ID) {
    diag_error(s->diag, c->whole, "`%s` is read twice: one windows() or lanes() is its reader",
               of->stream->name);
    return NO_ID;
  }
  DataSource d = *of->stream;
  d.kind = kind;
  d.length = length;
  add_source(s, d);
  Type t = type_make((DType)d.type.dtype, 2, (int64_t[]){s->batch, length + 1});
  return add_input(s, d.name, t, d.loc).tensor;
}

/* Elements from `first` on, one less than there are. */
static Val all_but_one(Sema *s, ValueId input, int64_t first) {
  Type t = value_type(s->g, input);
  t.dim[1]--;
  return val_tensor(build_slice(&s->b, input, t, (int64_t[]){0, first}, (int64_t[]){1, 1}));
}

/* tokens, targets = windows(text, T): the targets are the tokens one further. */
static Val call_windows(Sema *s, const Builtin *b, const Call *c) {
  ValueId v = read_stream(s, b, c, READ_windows);
  if (v == NO_ID) return val_bad();
  s->b.loc = c->loc;
  return val_list(s->arena, VAL_TUPLE, 2, (Val[]){all_but_one(s, v, 0), all_but_one(s, v, 1)});
}

/* tokens, targets, fresh = lanes(text, T): fresh is true where a row does not go on. */
static Val call_lanes(Sema *s, const Builtin *b, const Call *c) {
  ValueId v = read_stream(s, b, c, READ_lanes);
  if (v == NO_ID) return val_bad();
  const char *name = c->arg[0].val.stream->name;
  char *fresh = arena_printf(s->arena, "%s.fresh", name);
  Val third = add_input(s, intern(s->strings, fresh, strlen(fresh)), type_make(DT_i1, 1, &s->batch),
                        c->loc);
  s->b.loc = c->loc;
  return val_list(s->arena, VAL_TUPLE, 3,
                  (Val[]){all_but_one(s, v, 0), all_but_one(s, v, 1), third});
}

static const Builtin readers[] = {
    BUILTIN("windows", 2, 2, .call = call_windows),
    BUILTIN("lanes", 2, 2, .call = call_lanes),
};

const BuiltinTable builtin_data = BUILTIN_TABLE(readers);

/* ---- the blocks ------------------------------------------------------------------------------ */

void bind_in(Sema *s, Scope *sc, const Ast *a) {
  bind_names(s, sc, a, eval_modified(s, sc, a->kid[BIND_VALUE], a->kid[BIND_MODS], false), true);
}

static void data_items(Sema *s, Scope *sc, const Ast *a, bool from_file) {
  const Ast *block = a->kid[SETTING_BLOCK];
  if (!block || a->kid[SETTING_VALUE]) {
    diag_error(s->diag, a->loc, "`%s` wants a block of sources: %s { images: u8[B, 28, 28] }",
               a->name, a->name);
    return;
  }
  for (uint32_t i = 0; i < block->len; i++) {
    const Ast *item = block->kid[i];
    s->in_data = from_file;
    if (item->kind == AST_FIELD && !item->kid[FIELD_INIT]) source(s, sc, item, from_file);
    else if (item->kind == AST_BIND) bind_in(s, sc, item);
    else
      diag_error(s->diag, item->loc,
                 "a source, `name: type`, or `name = expression` is wanted here");
    s->in_data = false;
  }
}

/* split(last, 0.1) */
static void take_split(Sema *s, Scope *sc, const Ast *m, void *into) {
  const Ast *args = m->kid[MODIFIER_ARGS];
  const Ast *word = args && args->len == 2 ? args->kid[0] : NULL;
  DataSplit *split = into;
  double f;
  for (int i = 1; word && word->kind == AST_NAME && i < SPLIT_KINDS; i++)
    if (!strcmp(word->name, split_kind_name[i])) split->kind = (SplitKind)i;
  if (!split->kind) {
    diag_error(s->diag, m->loc, "`split` is split(last, 0.1) or split(random, 0.1)");
    return;
  }
  if (!eval_float(s, sc, args->kid[1], "the part that eval sees", &f)) return;
  if (!(f > 0 && f < 1))
    diag_error(s->diag, ast_start(args->kid[1]), "eval sees a part above 0 and below 1");
  split->fraction = f;
}

static void take_tail(Sema *s, Scope *sc, const Ast *m, void *into) {
  const Ast *args = m->kid[MODIFIER_ARGS];
  const Ast *word = args && args->len == 1 ? args->kid[0] : NULL;
  (void)sc, (void)into; /* what it means, train_begin has taken from it */
  if (!word || word->kind != AST_NAME || (strcmp(word->name, "drop") && strcmp(word->name, "pad")))
    diag_error(s->diag, m->loc, "`tail` is tail(drop) or tail(pad)");
}

void setting_data(Sema *s, Scope *sc, const Ast *a) {
  static const ModifierRule rules[] = {{"split", take_split}, {"tail", take_tail}};
  data_items(s, sc, a, true);
  s->g->split = (DataSplit){0};
  modifiers_apply(s, sc, a->kid[SETTING_MODS], MODIFIER_RULES(rules), &s->g->split);
}

void setting_input(Sema *s, Scope *sc, const Ast *a) {
  modifiers_apply(s, sc, a->kid[SETTING_MODS], (ModifierRules){NULL, 0}, NULL);
  data_items(s, sc, a, false);
}
