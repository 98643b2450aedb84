/* pattern.c: index notation: rearrange(x, "B T (h e) -> B h T e", h: heads) and
 * einsum("b t d, d o -> b t o", x, w).
 *
 * A pattern's words name axes, in parentheses those that are one axis of the tensor, 1 is an axis
 * of that size.  rearrange takes the axes apart, puts them in order and together again: a reshape,
 * a transpose, a reshape.  einsum sums what only one operand names, orders both operands as leading
 * axes, rows, inner and inner, columns, and is one matmul, or, where nothing is summed, a product
 * of elements.  Of more operands the first two are joined, then that with the third, and so on,
 * each time with the axes that are still wanted.  Mistakes are shown inside the string.
 */
#include "frontend/builtin.h"

#include <string.h>

enum { MOST_ATOMS = 2 * MAX_RANK };

typedef struct Atom {
  const char *name; /* interned; NULL: a 1 */
  int group;        /* the axis of the tensor that it is of */
  uint32_t at;      /* place in the string */
  int64_t size;     /* 0: not known */
} Atom;

typedef struct Side {
  Atom atom[MOST_ATOMS];
  int n, groups;
  int rows; /* the atom that is the batch, -1: none */
} Side;

typedef struct Pattern {
  Sema *s;
  const Call *call;
  const char *text, *at;
  Loc loc; /* of the string */
} Pattern;

static bool fail(const Pattern *p, uint32_t at, const char *what, const char *name) {
  Loc loc = p->loc;
  loc.col += 1 + at; /* behind the quote */
  diag_error(p->s->diag, loc, "%s%s%s", what, name ? " " : "", name ? name : "");
  return false;
}

static uint32_t place(const Pattern *p) { return (uint32_t)(p->at - p->text); }

static void skip_blanks(Pattern *p) {
  while (*p->at == ' ') p->at++;
}

static bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool add_atom(Pattern *p, Side *s) {
  const char *from = p->at;
  uint32_t at = place(p);
  if (s->n == MOST_ATOMS) return fail(p, at, "too many axes", NULL);
  while (is_letter(*p->at) || is_digit(*p->at)) p->at++;
  size_t len = (size_t)(p->at - from);
  bool one = len == 1 && *from == '1';
  if (!len || (!one && is_digit(*from)))
    return fail(p, at, "the name of an axis, `(` or `1` is wanted here", NULL);
  const char *name = one ? NULL : intern(p->s->strings, from, len);
  for (int i = 0; name && i < s->n; i++)
    if (s->atom[i].name == name) return fail(p, at, "this side names twice:", name);
  s->atom[s->n++] = (Atom){name, s->groups, at, one ? 1 : 0};
  return true;
}

/* Up to `->`, `,` or the end. */
static bool read_side(Pattern *p, Side *s, bool groups) {
  *s = (Side){.rows = -1};
  for (skip_blanks(p); *p->at && *p->at != ',' && strncmp(p->at, "->", 2); skip_blanks(p)) {
    if (s->groups == MAX_RANK) return fail(p, place(p), "too many axes", NULL);
    if (groups && *p->at == '(') {
      uint32_t open = place(p);
      p->at++;
      for (skip_blanks(p); *p->at && *p->at != ')'; skip_blanks(p))
        if (!add_atom(p, s)) return false;
      if (!*p->at) return fail(p, open, "this `(` is never closed", NULL);
      p->at++;
      if (!s->n || s->atom[s->n - 1].group != s->groups)
        return fail(p, open, "nothing in `()`", NULL);
    } else if (!add_atom(p, s)) return false;
    s->groups++;
  }
  return true;
}

static bool read_arrow(Pattern *p) {
  if (strncmp(p->at, "->", 2)) return fail(p, place(p), "`->` is wanted here", NULL);
  p->at += 2;
  return true;
}

static bool at_end(const Pattern *p) {
  return !*p->at || fail(p, place(p), "nothing more is wanted here", NULL);
}

static int find_atom(const Side *s, const char *name) {
  for (int i = 0; i < s->n; i++)
    if (s->atom[i].name == name) return i;
  return -1;
}

/* ---- sizes ----------------------------------------------------------------------------------- */

