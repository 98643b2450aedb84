/* grammar.y: the whole grammar of the language; docs/language.md shows it in one screen.
 *
 * LALR(1) without a conflict.  Precedence is written as layers, not declared, so every rule says
 * what it takes.  Blocks are sequences of `entry` and `line`, each ended by TERM, which filter.c
 * makes of line ends; the only recovery is `error TERM` in them.  Lists, chains of `else if`,
 * `then` and left-associative operators recurse on the left: the stack grows only with brackets
 * and with `-`, `not`, `^` and `fn ... = fn`, which YYMAXDEPTH and AST_LEVELS bound.
 */
%code requires {
#include "frontend/parser.h"
}

%code {
#include <string.h>

#define YYMAXDEPTH 10000
#define YYLLOC_DEFAULT(current, rhs, n) ((current) = YYRHSLOC(rhs, (n) ? 1 : 0))

#define TREE(kind, loc, ...) ast_new(p, AST_##kind, loc, NULL, KIDS(__VA_ARGS__))
#define NAMED(kind, loc, name, ...) ast_new(p, AST_##kind, loc, name, KIDS(__VA_ARGS__))
#define LIST(kind, loc, list) ast_list(p, AST_##kind, loc, list)
#define LEAF(kind, loc, name) ast_new(p, AST_##kind, loc, name, NULL, 0)

static void grammar_error(Loc *loc, Parser *p, const char *what);
static Ast *int_leaf(Parser *p, AstKind kind, Loc loc, int64_t i);
static Ast *float_leaf(Parser *p, Loc loc, double f);
static Ast *type_leaf(Parser *p, Loc loc, const char *keyword);
}

%require "3.8"
%define api.pure full
%define api.prefix {grammar_}
%define api.token.prefix {T_}
%define api.value.type {TokenValue}
%define api.location.type {Loc}
%define parse.error custom
%define lr.default-reduction consistent
%locations
%param {Parser *p}
%initial-action { @$ = (Loc){.source = p->source, .line = 1, .col = 1}; }
%expect 0

%token END 0 "the end of the file"
%token TERM "the end of the line"
%token <name> NAME "a name" STRING "a string"
%token <i> INT "an integer" BOOL "true or false"
%token <f> FLOAT "a number"
%token VERSION "version" IMPORT "import" AS "as" CONFIG "config" MODULE "module" MODEL "model"
%token EXTERN "extern" FN "fn" GRAD "grad" RETURN "return" FOR "for" IN "in" IF "if" ELSE "else"
%token ASSERT "assert" REPEAT "repeat" THEN "then" AND "and" OR "or" NOT "not"
%token EQ "==" NE "!=" LE "<=" GE ">=" BECOMES ":=" ARROW "->" DOTS "..."

%type <ast> block entry item field key path binding assign setting fn_item grad_opt grad extern
%type <ast> if_item for_item import const module model code line line_if line_for
%type <ast> dims_opt dims dim params param type result_opt body expr choose value_block value op
%type <ast> conjunction negation comparison compared sum product unary power postfix primary call
%type <ast> indexed member args_opt arg element index bound_opt mods mod clause condition_opt
%type <list> entries lines names exprs consts if_items line_ifs dim_list param_list then choices
%type <list> args tuple elements indices indices_opt clauses mod_list
%type <name> name_opt as_opt

%%

file: entries { p->root = LIST(FILE, @$, $1); } ;

/* ---- blocks of items ------------------------------------------------------------------------ */

block: '{' entries '}' { $$ = LIST(BLOCK, @$, $2); } ;

entries:
    %empty         { $$ = (AstList){0}; }
  | entries entry  { $$ = $2 ? list_add(p, $1, $2) : $1; }
  ;

entry:
    item TERM
  | field TERM
  | field ','
  | error TERM     { $$ = NULL; yyerrok; }
  ;

item:
    key ':' expr '=' exprs mods  { $$ = TREE(FIELD, @1, $1, $3, ast_values(p, $5), $6); }
  | binding
  | assign
  | setting
  | fn_item
  | extern
  | if_item
  | for_item
  | ASSERT exprs       { $$ = LIST(ASSERT, @1, $2); }
  | VERSION INT        { $$ = TREE(VERSION, @1, int_leaf(p, AST_INT, @2, $2)); }
  | import
  | CONFIG consts      { $$ = LIST(CONFIG, @1, $2); }
  | module
  | model
  ;

