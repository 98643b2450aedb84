/* shape.c: types as written against the tensors that come.
 *
 * A listed dim (`fn [B, T](x: [B, T, d])`) binds at the first axis where it stands alone; everything
 * else is evaluated and compared.  `...` is the run of leading axes that is left over.
 */
#include "frontend/sema.h"

#include <string.h>

/* The parts of a type: element type (DT_COUNT: any float) and the list of dims (NULL: rank 0). */
typedef struct Written {
  DType dtype;
  const Ast *dims;
} Written;

static bool read_written(Sema *s, Scope *sc, const Ast *spec, Written *w) {
  *w = (Written){DT_COUNT, NULL};
  if (spec->kind == AST_ELEMENTS) {
    w->dims = spec;
    return true;
  }
  const Ast *head = spec->kind == AST_INDEX ? spec->kid[INDEX_OF] : spec;
  Val v = eval_expr(s, sc, head, false);
  if (v.kind == VAL_DTYPE) {
    w->dtype = v.dtype;
    w->dims = spec->kind == AST_INDEX ? spec->kid[INDEX_AT] : NULL;
    return true;
  }
  if (v.kind != VAL_BAD) diag_error(s->diag, ast_start(spec), "a type is wanted: [B, d], u8[B, 28], f32");
  return false;
}

/* `[B, 4]` with what is known of B put in, for messages. */
static const char *show_written(Sema *s, Scope *sc, Written w) {
  Text t = {.arena = s->arena};
  text_printf(&t, "%s[", w.dtype == DT_COUNT ? "" : dtype_name[w.dtype]);
  for (uint32_t i = 0; w.dims && i < w.dims->len; i++) {
    const Ast *d = w.dims->kid[i];
    if (i) text_add(&t, ", ");
    if (d->kind == AST_REST) text_printf(&t, "...%s", d->name ? d->name : "");
    else if (d->kind == AST_INT) text_printf(&t, "%lld", (long long)d->i);
    else if (d->kind == AST_NAME) {
      Binding *b = scope_find(sc, d->name);
      text_add(&t, d->name);
      if (b && b->val.kind == VAL_INT) text_printf(&t, " = %lld", (long long)b->val.i);
    } else {
      Val v = eval_expr(s, sc, d, false);
      if (v.kind == VAL_INT) text_printf(&t, "%lld", (long long)v.i);
    }
  }
  text_add(&t, "]");
  return t.at;
}

static bool refuse(Sema *s, Scope *sc, Written w, Val v, Loc loc, const Ast *spec, const char *what) {
  diag_error(s->diag, loc, "%s is %s, declared %s", what, val_describe(s, v), show_written(s, sc, w));
  diag_note(s->diag, ast_start(spec), "declared here");
  return false;
}

static bool is_listed(const Ast *list, const char *name) {
  for (uint32_t i = 0; list && i < list->len; i++)
    if (list->kid[i]->kind == AST_NAME && list->kid[i]->name == name) return true;
  return false;
}

static bool match_dim(Sema *s, Scope *sc, const Ast *listed, const Ast *d, int64_t size) {
  if (d->kind == AST_NAME && is_listed(listed, d->name) && !scope_find_here(sc, d->name)) {
    scope_set(s, sc, d->name, val_int(size), d->loc);
    return true;
  }
  int64_t want = 0;
  return eval_int(s, sc, d, "a dim", &want) && want == size;
}

static bool match_rest(Rest *rest, Type run) {
  if (!rest->known) *rest = (Rest){true, run};
  return type_same_dims(rest->type, run);
}

static bool match_dims(Sema *s, Scope *sc, const Ast *listed, const Ast *dims, Type t, Rest *rest) {
  uint32_t n = dims ? dims->len : 0, first = 0;
  int lead = 0;
  if (n && dims->kid[0]->kind == AST_REST) {
    lead = (int)t.rank - (int)(n - 1);
    first = 1;
    Type run = t;
    run.rank = (uint8_t)(lead < 0 ? 0 : lead);
    run.dtype = DT_f32;
    if (lead < 0 || !match_rest(rest, run)) return false;
  }
  if (t.rank != lead + (int)(n - first)) return false;
  for (uint32_t i = first; i < n; i++)
    if (!match_dim(s, sc, listed, dims->kid[i], t.dim[lead + (int)(i - first)])) return false;
  return true;
}

static bool dtype_fits(Sema *s, DType want, Val *v, Loc loc) {
  DType have = (DType)val_type(s, *v).dtype;
  if (want == DT_COUNT) return dtype_kind[have] == 'f';
  if (want == DT_i32 && (have == DT_u8 || have == DT_u16)) {
    ValueId x = tensor_of(s, *v, loc);
    if (x != NO_ID) *v = val_tensor(tensor_widen(s, x));
    return true;
  }
  return have == want;
}

bool shape_match(Sema *s, Scope *sc, const Ast *listed, const Ast *spec, Val *v, Loc loc, Rest *rest,
                 const char *what) {
  Written w;
  if (v->kind == VAL_BAD || !read_written(s, sc, spec, &w)) return false;
  if (!val_is_tensor(*v)) return refuse(s, sc, w, *v, loc, spec, what);
  uint32_t errors = s->diag->errors;
  if (match_dims(s, sc, listed, w.dims, val_type(s, *v), rest) && dtype_fits(s, w.dtype, v, loc)) return true;
  return s->diag->errors == errors && refuse(s, sc, w, *v, loc, spec, what);
}

bool shape_eval(Sema *s, Scope *sc, const Ast *indices, DType dtype, Type *t) {
  *t = type_scalar(dtype);
  uint32_t n = indices ? indices->len : 0;
  if (n > MAX_RANK) {
    diag_error(s->diag, indices->loc, "%u axes; %d are supported", (unsigned)n, MAX_RANK);
    return false;
  }
  for (uint32_t i = 0; i < n; i++) {
    const Ast *d = indices->kid[i];
    if (!eval_int(s, sc, d, "a dim", &t->dim[i])) return false;
    if (t->dim[i] < 1) {
      diag_error(s->diag, ast_start(d), "a dim must be at least 1, not %lld", (long long)t->dim[i]);
      return false;
    }
    t->rank++;
  }
  uint64_t bytes;
  if (type_bytes(*t, &bytes)) return true;
  diag_error(s->diag, indices->loc, "a tensor of more than 2^46 bytes");
  return false;
}
