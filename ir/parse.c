/* parse.c: reads what print.c writes (the form is shown there), by recursive descent over the text.
 *
 * Beyond the printed form a reader may write: `//` comments, any white space, and words for value
 * names (%weight).  A name is defined once in an entry, before it is used; whether the use may see
 * it, and everything else about meaning, is for graph_verify to say.
 *
 * Any text gives errors, never a crash: nesting is limited, numbers are checked.  After an error
 * reading goes on at the next line (behind the block that the line opens); the results of a bad
 * line are POISON, and lines that use them are bad without a word.
 */
#include "ir/parser.h"

#include <ctype.h>
#include <string.h>

#define POISON (NO_ID - 1)

/* ---- after an error ------------------------------------------------------------------------- */

/* To the end of the line; of the text, where further errors would not be shown. */
static void skip_line(Parser *p) {
  if (p->diag->limit && p->diag->errors > p->diag->limit) p->at = p->end;
  while (p->at < p->end && *p->at != '\n') p->at++;
}

/* How the line [from, to) changes the nesting of blocks: they open at its end and close at its
 * start, so the braces of attributes do not count. */
static int nesting(const char *from, const char *to) {
  while (from < to && isspace((unsigned char)*from)) from++;
  while (to > from && isspace((unsigned char)to[-1])) to--;
  if (from == to) return 0;
  return (to[-1] == '{') - (*from == '}');
}

/* Behind the line of `start`, and behind the blocks it opens. */
static void skip_statement(Parser *p, const char *start) {
  int depth = 0;
  p->at = start;
  do {
    const char *line = p->at;
    skip_line(p);
    depth += nesting(line, p->at);
    p->at += p->at < p->end;
  } while (depth > 0 && p->at < p->end);
}

/* ---- names of values ------------------------------------------------------------------------ */

typedef struct Name {
  const char *name, *at;
} Name;

typedef VEC(Name) Names;

static bool value_name(Parser *p, Name *n, const char *what) {
  parse_skip_space(p);
  n->at = p->at;
  const char *s = p->at + 1;
  while (*p->at == '%' && parse_word_char(*s)) s++;
  if (s == p->at + 1) return parse_fail(p, parse_gap(p), "expected %s, such as %%3", what);
  n->name = intern(p->g->strings, p->at, (size_t)(s - p->at));
  p->at = s;
  return true;
}

/* The slot of the name, or the empty one where it belongs. */
static Slot *find_slot(Parser *p, const char *name) {
  uint32_t k = (uint32_t)hash_bytes(&name, sizeof name, 0);
  while (p->slot[k & (p->slots - 1)].name && p->slot[k & (p->slots - 1)].name != name) k++;
  return &p->slot[k & (p->slots - 1)];
}

static void grow_slots(Parser *p) {
  Slot *old = p->slot;
  uint32_t n = p->slots;
  p->slots = n ? n * 2 : 256;
  p->slot = NEW_ARRAY(&p->scratch, Slot, p->slots);
  for (uint32_t i = 0; i < n; i++)
    if (old[i].name) *find_slot(p, old[i].name) = old[i];
}

static bool define(Parser *p, Name n, ValueId v) {
  if (p->names * 2 >= p->slots) grow_slots(p);
  Slot *s = find_slot(p, n.name);
  if (s->name && s->entry == p->entry) {
    if (v == POISON) return false;
    parse_fail(p, n.at, "%s is already defined", n.name);
    diag_note(p->diag, s->loc, "here");
    return false;
  }
  if (!s->name) p->names++;
  *s = (Slot){n.name, v, p->entry, parse_loc_at(p, n.at)};
  return true;
}

static bool operand(Parser *p, ValueId *v) {
  Name n;
  if (!value_name(p, &n, "a value")) return false;
  Slot *s = p->slots ? find_slot(p, n.name) : NULL;
  if (!s || !s->name || s->entry != p->entry)
    return parse_fail(p, n.at, "%s is not defined before its use", n.name);
  *v = s->value;
  return true;
}

