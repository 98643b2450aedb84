/* shape.c: types as written against the values that come.
 *
 * `int`, `float`, `bool`, `list`, `fn` and `module` are types of compile-time values; everything
 * else is a tensor's.  A listed dim (`fn [B, T](x: [B, T, d])`) binds at the first axis where it
 * stands alone; every other dim is evaluated and compared.  `...` is the run of leading axes that
 * is left over, the same one everywhere in a call; `...S` is one with a name.
 */
#include "frontend/sema.h"

#include <string.h>

/* ---- compile-time values --------------------------------------------------------------------- */

static bool is_callable(Val v) {
  return v.kind == VAL_FN || v.kind == VAL_BUILTIN || v.kind == VAL_LIST || v.kind == VAL_INSTANCE;
}

static bool match_float(Val *v) {
  if (v->kind == VAL_INT) *v = val_float((double)v->i);
  return v->kind == VAL_FLOAT;
}

static bool match_int(Val *v) { return v->kind == VAL_INT; }
static bool match_bool(Val *v) { return v->kind == VAL_BOOL; }
static bool match_list(Val *v) { return v->kind == VAL_LIST; }
static bool match_fn(Val *v) { return is_callable(*v); }
static bool match_module(Val *v) { return v->kind == VAL_MODULE || v->kind == VAL_INSTANCE; }

/* A number, or what gives one in every step: a schedule, a tensor of rank 0. */
static bool match_hyper(Val *v) {
  return v->kind == VAL_INT || v->kind == VAL_FLOAT || v->kind == VAL_THEN || is_callable(*v) ||
         val_is_tensor(*v);
}

static const struct {
  const char *word;
  bool (*match)(Val *v);
} words[] = {
    {"int", match_int}, {"float", match_float},   {"bool", match_bool},   {"list", match_list},
    {"fn", match_fn},   {"module", match_module}, {"hyper", match_hyper},
};

static int find_word(const Ast *type) {
  for (size_t i = 0; type->kind == AST_NAME && i < sizeof words / sizeof *words; i++)
    if (!strcmp(type->name, words[i].word)) return (int)i;
  return -1;
}

/* ---- tensors --------------------------------------------------------------------------------- */

/* The parts of a tensor's type: element type (DT_COUNT: any float) and dims (NULL: rank 0). */
typedef struct Written {
  DType dtype;
  const Ast *dims;
} Written;

static bool read_written(Sema *s, Scope *sc, const Ast *type, Written *w) {
  *w = (Written){DT_COUNT, NULL};
  if (type->kind == AST_ELEMENTS) {
    w->dims = type;
    return true;
  }
  Val v = eval_expr(s, sc, type->kind == AST_INDEX ? type->kid[INDEX_OF] : type, false);
  if (v.kind == VAL_DTYPE) {
    w->dtype = v.dtype;
    w->dims = type->kind == AST_INDEX ? type->kid[INDEX_AT] : NULL;
    return true;
  }
  if (v.kind != VAL_BAD)
    diag_error(s->diag, ast_start(type), "a type is wanted: [B, d], u8[B, 28], f32");
  return false;
}

static bool is_listed(const Ast *list, const Ast *d) {
  for (uint32_t i = 0; list && i < list->len; i++)
    if (list->kid[i]->kind == d->kind && list->kid[i]->name == d->name) return true;
  return false;
}

/* A name that has no meaning is most likely a dim that the function's list lacks. */
static bool unknown_dim(Sema *s, Scope *sc, const Ast *d) {
  if (d->kind != AST_NAME || scope_find(sc, d->name) || s->incomplete) return false;
  diag_error(s->diag, d->loc, "`%s` is unknown: list it, `fn [%s]`, or `model M[%s]`%s", d->name,
             d->name, d->name, scope_near(s, sc, d->name, true));
  return true;
}

static Match match_dim(Sema *s, Scope *sc, const Ast *listed, const Ast *d, int64_t size) {
  if (d->kind == AST_NAME && is_listed(listed, d) && !scope_find_here(sc, d->name)) {
    scope_set(s, sc, d->name, val_int(size), d->loc);
    return MATCHES;
  }
  int64_t want = 0;
  if (unknown_dim(s, sc, d) || !eval_int(s, sc, d, "a dim", &want)) return REPORTED;
  return want == size ? MATCHES : DIFFERS;
}