/* Sizes that the call gives by name. */
static bool given_sizes(const Pattern *p, Side *left) {
  for (uint32_t i = call_positional(p->call); i < p->call->n; i++) {
    const Arg *a = &p->call->arg[i];
    int atom = find_atom(left, a->name);
    if (atom < 0 || a->val.kind != VAL_INT || a->val.i < 1) {
      diag_error(p->s->diag, a->loc,
                 atom < 0 ? "the left side names no axis `%s`" : "`%s` must be a positive int",
                 a->name);
      return false;
    }
    left->atom[atom].size = a->val.i;
  }
  return true;
}

/* The atoms of axis `group`, whose size is known, by what is known of them. */
static bool solve_group(const Pattern *p, Side *s, int group, int64_t size) {
  Atom *open = NULL, *first = NULL;
  int64_t known = 1;
  for (int i = 0; i < s->n; i++) {
    Atom *a = &s->atom[i];
    if (a->group != group) continue;
    if (!first) first = a;
    if (!a->size && open) return fail(p, a->at, "the call must give the size of", a->name);
    if (!a->size) open = a;
    else if (a->size > size) known = 0;
    else if (known && a->size <= size / known) known *= a->size;
    else known = 0;
  }
  if (open && known && size % known == 0) open->size = size / known;
  else if (open || known != size)
    return fail(p, first->at,
                arena_printf(p->s->arena, "this is an axis of size %lld", (long long)size), NULL);
  return true;
}

static bool match_left(const Pattern *p, Side *s, Type t, Val x) {
  if (s->groups != t.rank)
    return fail(p, 0, arena_printf(p->s->arena, "%d axes for", s->groups), val_describe(p->s, x));
  for (int g = 0; g < t.rank; g++)
    if (!solve_group(p, s, g, t.dim[g])) return false;
  for (int i = s->n; t.rows >= 0 && i-- > 0;)
    if (s->atom[i].group == t.rows) s->rows = i; /* the first of its axis */
  return true;
}

/* A type with an axis for each atom that has a name. */
static Type apart(const Side *s, Type t, int *axis) {
  Type y = type_scalar((DType)t.dtype);
  for (int i = 0; i < s->n; i++) {
    axis[i] = y.rank;
    if (!s->atom[i].name) continue;
    if (i == s->rows) y.rows = (int8_t)y.rank;
    y.dim[y.rank++] = s->atom[i].size;
  }
  return y;
}

static int names_of(const Side *s) {
  int n = 0;
  for (int i = 0; i < s->n; i++) n += s->atom[i].name != NULL;
  return n;
}

/* ---- rearrange ------------------------------------------------------------------------------- */

/* Each name of one side is on the other. */
static bool same_names(const Pattern *p, const Side *left, Side *right) {
  for (int i = 0; i < left->n; i++)
    if (left->atom[i].name && find_atom(right, left->atom[i].name) < 0)
      return fail(p, left->atom[i].at, "the right side does not name", left->atom[i].name);
  for (int i = 0; i < right->n; i++) {
    int from = right->atom[i].name ? find_atom(left, right->atom[i].name) : -1;
    if (right->atom[i].name && from < 0)
      return fail(p, right->atom[i].at, "the left side does not name", right->atom[i].name);
    if (from >= 0) right->atom[i].size = left->atom[from].size;
    if (from >= 0 && from == left->rows) right->rows = i;
  }
  if (names_of(left) <= MAX_RANK) return true;
  return fail(p, 0, "too many axes", NULL);
}

/* The axes of the result, and the batch's among them: it must lead its axis. */
static bool together(const Pattern *p, const Side *s, Type *t) {
  *t = type_make((DType)t->dtype, s->groups, (int64_t[MAX_RANK]){1, 1, 1, 1, 1, 1, 1, 1});
  for (int i = 0; i < s->n; i++) {
    int g = s->atom[i].group;
    if (i == s->rows && t->dim[g] != 1)
      return fail(p, s->atom[i].at,
                  "the rows of the batch must stay whole: put first in `()`:", s->atom[i].name);
    if (i == s->rows) t->rows = (int8_t)g;
    t->dim[g] *= s->atom[i].size;
  }
  return true;
}