/* `%a, %b`; none is fine.  *poisoned where one comes from a line that had an error. */
static bool operands(Parser *p, ValueIds *ops, bool *poisoned) {
  parse_skip_space(p);
  if (*p->at != '%') return true;
  do {
    ValueId v = NO_ID;
    if (!operand(p, &v)) return false;
    *poisoned = *poisoned || v == POISON;
    vec_push(&p->scratch, ops, v);
  } while (parse_accept(p, ','));
  return true;
}

/* ---- attributes ----------------------------------------------------------------------------- */

typedef VEC(Attr) Attrs;

static bool ints(Parser *p, Attr *a) {
  VEC(int64_t) all = {0};
  if (!parse_expect(p, '[', "and integers")) return false;
  while (!parse_accept(p, ']')) {
    int64_t i;
    if (all.len && !parse_expect(p, ',', "or `]`")) return false;
    if (!parse_integer(p, &i, "an integer")) return false;
    vec_push(&p->scratch, &all, i);
  }
  *a = attr_ints(a->key, all.len, all.at);
  return true;
}

static bool truth(Parser *p, Attr *a) {
  a->i = !parse_accept_word(p, "false");
  return !a->i || parse_accept_word(p, "true") || parse_fail(p, p->at, "expected true or false");
}

static bool attr_value(Parser *p, Attr *a) {
  AttrKind kind = (AttrKind)attr_kind[a->key];
  a->i = 1;
  if (!parse_accept(p, '='))
    return kind == ATTR_BOOL ||
           parse_fail(p, p->at, "attribute `%s` needs a value", attr_name[a->key]);
  switch (kind) {
  case ATTR_BOOL: return truth(p, a);
  case ATTR_INT: return parse_integer(p, &a->i, "an integer");
  case ATTR_FLOAT: return parse_number(p, &a->f);
  case ATTR_TEXT: return parse_word_or_string(p, &a->s, "a word or text");
  case ATTR_INTS: return ints(p, a);
  }
  return false;
}

static bool op_has_attr(Op op, AttrKey key) {
  for (const OpArg *a = op_args[op]; a->kind != ARG_END; a++)
    if (a->kind == ARG_ATTR && a->key == (int)key) return true;
  return attr_is_common(key);
}

static bool attribute(Parser *p, Op op, Attrs *attrs) {
  int key = 0;
  parse_skip_space(p);
  const char *at = p->at;
  if (!parse_choice(p, attr_name, AT_COUNT, "attribute", &key)) return false;
  if (!op_has_attr(op, (AttrKey)key))
    return parse_fail(p, at, "%s has no attribute `%s`", p->op[op], attr_name[key]);
  for (uint32_t i = 0; i < attrs->len; i++)
    if ((int)attrs->at[i].key == key)
      return parse_fail(p, at, "attribute `%s` is given twice", attr_name[key]);
  Attr a = {.key = (AttrKey)key};
  if (!attr_value(p, &a)) return false;
  vec_push(&p->scratch, attrs, a);
  return true;
}

/* [{key=value, flag}] */
static bool attributes(Parser *p, Op op, Attrs *attrs) {
  if (!parse_accept(p, '{')) return true;
  do {
    if (!attribute(p, op, attrs)) return false;
  } while (parse_accept(p, ','));
  return parse_expect(p, '}', "behind the attributes");
}

/* ---- nodes ---------------------------------------------------------------------------------- */

typedef struct Line {
  Names results;
  Op op;
  const char *at;
  Loc loc; /* of op */
  ValueIds ops;
  Attrs attrs;
  VEC(Type) types;
  bool poisoned;
} Line;

static bool block_nodes(Parser *p, BlockId block, const char *last);