field: key ':' expr mods { $$ = TREE(FIELD, @1, $1, $3, NULL, $4); } ;

key:
    NAME    { $$ = LEAF(NAME, @1, $1); }
  | STRING  { $$ = LEAF(STRING, @1, $1); }
  ;

binding: names '=' exprs mods {
    $$ = TREE(BIND, @1, LIST(NAMES, @1, $1), ast_values(p, $3), $4);
  } ;

assign: path BECOMES expr { $$ = TREE(ASSIGN, ast_start($1), $1, $3); } ;

setting:
    NAME exprs mods           { $$ = NAMED(SETTING, @1, $1, NULL, ast_values(p, $2), NULL, $3); }
  | NAME expr block mods      { $$ = NAMED(SETTING, @1, $1, NULL, $2, $3, $4); }
  | NAME block mods           { $$ = NAMED(SETTING, @1, $1, NULL, NULL, $2, $3); }
  | NAME NAME '=' exprs mods  {
      $$ = NAMED(SETTING, @1, $1, LEAF(NAME, @2, $2), ast_values(p, $4), NULL, $5);
    }
  ;

path:
    NAME           { $$ = LEAF(NAME, @1, $1); }
  | path '.' NAME  { $$ = NAMED(MEMBER, @3, $3, $1); }
  ;

names:
    NAME            { $$ = list_of(p, LEAF(NAME, @1, $1)); }
  | names ',' NAME  { $$ = list_add(p, $1, LEAF(NAME, @3, $3)); }
  ;

mods: mod_list { $$ = $1.len ? ast_list(p, AST_MODIFIERS, $1.at[0]->loc, $1) : NULL; } ;

mod_list:
    %empty        { $$ = (AstList){0}; }
  | mod_list mod  { $$ = list_add(p, $1, $2); }
  ;

mod:
    NAME                   { $$ = NAMED(MODIFIER, @1, $1, NULL); }
  | NAME '(' args_opt ')'  { $$ = NAMED(MODIFIER, @1, $1, $3); }
  ;

/* ---- declarations --------------------------------------------------------------------------- */

import: IMPORT STRING as_opt { $$ = NAMED(IMPORT, @2, $3, LEAF(STRING, @2, $2)); } ;

as_opt:
    %empty   { $$ = NULL; }
  | AS NAME  { $$ = $2; }
  ;

consts:
    const             { $$ = list_of(p, $1); }
  | consts ',' const  { $$ = list_add(p, $1, $3); }
  ;

const:
    NAME '=' expr           { $$ = NAMED(CONST, @1, $1, NULL, $3); }
  | NAME ':' expr '=' expr  { $$ = NAMED(CONST, @1, $1, $3, $5); }
  ;

module: MODULE NAME dims_opt params block { $$ = NAMED(MODULE, @2, $2, $3, $4, $5); } ;

model: MODEL NAME dims_opt block { $$ = NAMED(MODEL, @2, $2, $3, $4); } ;

fn_item:
    FN name_opt dims_opt params result_opt body grad_opt {
      $$ = NAMED(FN, $2 ? @2 : @1, $2, $3, $4, $5, $6, $7);
    }
  ;

name_opt:
    %empty  { $$ = NULL; }
  | NAME
  ;

extern:
    EXTERN STRING FN NAME dims_opt params result_opt grad_opt {
      Ast *fn = NAMED(FN, @4, $4, $5, $6, $7, NULL, $8);
      $$ = NAMED(EXTERN, @4, $4, LEAF(STRING, @2, $2), fn);
    }
  ;

grad_opt:
    %empty  { $$ = NULL; }
  | grad
  ;

grad:
    GRAD NAME                    { $$ = LEAF(NAME, @2, $2); }
  | GRAD params result_opt body  { $$ = NAMED(FN, @1, NULL, NULL, $2, $3, $4, NULL); }
  ;

body:
    code
  | '=' expr  { $$ = $2; }
  ;