static ValueId rearranged(const Pattern *p, const Side *left, const Side *right, ValueId x) {
  Sema *s = p->s;
  int from[MOST_ATOMS];
  int64_t perm[MAX_RANK];
  Type t = value_type(s->g, x), mid = apart(left, t, from);
  int n = 0;
  bool moved = false;
  if (!together(p, right, &t)) return NO_ID;
  for (int i = 0; i < right->n; i++) {
    if (!right->atom[i].name) continue;
    perm[n] = from[find_atom(left, right->atom[i].name)];
    moved = moved || perm[n] != n;
    n++;
  }
  x = build_reshape(&s->b, x, mid);
  if (moved) x = build_transpose(&s->b, x, perm);
  x = build_reshape(&s->b, x, t);
  for (int i = 0; i < right->n; i++)
    if (!right->atom[i].name) dims_write_one(s, x, right->atom[i].group);
  return x;
}

static bool open_pattern(Pattern *p, Sema *s, const Builtin *b, const Call *c, const Arg *a) {
  *p = (Pattern){.s = s, .call = c, .loc = a->loc};
  if (a->val.kind != VAL_STRING) {
    if (a->val.kind != VAL_BAD)
      diag_error(s->diag, a->loc, "%s wants its pattern as a string, not %s", b->name,
                 val_describe(s, a->val));
    return false;
  }
  p->text = p->at = a->val.s;
  return true;
}

Val call_rearrange(Sema *s, const Builtin *b, const Call *c) {
  ValueId x = tensor_of(s, c->arg[0].val, c->arg[0].loc);
  Pattern p;
  Side left, right;
  if (x == NO_ID || !open_pattern(&p, s, b, c, &c->arg[1])) return val_bad();
  if (!read_side(&p, &left, true) || !read_arrow(&p) || !read_side(&p, &right, true))
    return val_bad();
  if (!at_end(&p) || !given_sizes(&p, &left)) return val_bad();
  if (!match_left(&p, &left, value_type(s->g, x), c->arg[0].val)) return val_bad();
  if (!same_names(&p, &left, &right)) return val_bad();
  s->b.loc = c->loc;
  x = rearranged(&p, &left, &right, x);
  return x == NO_ID ? val_bad() : val_tensor(x);
}

/* ---- einsum ---------------------------------------------------------------------------------- */

enum { MOST_OPERANDS = 8 };

typedef struct Einsum {
  Pattern p;
  uint32_t n;
  Side operand[MOST_OPERANDS], result;
  ValueId value[MOST_OPERANDS];
  /* the two at hand */
  Side in[2], out;
  ValueId v[2];
} Einsum;

/* The size that operands before `end` give the name; 0: none has it. */
static int64_t size_of(const Einsum *e, const char *name, uint32_t end) {
  for (uint32_t k = 0; k < end; k++) {
    int at = find_atom(&e->operand[k], name);
    if (at >= 0) return e->operand[k].atom[at].size;
  }
  return 0;
}

static bool meet_sizes(Einsum *e) {
  for (uint32_t k = 1; k < e->n; k++)
    for (int i = 0; i < e->operand[k].n; i++) {
      const Atom *b = &e->operand[k].atom[i];
      int64_t size = size_of(e, b->name, k);
      if (size && size != b->size)
        return fail(&e->p, b->at,
                    arena_printf(e->p.s->arena, "sizes %lld and %lld of", (long long)size,
                                 (long long)b->size),
                    b->name);
    }
  for (int i = 0; i < e->result.n; i++) {
    Atom *o = &e->result.atom[i];
    o->size = size_of(e, o->name, e->n);
    if (!o->size) return fail(&e->p, o->at, "no operand names", o->name);
  }
  return true;
}

/* Sums operand k over what it alone names. */
static bool sum_alone(Einsum *e, int k) {
  Side *s = &e->in[k], kept = {.rows = -1};
  int64_t axes[MAX_RANK];
  uint32_t n = 0;
  for (int i = 0; i < s->n; i++) {
    const Atom *a = &s->atom[i];
    bool stays = find_atom(&e->out, a->name) >= 0 || find_atom(&e->in[1 - k], a->name) >= 0;
    if (!stays && mixes_rows(e->p.s, e->v[k], i, e->p.loc, "einsum")) return false;
    if (!stays) axes[n++] = i;
    else {
      if (i == s->rows) kept.rows = kept.n;
      kept.atom[kept.n++] = *a;
    }
  }
  e->v[k] = build_reduce(&e->p.s->b, OP_sum, e->v[k], n, axes);
  *s = kept;
  return true;
}