/* What `...S` stands for, bound here where the list has it and nothing bound it before. */
static Match match_named_rest(Sema *s, Scope *sc, const Ast *listed, const Ast *rest, Type run) {
  if (is_listed(listed, rest) && !scope_find_here(sc, rest->name)) {
    Val v = {.kind = VAL_RUN, .run = arena_copy(s->arena, &run, sizeof run)};
    scope_set(s, sc, rest->name, v, rest->loc);
    return MATCHES;
  }
  Val v = eval_name(s, sc, rest);
  if (v.kind == VAL_RUN) return type_same_dims(*v.run, run) ? MATCHES : DIFFERS;
  if (v.kind != VAL_BAD)
    diag_error(s->diag, rest->loc, "`...%s` is %s, not a run of dims", rest->name,
               val_describe(s, v));
  return REPORTED;
}

/* The first `lead` axes of t are what `...` stands for. */
static Match match_rest(Sema *s, Scope *sc, const Ast *listed, const Ast *rest, Type t, int lead) {
  if (lead < 0) return DIFFERS;
  Type run = type_make(DT_f32, lead, t.dim);
  if (rest->name) return match_named_rest(s, sc, listed, rest, run);
  if (!sc->rest) sc->rest = arena_copy(s->arena, &run, sizeof run);
  return type_same_dims(*sc->rest, run) ? MATCHES : DIFFERS;
}

static Match match_dims(Sema *s, Scope *sc, const Ast *listed, const Ast *dims, Type t) {
  uint32_t n = dims ? dims->len : 0, first = n && dims->kid[0]->kind == AST_REST;
  int lead = first ? (int)t.rank - (int)(n - 1) : 0;
  Match m = first ? match_rest(s, sc, listed, dims->kid[0], t, lead) : MATCHES;
  if (m == MATCHES && t.rank != lead + (int)(n - first)) m = DIFFERS;
  for (uint32_t i = first; m == MATCHES && i < n; i++)
    m = match_dim(s, sc, listed, dims->kid[i], t.dim[lead + (int)(i - first)]);
  return m;
}

/* Listed dims bind where they stand alone, before any other dim is computed from them. */
void type_bind_dims(Sema *s, Scope *sc, const Ast *listed, const Ast *type, Val v) {
  if (!type || !listed || !val_is_tensor(v)) return;
  const Ast *dims = type->kind == AST_INDEX ? type->kid[INDEX_AT] : type;
  if (dims->kind != AST_ELEMENTS && dims->kind != AST_INDICES) return;
  Type t = val_type(s, v);
  uint32_t first = dims->len && dims->kid[0]->kind == AST_REST;
  int lead = first ? (int)t.rank - (int)(dims->len - 1) : 0;
  if (lead < 0 || (int)t.rank != lead + (int)(dims->len - first)) return;
  for (uint32_t i = first; i < dims->len; i++) {
    const Ast *d = dims->kid[i];
    if (d->kind == AST_NAME && is_listed(listed, d) && !scope_find_here(sc, d->name))
      scope_set(s, sc, d->name, val_int(t.dim[lead + (int)(i - first)]), d->loc);
  }
}

/* Any float where the type names no element; an i32 may come from u8 and u16. */
static Match match_dtype(Sema *s, DType want, Val *v, Loc loc) {
  DType have = (DType)val_type(s, *v).dtype;
  if (want == DT_COUNT) return dtype_kind[have] == 'f' ? MATCHES : DIFFERS;
  if (have == want) return MATCHES;
  if (want != DT_i32 || (have != DT_u8 && have != DT_u16)) return DIFFERS;
  ValueId x = tensor_of(s, *v, loc);
  if (x == NO_ID) return REPORTED;
  s->b.loc = loc;
  *v = val_tensor(tensor_widen(s, x));
  return MATCHES;
}

/* A number where a single tensor element is wanted. */
static bool lifts(const Sema *s, const Written *w, Val v) {
  bool single = !w->dims || w->dims->len == 0;
  bool number = v.kind == VAL_INT || (v.kind == VAL_FLOAT && w->dtype == DT_f32);
  return s->building && single && number && (w->dtype == DT_f32 || w->dtype == DT_i32);
}

