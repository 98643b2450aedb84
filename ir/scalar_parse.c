/* scalar_parse.c: the text of scalar.def into straight-line code.
 *
 * The text of a program is a list of statements, the last one a return:
 *
 *     name, ... = expression;    several names take the results of one call
 *     return expression, ...
 *
 * Expressions know three types, f32, i32, i1, and mix none of them.  From loose to tight:
 * c ? x : y;  == != < <= > >= (i32: signed);  | ^;  &;  << >> (logical);  + -;  * /;  unary - ! ~.
 * A call names a primitive or, failing that, a program further up, whose code is copied in.  A
 * literal with a point or an exponent, inf and nan are f32; others are i32, up to 2^32 - 1.
 * A name may be assigned again; what it held is then out of reach.
 *
 * Every instruction goes through `emit`, which returns an equal earlier one where there is one.
 * At the end what no result needs is dropped.
 */
#include "ir/scalar.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { VARS = 64 };

/* ---- building ----------------------------------------------------------------------------- */

typedef struct Name {
  const char *at;
  size_t len;
} Name;

typedef uint16_t Value; /* index of an instruction */

typedef struct Parser {
  SProg *prog;
  const Scalars *all; /* programs before `prog` can be called */
  const char *at;
  SInst inst[SCALAR_INSTS];
  struct {
    Name name;
    Value value;
  } var[VARS];
  uint32_t nvars;
} Parser;

static const struct {
  const char *name, *operands;
  SType result;
} PRIMS[] = {
#define PRIM(name, operands, result, doc) {#name, operands, result},
    SCALAR_PRIMS(PRIM)
#undef PRIM
};

enum { NPRIMS = sizeof PRIMS / sizeof *PRIMS };

static _Noreturn void bad(const Parser *p, const char *what) {
  fprintf(stderr, "scalar.def: %s: %s before '%.40s'\n", p->prog->name, what, p->at);
  exit(70);
}

static SType type_of(const Parser *p, Value v) { return (SType)p->inst[v].type; }

static bool same_inst(const SInst *a, const SInst *b) {
  return a->prim == b->prim && a->type == b->type && a->imm == b->imm && a->x[0] == b->x[0] &&
         a->x[1] == b->x[1] && a->x[2] == b->x[2];
}

static Value emit(Parser *p, SInst s) {
  uint32_t n = p->prog->ninst;
  for (uint32_t i = n; i-- > 0;)
    if (same_inst(&p->inst[i], &s)) return (Value)i;
  if (n == SCALAR_INSTS) bad(p, "program too long");
  p->inst[n] = s;
  p->prog->ninst++;
  return (Value)n;
}

static Value emit_const(Parser *p, SType type, uint32_t bits) {
  return emit(p, (SInst){.prim = SP_CONST, .type = (uint8_t)type, .imm = bits});
}

static bool operand_fits(char kind, SType type) { return kind == "fib"[type] || kind == '*'; }

static Value emit_prim(Parser *p, SPrim prim, const Value *x, uint32_t n) {
  const char *operands = PRIMS[prim].operands;
  if (strlen(operands) != n) bad(p, "wrong number of operands");
  SInst s = {.prim = (uint8_t)prim, .type = (uint8_t)PRIMS[prim].result};
  for (uint32_t i = 0; i < n; i++) {
    if (!operand_fits(operands[i], type_of(p, x[i]))) bad(p, "operand of a wrong type");
    s.x[i] = x[i];
  }
  if (prim == SP_select) {
    if (type_of(p, x[1]) != type_of(p, x[2])) bad(p, "select between two types");
    s.type = (uint8_t)type_of(p, x[1]);
  }
  return emit(p, s);
}

static uint32_t emit_program(Parser *p, const SProg *callee, const Value *x, uint32_t n,
                             Value *res) {
  Value map[SCALAR_INSTS];
  if (callee->nargs != n) bad(p, "wrong number of arguments");
  for (uint32_t i = 0; i < n; i++)
    if (type_of(p, x[i]) != callee->arg[i]) bad(p, "argument of a wrong type");
  for (uint32_t i = 0; i < callee->ninst; i++) {
    SInst s = callee->inst[i];
    if (s.prim < NPRIMS)
      for (uint32_t k = 0; k < strlen(PRIMS[s.prim].operands); k++) s.x[k] = map[s.x[k]];
    map[i] = s.prim == SP_ARG ? x[s.imm] : emit(p, s);
  }
  for (uint32_t r = 0; r < callee->nres; r++) res[r] = map[callee->res[r]];
  return callee->nres;
}