result_opt:
    %empty    { $$ = NULL; }
  | ARROW op  { $$ = $2; }
  ;

dims_opt:
    %empty  { $$ = NULL; }
  | dims
  ;

dims: '[' dim_list ']' { $$ = LIST(DIMS, @1, $2); } ;

dim_list:
    dim               { $$ = list_of(p, $1); }
  | dim_list ',' dim  { $$ = list_add(p, $1, $3); }
  ;

dim:
    NAME       { $$ = LEAF(NAME, @1, $1); }
  | DOTS NAME  { $$ = LEAF(REST, @1, $2); }
  ;

params:
    '(' ')'                 { $$ = LIST(PARAMS, @1, (AstList){0}); }
  | '(' param_list ')'      { $$ = LIST(PARAMS, @1, $2); }
  | '(' param_list ',' ')'  { $$ = LIST(PARAMS, @1, $2); }
  ;

param_list:
    param                 { $$ = list_of(p, $1); }
  | param_list ',' param  { $$ = list_add(p, $1, $3); }
  ;

param:
    NAME                    { $$ = NAMED(PARAM, @1, $1, NULL, NULL); }
  | NAME '=' expr           { $$ = NAMED(PARAM, @1, $1, NULL, $3); }
  | NAME ':' type           { $$ = NAMED(PARAM, @1, $1, $3, NULL); }
  | NAME ':' type '=' expr  { $$ = NAMED(PARAM, @1, $1, $3, $5); }
  ;

type:
    expr
  | FN      { $$ = type_leaf(p, @1, "fn"); }
  | MODULE  { $$ = type_leaf(p, @1, "module"); }
  ;

/* ---- if and for over items; the same over statements ---------------------------------------- */

if_item:
    if_items             { $$ = LIST(IF, @1, $1); }
  | if_items ELSE block  { $$ = LIST(IF, @1, list_add(p, $1, $3)); }
  ;

if_items:
    IF expr block                { $$ = list_add(p, list_of(p, $2), $3); }
  | if_items ELSE IF expr block  { $$ = list_add(p, list_add(p, $1, $4), $5); }
  ;

for_item: FOR names IN expr block { $$ = TREE(FOR, @1, LIST(NAMES, @2, $2), $4, $5); } ;

line_if:
    line_ifs            { $$ = LIST(IF, @1, $1); }
  | line_ifs ELSE code  { $$ = LIST(IF, @1, list_add(p, $1, $3)); }
  ;

line_ifs:
    IF expr code                { $$ = list_add(p, list_of(p, $2), $3); }
  | line_ifs ELSE IF expr code  { $$ = list_add(p, list_add(p, $1, $4), $5); }
  ;

line_for: FOR names IN expr code { $$ = TREE(FOR, @1, LIST(NAMES, @2, $2), $4, $5); } ;

/* ---- code ----------------------------------------------------------------------------------- */

code: '{' lines '}' { $$ = LIST(CODE, @$, $2); } ;

lines:
    %empty            { $$ = (AstList){0}; }
  | lines line TERM   { $$ = $2 ? list_add(p, $1, $2) : $1; }
  | lines error TERM  { $$ = $1; yyerrok; }
  ;

line:
    binding
  | NAME ':' expr '=' exprs {
      $$ = TREE(FIELD, @1, LEAF(NAME, @1, $1), $3, ast_values(p, $5), NULL);
    }
  | RETURN exprs          { $$ = TREE(RETURN, @1, ast_values(p, $2)); }
  | postfix BECOMES expr  { $$ = TREE(ASSIGN, ast_start($1), $1, $3); }
  | postfix
  | postfix code          { $$ = TREE(REGION, ast_start($1), $1, $2); }
  | indexed '=' exprs     { $$ = NULL; report_element_assigned(p, @2); }
  | member '=' exprs      { $$ = NULL; report_element_assigned(p, @2); }
  | line_if
  | line_for
  | ASSERT exprs          { $$ = LIST(ASSERT, @1, $2); }
  ;

/* ---- expressions ---------------------------------------------------------------------------- */

