/* test_program.c: plans that are wrong, each refused by its message.  The plan of a small graph
 * with a state, a loop and values that take each other's room is sound; then one thing of it is
 * broken. */
#include "tests/unit/pass_fixture.h"

static const char text[] =
    "graph \"t\" ordered\n"
    "state state \"w\" : f32[64]\n"
    "entry @f init (%w: f32[64] = state \"w\", %x: f32[64] = input \"x\",\n"
    "               %k: f32[64] = input \"k\") {\n"
    "  %a = kernel %x {form=map} : f32[64] (%0: f32[64]) {\n"
    "    %1 = neg %0 : f32[64]\n"
    "    yield %1\n"
    "  }\n"
    "  %b = kernel %a, %k {form=map} : f32[64] (%2: f32[64], %3: f32[64]) {\n"
    "    %4 = add %2, %3 : f32[64]\n"
    "    yield %4\n"
    "  }\n"
    "  %first = kernel %b {form=map} : f32[64] (%5: f32[64]) {\n"
    "    %6 = neg %5 : f32[64]\n"
    "    yield %6\n"
    "  }\n"
    "  %c, %ys = loop %first, %b {trip=4, carries=1, slices=0} : f32[64], f32[4,64]\n"
    "      (%i: i32[], %acc: f32[64], %inv: f32[64]) {\n"
    "    %y = kernel %inv, %acc {form=map} : f32[64] (%7: f32[64], %8: f32[64]) {\n"
    "      %9 = mul %7, %8 : f32[64]\n"
    "      yield %9\n"
    "    }\n"
    "    %t = kernel %y {form=map} : f32[64] (%10: f32[64]) {\n"
    "      %11 = exp %10 : f32[64]\n"
    "      yield %11\n"
    "    }\n"
    "    %next = kernel %acc, %t {form=map} : f32[64] (%12: f32[64], %13: f32[64]) {\n"
    "      %14 = add %12, %13 : f32[64]\n"
    "      yield %14\n"
    "    }\n"
    "    yield %next, %y\n"
    "  }\n"
    "  %n = kernel %w, %c {form=map} : f32[64] (%15: f32[64], %16: f32[64]) {\n"
    "    %17 = sub %15, %16 : f32[64]\n"
    "    yield %17\n"
    "  }\n"
    "  %p, %q = kernel %n {form=map} : f32[64], f32[64] (%18: f32[64]) {\n"
    "    %19 = exp %18 : f32[64]\n"
    "    %20 = neg %18 : f32[64]\n"
    "    yield %19, %20\n"
    "  }\n"
    "  return state \"w\" = %n, value \"ys\" = %ys, value \"p\" = %p, value \"q\" = %q\n"
    "}\n";
enum { STEP_a, STEP_b, STEP_first, STEP_loop, STEP_y, STEP_t, STEP_next, STEP_end, STEP_n, STEP_p };

/* ---- what is there, and how it is broken ----------------------------------------------------- */

static ProgramStep *step(Program *p, int i) { return &p->entries[0].steps.at[i]; }
static ValueId made(Program *p, int i) { return p->g->nodes.at[step(p, i)->node].res; }
static Buffer *place(Program *p, int i) { return &p->buffer[made(p, i)]; }
static Buffer *argument(Program *p, uint32_t i) {
  return &p->buffer[p->g->blocks.at[p->g->entries.at[0].body].args.at[i]];
}

static void take_room(Program *p) { *place(p, STEP_p) = p->buffer[made(p, STEP_loop) + 1]; }
static void take_half(Program *p) { place(p, STEP_b)->at = place(p, STEP_a)->at + 64; }
static void take_in_loop(Program *p) { *place(p, STEP_t) = *place(p, STEP_b); }
static void run_early(Program *p) {
  ProgramStep first = *step(p, STEP_a);
  *step(p, STEP_a) = *step(p, STEP_b);
  *step(p, STEP_b) = first;
}
static void write_elsewhere(Program *p) {
  *place(p, STEP_n) = (Buffer){.space = SPACE_ARENA, .at = p->arena_bytes};
}
static void carry_elsewhere(Program *p) { place(p, STEP_next)->at = p->arena_bytes; }
static void join_results(Program *p) { p->buffer[made(p, STEP_p) + 1] = *place(p, STEP_p); }
static void join_arguments(Program *p) { *argument(p, 1) = *argument(p, 2); }
static void unplace(Program *p) { *place(p, STEP_a) = (Buffer){0}; }
static void end_early(Program *p) { p->entries[0].steps.len--; }
static void want_value(Program *p) {
  ProgramValue v = {.name = "a", .reads = "", .value = made(p, STEP_a)};
  vec_push(p->g->arena, &p->values, v);
}

typedef struct Case {
  void (*make)(Program *);
  const char *message;
} Case;

static const Case cases[] = {
    {take_room, "result 1 is not there at the end"},
    {take_half, "operand 0 is stored over while it is read"},
    {take_in_loop, "operand 0 is not there"},
    {run_early, "operand 0 is not there"},
    {write_elsewhere, "result 0 is not stored where its state lies"},
    {carry_elsewhere, "result 0 does not lie where it belongs"},
    {join_results, "result 1 lies on another"},
    {join_arguments, "argument 1 lies on another"},
    {unplace, "result 0 has no place"},
    {end_early, "result 2 is not there at the end"},
    {want_value, "value 0 of --with-values is not there at the end"},
};

static void test_plan(Tally *t, const Case *c) {
  PassFixture f = {0};
  PassOptions options = {0};
  bool ok = fixture_start(&f, text, "schedule", EVAL_EXACT);
  expect(t, ok, "the graph is sound");
  PassCtx pass = {.arena = &f.arena, .diag = &f.diag, .options = &options};
  Program *p = ok ? plan_make(f.g, &pass) : NULL;
  Text why = {.arena = &f.arena};
  expect(t, p && program_check(p, &why), "the plan is sound: %s", why.at ? why.at : "");
  if (p) c->make(p);
  bool refused = p && !program_check(p, &why) && why.at && strstr(why.at, c->message);
  expect(t, refused, "%s: got %s", c->message, why.at ? why.at : "nothing");
  fixture_end(&f);
}

int main(void) {
  Tally t = {0};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) test_plan(&t, &cases[i]);
  return tally_end(&t);
}