/* ---- lexing --------------------------------------------------------------------------------- */

static void skip_space(Parser *p) {
  while (isspace((unsigned char)*p->at)) p->at++;
}

static bool accept(Parser *p, const char *text) {
  skip_space(p);
  size_t n = strlen(text);
  if (strncmp(p->at, text, n)) return false;
  p->at += n;
  return true;
}

static void expect(Parser *p, const char *text) {
  if (!accept(p, text)) bad(p, text);
}

static Name parse_name(Parser *p) {
  skip_space(p);
  Name name = {p->at, 0};
  while (isalnum((unsigned char)name.at[name.len]) || name.at[name.len] == '_') name.len++;
  if (!name.len || isdigit((unsigned char)*name.at)) bad(p, "a name is missing");
  p->at += name.len;
  return name;
}

static bool name_is(Name a, const char *text) {
  return strlen(text) == a.len && !memcmp(a.at, text, a.len);
}

static SType parse_type(Parser *p) {
  Name t = parse_name(p);
  if (name_is(t, "f32")) return S_F32;
  if (name_is(t, "i32")) return S_I32;
  if (!name_is(t, "i1")) bad(p, "not a type");
  return S_I1;
}

/* The longer reading wins: 12 ends alike as integer and as float and is an integer. */
static Value parse_number(Parser *p) {
  char *end_int, *end_float;
  unsigned long long i = strtoull(p->at, &end_int, 0);
  float f = strtof(p->at, &end_float);
  bool is_float = end_float > end_int;
  p->at = is_float ? end_float : end_int;
  if (!is_float && i > UINT32_MAX) bad(p, "integer too large");
  if (!is_float) return emit_const(p, S_I32, (uint32_t)i);
  uint32_t bits;
  memcpy(&bits, &f, sizeof bits);
  return emit_const(p, S_F32, bits);
}

/* ---- parsing -------------------------------------------------------------------------------- */

enum { SWAP = 1, NOT = 2, LEVELS = 6 };

static const struct {
  const char *text; /* a longer operator stands before its prefix */
  uint8_t level;    /* higher binds tighter */
  uint8_t type, prim, how;
} INFIX[] = {
    {"==", 0, S_F32, SP_eq, 0},    {"==", 0, S_I32, SP_ieq, 0},
    {"!=", 0, S_F32, SP_eq, NOT},  {"!=", 0, S_I32, SP_ieq, NOT},
    {"<=", 0, S_F32, SP_le, 0},    {"<=", 0, S_I32, SP_ilt, SWAP | NOT},
    {">=", 0, S_F32, SP_le, SWAP}, {">=", 0, S_I32, SP_ilt, NOT},
    {"<", 0, S_F32, SP_lt, 0},     {"<", 0, S_I32, SP_ilt, 0},
    {">", 0, S_F32, SP_lt, SWAP},  {">", 0, S_I32, SP_ilt, SWAP},
    {"|", 1, S_I32, SP_or, 0},     {"|", 1, S_I1, SP_bor, 0},
    {"^", 1, S_I32, SP_xor, 0},    {"&", 2, S_I32, SP_and, 0},
    {"&", 2, S_I1, SP_band, 0},    {"<<", 3, S_I32, SP_shl, 0},
    {">>", 3, S_I32, SP_shr, 0},   {"+", 4, S_F32, SP_add, 0},
    {"+", 4, S_I32, SP_iadd, 0},   {"-", 4, S_F32, SP_sub, 0},
    {"-", 4, S_I32, SP_isub, 0},   {"*", 5, S_F32, SP_mul, 0},
    {"*", 5, S_I32, SP_imul, 0},   {"/", 5, S_F32, SP_div, 0},
};

enum { NINFIX = sizeof INFIX / sizeof *INFIX };

static Value parse_expr(Parser *p);

static const SProg *find_program(const Parser *p, Name name) {
  for (const SProg *q = p->all->prog; q < p->prog; q++)
    if (name_is(name, q->name)) return q;
  return NULL;
}