static bool line_results(Parser *p, Line *l) {
  parse_skip_space(p);
  if (*p->at != '%') return true;
  do {
    Name n;
    if (!value_name(p, &n, "a value")) return false;
    vec_push(&p->scratch, &l->results, n);
  } while (parse_accept(p, ','));
  return parse_expect(p, '=', "and an operation behind the results");
}

static bool line_op(Parser *p, Line *l) {
  int op = 0;
  parse_skip_space(p);
  l->at = p->at;
  l->loc = parse_loc_at(p, p->at);
  if (!parse_choice(p, p->op, OP_COUNT, "operation", &op)) return false;
  l->op = (Op)op;
  return true;
}

static bool line_arity(Parser *p, const Line *l) {
  int least = 0, most = 0, results = op_results(l->op);
  for (const OpArg *a = op_args[l->op]; a->kind != ARG_END; a++) {
    least += a->kind == ARG_IN;
    most += a->kind == ARG_IN || a->kind == ARG_OPT;
  }
  const char *name = p->op[l->op];
  uint32_t nops = l->ops.len, nres = l->results.len;
  bool arity = op_arity_ok(l->op, nops);
  if (!arity && most > least)
    return parse_fail(p, l->at, "%s takes %d to %d operands, found %u", name, least, most, nops);
  if (!arity)
    return parse_fail(p, l->at, "%s takes %d operand%s, found %u", name, least, &"s"[least == 1],
                      nops);
  if (results >= 0 && nres != (uint32_t)results)
    return parse_fail(p, l->at, "%s has %d result%s, found %u", name, results, &"s"[results == 1],
                      nres);
  return true;
}

static bool line_types(Parser *p, Line *l) {
  if (l->results.len && !parse_expect(p, ':', "and the type of each result")) return false;
  while (l->types.len < l->results.len) {
    Type t;
    if (l->types.len && !parse_expect(p, ',', "and the type of each result")) return false;
    if (!parse_type(p, &t)) return false;
    vec_push(&p->scratch, &l->types, t);
  }
  return true;
}

static bool line_head(Parser *p, Line *l) {
  return line_results(p, l) && line_op(p, l) && operands(p, &l->ops, &l->poisoned) &&
         attributes(p, l->op, &l->attrs) && line_arity(p, l) && line_types(p, l) && !l->poisoned;
}

static bool block_args(Parser *p, BlockId block) {
  if (!parse_expect(p, '(', "and the block's arguments")) return false;
  while (!parse_accept(p, ')')) {
    Name n;
    Type t;
    if (p->g->blocks.at[block].args.len && !parse_expect(p, ',', "or `)`")) return false;
    if (!value_name(p, &n, "an argument")) return false;
    if (!parse_expect(p, ':', "and a type") || !parse_type(p, &t)) return false;
    if (!define(p, n, graph_add_arg(p->g, block, t))) return false;
  }
  return true;
}

static bool block_results(Parser *p, BlockId block) {
  ValueIds results = {0};
  bool poisoned = false;
  if (!operands(p, &results, &poisoned)) return false;
  for (uint32_t i = 0; i < results.len; i++)
    vec_push(p->g->arena, &p->g->blocks.at[block].results, results.at[i]);
  return true;
}

/* (%a: type, …) { nodes yield %b } */
static bool block(Parser *p, NodeId owner, BlockId *id) {
  if (p->depth == MAX_NESTING)
    return parse_fail(p, p->at, "blocks are nested more than %d deep", MAX_NESTING);
  *id = graph_add_block(p->g, owner);
  if (!block_args(p, *id) || !parse_expect(p, '{', "and the block's nodes")) return false;
  p->depth++;
  bool ok = block_nodes(p, *id, "yield") && block_results(p, *id);
  p->depth--;
  return ok && parse_expect(p, '}', "behind the results");
}