enum { LEADING, OWN, INNER };

static int role(const Einsum *e, int k, const char *name) {
  bool other = find_atom(&e->in[1 - k], name) >= 0, out = find_atom(&e->out, name) >= 0;
  return other ? out ? LEADING : INNER : OWN;
}

/* The names of operand k in this role: inner ones as the first operand has them, others as the
 * result does, the batch before its kind. */
static void collect(const Einsum *e, int k, int wanted, Side *to) {
  const Side *order = wanted == INNER ? &e->in[0] : &e->out;
  *to = (Side){.rows = -1};
  for (int rows = 1; rows >= 0; rows--)
    for (int i = 0; i < order->n; i++) {
      int at = find_atom(&e->in[k], order->atom[i].name);
      if (at < 0 || role(e, k, order->atom[i].name) != wanted) continue;
      if ((at == e->in[k].rows) != (rows == 1)) continue;
      if (rows) to->rows = to->n;
      to->atom[to->n++] = e->in[k].atom[at];
    }
}

static void append(Side *to, const Side *from, bool as_one) {
  for (int i = 0; i < from->n; i++) {
    if (i == from->rows) to->rows = to->n;
    to->atom[to->n] = from->atom[i];
    to->atom[to->n++].group = to->groups;
    if (!as_one) to->groups++;
  }
  if (as_one && !from->n) to->atom[to->n++] = (Atom){NULL, to->groups, 0, 1};
  if (as_one) to->groups++;
}

/* Operand k as [leading…, rows, inner] or [leading…, inner, columns]. */
static ValueId as_matrices(Einsum *e, int k, const Side *leading) {
  Side own, inner, to = {.rows = -1};
  collect(e, k, OWN, &own);
  collect(e, k, INNER, &inner);
  append(&to, leading, false);
  append(&to, k ? &inner : &own, true);
  append(&to, k ? &own : &inner, true);
  return to.groups > MAX_RANK || to.n > MOST_ATOMS ? NO_ID
                                                   : rearranged(&e->p, &e->in[k], &to, e->v[k]);
}

/* The product's axes, leading, rows, columns, in the result's order. */
static ValueId as_result(Einsum *e, const Side *leading, ValueId c) {
  Side have = {.rows = -1}, rows, cols;
  collect(e, 0, OWN, &rows);
  collect(e, 1, OWN, &cols);
  append(&have, leading, false);
  append(&have, &rows, true);
  append(&have, &cols, true);
  Type t = value_type(e->p.s->g, c);
  for (int i = have.n; t.rows >= 0 && i-- > 0;)
    if (have.atom[i].group == t.rows) have.rows = i;
  for (int i = 0; i < e->out.n; i++)
    if (have.rows >= 0 && e->out.atom[i].name == have.atom[have.rows].name) e->out.rows = i;
  return rearranged(&e->p, &have, &e->out, c);
}

static bool read_einsum(Einsum *e) {
  Pattern *p = &e->p;
  for (uint32_t k = 0; k < e->n; k++) {
    Side *in = &e->operand[k];
    if (!read_side(p, in, false)) return false;
    if (k + 1 < e->n && *p->at != ',')
      return fail(p, place(p), "`,` and the next operand's axes are wanted here", NULL);
    p->at += k + 1 < e->n;
    for (int i = 0; i < in->n; i++)
      if (!in->atom[i].name) return fail(p, in->atom[i].at, "einsum wants names", NULL);
    if (!match_left(p, in, value_type(p->s->g, e->value[k]), p->call->arg[k + 1].val)) return false;
  }
  return read_arrow(p) && read_side(p, &e->result, false) && at_end(p) && meet_sizes(e);
}