static uint32_t parse_call(Parser *p, Name name, Value *res) {
  Value x[SCALAR_ARGS];
  uint32_t n = 0;
  do {
    if (n == SCALAR_ARGS) bad(p, "too many arguments");
    x[n++] = parse_expr(p);
  } while (accept(p, ","));
  expect(p, ")");
  for (uint32_t i = 0; i < NPRIMS; i++)
    if (name_is(name, PRIMS[i].name)) {
      res[0] = emit_prim(p, (SPrim)i, x, n);
      return 1;
    }
  const SProg *callee = find_program(p, name);
  if (!callee) bad(p, "neither a primitive nor a program further up");
  return emit_program(p, callee, x, n, res);
}

static Value parse_primary(Parser *p) {
  if (accept(p, "(")) {
    Value v = parse_expr(p);
    expect(p, ")");
    return v;
  }
  if (isdigit((unsigned char)*p->at)) return parse_number(p);
  Name name = parse_name(p);
  if (name_is(name, "inf")) return emit_const(p, S_F32, 0x7f800000);
  if (name_is(name, "nan")) return emit_const(p, S_F32, 0x7fc00000);
  if (accept(p, "(")) {
    Value res[SCALAR_RESULTS];
    if (parse_call(p, name, res) != 1) bad(p, "several results inside an expression");
    return res[0];
  }
  for (uint32_t i = p->nvars; i-- > 0;)
    if (p->var[i].name.len == name.len && !memcmp(p->var[i].name.at, name.at, name.len))
      return p->var[i].value;
  bad(p, "unknown name");
}

static Value negate(Parser *p, Value v) {
  SInst s = p->inst[v];
  if (s.prim == SP_CONST && s.type == S_F32) return emit_const(p, S_F32, s.imm ^ 0x80000000);
  if (s.prim == SP_CONST && s.type == S_I32) return emit_const(p, S_I32, -s.imm);
  if (s.type == S_I32) return emit_prim(p, SP_isub, (Value[]){emit_const(p, S_I32, 0), v}, 2);
  return emit_prim(p, SP_neg, &v, 1);
}

static Value parse_unary(Parser *p) {
  if (accept(p, "-")) return negate(p, parse_unary(p));
  if (accept(p, "!")) return emit_prim(p, SP_bnot, (Value[]){parse_unary(p)}, 1);
  if (accept(p, "~")) {
    Value v = parse_unary(p);
    return emit_prim(p, SP_xor, (Value[]){v, emit_const(p, S_I32, UINT32_MAX)}, 2);
  }
  return parse_primary(p);
}

static Value apply_infix(Parser *p, const char *text, Value a, Value b) {
  for (uint32_t i = 0; i < NINFIX; i++) {
    if (strcmp(INFIX[i].text, text) || INFIX[i].type != type_of(p, a)) continue;
    bool swap = INFIX[i].how & SWAP;
    Value v = emit_prim(p, (SPrim)INFIX[i].prim, (Value[]){swap ? b : a, swap ? a : b}, 2);
    return INFIX[i].how & NOT ? emit_prim(p, SP_bnot, &v, 1) : v;
  }
  bad(p, "no such operator on this type");
}

static const char *accept_infix(Parser *p, uint32_t level) {
  for (uint32_t i = 0; i < NINFIX; i++)
    if (INFIX[i].level == level && accept(p, INFIX[i].text)) return INFIX[i].text;
  return NULL;
}

static Value parse_infix(Parser *p, uint32_t level) {
  if (level == LEVELS) return parse_unary(p);
  Value v = parse_infix(p, level + 1);
  for (const char *op; (op = accept_infix(p, level));)
    v = apply_infix(p, op, v, parse_infix(p, level + 1));
  return v;
}

static Value parse_expr(Parser *p) {
  Value c = parse_infix(p, 0);
  if (!accept(p, "?")) return c;
  Value x = parse_expr(p);
  expect(p, ":");
  return emit_prim(p, SP_select, (Value[]){c, x, parse_expr(p)}, 3);
}

static void assign(Parser *p, Name name, Value v) {
  if (p->nvars == VARS) bad(p, "too many names");
  p->var[p->nvars].name = name;
  p->var[p->nvars++].value = v;
}