static bool line_blocks(Parser *p, NodeId node) {
  VEC(BlockId) blocks = {0};
  for (parse_skip_space(p); *p->at == '('; parse_skip_space(p)) {
    BlockId b = NO_ID;
    if (!(op_flags[p->g->nodes.at[node].op] & F_REGION))
      return parse_fail(p, p->at, "%s owns no block", p->op[p->g->nodes.at[node].op]);
    if (!block(p, node, &b)) return false;
    vec_push(p->g->arena, &blocks, b);
  }
  p->g->nodes.at[node].blocks = blocks.at;
  p->g->nodes.at[node].nblocks = blocks.len;
  return parse_loc(p, &p->g->nodes.at[node].loc);
}

static bool line_node(Parser *p, BlockId block, const Line *l, NodeId *n) {
  *n = graph_add_node(p->g, block, l->op, l->loc, l->ops.len, l->ops.at, l->types.len, l->types.at,
                      l->attrs.len, l->attrs.at);
  for (uint32_t i = 0; i < l->results.len; i++)
    if (!define(p, l->results.at[i], p->g->nodes.at[*n].res + i)) return false;
  return true;
}

static bool same_line(const Parser *p, const char *from) {
  return !memchr(from, '\n', (size_t)(p->at - from));
}

static void node(Parser *p, BlockId block) {
  Line l = {0};
  NodeId n;
  const char *start = p->at;
  if (line_head(p, &l) && line_node(p, block, &l, &n)) {
    if (line_blocks(p, n) || p->lost) return;
    if (same_line(p, start)) skip_statement(p, start);
    else skip_line(p);
    return;
  }
  for (uint32_t i = 0; i < l.results.len; i++) define(p, l.results.at[i], POISON);
  skip_statement(p, start);
}

/* Nodes up to the word `last`, which is taken. */
static bool block_nodes(Parser *p, BlockId block, const char *last) {
  while (!p->lost && !parse_accept_word(p, last)) {
    p->lost = p->at == p->end || !strcmp(parse_peek_word(p), "entry");
    if (p->lost)
      return parse_fail(p, parse_gap(p), "expected `%s` and `}`: the block is not closed", last);
    if (*p->at == '}') return parse_fail(p, p->at, "expected `%s` before the block ends", last);
    node(p, block);
  }
  return !p->lost;
}

/* ---- entries -------------------------------------------------------------------------------- */

static bool port_name(Parser *p, const char **name) {
  *name = "";
  parse_skip_space(p);
  return *p->at != '"' || parse_string(p, name, "a name");
}

/* %0: type = role "name" */
static bool entry_arg(Parser *p, uint32_t e) {
  Name n;
  Type t;
  int role = 0;
  const char *name;
  if (!value_name(p, &n, "an argument")) return false;
  Loc at = parse_loc_at(p, n.at);
  if (!parse_expect(p, ':', "and a type") || !parse_type(p, &t)) return false;
  if (!parse_expect(p, '=', "and the argument's role")) return false;
  if (!parse_choice(p, arg_role_name, ARG_ROLES, "argument role", &role)) return false;
  if (!port_name(p, &name) || !parse_loc(p, &at)) return false;
  return define(p, n, graph_add_entry_arg(p->g, e, (ArgRole)role, name, t, at));
}

static bool entry_args(Parser *p, uint32_t e) {
  if (!parse_expect(p, '(', "and the entry's arguments")) return false;
  while (!parse_accept(p, ')')) {
    if (p->g->entries.at[e].args.len && !parse_expect(p, ',', "or `)`")) return false;
    if (!entry_arg(p, e)) return false;
  }
  return true;
}

/* role "name" = %0 */
static bool entry_result(Parser *p, uint32_t e) {
  int role = 0;
  const char *name;
  ValueId v = NO_ID;
  parse_skip_space(p);
  Loc at = parse_loc_at(p, p->at);
  if (!parse_choice(p, res_role_name, RES_ROLES, "result role", &role) || !port_name(p, &name))
    return false;
  if (!parse_expect(p, '=', "and a value") || !operand(p, &v) || !parse_loc(p, &at)) return false;
  graph_add_entry_result(p->g, e, (ResRole)role, name, v, at);
  return true;
}