/* Each element of one with each of the other; NO_ID: both have rows of the batch. */
static ValueId multiply(Einsum *e, const ValueId *x) {
  Builder *b = &e->p.s->b;
  Type l = value_type(b->g, x[0]), r = value_type(b->g, x[1]);
  int64_t axes[MAX_RANK] = {0, 1, 2, 3, 4, 5, 6, 7};
  if (l.rows >= 0 && r.rows >= 0 && l.rows != r.rows) return NO_ID;
  l.dim[l.rank - 1] = r.dim[r.rank - 1];
  l.rows = l.rows < 0 ? r.rows : l.rows;
  return build2(b, OP_mul, build_broadcast(b, x[0], l, axes), build_broadcast(b, x[1], l, axes));
}

static ValueId contract(Einsum *e) {
  Side leading, other, inner;
  collect(e, 0, LEADING, &leading);
  collect(e, 1, LEADING, &other);
  collect(e, 0, INNER, &inner);
  if (leading.rows < 0 && other.rows >= 0) leading = other;
  for (int k = 0; k < 2; k++)
    for (int i = 0; i < e->in[k].n; i++)
      if (role(e, k, e->in[k].atom[i].name) == INNER &&
          mixes_rows(e->p.s, e->v[k], i, e->p.loc, "einsum"))
        return NO_ID;
  ValueId x[2], c = NO_ID;
  for (int k = 0; k < 2; k++)
    if ((x[k] = as_matrices(e, k, &leading)) == NO_ID) return NO_ID;
  if (!inner.n) c = multiply(e, x);
  if (c == NO_ID) c = matmul_build(e->p.s, x, e->p.call->whole, "einsum");
  return c == NO_ID ? NO_ID : as_result(e, &leading, c);
}

/* What is left of the two at hand: axes that the result or an operand from k on names.  In an order
 * that is the product's own. */
static bool find_left(Einsum *e, uint32_t k) {
  Side out = {.rows = -1};
  for (int round = LEADING; round <= OWN; round++)
    for (int side = 0; side < 2; side++)
      for (int i = 0; i < e->in[side].n; i++) {
        Atom a = e->in[side].atom[i];
        bool both = find_atom(&e->in[1 - side], a.name) >= 0;
        bool wanted = find_atom(&e->result, a.name) >= 0;
        for (uint32_t later = k; later < e->n; later++)
          wanted = wanted || find_atom(&e->operand[later], a.name) >= 0;
        if (!wanted || both != (round == LEADING) || find_atom(&out, a.name) >= 0) continue;
        if (out.n == MAX_RANK) return fail(&e->p, a.at, "too many axes at a time", NULL);
        a.group = out.groups++;
        out.atom[out.n++] = a;
      }
  e->out = out;
  return true;
}

/* The operand at hand and the next one become one. */
static bool join_next(Einsum *e, uint32_t k) {
  e->in[1] = e->operand[k];
  e->v[1] = e->value[k];
  e->out = e->result;
  if (k + 1 < e->n && !find_left(e, k + 1)) return false;
  if (!sum_alone(e, 0) || !sum_alone(e, 1)) return false;
  ValueId y = contract(e);
  e->in[0] = e->out;
  e->v[0] = y;
  return y != NO_ID;
}

static ValueId alone(Einsum *e) {
  e->in[1] = (Side){.rows = -1};
  e->out = e->result;
  if (!sum_alone(e, 0)) return NO_ID;
  for (int i = 0; i < e->out.n; i++)
    if (e->in[0].rows >= 0 && e->out.atom[i].name == e->in[0].atom[e->in[0].rows].name)
      e->out.rows = i;
  return rearranged(&e->p, &e->in[0], &e->out, e->v[0]);
}

Val call_einsum(Sema *s, const Builtin *b, const Call *c) {
  Einsum *e = NEW(s->arena, Einsum);
  e->n = c->n - 1;
  if (!open_pattern(&e->p, s, b, c, &c->arg[0])) return val_bad();
  for (uint32_t k = 0; k < e->n; k++)
    if ((e->value[k] = float_arg(s, b, &c->arg[k + 1])) == NO_ID) return val_bad();
  s->b.loc = c->loc;
  if (!read_einsum(e)) return val_bad();
  e->in[0] = e->operand[0];
  e->v[0] = e->value[0];
  if (e->n == 1) e->v[0] = alone(e);
  for (uint32_t k = 1; k < e->n; k++)
    if (!join_next(e, k)) return val_bad();
  return e->v[0] == NO_ID ? val_bad() : val_tensor(e->v[0]);
}