exprs:
    expr            { $$ = list_of(p, $1); }
  | exprs ',' expr  { $$ = list_add(p, $1, $3); }
  ;

expr:
    op
  | then                         { $$ = LIST(THEN, ast_start($1.at[0]), $1); }
  | FN dims_opt params result_opt body { $$ = NAMED(FN, @1, NULL, $2, $3, $4, $5, NULL); }
  | REPEAT op path '(' args_opt ')' {
      $$ = TREE(REPEAT, @1, $2, TREE(CALL, ast_start($3), $3, $5));
    }
  | choose
  ;

then:
    op THEN op    { $$ = list_add(p, list_of(p, $1), $3); }
  | then THEN op  { $$ = list_add(p, $1, $3); }
  ;

choose: choices ELSE value_block { $$ = LIST(CHOOSE, @1, list_add(p, $1, $3)); } ;

choices:
    IF expr value_block               { $$ = list_add(p, list_of(p, $2), $3); }
  | choices ELSE IF expr value_block  { $$ = list_add(p, list_add(p, $1, $4), $5); }
  ;

value_block: '{' value '}' { $$ = $2; } ;

value:
    expr TERM
  | error TERM  { $$ = LEAF(NAME, @1, intern(p->strings, "_", 1)); yyerrok; }
  ;

op:
    conjunction
  | op OR conjunction  { $$ = TREE(OR, @2, $1, $3); }
  ;

conjunction:
    negation
  | conjunction AND negation  { $$ = TREE(AND, @2, $1, $3); }
  ;

negation:
    comparison
  | NOT negation  { $$ = TREE(NOT, @1, $2); }
  ;

comparison:
    sum
  | compared
  ;

compared:
    sum EQ sum       { $$ = TREE(EQ, @2, $1, $3); }
  | sum NE sum       { $$ = TREE(NE, @2, $1, $3); }
  | sum '<' sum      { $$ = TREE(LT, @2, $1, $3); }
  | sum LE sum       { $$ = TREE(LE, @2, $1, $3); }
  | sum '>' sum      { $$ = TREE(GT, @2, $1, $3); }
  | sum GE sum       { $$ = TREE(GE, @2, $1, $3); }
  | compared comparator sum {
      diag_error(p->diag, @2, "comparisons do not chain: write `a < b and b < c`");
    }
  ;

comparator: EQ | NE | '<' | LE | '>' | GE ;

sum:
    product
  | sum '+' product  { $$ = TREE(ADD, @2, $1, $3); }
  | sum '-' product  { $$ = TREE(SUB, @2, $1, $3); }
  ;

product:
    unary
  | product '*' unary  { $$ = TREE(MUL, @2, $1, $3); }
  | product '/' unary  { $$ = TREE(DIV, @2, $1, $3); }
  | product '%' unary  { $$ = TREE(MOD, @2, $1, $3); }
  | product '@' unary  { $$ = TREE(MATMUL, @2, $1, $3); }
  ;

unary:
    power
  | '-' unary  { $$ = TREE(NEG, @1, $2); }
  ;

power:
    postfix
  | postfix '^' unary  { $$ = TREE(POW, @2, $1, $3); }
  ;

postfix:
    NAME  { $$ = LEAF(NAME, @1, $1); }
  | primary
  | call
  | indexed
  | member
  ;

call: postfix '(' args_opt ')' { $$ = TREE(CALL, ast_start($1), $1, $3); } ;

indexed:
    postfix '[' indices_opt ']' {
      $$ = TREE(INDEX, ast_start($1), $1, LIST(INDICES, @2, $3));
    }
  ;

member: postfix '.' NAME { $$ = NAMED(MEMBER, @3, $3, $1); } ;