Match type_match(Sema *s, Scope *sc, const Ast *listed, const Ast *type, Val *v, Loc loc) {
  if (v->kind == VAL_BAD) return REPORTED;
  int word = find_word(type);
  if (word >= 0) return words[word].match(v) ? MATCHES : DIFFERS;
  Written w;
  if (!read_written(s, sc, type, &w)) return REPORTED;
  if (lifts(s, &w, *v)) return tensor_lift(s, v, w.dtype, loc) ? MATCHES : REPORTED;
  if (!val_is_tensor(*v)) return DIFFERS;
  if (v->kind == VAL_TENSOR) dims_declare(s, v->tensor, w.dims);
  Match m = match_dims(s, sc, listed, w.dims, val_type(s, *v));
  return m == MATCHES ? match_dtype(s, w.dtype, v, loc) : m;
}

/* ---- types in messages ----------------------------------------------------------------------- */

/* `...S = 4, 3` where it is known. */
static void show_rest(Scope *sc, const Ast *d, Text *t) {
  const Binding *b = d->name ? scope_find(sc, d->name) : NULL;
  text_printf(t, "...%s", d->name ? d->name : "");
  if (!b || b->val.kind != VAL_RUN) return;
  for (int i = 0; i < b->val.run->rank; i++)
    text_printf(t, "%s%lld", i ? ", " : " = ", (long long)b->val.run->dim[i]);
}

static void show_dim(Sema *s, Scope *sc, const Ast *d, Text *t) {
  Val v = val_bad();
  if (d->kind == AST_REST) show_rest(sc, d, t);
  else if (d->kind == AST_NAME) {
    const Binding *b = scope_find(sc, d->name);
    text_add(t, d->name);
    if (b && b->val.kind == VAL_INT) text_printf(t, " = %lld", (long long)b->val.i);
  } else v = eval_expr(s, sc, d, false);
  if (v.kind == VAL_INT) text_printf(t, "%lld", (long long)v.i);
}

/* `[B = 64, 4]`: with what is known of the names put in. */
static const char *show_type(Sema *s, Scope *sc, const Ast *type) {
  Text t = {.arena = s->arena};
  Written w;
  if (find_word(type) >= 0) return type->name;
  if (!read_written(s, sc, type, &w)) return "otherwise";
  if (w.dtype != DT_COUNT) text_add(&t, dtype_name[w.dtype]);
  text_add(&t, "[");
  uint32_t n = w.dims ? w.dims->len : 0, shown = n > MAX_RANK + 1 ? MAX_RANK : n;
  for (uint32_t i = 0; i < shown; i++) {
    if (i) text_add(&t, ", ");
    show_dim(s, sc, w.dims->kid[i], &t);
  }
  text_add(&t, shown < n ? ", and more]" : "]");
  return t.at;
}

void type_refuse(Sema *s, Scope *sc, const Ast *type, Val v, Loc loc, const char *what) {
  const char *have = val_describe(s, v), *want = show_type(s, sc, type);
  diag_error(s->diag, loc, "%s is %s, declared %s", what, have, want);
  Loc at = ast_start(type);
  if (at.line != loc.line) diag_note(s->diag, at, "declared here");
}

/* ---- types to be made ------------------------------------------------------------------------ */

static bool add_dim(Sema *s, Scope *sc, const Ast *d, Type *t) {
  Type run = type_make(DT_f32, 1, (int64_t[]){1});
  if (d->kind == AST_REST) {
    if (!rest_dims(s, sc, d, &run)) return false;
  } else if (unknown_dim(s, sc, d) || !eval_int(s, sc, d, "a dim", &run.dim[0])) return false;
  else if (run.dim[0] < 1) {
    diag_error(s->diag, ast_start(d), "a dim must be at least 1, not %lld", (long long)run.dim[0]);
    return false;
  }
  if (t->rank + run.rank > MAX_RANK) {
    diag_error(s->diag, d->loc, "%d axes; %d are supported", t->rank + run.rank, MAX_RANK);
    return false;
  }
  for (int i = 0; i < run.rank; i++) t->dim[t->rank++] = run.dim[i];
  return true;
}

bool shape_eval(Sema *s, Scope *sc, const Ast *indices, DType dtype, Type *t) {
  *t = type_scalar(dtype);
  uint32_t n = indices ? indices->len : 0;
  if (n > MAX_RANK) {
    diag_error(s->diag, indices->loc, "%u axes; %d are supported", (unsigned)n, MAX_RANK);
    return false;
  }
  for (uint32_t i = 0; i < n; i++)
    if (!add_dim(s, sc, indices->kid[i], t)) return false;
  uint64_t bytes; /* counted in the widest element, so that casts always fit */
  if (type_bytes(type_with(*t, DT_i64), &bytes)) return true;
  diag_error(s->diag, indices->loc, "a tensor of more than 2^43 elements");
  return false;
}