static bool entry_results(Parser *p, uint32_t e) {
  if (!*parse_peek_word(p)) return true;
  do {
    if (!entry_result(p, e)) return false;
  } while (parse_accept(p, ','));
  return true;
}

/* entry @name kind [batch n [full]] ( arguments ) { nodes return results } */
static bool entry(Parser *p) {
  const char *name;
  int kind = 0;
  int64_t batch = 0;
  parse_skip_space(p);
  Loc at = parse_loc_at(p, p->at);
  p->entry++;
  if (!parse_expect(p, '@', "and the entry's name") || !parse_word_or_string(p, &name, "a name"))
    return false;
  if (!parse_choice(p, entry_kind_name, ENTRY_KINDS, "entry kind", &kind)) return false;
  if (parse_accept_word(p, "batch") && !parse_natural(p, &batch, "the rows of a batch"))
    return false;
  uint32_t e = graph_add_entry(p->g, name, (EntryKind)kind, batch, at);
  p->g->entries.at[e].full = parse_accept_word(p, "full");
  if (!entry_args(p, e) || !parse_loc(p, &p->g->entries.at[e].loc)) return false;
  if (!parse_expect(p, '{', "and the entry's nodes")) return false;
  return block_nodes(p, p->g->entries.at[e].body, "return") && entry_results(p, e) &&
         parse_expect(p, '}', "behind the results");
}

/* ---- all of it ------------------------------------------------------------------------------- */

static const struct {
  const char *word;
  bool (*parse)(Parser *);
  bool once;
} part[] = {{"graph", parse_header, true},
            {"train", parse_train, true},
            {"loss", parse_loss_scale, false},
            {"hyper", parse_hyper, false},
            {"formula", parse_formula, false},
            {"source", parse_data_source, false},
            {"split", parse_split, true},
            {"load", parse_load, false},
            {"state", parse_state, false},
            {"slot", parse_slot, false},
            {"entry", entry, false}};

enum { PARTS = sizeof part / sizeof *part };

/* To the next line that opens a part, in the first column. */
static void skip_part(Parser *p) {
  for (skip_line(p); p->at < p->end; skip_line(p)) {
    const char *w = isalpha((unsigned char)*++p->at) ? parse_peek_word(p) : "";
    for (int i = 0; i < PARTS; i++)
      if (!strcmp(w, part[i].word)) return;
  }
}

static bool parse_part(Parser *p) {
  const char *names[PARTS], *at = p->at;
  int i;
  for (i = 0; i < PARTS; i++) names[i] = part[i].word;
  if (!*parse_peek_word(p)) return parse_fail(p, at, "expected a part of a graph");
  if (!parse_choice(p, names, PARTS, "part of a graph", &i)) return false;
  if (part[i].once && (p->parts >> i & 1)) return parse_fail(p, at, "a second `%s`", names[i]);
  p->parts |= 1u << i;
  return part[i].parse(p);
}

Graph *graph_parse(Arena *arena, Strings *strings, Diag *diag, uint32_t source) {
  const Source *s = &diag->sources.at[source];
  uint32_t errors = diag->errors;
  Parser p = {
      .diag = diag, .source = source, .text = s->text, .at = s->text, .end = s->text + s->size};
  p.g = graph_new(arena, strings, "", NULL);
  for (int i = 0; i < OP_COUNT; i++) p.op[i] = i == OP_cast_policy ? "cast.policy" : op_name[i];
  for (parse_skip_space(&p); p.at < p.end; parse_skip_space(&p)) {
    p.lost = false;
    if (!parse_part(&p) && !p.lost) skip_part(&p);
  }
  arena_free(&p.scratch);
  return diag->errors == errors ? p.g : NULL;
}