primary:
    INT                       { $$ = int_leaf(p, AST_INT, @1, $1); }
  | BOOL                      { $$ = int_leaf(p, AST_BOOL, @1, $1); }
  | FLOAT                     { $$ = float_leaf(p, @1, $1); }
  | STRING                    { $$ = LEAF(STRING, @1, $1); }
  | '(' expr ')'              { $$ = $2; }
  | '(' expr ',' ')'          { $$ = LIST(TUPLE, @1, list_of(p, $2)); }
  | '(' tuple ')'             { $$ = LIST(TUPLE, @1, $2); }
  | '(' tuple ',' ')'         { $$ = LIST(TUPLE, @1, $2); }
  | '[' ']'                   { $$ = LIST(ELEMENTS, @1, (AstList){0}); }
  | '[' elements ']'          { $$ = LIST(ELEMENTS, @1, $2); }
  | '[' elements ',' ']'      { $$ = LIST(ELEMENTS, @1, $2); }
  | '[' expr clauses ']'      { $$ = TREE(COMPREHENSION, @1, $2, LIST(CLAUSES, @3, $3)); }
  ;

tuple:
    expr ',' expr   { $$ = list_add(p, list_of(p, $1), $3); }
  | tuple ',' expr  { $$ = list_add(p, $1, $3); }
  ;

elements:
    element               { $$ = list_of(p, $1); }
  | elements ',' element  { $$ = list_add(p, $1, $3); }
  ;

element:
    expr
  | DOTS       { $$ = LEAF(REST, @1, NULL); }
  | DOTS NAME  { $$ = LEAF(REST, @1, $2); }
  ;

clauses:
    clause          { $$ = list_of(p, $1); }
  | clauses clause  { $$ = list_add(p, $1, $2); }
  ;

clause: FOR names IN expr condition_opt {
    $$ = TREE(CLAUSE, @1, LIST(NAMES, @2, $2), $4, $5);
  } ;

condition_opt:
    %empty   { $$ = NULL; }
  | IF expr  { $$ = $2; }
  ;

args_opt:
    %empty    { $$ = LIST(ARGS, @$, (AstList){0}); }
  | args      { $$ = LIST(ARGS, @1, $1); }
  | args ','  { $$ = LIST(ARGS, @1, $1); }
  ;

args:
    arg           { $$ = list_of(p, $1); }
  | args ',' arg  { $$ = list_add(p, $1, $3); }
  ;

arg:
    expr
  | NAME ':' expr  { $$ = NAMED(ARG, @1, $1, $3); }
  | NAME '=' expr  {
      $$ = NAMED(ARG, @1, $1, $3);
      diag_error(p->diag, @2, "a named argument is written `%s: ...`", $1);
      diag_fixit(p->diag, @2, 1, ":");
    }
  ;

indices_opt:
    %empty   { $$ = (AstList){0}; }
  | indices
  ;

indices:
    index              { $$ = list_of(p, $1); }
  | indices ',' index  { $$ = list_add(p, $1, $3); }
  ;

index:
    element
  | bound_opt ':' bound_opt                { $$ = TREE(SLICE, @2, $1, $3, NULL); }
  | bound_opt ':' bound_opt ':' bound_opt  { $$ = TREE(SLICE, @2, $1, $3, $5); }
  ;

bound_opt:
    %empty  { $$ = NULL; }
  | expr
  ;

%%

static Ast *int_leaf(Parser *p, AstKind kind, Loc loc, int64_t i) {
  Ast *a = LEAF(INT, loc, NULL);
  a->kind = (uint16_t)kind;
  a->i = i;
  return a;
}

static Ast *float_leaf(Parser *p, Loc loc, double f) {
  Ast *a = LEAF(FLOAT, loc, NULL);
  a->f = f;
  return a;
}

/* `fn` and `module` as types are names no program can bind. */
static Ast *type_leaf(Parser *p, Loc loc, const char *keyword) {
  return LEAF(NAME, loc, intern(p->strings, keyword, strlen(keyword)));
}

/* Bison calls this only when its stack is full; all else goes through the function below. */
static void grammar_error(Loc *loc, Parser *p, const char *what) {
  (void)what;
  report_too_deep(p, *loc);
}

static int yyreport_syntax_error(const yypcontext_t *context, Parser *p) {
  enum { SHOWN = 4 };
  yysymbol_kind_t kind[SHOWN];
  const char *expected[SHOWN];
  int count = yypcontext_expected_tokens(context, kind, SHOWN);
  for (int i = 0; i < count; i++) expected[i] = yysymbol_name(kind[i]);
  report_syntax_error(p, expected, count);
  filter_recover(p);
  return 0;
}