static void parse_assignment(Parser *p, Name first) {
  Name target[SCALAR_RESULTS] = {first};
  Value v[SCALAR_RESULTS];
  uint32_t n = 1;
  for (; accept(p, ","); n++) {
    if (n == SCALAR_RESULTS) bad(p, "too many names on the left");
    target[n] = parse_name(p);
  }
  expect(p, "=");
  if (n == 1) {
    v[0] = parse_expr(p);
  } else {
    Name callee = parse_name(p);
    expect(p, "(");
    if (parse_call(p, callee, v) != n) bad(p, "as many names as results are needed");
  }
  for (uint32_t i = 0; i < n; i++) assign(p, target[i], v[i]);
}

static void parse_return(Parser *p) {
  SProg *prog = p->prog;
  for (uint32_t r = 0; r < prog->nres; r++) {
    if (r) expect(p, ",");
    prog->res[r] = parse_expr(p);
    if (type_of(p, prog->res[r]) != prog->res_type[r]) bad(p, "result of a wrong type");
  }
  accept(p, ";");
  skip_space(p);
  if (*p->at) bad(p, "text after the end");
}

static void parse_signature(Parser *p, const char *signature) {
  SProg *prog = p->prog;
  p->at = signature;
  expect(p, "(");
  do {
    if (prog->nargs == SCALAR_ARGS) bad(p, "too many arguments");
    Name name = parse_name(p);
    SType type = parse_type(p);
    prog->arg[prog->nargs] = (uint8_t)type;
    assign(p, name, emit(p, (SInst){.prim = SP_ARG, .type = (uint8_t)type, .imm = prog->nargs++}));
  } while (accept(p, ","));
  expect(p, ")");
  do {
    if (prog->nres == SCALAR_RESULTS) bad(p, "too many results");
    prog->res_type[prog->nres++] = (uint8_t)parse_type(p);
  } while (accept(p, ","));
}

/* Operands come before their users, so one walk down finds what is needed, one walk up packs it. */
static void drop_dead(Parser *p, Arena *arena) {
  SProg *prog = p->prog;
  bool live[SCALAR_INSTS] = {false};
  Value to[SCALAR_INSTS] = {0};
  uint32_t n = 0;
  for (uint32_t r = 0; r < prog->nres; r++) live[prog->res[r]] = true;
  for (uint32_t i = prog->ninst; i-- > 0;)
    if (live[i] && p->inst[i].prim < NPRIMS)
      for (uint32_t k = 0; k < strlen(PRIMS[p->inst[i].prim].operands); k++)
        live[p->inst[i].x[k]] = true;
  for (uint32_t i = 0; i < prog->ninst; i++) {
    if (!live[i]) continue;
    SInst s = p->inst[i];
    if (s.prim < NPRIMS)
      for (uint32_t k = 0; k < strlen(PRIMS[s.prim].operands); k++) s.x[k] = to[s.x[k]];
    to[i] = (Value)n;
    p->inst[n++] = s;
  }
  for (uint32_t r = 0; r < prog->nres; r++) prog->res[r] = to[prog->res[r]];
  prog->ninst = n;
  prog->inst = arena_copy(arena, p->inst, n * sizeof *p->inst);
}

static void parse_program(Parser *p, Arena *arena, const char *signature, const char *text) {
  parse_signature(p, signature);
  p->at = text;
  for (;;) {
    Name name = parse_name(p);
    if (name_is(name, "return")) break;
    parse_assignment(p, name);
    expect(p, ";");
  }
  parse_return(p);
  drop_dead(p, arena);
}

const Scalars *scalars_parse(Arena *arena) {
  static const struct {
    const char *name, *signature, *doc, *text;
  } ROWS[] = {
#define SCALAR(name, signature, doc, text) {#name, signature, doc, text},
#include "ir/scalar.def"
#undef SCALAR
  };
  Scalars *all = NEW(arena, Scalars);
  for (uint32_t i = 0; i < SC_COUNT; i++) {
    Parser p = {.prog = &all->prog[i], .all = all};
    all->prog[i].name = ROWS[i].name;
    all->prog[i].doc = ROWS[i].doc;
    parse_program(&p, arena, ROWS[i].signature, ROWS[i].text);
  }
  return all;
}
